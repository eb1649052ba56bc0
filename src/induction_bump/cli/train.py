"""`bump train [overrides]`: Hydra's command line, without Hydra's files and with one-line errors."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from induction_bump import __version__
from induction_bump.cli.lines import complain
from induction_bump.config.errors import ConfigError
from induction_bump.config.locations import CONF, CONFIGS

if TYPE_CHECKING:
    from induction_bump.launch.outcome import Outcome
    from induction_bump.launch.task import Task

HELP = "train one run, or with -m a sweep: bump train experiment=quickstart"

_SHOWN_SKIPPED = 10
_QUIET = (
    # Hydra makes no output directory, no job log and no copy of the config.
    "hydra.run.dir=.",
    "hydra.output_subdir=null",
    "hydra.sweep.dir=${paths.runs}/.sweep",
    "hydra.sweep.subdir=.",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Hydra reads the arguments: see `main`."""
    parser.add_argument("overrides", nargs="*")


def run(arguments: argparse.Namespace) -> int:
    """For symmetry with the other commands; `bump train` itself goes to `main`."""
    return main(arguments.overrides)


def main(arguments: Sequence[str]) -> int:
    """Compose, check, and train; returns the exit code. Raises ConfigError or CorpusError with nothing left behind."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(help_text(_own_directories(arguments)))
        return 0
    if "--version" in arguments:
        print(f"induction-bump {__version__}")
        return 0
    from hydra._internal.utils import get_args_parser

    from induction_bump.launch.task import Check, Task

    parser = get_args_parser()
    parser.error = _refuse
    given = parser.parse_args(list(arguments))
    command = ["bump", "train", *arguments]
    if given.cfg in ("job", "all") and not _is_sweep(given):  # Hydra shows whatever can be composed, runs or not
        alone = {"cfg": None, "package": None, "resolve": False, "overrides": [*given.overrides, "hydra.mode=RUN"]}
        check = Check(os.environ, command)
        _start(check, argparse.Namespace(**{**vars(given), **alone}))
        _refuse_what_cannot_run(check.outcomes)
    task = Task(os.environ, command)
    stopped = _start(task, given)
    return _conclude(task.outcomes) if stopped is None else stopped


def _start(task: "Task", given: argparse.Namespace) -> int | None:
    """Let Hydra compose and call `task`; returns an exit code where it was stopped before a worker could be asked to.

    Raises ConfigError or CorpusError for what cannot be composed.
    """
    import hydra
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from induction_bump.config import search_path
    from induction_bump.config.explain import explain
    from induction_bump.data.errors import CorpusError
    from induction_bump.launch.outcome import PREEMPTED

    search_path.register()
    start = hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(task)
    with _called_with(_for_hydra(given)), _interrupted_by_signals():
        try:
            start()
        except KeyboardInterrupt:  # with no worker to finish its step: making a corpus, or between two cells
            return PREEMPTED
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            if task.started and isinstance(error, yaml.YAMLError):
                raise
            if task.environment.get("HYDRA_FULL_ERROR") == "1":
                raise
            raise ConfigError(explain(error)) from None
        except ValueError as error:
            # Hydra's way to refuse such as experiment=3; past composing, a ValueError is our own.
            if task.started or isinstance(error, ConfigError | CorpusError):
                raise
            raise ConfigError(str(error)) from None
    return None


def _is_sweep(given: argparse.Namespace) -> bool:
    from induction_bump.config.overrides import selects_sweep

    return given.multirun or selects_sweep(given.overrides)


def _for_hydra(given: argparse.Namespace) -> list[str]:
    """The arguments as Hydra shall see them."""
    from induction_bump.config.overrides import rewrite

    flags = [f"--{name}" for name in ("resolve", "hydra-help") if getattr(given, name.replace("-", "_"))]
    if _is_sweep(given):
        flags.append("--multirun")
    for name in ("cfg", "package", "config_name", "config_dir", "info"):
        if (value := getattr(given, name)) is not None:
            flags += [f"--{name.replace('_', '-')}", value]
    if given.config_path is not None:  # Hydra would look for it below this module
        flags += ["--config-path", os.path.abspath(given.config_path)]  # noqa: PTH100
    own_config = given.config_path is None and given.config_name is None
    own_sweeper = any(override.startswith("hydra/sweeper=") for override in given.overrides)
    sweeper = [] if own_sweeper else ["hydra/sweeper=bump"]
    return [*flags, *rewrite(given.overrides, own_config), *sweeper, *_QUIET]


@contextmanager
def _called_with(arguments: list[str]) -> Generator[None, None, None]:
    """Give Hydra its command line, and let it raise what it would otherwise print before it exits with 1."""
    argv, asked = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["bump train", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        del os.environ["HYDRA_FULL_ERROR"]
        if asked is not None:
            os.environ["HYDRA_FULL_ERROR"] = asked


@contextmanager
def _interrupted_by_signals() -> Generator[None, None, None]:
    """Let what a scheduler sends be a Ctrl-C, so that what is half done is cleared away; workers' launchers take over
    while there are workers."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _conclude(outcomes: "Sequence[Outcome]") -> int:
    """Tell where the runs are and how they ended."""
    from induction_bump.launch import ranks
    from induction_bump.launch.outcome import exit_code

    if not outcomes:  # --cfg, --info and the like
        return 0
    _refuse_what_cannot_run(outcomes)
    width = max(len(outcome.status) for outcome in outcomes)
    code = exit_code(outcomes)
    rank = ranks.from_environment()
    if rank and not rank.first:
        return code
    print(f"study {Path(outcomes[0].path).parent}")
    skipped = [outcome for outcome in outcomes if outcome.status == "skipped"]
    together = len(skipped) > _SHOWN_SKIPPED
    if together:
        print(f"  {'skipped':{width}}  {len(skipped)} runs that were finished before")
    for outcome in outcomes:
        if not (together and outcome.status == "skipped"):
            print(f"  {outcome.status:{width}}  {Path(outcome.path).name}")
    sys.stdout.flush()
    for outcome in outcomes:
        if outcome.status in ("failed", "busy", "refused"):
            complain(f"{Path(outcome.path).name}: {outcome.message}\n{_log_of(outcome)}")
        for left in outcome.left:
            complain(f"{Path(outcome.path).name}: {left}")
    return code


