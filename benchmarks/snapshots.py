"""Shares of a run's wall time that its snapshots and checkpoints took, from what finished runs say of themselves.

bump train -m +sweeps=quickstart && python benchmarks/snapshots.py runs/quickstart
"""

import sys

from induction_bump.records.directory import find_runs


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print("| run | snapshots | training, s | measuring, s | writing, s | measuring | writing |")
    print("|---|---|---|---|---|---|---|")
    for run in find_runs(sys.argv[1]):
        seconds = run.info.seconds
        if seconds:
            parts = [seconds[name] for name in ("training", "snapshots", "writing")]
            shares = " | ".join(f"{part / sum(parts):.1%}" for part in parts[1:])
            print(f"| {run.info.name} | {len(run.snapshots())} | {' | '.join(f'{p:.1f}' for p in parts)} | {shares} |")


if __name__ == "__main__":
    main()
