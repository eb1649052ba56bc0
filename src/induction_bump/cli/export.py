"""`bump export RUN --to transformer_lens [--step N] [--out DIR]`."""

import argparse
from pathlib import Path

HELP = "write the saved weights of a run in the format of another library"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path, metavar="RUN", help="a run's directory")
    parser.add_argument("--to", required=True, metavar="FORMAT", help="transformer_lens")
    parser.add_argument("--step", type=int, metavar="N", help="a snapshot with weights; the last one by default")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to; RUN/export/FORMAT-N by default")


def run(arguments: argparse.Namespace) -> int:
    """Export and print where to; returns the exit code. Raises ConfigError for what cannot be had."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.records.directory import find_runs

    find_runs(arguments.path)  # a wrong path is told before torch loads
    from induction_bump.training.export import ExportError, export

    try:
        print(export(arguments.path, arguments.to, arguments.step, arguments.out).absolute())
    except ExportError as error:
        raise ConfigError(str(error)) from None
    return 0
