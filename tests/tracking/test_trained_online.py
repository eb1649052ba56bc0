"""`bump train tracking=online` as a user starts it: launcher, worker, companion and client, against the double."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from induction_bump.records.directory import find_runs
from induction_bump.tracking.mirror import wandb_id
from tests.tracking.test_online import assert_arrived
from tests.tracking.wandb_double import API_KEY, WandbDouble
from tests.training.runs import FEW_NGRAMS


@pytest.mark.processes
def test_a_run_that_trains_online_is_on_the_server_when_the_command_ends(logged_in: WandbDouble) -> None:
    overrides = ["experiment=debug", "tracking=online", "report=off", "devices=cpu", "paths.cache=cache"]
    done = subprocess.run(
        [sys.executable, "-m", "induction_bump.cli.main", "train", *overrides, FEW_NGRAMS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [run] = find_runs(Path("runs/debug"))
    assert run.status == "finished"
    server = logged_in.only_run
    assert server.name == wandb_id(run.info)
    assert_arrived(server, run.path)
    assert [row["tokens"] for row in server.rows()][-1] == run.info.total_tokens
    assert (server.complete, server.exit_code) == (True, 0)
    assert server.summary["bump/prefix_matching/found"] in (True, False)
    log = (run.path / "tracking/companion.log").read_text(encoding="utf-8")
    assert "WARNING" not in log
    assert "wandb" not in (done.stdout + done.stderr).lower()
    assert API_KEY not in log + done.stdout + done.stderr
