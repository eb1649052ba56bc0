"""What a run's directory already is, before anything is done with it."""

from induction_bump.config.errors import ConfigError
from induction_bump.config.identity import run_id
from induction_bump.config.resolve import load
from induction_bump.data.errors import CorpusError
from induction_bump.launch.job import Job
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError


def refuse_other_run(run: RunDirectory, job: Job) -> None:
    """Raises ConfigError where the directory holds the run of another config, or something else than a run."""
    if not run.exists:
        return
    try:
        info = run.info
        found = run_id(load(run.config), info.hashes.get("corpus", ""))
    except (RecordsError, ConfigError, CorpusError) as error:
        raise ConfigError(
            f"{run.path}: cannot tell which run this is, so nothing is written there; move it away\n{_first(error)}"
        ) from None
    if {info.run_id, found} != {job.run_id}:
        raise ConfigError(
            f"{run.path}: belongs to another config (run {info.run_id}, its config.yaml is run {found}, "
            f"this one is {job.run_id}); move it away or choose another name= or study="
        )


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
