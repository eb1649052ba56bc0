"""`bump measure PATH [--measures a,b] [--steps 0,640] [--workers N]`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from induction_bump.cli.lines import complain

HELP = "take measures afterwards, on the saved weights of each snapshot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument("--measures", metavar="A,B", help="names of measures, separated by commas; all by default")
    parser.add_argument("--steps", metavar="N,M", help="only at these snapshots, or at the `last` one; all by default")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes, spread over the GPUs; by default one a GPU, or one a core where no GPU is used",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure and tell how many rows were added; returns the exit code, 1 where a snapshot could not be measured.

    Raises ConfigError for what cannot be had.
    """
    from induction_bump.config.errors import ConfigError
    from induction_bump.launch.standing import refuse_edited_config
    from induction_bump.records.directory import find_runs

    # what is wrong is told before torch loads
    runs = find_runs(arguments.path)
    names = _listed("--measures", arguments.measures)
    steps = "last" if arguments.steps == "last" else _whole_numbers(arguments.steps)
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers: {arguments.workers} must be at least 1")
    for each in runs:
        refuse_edited_config(each)
    from induction_bump.training.measure_saved import check_names, measure

    try:
        check_names(names)
        with _Progress() as progress:
            added = measure(arguments.path, names, steps=steps, workers=arguments.workers, progress=progress.show)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for each in added:
        added_rows = f"{each.rows} rows added, from {each.snapshots} snapshots with weights"
        print(f"{each.run}: {added_rows if each.snapshots or each.failed else 'nothing was missing'}")
        for reason in dict.fromkeys(each.without.values()):
            names = (name for name, why in sorted(each.without.items()) if why == reason)
            print(f"  without {', '.join(names)}: {reason}")
        for step, reason in each.failed.items():
            complain(f"{each.run}: at step {step} {reason}; nothing was measured there")
        for doubt in each.doubts:
            complain(f"{each.run}: {doubt}")
    return 1 if any(each.failed for each in added) else 0


def _listed(flag: str, text: str | None) -> list[str]:
    """What a flag lists; nothing where it was not given. Raises ConfigError where it was given and lists nothing."""
    from induction_bump.config.errors import ConfigError

    if text is None:
        return []
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{flag}: '{text}' names nothing; leave the flag out to take all")
    return names


def _whole_numbers(text: str | None) -> list[int]:
    from induction_bump.config.errors import ConfigError

    listed = _listed("--steps", text)
    try:
        return [int(number) for number in listed]
    except ValueError:
        raise ConfigError(f"--steps: {text} must be whole numbers, separated by commas, or last") from None


class _Progress:
    """A bar on a terminal, a line a snapshot elsewhere."""

    def __enter__(self) -> "_Progress":
        self._close: Callable[[], None] = lambda: None
        self._update: Callable[[int, int, str], None] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def show(self, done: int, total: int, run: str) -> None:
        """Snapshot `done` of `total` is measured."""
        if not sys.stderr.isatty():
            print(f"{run}: snapshot {done} of {total}", file=sys.stderr)
            return
        if self._update is None:
            from tqdm import tqdm

            bar = tqdm(total=total, unit="snapshot", dynamic_ncols=True)

            def update(done: int, total: int, run: str) -> None:
                bar.set_description(run, refresh=False)
                bar.update(done - bar.n)

            self._update, self._close = update, bar.close
        self._update(done, total, run)
