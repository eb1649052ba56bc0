"""Processes of a pool work wherever they are called from, and are told of in a line when lost."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import induction_bump
from induction_bump.pools import WorkerLostError, process_pool

pytestmark = pytest.mark.processes

SCRIPT = """
from math import sqrt
from induction_bump.pools import FORKSERVER, SPAWN, process_pool

print("begins")
with process_pool(2, "computes") as pool:
    print(list(pool.map(sqrt, [4, 9, 16])))
with FORKSERVER.Pool(1) as pool:
    print(pool.map(sqrt, [25]))
"""
SAID = ["begins", "[2.0, 3.0, 4.0]", "[5.0]"]


def ways(tmp_path: Path) -> dict[str, list[str]]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return {"file": ["script.py"], "module": ["-m", "script"], "command": ["-c", SCRIPT]}


@pytest.mark.parametrize("way", ["file", "module", "command"])
def test_a_script_is_not_run_again_by_its_processes(tmp_path: Path, way: str):
    command = [sys.executable, *ways(tmp_path)[way]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, SAID, "")


def test_a_script_on_standard_input_works_too(tmp_path: Path):
    done = subprocess.run([sys.executable], cwd=tmp_path, input=SCRIPT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, SAID, "")


def kill(pid: int) -> None:
    os.kill(pid or os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_told_of_in_a_line():
    told = r"^a process that computes was killed \(out of memory\?\): "
    with pytest.raises(WorkerLostError, match=told) as caught, process_pool(2, "computes") as pool:
        list(pool.map(kill, [0]))
    assert "\n" not in str(caught.value)


def test_a_pool_may_say_what_becomes_of_the_rest_where_a_process_is_killed():
    told = "^a process that computes was lost; the rest is kept$"
    with (
        pytest.raises(WorkerLostError, match=told),
        process_pool(1, "computes", lost="was lost; the rest is kept") as pool,
    ):
        pool.submit(kill, 0).result()


def test_each_process_is_prepared_first():
    with process_pool(1, "computes", os.putenv, "PREPARED", "yes") as pool:
        assert pool.submit(os.system, 'test "$PREPARED" = yes').result() == 0


def test_no_module_starts_processes_of_multiprocessing_in_another_way():
    root = Path(induction_bump.__file__).parent
    other = re.compile(r"ProcessPoolExecutor\(|get_context\(|multiprocessing_context=\"|\bset_start_method\(")
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.py") if other.search(path.read_text("utf-8"))}
    assert found == {"pools.py"}
