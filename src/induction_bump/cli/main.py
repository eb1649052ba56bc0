"""`bump`: one command with a handful of subcommands, each in a module of its own.

Exit codes: 0 ok, 1 failure, 2 a usage or config error, 75 preempted and worth requeueing.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from induction_bump import __version__
from induction_bump.cli import export, locate, measure, report, status, track, train
from induction_bump.cli.lines import complain
from induction_bump.streams import show_what_can_be_shown

COMMANDS = {
    "train": train,
    "locate": locate,
    "report": report,
    "measure": measure,
    "export": export,
    "status": status,
    "track": track,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Lines for the user go to stderr where something is wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    show_what_can_be_shown()
    tracebacks = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        if given[:1] == ["train"]:  # its arguments are Hydra's
            return train.main(given[1:])
        parsed = _parser().parse_args(given)
        return parsed.run(parsed)
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # The reader of our output, such as `head`, has gone; nothing is left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        code = _code_of(error)
        if tracebacks or code is None:
            raise
        complain(_told(error))
        return code


def _code_of(error: Exception) -> int | None:
    """2 for what a user can mend, 1 for what the machine refuses, None for our own mistakes."""
    # Imported only when something was raised: each costs start-up time.
    from induction_bump.config.errors import ConfigError
    from induction_bump.data.errors import CorpusError
    from induction_bump.pools import WorkerLostError
    from induction_bump.records.lock import RunBusyError
    from induction_bump.records.schema import RecordsError

    if isinstance(error, ConfigError | CorpusError | RecordsError):
        return 2
    return 1 if isinstance(error, RunBusyError | WorkerLostError | OSError) else None


def _told(error: Exception) -> str:
    from induction_bump.launch.outcome import explain_failure

    return explain_failure(error) if isinstance(error, OSError) else str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bump", description="Train small transformers, measure every head, and locate the induction bump."
    )
    parser.add_argument("--version", action="version", version=f"induction-bump {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