def _refuse_what_cannot_run(outcomes: "Sequence[Outcome]") -> None:
    if len(outcomes) == 1 and outcomes[0].status == "refused":
        raise ConfigError(outcomes[0].message or "refused")


def _log_of(outcome: "Outcome") -> str:
    log = Path(outcome.path) / "log.txt"
    return f"log: {log}" if log.is_file() else ""


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"train: {message}; see bump train --help")


def _own_directories(arguments: Sequence[str]) -> list[Path]:
    """Where the arguments have config files besides ours. Raises ConfigError where there is no such directory."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.error = _refuse
    for flags in (("--config-dir", "-cd"), ("--config-path", "-cp")):
        parser.add_argument(*flags, type=Path)
    given, _ = parser.parse_known_args(arguments)
    for name, directory in vars(given).items():
        if directory and not directory.is_dir():
            raise ConfigError(f"--{name.replace('_', '-')}={directory}: must be a directory")
    return [directory for directory in (given.config_dir, given.config_path) if directory]


def help_text(own: Sequence[Path] = ()) -> str:
    """What `bump train --help` prints: examples, and what each config group offers, those in `own` directories too."""
    lines = [
        "usage: bump train [-m] [key=value ...] [+group=name ...]",
        "",
        HELP,
        "",
        "  bump train experiment=quickstart                    one run",
        "  bump train experiment=quickstart model=one_layer    another model",
        "  bump train experiment=quickstart seed.init=1        another value",
        "  bump train -m experiment=quickstart seed.init=0,1,2 a sweep over values",
        "  bump train -m +sweeps=quickstart                    a sweep from a file",
        "  bump train -m +sweeps=quickstart hydra/launcher=pool",
        "                                                      its runs beside each other, on free devices",
        "  bump train --config-path runs/S/RUN --config-name config study=again",
        "                                                      a run once more, from its config.yaml",
        "",
        "  --cfg job          show the composed config and do nothing",
        "  --config-dir DIR   more YAML files, laid out like the groups below",
        "  --hydra-help       the other flags",
        "",
        "groups:",
    ]
    ours = {path.name: path for path in (*CONF.iterdir(), CONFIGS / "sweeps") if path.is_dir()}
    ours["hydra/launcher"] = ours.pop("hydra") / "launcher"
    groups = {name: {file.stem for file in group.glob("*.yaml")} for name, group in ours.items()}
    for root in own:
        for file in root.rglob("*.yaml"):
            if file.parent != root:  # else it is a primary config
                groups.setdefault(file.parent.relative_to(root).as_posix(), set()).add(file.stem)
    for name, options in sorted(groups.items()):
        lines.append(f"  {name:14} {', '.join(sorted(options))}")
    return "\n".join(lines)
