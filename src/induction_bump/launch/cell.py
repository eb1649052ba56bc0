"""One run of a study, from its config to how it ended."""

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from induction_bump.config.errors import ConfigError
from induction_bump.config.identity import directory_name, run_id
from induction_bump.config.resolve import dump
from induction_bump.launch import facts, note, ranks, resume, stop, watch, worker, workers
from induction_bump.launch.announcement import announcement
from induction_bump.launch.job import Job, available_cores, threads_per_process
from induction_bump.launch.outcome import Outcome
from induction_bump.launch.ranks import Rank
from induction_bump.launch.standing import refuse_long_names, refuse_other_run
from induction_bump.launch.watch import Watched
from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunBusyError, RunLock, is_locked
from induction_bump.training.options import RunConfig

Say = Callable[[str], object]

_MARKER = ".private-to-a-launch"
"""File in a directory that `private_directory` made; what has none is somebody else's, whatever its name."""
_TO_END_SECONDS = 5.0
"""What the workers of a launcher that has gone need at most, unless the machine is very busy."""


def plan(config: RunConfig, content: str | None = None) -> Job:
    """Name a run and find its directory: the one that ends with its id, whatever it was called. Writes nothing.

    Args: content, the corpus's content hash where the caller knows it. Raises ConfigError where its directory or the
    devices forbid it, CorpusError where its corpus cannot be had.
    """
    from induction_bump.data.fingerprint import fingerprint

    ranks.check(config, ranks.from_environment())
    content = content or fingerprint(config.data, _cache(config))
    identity = run_id(config, content)
    study = study_directory(config)
    refuse_long_names(config, study / directory_name(config, identity))
    known = sorted(file.parent for file in study.glob(f"*-{identity}/run.json"))
    path = known[0] if known else study / directory_name(config, identity)
    job = Job(dump(config), identity, content, str(path), threads_per_process(config))
    refuse_other_run(RunDirectory(path), job)
    return replace(job, threads=threads_begun_with(config, RunDirectory(path)) or job.threads)


def threads_begun_with(config: RunConfig, run: RunDirectory) -> int | None:
    """CPU threads that each process of an unfinished run had, which repeat its numbers bit for bit.

    None where the config gives its own, or the cores of this process are not enough for them.
    """
    devices = config.devices
    if devices.threads or not run.exists or run.info.world_size != devices.count * devices.nodes:
        return None
    before = run.info.threads
    return before if before * devices.count <= available_cores() else None


def study_directory(config: RunConfig) -> Path:
    """The study's directory, absolute."""
    return Path(os.path.abspath(Path(config.paths.runs).expanduser())) / config.study  # noqa: PTH100


def _cache(config: RunConfig) -> Path:
    return Path(config.paths.cache).expanduser()


def check_tracking(config: RunConfig) -> None:
    """Raises ConfigError where W&B is asked for online and there is no login; for the rest it loads no W&B."""
    if config.tracking.mode != "online":
        return
    from induction_bump.tracking.destination import TrackingError, choose

    try:
        choose(config.tracking)
    except TrackingError as error:
        raise ConfigError(str(error)) from None


def prepare_data(configs: Iterable[RunConfig], here: bool = True) -> None:
    """Make each corpus once, for all workers, and see that every run fits its corpus, its records, memory and the disk.

    Args: here, whether they run on this machine, so that its memory has to be enough. Raises CorpusError or ConfigError
    for what the user can mend.
    """
    from induction_bump.data.corpus import Corpus, prepare
    from induction_bump.data.options import RepeatsOptions, TriggersOptions
    from induction_bump.launch import fit
    from induction_bump.measures.registry import VERSIONS

    corpora: dict[str, Corpus] = {}
    needed = 0  # by all of them together: a sweep's runs belong to one study, on one disk
    for config in configs:
        key = json.dumps([dump(config)["data"], config.paths.cache], sort_keys=True)
        corpus = config.data.corpus
        if here and isinstance(corpus, RepeatsOptions | TriggersOptions):  # before so large a vocabulary is made
            fit.check_memory(config, corpus.vocab_size)
        if key not in corpora:
            corpora[key] = prepare(config.data, _cache(config))
        if here:
            fit.check_memory(config, corpora[key].vocab_size)
        hashes = fit.hashes(config, corpora[key])
        begun = RunDirectory(plan(config, corpora[key].fingerprint).path)
        resume.refuse_other_data(begun, hashes, VERSIONS)
        needed += fit.still_to_write(begun, fit.forecast(config, corpora[key].vocab_size))
        fit.check_room(needed, study_directory(config))


