"""How a script is called: the arguments that all have, and one line for what cannot be read or drawn."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from induction_bump.records.load import Records, load
from induction_bump.records.schema import RecordsError


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
    """Call a script's main. Exits with 2 and one line where records cannot be read."""
    try:
        main()
    except RecordsError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
