"""How a script is called: the arguments that all have, and one line for what cannot be read or drawn."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from induction_bump.launch.outcome import explain_failure
from induction_bump.records.damage import said_once
from induction_bump.records.load import Records, load
from induction_bump.records.schema import RecordsError
from induction_bump.streams import show_what_can_be_shown


def parser(description: str | None, study: str, out: str = "STUDY/analysis") -> argparse.ArgumentParser:
    """Takes STUDY, of which `study` says what it may be, and --out."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("study", type=Path, metavar="STUDY", help=study)
    made.add_argument("--out", type=Path, metavar="DIR", help=f"where to write (default: {out})")
    return made


def load_located(study: Path) -> Records:
    """The records of a study. Raises RecordsError where nothing was located in it."""
    records = load(study)
    if records.phase_changes.empty:
        raise RecordsError(f"{study}: nothing was located here; `bump locate {study}` first")
    return records


def run(main: Callable[[], object]) -> None:
    """Call a script's main. Exits with one line, and 2 where records cannot be read, 1 where nothing can be written."""
    name = Path(sys.argv[0]).name
    show_what_can_be_shown()
    try:
        with said_once(lambda line: print(f"{name}: {line}", file=sys.stderr)):
            main()
    except RecordsError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"{name}: {explain_failure(error)}; --out DIR writes elsewhere", file=sys.stderr)
        sys.exit(1)
