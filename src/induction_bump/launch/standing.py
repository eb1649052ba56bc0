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
        info, found = run.info, _id_of_config(run)
    except (RecordsError, ConfigError, CorpusError) as error:
        raise ConfigError(
            f"{run.path}: cannot tell which run this is, so nothing is written there; move it away\n{_first(error)}"
        ) from None
    if {info.run_id, found} != {job.run_id}:
        raise ConfigError(
            f"{run.path}: belongs to another config (run {info.run_id}, its config.yaml is run {found}, "
            f"this one is {job.run_id}); move it away or choose another name= or study="
        )


def refuse_edited_config(run: RunDirectory) -> None:
    """Raises RecordsError where config.yaml is not what the run was: what is there does not belong to it.

    Raises CorpusError where the tokenizer that it names is not there any more.
    """
    where, info = run.path / "config.yaml", run.info
    try:
        found = _id_of_config(run)
    except ConfigError as error:
        raise RecordsError(f"{where}: {error}") from None
    if found != info.run_id:
        raise RecordsError(
            f"{where}: was changed after the run began: it is the config of run {found}, and this is run "
            f"{info.run_id}; change it back"
        )


def _id_of_config(run: RunDirectory) -> str:
    return run_id(load(run.config), run.info.hashes.get("corpus", ""))


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
