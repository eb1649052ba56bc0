"""Whether a run can be what its config says, before anything of it is written: data, probes, memory, room on disk."""

import os
import shutil
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from induction_bump.config.errors import ConfigError
from induction_bump.data.corpus import Corpus
from induction_bump.measures.probes import ProbeError, Probes
from induction_bump.model.size import parameter_count
from induction_bump.records.directory import RunDirectory
from induction_bump.training.options import RunConfig

_PAGE_BYTES = 10_000_000
_STEP_BYTES = 3 * 40
"""A training row: in its part file, compacted, and mirrored."""
_SCALAR_ROWS = 30
_HEAD_MEASURES = 24
_PAIR_KINDS = 3
_ABLATION_KINDS = 3
_QUANTITIES = 4
_ROW_BYTES = 2 * 24
"""A row of a snapshot's table, with its compacted copy; measured rows take less."""
_CHECKPOINTS = 3
"""The last two, and the one that is being written."""
_FILES_BYTES = 5 * 8_000
"""Schemas and metadata of a snapshot's files."""
_FLOAT32_BYTES = 4
_COPIES = 4
"""Weights, gradients, two moments."""
_OF_LOGITS = 2
"""Logits and their gradient."""
_GROUP = Path("/sys/fs/cgroup")
"""Of a container, which has less memory than its machine."""
_CACHED_FILES = ("inactive_file", "active_file")
"""Of what a group holds, in `memory.stat`: the kernel drops it for who needs memory. Shared memory is not in it."""
_GPU_MEMORY = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
_GPU_SECONDS = 30
_ON_EVERY_GPU = 10**9
"""Bytes that need no question, which takes a second where there are GPUs."""


def hashes(config: RunConfig, corpus: Corpus) -> dict[str, str]:
    """Of what the run reads: corpus, tokenizer, probes. Raises ConfigError for a probe that cannot be drawn."""
    try:
        probes = Probes.draw(corpus, config.data.context, config.measures)
        return {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer_hash, **probes.hashes}
    except ProbeError as error:
        raise ConfigError(str(error)) from None


def check_room(needed: int, directory: Path) -> None:
    """Raises ConfigError where the disk of `directory` has less room than the bytes that are needed."""
    there = shutil.disk_usage(_existing(directory)).free
    if needed > there:
        raise ConfigError(
            f"paths.runs: about {needed / 1e6:,.0f} MB will be written and {there / 1e6:,.0f} MB are free; "
            f"thin out snapshots.weights, or set snapshots.save_weights=false"
        )


def check_memory(config: RunConfig, vocab_size: int) -> None:
    """Raises ConfigError where a training step surely needs more memory than there is.

    On a CPU that is what is free, for all processes; on GPUs the memory of the largest, for one.
    """
    model, devices = config.model, config.devices
    parameters = parameter_count(model, vocab_size, config.data.context)
    sequences, _ = devices.split(config.training.batch_sequences)
    logits = sequences * config.data.context * vocab_size
    needed = _FLOAT32_BYTES * (_COPIES * parameters + _OF_LOGITS * logits)
    gpu = _largest_gpu() if devices.accelerator != "cpu" and needed > _ON_EVERY_GPU else None
    if devices.accelerator == "cuda" and gpu is None:
        return  # where there is none, the worker says so
    needed, there = (needed, gpu) if gpu is not None else (needed * devices.count, _free_memory())
    if needed > there:
        raise ConfigError(
            f"model.d_model={model.d_model}, {vocab_size} tokens of vocabulary: about {needed / 1e6:,.0f} MB of memory "
            f"are needed for {parameters / 1e6:,.0f}M parameters and the logits of {sequences} sequences, and "
            f"{there / 1e6:,.0f} MB are there; make the model or its vocabulary smaller, or set "
            "devices.sequences_per_device lower"
        )


def _free_memory() -> int:
    """Bytes that processes on this machine, or in this container, may still take."""
    free = psutil.virtual_memory().available
    # no container, one without a limit, which reads `max`, or one that tells it otherwise
    with suppress(OSError, ValueError, KeyError):
        limit, held = (int((_GROUP / name).read_text(encoding="utf-8")) for name in ("memory.max", "memory.current"))
        stat = (line.split() for line in (_GROUP / "memory.stat").read_text(encoding="utf-8").splitlines())
        parts = {name: int(size) for name, size in stat}
        free = min(free, limit - held + sum(parts[name] for name in _CACHED_FILES))
    return free


def _largest_gpu() -> int | None:
    """Bytes of memory of the largest GPU of the machine; None where this process may use none.

    Which of several it may use is not looked at: CUDA counts them in an order of its own.
    """
    gpus = _gpus()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()  # CUDA stops at one that is not there
    visible = first.startswith(("GPU-", "MIG-")) or (first.isdecimal() and int(first) < len(gpus))
    return max(gpus, default=None) if visible else None


@cache
def _gpus() -> tuple[int, ...]:
    """Bytes of memory of each GPU of the machine. Asked once a process: it takes a second."""
    try:
        said = subprocess.run(_GPU_MEMORY, capture_output=True, text=True, check=True, timeout=_GPU_SECONDS).stdout
        return tuple(int(line) * 2**20 for line in said.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def still_to_write(run: RunDirectory, forecast: int) -> int:
    """Bytes of a forecast that the run's directory does not hold yet."""
    written = 0
    for file in run.path.rglob("*") if run.exists else ():
        with suppress(FileNotFoundError):  # another process may be writing the run
            written += file.stat().st_size if file.is_file() else 0
    return max(0, forecast - written)


def forecast(config: RunConfig, vocab_size: int) -> int:
    """Bytes that the run's directory will hold, estimated from above."""
    weights = config.weight_schedule()
    kept = len(weights) if weights else 0
    context, held_out, model = config.data.context, config.measures.held_out.examples, config.model
    heads = model.n_attention * model.n_heads
    rows = _SCALAR_ROWS + context + 3 * held_out + _HEAD_MEASURES * heads
    snapshot = rows * _ROW_BYTES + _FILES_BYTES
    ablated = _ABLATION_KINDS * heads * (_QUANTITIES + min(held_out, config.measures.causal.examples))
    expensive = (ablated + (_PAIR_KINDS + 2) * heads**2 + 2 * heads) * _ROW_BYTES + _FILES_BYTES
    parameters = 4 * parameter_count(model, vocab_size, context)
    return (
        (kept + _CHECKPOINTS * 3) * parameters  # a checkpoint holds two moments beside each
        + len(config.measure_schedule()) * snapshot
        + len(config.expensive_schedule() or ()) * expensive
        + config.total_steps * _STEP_BYTES
        + _PAGE_BYTES
    )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
