"""`bump locate PATH`."""

import argparse
from pathlib import Path

HELP = "print the events and phase changes of a run or study, and write them there as CSV and Parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")


def run(arguments: argparse.Namespace) -> int:
    """Locate and print; returns the exit code, 2 where the records of some runs cannot be read."""
    from induction_bump.cli.lines import complain
    from induction_bump.data.cores import available_cores
    from induction_bump.linking.overview import overview
    from induction_bump.locate.run import locate
    from induction_bump.locate.summary import summarise

    located = locate(arguments.path, processes=available_cores())
    print(located.text(), summarise(located), overview(located), sep="\n\n")
    for run, error in located.unreadable:
        complain(f"{run.name}: {error}")
    return 2 if located.unreadable else 0
