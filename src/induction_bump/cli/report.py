"""`bump report PATH`."""

import argparse
from pathlib import Path

HELP = "write one self-contained report.html for a run, or for a study and each of its runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")


def run(arguments: argparse.Namespace) -> int:
    """Write the pages and print where the one of `path` is; returns the exit code, 2 where a run cannot be read."""
    from induction_bump.cli.lines import complain
    from induction_bump.records.directory import RunDirectory, find_runs
    from induction_bump.records.schema import RecordsError
    from induction_bump.report.page import write

    unreadable: dict[Path, RecordsError] = {}
    for run in find_runs(arguments.path):
        if run.path == arguments.path:
            continue
        try:
            if run.status != "running":  # the live page of a running one is its companion's
                write(run.path)
        except RecordsError as error:
            unreadable[run.path] = error
    page = write(arguments.path, unreadable=lambda run, error: unreadable.setdefault(run.path, error))
    print(page.absolute())
    for path, error in unreadable.items():
        complain(f"{RunDirectory(path).name}: {error}")
    return 2 if unreadable else 0
