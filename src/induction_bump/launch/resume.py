"""Taking an interrupted run up again, so that its records become those of one uninterrupted run.

Exact means bit for bit on the same kind of machine, with the same versions and threads, in as many processes, and no
more than two of them (docs/running.md#what-exact-means). Otherwise the data are the same and the numbers nearly so, and
it is said what differs.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from induction_bump.config.errors import ConfigError
from induction_bump.launch import facts
from induction_bump.launch.job import Job
from induction_bump.records.checkpoints import newest_intact
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import Resumed, RunInfo

_log = logging.getLogger(__name__)
_NUMBERS_DEPEND_ON = ("torch", "pytorch-lightning", "numpy", "induction-bump")
_EXACT_PROCESSES = 2
_CPU = "cpu"


def take_up(run: RunDirectory, now: RunInfo) -> RunInfo:
    """Bring the records back to the newest intact checkpoint, or to nothing, and return what run.json shall say.

    `now` is what it would say of a new run. The caller holds the run's lock.
    """
    before = run.info
    kept: dict[str, Any] = {"created_at": before.created_at, "generation": before.generation}
    checkpoint = newest_intact(run.path)
    if checkpoint is None:
        if _has_records(run):  # a mirror may show them: what comes now is another start
            kept["generation"] += 1
            # before they go: killed in between, nothing would tell that there were some
            run.update(generation=kept["generation"])
        run.clear()
        return now.model_copy(update=kept)
    run.rewind(checkpoint.step)
    differs = list(differences(before, now))
    for each in differs:
        _log.warning("the outcome will not be exactly that of an uninterrupted run: %s", each)
    resumed = Resumed(
        step=checkpoint.step,
        at=now.started_at,
        host=now.host,
        world_size=now.world_size,
        threads=now.threads,
        differs=differs,
    )
    of_training = ("parameters", "vocab_size", "hashes", "probes", "measure_versions", "not_applicable", "groups")
    of_first_start = ("versions", "hardware", "threads", "world_size", "accumulation")
    kept |= {name: getattr(before, name) for name in (*of_training, *of_first_start)} | before.up_to(checkpoint.step)
    return now.model_copy(update={**kept, "resumes": [*before.resumes, resumed]})


def foretell(run: RunDirectory, job: Job) -> tuple[int | None, list[str]]:
    """The step after which `job` would go on in `run`, None where it begins, and what `differences` says of that."""
    checkpoint = newest_intact(run.path) if run.exists else None
    if checkpoint is None:
        return None, []
    devices = job.typed.devices
    return checkpoint.step, list(differences(run.info, facts.first_info(job, devices.count * devices.nodes)))


def _has_records(run: RunDirectory) -> bool:
    return any(snapshot.step > 0 for snapshot in run.snapshots()) or any((run.path / "training").glob("*.parquet"))


def differences(before: RunInfo, now: RunInfo) -> Iterator[str]:
    """What keeps a run that goes on from being exactly the uninterrupted one, a phrase each.

    `before` is what its run.json says, which is of its first start.
    """
    if any(resumed.differs for resumed in before.resumes):
        yield "an earlier part of it was computed otherwise"
    if before.world_size != now.world_size:
        yield f"{now.world_size} processes instead of {before.world_size}"
    elif now.world_size > _EXACT_PROCESSES:
        yield f"{now.world_size} processes add up in any order"
    if before.threads != now.threads:
        yield f"{now.threads} threads instead of {before.threads}"
    if before.accumulation != now.accumulation:
        yield f"gradients accumulated over {now.accumulation} passes instead of {before.accumulation}"
    for name in _NUMBERS_DEPEND_ON:
        old, new = before.versions.get(name), now.versions.get(name)
        if old != new:
            yield f"{name} {new} instead of {old}"
    for name in ("machine", "processor", "accelerator"):
        old, new = before.hardware.get(name), now.hardware.get(name)
        if old != new and None not in (old, new):
            yield f"{name} {new} instead of {old}"
    if now.hardware.get("accelerator", _CPU) != _CPU:
        yield "GPUs add up in any order"


def refuse_other_data(run: RunDirectory, hashes: Mapping[str, str], versions: Mapping[str, int]) -> None:
    """Raises ConfigError where the run's records were taken on other text, tokens or probes, or mean something else.

    `hashes` and `versions` (of measures) are what the run would have if it went on here.
    """
    if not run.exists:
        return
    before = run.info
    # a measure that means something else now may read another probe: its version says more than a hash
    for name, found in versions.items():
        if before.measure_versions.get(name, found) != found:
            raise ConfigError(
                f"{run.path}: its measure {name} is of version {before.measure_versions[name]}, and this package has "
                f"version {found}; go on with the package that began it, or move it away"
            )
    for name, found in hashes.items():
        if before.hashes.get(name, found) != found:
            raise ConfigError(
                f"{run.path}: its {name.replace('_', ' ')} was {before.hashes[name][:12]} and is {found[:12]} now, so "
                "that it cannot go on; move it away, or choose another study="
            )
