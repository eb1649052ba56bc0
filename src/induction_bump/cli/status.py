"""`bump status PATH`."""

import argparse
from pathlib import Path

HELP = "show the runs of a study: state, step, tokens/s, time left, last event"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")


def run(arguments: argparse.Namespace) -> int:
    """Print one line a run, and how many there are of each kind; returns the exit code."""
    from induction_bump.launch.study import status, summary, table

    rows = status(arguments.path)
    print(table(rows), *([summary(rows)] if len(rows) > 1 else []), sep="\n")
    return 0