def run(
    config: RunConfig,
    environment: Mapping[str, str] = os.environ,
    say: Say = print,
    *,
    wait: float | None = None,
    own_terminal: bool = True,
    in_sweep: bool = False,
) -> Outcome:
    """Train a run that is not finished yet, and tell how it ended.

    Args: environment, what workers start from; say, takes lines for the user; wait, seconds that another process which
    writes the run is awaited, `worker.LOCK_SECONDS` by default; own_terminal, whether no other run writes there;
    in_sweep, whether it is one of several, of which less is said.
    Raises ConfigError or CorpusError, before anything is written, for what the user can mend.
    """
    job, rank = plan(config), ranks.from_environment()
    directory, name = RunDirectory(job.path), Path(job.path).name

    def announce() -> None:
        for line in announcement(config, job, in_sweep):
            say(line)

    if is_finished(directory):
        return Outcome(job.run_id, job.path, "skipped")
    if stop.requested():
        return Outcome(job.run_id, job.path, "waiting")
    if rank is None or rank.first:  # the one that mirrors
        check_tracking(config)
    prepare_data([config])
    if rank:
        if rank.first:
            announce()
        return _as_rank(job, rank)
    if is_locked(directory.path):
        wait = worker.LOCK_SECONDS if wait is None else wait
        if wait:
            say(f"{name}: another process writes it; waiting up to {wait:.0f} s")
        try:
            _await_writer(directory, wait)
        except RunBusyError as error:
            return Outcome(job.run_id, job.path, "busy", str(error))
        if is_finished(directory):
            return Outcome(job.run_id, job.path, "skipped")
    announce()
    watched = replace(job, launcher=str(Watched.this()))
    return _in_workers(watched, config, environment, own_terminal)


def _as_rank(job: Job, rank: Rank) -> Outcome:
    """Do a rank's part in this process, which takes its signals itself."""
    os.environ.update({key: value for key, value in job.to_environment().items() if key.endswith("_THREADS")})
    if rank.starter == "torchrun":  # SLURM ends what it started by itself
        parent = Watched.parent()
        job = replace(job, launcher=str(parent))
        watch.end_with(parent)
    with stop.taking_signals(None, at_once=lambda: os._exit(1)):
        return worker.work(job, rank)


def _in_workers(job: Job, config: RunConfig, environment: Mapping[str, str], own_terminal: bool) -> Outcome:
    before = _attempt(job)
    with private_directory() as private:
        code = workers.run(job, config.devices.count, private, environment, own_terminal=own_terminal)
        left = note.find(private)
    if left:
        outcome = Outcome(job.run_id, job.path, left.status, left.message, left=left.left)
    else:
        outcome = _from_records(job, code, before)
    return outcome if outcome.recorded else record(outcome)


@contextmanager
def private_directory() -> Generator[Path, None, None]:
    """A directory for a launcher and what it starts, removed at the end; those of killed launchers go too."""
    # An in-memory file system where there is one: a full disk must not keep workers from saying so.
    shared = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    _remove_abandoned(shared)
    private = Path(tempfile.mkdtemp(prefix=_private_prefix(), dir=shared))
    held = os.open(private, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # ends with this process, however it ends
        (private / _MARKER).touch(exist_ok=False)  # only now: what is marked and not held is abandoned
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        os.close(held)


def _private_prefix() -> str:
    return f"induction-bump-{os.getuid()}-"


def _remove_abandoned(shared: Path) -> None:
    """Remove private directories that no process holds any more, and nothing that is only named like one."""
    for directory in shared.glob(f"{_private_prefix()}*"):
        try:
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # gone, another user's, or no directory
            continue
        try:
            if os.fstat(held).st_uid == os.getuid() and _is_marked(held):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(held)


def _is_marked(directory: int) -> bool:
    """Whether an open directory holds the file that `private_directory` makes there."""
    try:
        return stat.S_ISREG(os.stat(_MARKER, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _attempt(job: Job) -> tuple[str, str, int] | None:
    """What tells an attempt at a run from another one; None before the first."""
    run = RunDirectory(job.path)
    return (run.info.started_at, run.info.host, run.info.pid) if run.exists else None


def _from_records(job: Job, code: int, before: tuple[str, str, int] | None) -> Outcome:
    """What `run.json` says, unless it says it of the attempt `before` this one."""
    run = RunDirectory(job.path)
    info = run.info if run.exists else None
    if info and info.run_id == job.run_id and info.status != "running" and _attempt(job) != before:
        return Outcome(job.run_id, job.path, info.status, info.message, recorded=True)
    if stop.requested():
        return Outcome(job.run_id, job.path, "preempted")
    reason = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return Outcome(job.run_id, job.path, "failed", f"a worker process {reason} without saying why")


def record(outcome: Outcome) -> Outcome:
    """Write down, where that is possible, how a run ended whose workers could not."""
    run = RunDirectory(outcome.path)
    if outcome.status not in ("failed", "preempted") or not run.exists or run.info.status != "running":
        return outcome
    lock = RunLock(run.path)
    try:
        lock.acquire(timeout=_TO_END_SECONDS)
        if run.info.status != "running":
            return outcome
        run.update(status=outcome.status, message=outcome.message, finished_at=facts.timestamp())
    except (OSError, RunBusyError):
        return outcome
    finally:
        lock.release()
    return replace(outcome, recorded=True)


def await_end(path: str) -> None:
    """Give the workers of a run a little time to notice that their launcher has gone."""
    if Path(path).is_dir():
        with suppress(RunBusyError):
            _await_writer(RunDirectory(path), _TO_END_SECONDS)


def is_finished(run: RunDirectory) -> bool:
    """Whether the run is done and need not start again."""
    return run.exists and run.info.status == "finished"


def _await_writer(run: RunDirectory, seconds: float) -> None:
    lock = RunLock(run.path)
    lock.acquire(timeout=seconds)
    lock.release()
