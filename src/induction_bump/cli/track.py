"""`bump track PATH [--mode offline|online] [--again]`."""

import argparse
from pathlib import Path

from induction_bump.cli.lines import complain

HELP = "mirror curves, head scores and events of a run or study into Weights & Biases"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument(
        "--mode", choices=["auto", "offline", "online"], help="where to; each run's own tracking.mode by default"
    )
    parser.add_argument("--again", action="store_true", help="start the W&B runs over, under the same ids")


def run(arguments: argparse.Namespace) -> int:
    """Mirror and tell what became of each run; returns the exit code. Raises ConfigError for what cannot be had."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.records.directory import find_runs

    find_runs(arguments.path)
    from induction_bump.tracking.destination import TrackingError
    from induction_bump.tracking.track import track

    try:
        tracked = track(arguments.path, arguments.mode, again=arguments.again)
    except TrackingError as error:
        raise ConfigError(str(error)) from None
    for each in tracked:
        if each.wandb_id:
            print(f"{each.run.name}: {each.rows} rows {each.mode}, W&B id {each.wandb_id}")
        if each.problem:
            complain(f"{each.run.name}: {each.problem}")
    return 1 if any(each.problem for each in tracked) else 0
