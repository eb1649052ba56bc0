"""One training run, whole: how it is optimised, when it is measured, where it runs, and what it is made of."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from induction_bump.data.options import DataOptions, RepeatsOptions
from induction_bump.locate.options import LocateOptions
from induction_bump.measures.options import MeasureOptions
from induction_bump.model.options import ModelOptions
from induction_bump.options import (
    FloatPair,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Seed,
    Share,
    Text,
    options,
)
from induction_bump.report.options import ReportOptions
from induction_bump.tracking.options import TrackingOptions
from induction_bump.training.schedule import Duration, Length, Schedule

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a study or a run may be called, since directories are."""


@options
class TrainingOptions:
    """AdamW, its learning-rate schedule, and the length of training."""

    length: Length = Duration(2000, "step")
    """How long to train."""
    batch_sequences: Positive = 64
    """Sequences per optimiser step over all devices."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup: Length = Duration(100, "step")
    """Linear rise from 0 to the peak."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """What follows the warm-up."""
    final_share: Share = 0.0
    """Share of the peak at which a linear or cosine decay ends."""
    betas: FloatPair = (0.9, 0.98)
    """AdamW's decay rates."""
    epsilon: PositiveFloat = 1e-8
    """AdamW's ε."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay, on matrices only: never on gains, biases, embeddings of positions or smear scalars."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; null turns clipping off."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16` computes under autocast and keeps weights in float32."""
    compile: bool = False
    """Train a `torch.compile`d model; measures always run on the plain one."""
    tf32: bool = False
    """Let CUDA multiply float32 matrices in TF32."""

    @model_validator(mode="after")
    def _betas_below_one(self) -> "TrainingOptions":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={list(self.betas)} must lie in [0, 1)")
        if self.length.value < 1:
            raise ValueError(f"length={self.length} must be at least one step")
        return self


@options
class LogSpaced:
    """Moments at equal ratios."""

    start: Length = Duration(1, "step")
    """The first moment after step 0."""
    count: Positive = 32
    """How many moments from there to the end."""


@options
class ScheduleOptions:
    """A union of moments; step 0 and the last step belong to every schedule."""

    log: LogSpaced | None = None
    """Log-spaced moments."""
    every: Length | None = None
    """Linearly spaced moments."""
    at: tuple[Length, ...] = ()
    """Listed moments."""

    def resolve(self, last: int, tokens_per_step: int) -> Schedule:
        """The schedule in steps. Raises ValueError, which begins with the key, for a moment after `last`."""
        schedule = Schedule((), last)
        if self.log:
            start = self.log.start.steps(tokens_per_step)
            if not 1 <= start <= last:
                raise ValueError(f"log.start={self.log.start} must lie within the {last} steps of the training")
            schedule |= Schedule.log_spaced(start, last, self.log.count)
        if self.every:
            every = self.every.steps(tokens_per_step)
            if every < 1:
                raise ValueError(f"every={self.every} must be at least one step")
            if every > last:
                raise ValueError(f"every={self.every} is longer than the {last} steps of the training")
            schedule |= Schedule.linear(every, last)
        at = [moment.steps(tokens_per_step) for moment in self.at]
        for i, step in enumerate(at):
            if step > last:
                raise ValueError(f"at[{i}]={self.at[i]} lies past the {last} steps of the training")
        return schedule | Schedule(at, last)


@options
class SnapshotOptions:
    """When measures are taken and weights are kept."""

    measures: ScheduleOptions = Field(default_factory=lambda: ScheduleOptions(log=LogSpaced()))
    """Moments at which the model is measured."""
    expensive: ScheduleOptions | None = None
    """Moments at which `measures.expensive` are taken as well; null leaves them to `bump measure`."""
    weights: ScheduleOptions | None = None
    """Moments at which weights are kept; null keeps them wherever measures are taken."""
    save_weights: bool = True
    """Keep weights at all."""


@options
class SeedOptions:
    """Seeds of training; probes have their own."""

    init: Seed = 0
    """Seed of the initial weights."""
    data: Seed = 0
    """Seed of the order of the data."""


