"""`bump measure PATH [--measures a,b] [--steps 0,640] [--workers N]`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

HELP = "take measures afterwards, on the saved weights of each snapshot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument("--measures", metavar="A,B", help="names of measures, separated by commas; all by default")
    parser.add_argument("--steps", metavar="N,M", help="only at these snapshots; wherever there are weights by default")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; one a core by default")


def run(arguments: argparse.Namespace) -> int:
    """Measure and tell how many rows were added; returns the exit code. Raises ConfigError for what cannot be had."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.records.directory import find_runs

    find_runs(arguments.path)  # a wrong path is told before torch loads
    steps = _whole_numbers(arguments.steps)
    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers: {arguments.workers} must be at least 1")
    from induction_bump.training.measure_saved import check_names, measure

    names = _listed(arguments.measures)
    try:
        check_names(names)
        with _Progress() as progress:
            added = measure(arguments.path, names, steps=steps, workers=arguments.workers, progress=progress.show)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for each in added:
        print(f"{each.run}: {each.rows} rows added, from {each.snapshots} snapshots with weights")
        for note in each.notes:
            print(f"  without {note}")
    return 0


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _whole_numbers(text: str | None) -> list[int]:
    from induction_bump.config.errors import ConfigError

    try:
        return [int(number) for number in _listed(text)]
    except ValueError:
        raise ConfigError(f"--steps: {text} must be whole numbers, separated by commas") from None


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
