"""Time until a command or an import is there, or a run has done its first step; medians over processes of their own.

python benchmarks/startup.py [--rounds 7]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUMP = str(Path(sys.executable).with_name("bump"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import induction_bump": [sys.executable, "-c", "import induction_bump"],
    "bump --help": [BUMP, "--help"],
    "bump train --help": [BUMP, "train", "--help"],
    "bump train experiment=quickstart --cfg job": [BUMP, "train", "experiment=quickstart", "--cfg", "job"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("| command | median, s | least, s |")
    print("|---|---|---|")
    for name, command in COMMANDS.items():
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        print(f"| `{name}` | {statistics.median(seconds):.2f} | {min(seconds):.2f} |")
    with tempfile.TemporaryDirectory() as place:
        for devices in ("cpu", "two_cpu"):
            first_step(devices, Path(place))  # makes the caches
            seconds = [first_step(devices, Path(place)) for _ in range(rounds)]
            name = f"bump train devices={devices}"
            print(f"| `{name}`, to the end of its first step | {statistics.median(seconds):.2f} | {min(seconds):.2f} |")


def first_step(devices: str, place: Path) -> float:
    """Seconds from the command to the committed row of the first step, after measures with the smallest probes."""
    overrides = ["experiment=quickstart", "debug=fast", f"devices={devices}", "tracking=none", "report=off"]
    short = ["training.length=1step", "training.warmup=1step", "snapshots.measures.log=null"]
    began = time.time()
    subprocess.run(
        [BUMP, "train", *overrides, *short, f"paths.runs={place}/runs", f"paths.cache={place}/cache"],
        check=True,
        capture_output=True,
    )
    [row] = (place / "runs").glob("*/*/training/part-*.parquet")
    seconds = row.stat().st_mtime - began
    shutil.rmtree(place / "runs")
    return seconds


if __name__ == "__main__":
    main()