@options
class DeviceOptions:
    """Where the run is computed. Nothing here changes what is computed."""

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes CUDA where it is there."""
    count: Positive = 1
    """Devices per node, one process each."""
    nodes: Positive = 1
    """Nodes; more than one are started by torchrun or SLURM, one task a device."""
    threads: Positive | None = None
    """CPU threads per process; null shares the available cores between the processes."""
    sequences_per_device: Positive | None = None
    """Most sequences a device takes at once; gradients are accumulated where the batch is larger."""
    loader_workers: NonNegative = 0
    """Processes that prepare batches beside each training process."""

    def split(self, batch_sequences: int) -> tuple[int, int]:
        """Sequences per device and pass, and passes per optimiser step. Raises ValueError for an impossible split."""
        world = self.count * self.nodes
        if batch_sequences % world:
            raise ValueError(
                f"training.batch_sequences={batch_sequences} cannot be split evenly over "
                f"{world} devices (devices.count × devices.nodes)"
            )
        share = batch_sequences // world
        limit = min(self.sequences_per_device or share, share)
        passes = next(n for n in range(math.ceil(share / limit), share + 1) if share % n == 0)
        return share // passes, passes


@options
class CheckpointOptions:
    """When training can be taken up again, besides every snapshot."""

    every_seconds: PositiveFloat | None = 120.0
    """Least time between two checkpoints; null leaves it to snapshots and `every`."""
    every: Length | None = None
    """Linearly spaced checkpoints."""


@options
class PathOptions:
    """Where runs and caches lie."""

    runs: Text = "./runs"
    """Directory of studies."""
    cache: Text = "~/.cache/induction_bump"
    """Directory of tokenised corpora and nulls, shared by all runs."""


@options
class RunConfig:
    """Everything there is to know about a run before it starts."""

    study: Annotated[str, Field(pattern=NAME)] = "default"
    """The runs it is compared with: its directory below paths.runs."""
    name: Annotated[str, Field(pattern=NAME)] | None = None
    """Readable name; null derives one from the model."""
    model: ModelOptions = Field(default_factory=ModelOptions)
    data: DataOptions = Field(default_factory=DataOptions)
    training: TrainingOptions = Field(default_factory=TrainingOptions)
    snapshots: SnapshotOptions = Field(default_factory=SnapshotOptions)
    measures: MeasureOptions = Field(default_factory=MeasureOptions)
    seed: SeedOptions = Field(default_factory=SeedOptions)
    locate: LocateOptions = Field(default_factory=LocateOptions)
    devices: DeviceOptions = Field(default_factory=DeviceOptions)
    checkpoints: CheckpointOptions = Field(default_factory=CheckpointOptions)
    paths: PathOptions = Field(default_factory=PathOptions)
    tracking: TrackingOptions = Field(default_factory=TrackingOptions)
    report: ReportOptions = Field(default_factory=ReportOptions)

    @property
    def tokens_per_step(self) -> int:
        """Training tokens of one optimiser step."""
        return self.training.batch_sequences * self.data.context

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.training.length.steps(self.tokens_per_step)

    def measure_schedule(self) -> Schedule:
        """When measures are taken, in steps."""
        measured = self.snapshots.measures.resolve(self.total_steps, self.tokens_per_step)
        expensive = self.expensive_schedule()
        return measured | expensive if expensive else measured

    def expensive_schedule(self) -> Schedule | None:
        """When expensive measures are taken too, in steps; None where they never are."""
        chosen = self.snapshots.expensive
        return chosen.resolve(self.total_steps, self.tokens_per_step) if chosen else None

    def weight_schedule(self) -> Schedule | None:
        """When weights are kept, in steps; None where they never are."""
        if not self.snapshots.save_weights:
            return None
        chosen = self.snapshots.weights
        return chosen.resolve(self.total_steps, self.tokens_per_step) if chosen else self.measure_schedule()

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        context, icl = self.data.context, self.measures.icl
        for key, position in (("late", icl.late), ("early", icl.early)):
            if position > context:
                raise ValueError(f"measures.icl.{key}={position} lies past data.context={context}")
        if icl.late - icl.window < 0 or icl.early + icl.window - 1 > context:
            raise ValueError(f"measures.icl.window={icl.window} reaches outside positions 1…{context}")
        corpus = self.data.corpus
        if isinstance(corpus, RepeatsOptions) and corpus.copy_share and icl.early + icl.window > corpus.first_copy:
            raise ValueError(
                f"measures.icl: the early window {icl.early}…{icl.early + icl.window - 1} must end before the first "
                f"possible copy, data.corpus.first_copy={corpus.first_copy}"
            )
        if self.training.warmup.steps(self.tokens_per_step) > self.total_steps:
            raise ValueError(
                f"training.warmup={self.training.warmup} is longer than training.length={self.training.length}"
            )
        schedules = (
            ("expensive", self.expensive_schedule),
            ("measures", self.measure_schedule),
            ("weights", self.weight_schedule),
        )
        for key, take in schedules:
            try:
                take()
            except ValueError as error:
                raise ValueError(f"snapshots.{key}.{error}") from None
        every = self.checkpoints.every
        if every and not 1 <= every.steps(self.tokens_per_step) <= self.total_steps:
            raise ValueError(f"checkpoints.every={every} must lie within the {self.total_steps} steps of the training")
        self.devices.split(self.training.batch_sequences)
        return self
