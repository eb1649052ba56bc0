"""Train one run, from its typed config to its committed records.

corpus, probes, model                       # the same on every rank
Checkpoints.setup                           # everything as it was after the newest checkpoint's step, if there is one
snapshot at step 0                          # before any update
for each step:
    for each pass: loss, backward           # StepBatchSampler says which sequences
    clip, AdamW, learning rate
    TrainingRows                            # every step's numbers
    Snapshots                               # at the schedule's moments; after the last update too
    StopOnRequest
    Checkpoints                             # of what is committed by now
    Progress
compaction of the tables
"""

import inspect
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from induction_bump.data.corpus import Corpus, prepare
from induction_bump.measures.ngrams import find_or_build
from induction_bump.measures.null import null99
from induction_bump.measures.probes import Probes
from induction_bump.measures.refusals import refusals
from induction_bump.measures.registry import CHEAP, VERSIONS
from induction_bump.model.transformer import Transformer
from induction_bump.records.directory import RunDirectory
from induction_bump.training.checkpoints import Checkpoints
from induction_bump.training.datamodule import WindowData
from induction_bump.training.module import LanguageModel
from induction_bump.training.options import DeviceOptions, RunConfig
from induction_bump.training.progress import Progress
from induction_bump.training.rows import TrainingRows
from induction_bump.training.snapshot import Snapshots
from induction_bump.training.stopping import KeepSignals, StopOnRequest


@dataclass(frozen=True)
class Trained:
    """What a training leaves in memory."""

    module: LanguageModel
    trainer: pl.Trainer
    corpus: Corpus
    probes: Probes
    run: RunDirectory
    stopped: bool
    """It ended early because it was asked to."""


Cluster = Literal["none", "torchrun", "slurm"]
"""Who started the ranks."""


def train(
    config: RunConfig,
    run: RunDirectory,
    stop_requested: Callable[[], bool] = lambda: False,
    cluster: Cluster = "none",
) -> Trained:
    """Train a run that was begun in `run` (its run.json exists); on several ranks, each calls this.

    It goes on from the newest checkpoint there, after whose step there must be no records (`RunDirectory.rewind`).

    Raises ValueError for a corpus or a probe that does not fit, LossNotFiniteError for a loss that broke, OSError for
    a disk that is full or read-only. What was committed before stays.
    """
    quiet_lightning()
    cache = Path(config.paths.cache).expanduser()
    corpus = prepare(config.data, cache)
    probes = Probes.draw(corpus, config.data.context, config.measures)
    ngrams = find_or_build(corpus, config.data.context, config.measures.ngrams, cache)
    model = Transformer(config.model, corpus.vocab_size, config.data.context, config.seed.init)
    torch.manual_seed(config.seed.init)  # nothing here draws from it today
    torch.set_float32_matmul_precision("high" if config.training.tf32 else "highest")
    rows = TrainingRows(run, config.tokens_per_step)
    stop = StopOnRequest(stop_requested)
    null = partial(null99, config.model, corpus.vocab_size, config.data.context, probes, config.measures.null, cache)
    snapshots = Snapshots(config, run, probes, ngrams, null, rows)
    checkpoints = Checkpoints(config, run, rows, snapshots, stop)
    progress = Progress(rows, config.total_steps, config.tokens_per_step, f"{config.study}/{run.name}")
    trainer = make_trainer(config, [KeepSignals(), rows, snapshots, stop, checkpoints, progress], cluster)
    if trainer.is_global_zero:
        _describe(run, corpus, probes, model, config)
    module = LanguageModel(config, model)
    trainer.fit(module, datamodule=WindowData(config, corpus))
    if trainer.is_global_zero:
        run.update(seconds=checkpoints.total_seconds())
        if not stop.stopped:
            run.compact()
    return Trained(module, trainer, corpus, probes, run, stop.stopped)


def make_trainer(config: RunConfig, callbacks: list[pl.Callback], cluster: Cluster = "none") -> pl.Trainer:
    """A Lightning trainer that only trains: no logger, checkpoints, bars or files of its own.

    Who started the ranks is told, not guessed: a single process inside a SLURM allocation is not one of its tasks.
    """
    _, passes = config.devices.split(config.training.batch_sequences)
    devices = config.devices
    world = devices.count * devices.nodes
    return pl.Trainer(
        accelerator=accelerator_of(devices),
        devices=devices.count,
        num_nodes=devices.nodes,
        # the model's buffers are tables that nothing changes: to send them at every pass is a wait for nothing
        strategy=DDPStrategy(**_WITHOUT_BUFFERS) if world > 1 else "auto",
        precision="bf16-mixed" if config.training.precision == "bf16" else "32-true",
        max_steps=config.total_steps,
        max_epochs=-1,
        accumulate_grad_batches=passes,
        callbacks=callbacks,
        plugins=[_ENVIRONMENTS[cluster]()],
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )


_IN_FORWARD = "forward_sync_buffers"
_KNOWN = inspect.signature(DistributedDataParallel).parameters
_WITHOUT_BUFFERS: dict[str, Any] = {_IN_FORWARD if _IN_FORWARD in _KNOWN else "broadcast_buffers": False}
"""A later torch has renamed it, and warns of the older name."""


_ENVIRONMENTS: dict[Cluster, Callable[[], ClusterEnvironment]] = {
    "none": LightningEnvironment,
    "torchrun": TorchElasticEnvironment,
    "slurm": partial(SLURMEnvironment, auto_requeue=False),
}


def accelerator_of(devices: DeviceOptions) -> str:
    """Lightning's name of the accelerator; `auto` is CUDA where there is one, never anything else."""
    if devices.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return devices.accelerator


def quiet_lightning() -> None:
    """Keep Lightning's advertisements out of a run's output; its warnings that are right for us stay."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # batches are functions of their index and cost under 2 % of a step
        ".*GPU available but not used.*",
        ".*`srun` command is available.*",  # who starts the ranks is told to the trainer
        ".*Total length of .* across ranks is zero.*",  # all steps were done, and only the tables remained to be made
        ".*isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning's own call into torch 2.13
    ):
        warnings.filterwarnings("ignore", message)


def _describe(run: RunDirectory, corpus: Corpus, probes: Probes, model: Transformer, config: RunConfig) -> None:
    """Complete run.json with what only model and probes tell, and store what the probe's examples are."""
    hashes = {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer_hash, **probes.hashes}
    taken = CHEAP.union(config.measures.expensive) if config.snapshots.expensive else CHEAP
    before = run.info  # of a run that goes on, which may hold what was measured since
    changes: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": corpus.vocab_size,
        "hashes": hashes,
        "probes": {**probes.describe(), "icl": asdict(config.measures.icl)},
        "measure_versions": {**before.measure_versions, **{name: VERSIONS[name] for name in VERSIONS if name in taken}},
        "not_applicable": {**before.not_applicable, **refusals(config.model)},
    }
    run.update(**changes)
    held_out = probes.held_out
    examples = np.arange(len(held_out.tokens), dtype=np.int32)
    columns = {
        "example": examples,
        "position": held_out.position.astype(np.int32),
        "document": held_out.documents.astype(np.int32),
        "token": held_out.tokens[examples, held_out.position].astype(np.int32),
    }
    run.write_probes(pa.table(columns))
