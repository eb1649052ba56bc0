"""Stands in for `training.train`: waits until the test lets the run go, and tells what was lent to it."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def train(config: Any, run: Any, stop_requested: Any, *_: Any, **__: Any) -> SimpleNamespace:
    """End when a file `go` or `go-SEED` is there or a stop is requested; fail where there is `fail-SEED`."""
    where, seed = Path(os.environ["BUMP_TEST_DIRECTORY"]), config.seed.init
    told = {
        "pid": os.getpid(),
        "launcher": os.getppid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "threads": os.environ["OMP_NUM_THREADS"],
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "generation": run.info.generation,
    }
    aside = where / f"aside-{os.getpid()}"
    aside.write_text(json.dumps(told), encoding="utf-8")
    aside.rename(where / f"begun-{seed}-{os.getpid()}")
    if (where / f"fail-{seed}").exists():
        raise RuntimeError("the loss is not finite")
    deaf = (where / "deaf").exists()
    while not any((where / name).exists() for name in ("go", f"go-{seed}")):
        if stop_requested() and not deaf:
            break
        time.sleep(0.05)
    done = any((where / name).exists() for name in ("go", f"go-{seed}"))
    (where / f"ended-{seed}-{os.getpid()}").touch()
    return SimpleNamespace(stopped=not done)
