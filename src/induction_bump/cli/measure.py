"""`bump measure PATH [--measures a,b]`."""

import argparse
import sys
from pathlib import Path

HELP = "take measures afterwards, on the saved weights of each snapshot"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument("--measures", metavar="A,B", help="names of measures, separated by commas; all by default")


def run(arguments: argparse.Namespace) -> int:
    """Measure and tell how many rows were added; returns the exit code. Raises ConfigError for an unknown measure."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.records.directory import find_runs

    find_runs(arguments.path)  # a wrong path is told before torch loads
    from induction_bump.training.measure_saved import check_names, measure

    names = [name.strip() for name in (arguments.measures or "").split(",") if name.strip()]
    try:
        check_names(names)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for added in measure(arguments.path, names, progress=lambda line: print(line, file=sys.stderr)):
        print(f"{added.run}: {added.rows} rows added, from {added.snapshots} snapshots with weights")
    return 0
