"""Share of a run's wall time that its snapshots took, from what finished runs say of themselves.

bump train -m +sweeps=quickstart && python benchmarks/snapshots.py runs/quickstart
"""

import sys

from induction_bump.records.directory import find_runs


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print("| run | snapshots | training, s | snapshots, s | share of the wall time |")
    print("|---|---|---|---|---|")
    for run in find_runs(sys.argv[1]):
        seconds = run.info.seconds
        if seconds:
            share = seconds["snapshots"] / (seconds["training"] + seconds["snapshots"])
            number = len(run.snapshots())
            timed = f"{seconds['training']:.1f} | {seconds['snapshots']:.1f} | {share:.1%}"
            print(f"| {run.info.name} | {number} | {timed} |")


if __name__ == "__main__":
    main()
