"""Where and with what a run is computed: what `run.json` says about the machine."""

import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

import induction_bump
from induction_bump.config.identity import slug
from induction_bump.launch.job import Job, available_cores
from induction_bump.records.schema import RunInfo

_PACKAGES = ("torch", "pytorch-lightning", "numpy", "tokenizers", "datasets", "hydra-core", "pyarrow")


def first_info(job: Job, world_size: int, accelerator: str | None = None) -> RunInfo:
    """A run's `run.json` at its start; what only the model and the probes tell is filled in by training.

    `accelerator`: `cpu` or the GPU's model, where the caller knows it.
    """
    config = job.typed
    now = timestamp()
    return RunInfo(
        run_id=job.run_id,
        study=config.study,
        name=slug(config),
        status="running",
        host=socket.gethostname(),
        pid=os.getpid(),
        created_at=now,
        started_at=now,
        git_revision=git_revision(),
        versions=versions(),
        hardware=hardware() | ({"accelerator": accelerator} if accelerator else {}),
        threads=job.threads,
        world_size=world_size,
        accumulation=config.devices.split(config.training.batch_sequences)[1],
        parameters=0,
        vocab_size=0,
        tokens_per_step=config.tokens_per_step,
        total_steps=config.total_steps,
        total_tokens=config.total_steps * config.tokens_per_step,
        hashes={"corpus": job.fingerprint},
        probes={},
        measure_versions={},
    )


def timestamp() -> str:
    """Now, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with."""
    found = {"python": platform.python_version(), "induction-bump": induction_bump.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int]:
    """The machine: system, processor, cores that may be used, memory in bytes."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory": psutil.virtual_memory().total,
    }


@cache
def git_revision() -> str | None:
    """Revision of the checkout that this code runs from, with `+` where it has changes; None for an installed wheel."""
    root = Path(induction_bump.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return revision + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    call = ["git", "-C", str(root), *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
