"""How long a call takes that has many finished runs to skip: the first, which composes them, and the ones after it.

python benchmarks/sweeps.py [--cells 1000]

The finished runs are directories with config.yaml and run.json alone; nothing is trained.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from induction_bump.config.compose import compose
from induction_bump.launch import cell, facts
from induction_bump.records.directory import RunDirectory

BUMP = str(Path(sys.executable).with_name("bump"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as place:
        overrides = ["experiment=quickstart", f"paths.runs={place}"]
        config, began = compose(overrides), time.perf_counter()
        for seed in range(cells):
            finish(compose([*overrides, f"seed.init={seed}"]) if seed else config)
        print(f"writing {cells} finished runs: {time.perf_counter() - began:.1f} s\n")
        command = [BUMP, "train", "-m", *overrides, f"seed.init={','.join(map(str, range(cells)))}"]
        print("| call | s |\n|---|---|")
        for name in ("first: composes every cell", "second", "third"):
            began = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            assert f"{cells} runs that were finished before" in done.stdout, done.stdout
            print(f"| {name} | {time.perf_counter() - began:.1f} |")


def finish(config: object) -> None:
    """Write the run of a config as a finished one."""
    job = cell.plan(config)  # type: ignore[arg-type]
    info = facts.first_info(job, 1).model_copy(update={"status": "finished", "finished_at": facts.timestamp()})
    RunDirectory(job.path).begin(job.config, info)


if __name__ == "__main__":
    main()
