"""`bump report PATH [--out DIR|FILE]`."""

import argparse
from pathlib import Path

HELP = "write one self-contained report.html for a run, or for a study and each of its runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="PATH", help="a run's or a study's directory")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR|FILE",
        help="where to write; beside the records by default. To a FILE.html goes the page of PATH alone",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the pages and print where the one of `path` is, or, where it cannot be written, what it begins with.

    Returns the exit code: 1 where a page cannot be written, 2 where a run cannot be read.
    """
    from induction_bump.cli.lines import complain
    from induction_bump.launch.outcome import explain_failure
    from induction_bump.locate.summary import bump_summary
    from induction_bump.records.damage import said_once
    from induction_bump.records.directory import RunDirectory, find_runs
    from induction_bump.records.schema import RecordsError
    from induction_bump.report.page import FILE_NAME, write

    path, out = arguments.path, arguments.out
    alone = out is not None and out.suffix == ".html"
    unreadable: dict[Path, RecordsError] = {}
    unwritten: OSError | None = None
    with said_once(complain):
        for run in find_runs(path):
            if run.path == path or alone:
                continue
            try:
                if run.status != "running":  # the live page of a running one is its companion's
                    write(run.path, out and out / run.name / FILE_NAME)
            except RecordsError as error:
                unreadable[run.path] = error
            except OSError as error:
                unwritten = error
        try:
            page = write(
                path,
                out if alone or out is None else out / FILE_NAME,
                unreadable=lambda run, error: unreadable.setdefault(run.path, error),
            )
            print(page.absolute())
        except OSError as error:
            unwritten = error
            print(bump_summary(path))
    for path, error in unreadable.items():
        complain(f"{RunDirectory(path).name}: {error}")
    if unwritten:
        complain(f"{explain_failure(unwritten)}; --out DIR|FILE writes elsewhere")
        return 1
    return 2 if unreadable else 0
