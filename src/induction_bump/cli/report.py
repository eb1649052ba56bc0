"""`bump report PATH`."""

import argparse
from pathlib import Path

HELP = "write one self-contained report.html for a run, or for a study and each of its runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print where it is; returns the exit code."""
    from induction_bump.records.directory import find_runs
    from induction_bump.report.page import write

    for run in find_runs(arguments.path):
        if run.path != arguments.path and run.status != "running":  # the live page of a running one is its companion's
            write(run.path)
    print(write(arguments.path).absolute())
    return 0
