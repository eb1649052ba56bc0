"""The records of a study in a few megabytes, to be kept beside what is said of it.

    python analysis/compact_records.py runs/quickstart --out DIR

Writes DIR/RUN for each run: its config, run.json and probes as they are, and each table as one file. What the page, the
figures and `bump locate` read is there, so that DIR is a study that can be located again, to the same events and
changes. Left out are weights and checkpoints (nothing can be measured any more), the losses of single examples under
ablation (`head_table.py` reads them), W&B's files, and what can be made again: pages, figures, located tables.
"""

from collections.abc import Sequence
from pathlib import Path

import command

from induction_bump.records.directory import RunDirectory, find_runs
from induction_bump.records.schema import TABLES, RecordsError

LEFT_OUT = frozenset({"ablated_tokens"})


def compact(run: RunDirectory, to: RunDirectory) -> int:
    """Write the records of a run to a directory that does not exist; returns how many bytes they have there.

    Raises RecordsError where they cannot be read, or there is a run already.
    """
    if to.path.exists():
        raise RecordsError(f"{to.path}: is there already; remove it, or name another directory")
    probes, tables = run.probes(), {name: run.table(name) for name in TABLES if name not in LEFT_OUT}
    to.begin(run.config, run.info)
    if probes is not None:
        to.write_probes(probes)
    to.write_tables(tables.items())
    return sum(file.stat().st_size for file in to.path.rglob("*") if file.is_file())


def main(arguments: Sequence[str] | None = None) -> Path:
    """Compact each run; returns the directory they are in."""
    parser = command.parser(__doc__, "a study or a single run", out="STUDY/compact")
    chosen = parser.parse_args(arguments)
    out: Path = chosen.out or chosen.study / "compact"
    size = sum(compact(run, RunDirectory(out / run.name)) for run in find_runs(chosen.study))
    print(f"wrote {out}: {size / 1e6:.1f} MB")
    return out


if __name__ == "__main__":
    command.run(main)
