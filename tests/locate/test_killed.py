"""Locating that is killed leaves nothing running."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.records.make import make_run

pytestmark = pytest.mark.processes
HELPERS = 3
"""Two processes that locate, and their resource tracker."""


def test_its_processes_end_with_it(tmp_path: Path):
    for seed in range(6):
        make_run(tmp_path, seed=seed, run_id=f"{seed:x}", snapshots=40)
    program = (
        f"from induction_bump.locate.run import find; find({str(tmp_path / 'study')!r}, changes=True, processes=2)"
    )
    process = psutil.Popen([sys.executable, "-c", program])
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(children) < HELPERS and time.monotonic() < deadline:
        time.sleep(0.05)
        children = process.children(recursive=True)
    time.sleep(1)  # until they are at work
    process.kill()
    assert process.wait() != 0
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) == HELPERS
    assert alive == []
