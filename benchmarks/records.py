"""How long records of a large study take to load, and how much memory: `records.load` of 100 runs × 200 snapshots.

    python benchmarks/records.py [--runs 100] [--snapshots 200] [--layouts compacted snapshots] [--place DIR]

Writes made-up records of realistic sizes into a temporary directory (in DIR, where several GB must be free): two layers
of 8 heads, 1,024 held-out examples, context 512. `compacted` are runs that have finished, with a file a table;
`snapshots` are runs that are going, with a file a table and snapshot. Then each way of reading runs in a process of its
own: wall time and processor time without the imports, and the largest resident size with them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

READINGS: Mapping[str, str] = {
    "runs, scalars, phase_changes": "len(records.runs) + len(records.scalars) + len(records.phase_changes)",
    "heads, one measure": "len(records.read('heads', measure='prefix_matching'))",
    "tokens, one run": "len(records.read('tokens', runs=[records.directories[0].info.run_id]))",
    "tokens, two steps of every run": "len(records.read('tokens', steps=[0, 100]))",
    "heads, all": "len(records.heads)",
    "positions, all": "len(records.positions)",
    "tokens, all": "len(records.tokens)",
}
"""What is read, as code that gives the number of rows."""
HEADS, EXAMPLES, CONTEXT, LAYERS = 8, 1024, 512, 2
STEP = 25
"""Optimiser steps from one snapshot to the next."""


def write_study(place: Path, runs: int, snapshots: int, *, compacted: bool) -> Path:
    """Records of a study; returns its path."""
    from induction_bump.config.compose import compose
    from induction_bump.launch import cell, facts
    from induction_bump.records.directory import RunDirectory

    job = cell.plan(compose(["experiment=quickstart", f"paths.runs={place}", "study=large"]))
    info = facts.first_info(job, 1)
    for number in range(runs):
        run_id = f"{number:010x}"
        run = RunDirectory(place / "large" / f"2L-attn-{run_id}")
        run.begin(job.config | {"seed": {"init": number, "data": number}}, info.model_copy(update={"run_id": run_id}))
        steps = [STEP * i for i in range(snapshots)]
        moments = [steps] if compacted else [[step] for step in steps]
        for held in moments:
            run.write_snapshot(held[0], made_up(run_id, held, info.tokens_per_step, number))
        if compacted:
            run.compact()
    return place / "large"


def made_up(run_id: str, steps: list[int], tokens_per_step: int, seed: int) -> dict:
    """Noise for all tables that every snapshot has, with as many rows and distinct names as real ones."""
    import numpy as np
    import pyarrow as pa

    from induction_bump.measures.registry import MEASURES
    from induction_bump.records.schema import TABLES

    rng = np.random.default_rng([seed, steps[0]])
    names = {table: [m for m, known in MEASURES.items() if known.table == table] for table in ("scalars", "heads")}
    names["heads"] += [f"{name}_raw" for name in names["heads"]]  # many are stored in a second form
    layer, head, measure = (a.ravel() for a in np.indices((LAYERS, HEADS, len(names["heads"]))))
    moment = {
        "scalars": {"name": np.array(names["scalars"])},
        "positions": {"position": np.arange(1, CONTEXT + 1)},
        "tokens": {"example": np.arange(EXAMPLES)},
        "examples": {
            "name": np.repeat(["icl_score", "icl_window_score"], EXAMPLES),
            "example": np.tile(np.arange(EXAMPLES), 2),
        },
        "heads": {"layer": layer, "head": head, "measure": np.array(names["heads"])[measure]},
    }
    tables = {}
    for table, columns in moment.items():
        rows = len(next(iter(columns.values())))
        step = np.repeat(steps, rows)
        values = {name: np.tile(column, len(steps)) for name, column in columns.items()}
        values |= {"run_id": np.full(len(step), run_id), "step": step, "tokens": step * tokens_per_step}
        noise = {name: rng.standard_normal(len(step)) for name in TABLES[table].names if name not in values}
        arrays = [pa.array({**values, **noise}[field.name]).cast(field.type) for field in TABLES[table]]
        tables[table] = pa.Table.from_arrays(arrays, schema=TABLES[table])
    return tables


def read(path: str, reading: str) -> dict[str, float]:
    """Rows, seconds and MiB of one way of reading, in this process."""
    from induction_bump.records.load import load

    began, used = time.perf_counter(), time.process_time()
    records = load(path)
    rows = eval(READINGS[reading], {"records": records})
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    return {"rows": rows, "seconds": seconds, "processor": processor, "peak": largest_resident()}


def largest_resident() -> float:
    """MiB, of this process. Not `ru_maxrss`, which starts from the size of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--snapshots", type=int, default=200)
    parser.add_argument("--layouts", nargs="+", choices=["compacted", "snapshots"], default=["compacted", "snapshots"])
    parser.add_argument("--place", type=Path, help="where the temporary directory is made")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(read(*asked.one)))
        return
    print("| layout | what is read | rows | wall, s | processor, s | peak, MiB |\n|---|---|---|---|---|---|")
    for layout in asked.layouts:
        with tempfile.TemporaryDirectory(dir=asked.place) as place:
            study = write_study(Path(place), asked.runs, asked.snapshots, compacted=layout == "compacted")
            for reading in READINGS:
                command = [sys.executable, __file__, "--one", str(study), reading]
                found = json.loads(subprocess.check_output(command, text=True))
                numbers = f"{found['seconds']:.1f} | {found['processor']:.1f} | {found['peak']:,.0f}"
                print(f"| {layout} | {reading} | {found['rows']:,} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
