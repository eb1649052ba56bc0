"""`bump locate PATH [--out DIR]`."""

import argparse
from pathlib import Path

HELP = "print the events and phase changes of a run or study, and write them there as CSV and Parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write the tables; beside the records by default"
    )


def run(arguments: argparse.Namespace) -> int:
    """Locate, print and write; returns the exit code.

    That is 1 where the tables cannot be written, and 2 where the records of some runs cannot be read.
    """
    from induction_bump.cli.lines import complain
    from induction_bump.data.cores import available_cores
    from induction_bump.launch.outcome import explain_failure
    from induction_bump.linking.overview import overview
    from induction_bump.locate.run import find
    from induction_bump.locate.summary import summarise

    located = find(arguments.path, changes=True, processes=available_cores())
    print(located.text(), summarise(located), overview(located), sep="\n\n")
    for run, error in located.unreadable:
        complain(f"{run.name}: {error}")
    try:
        located.write(arguments.out)
    except OSError as error:
        complain(f"{explain_failure(error)}; what is printed is not written, --out DIR writes it elsewhere")
        return 1
    return 2 if located.unreadable else 0
