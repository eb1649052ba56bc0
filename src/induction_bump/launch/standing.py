"""What a run's directory already is, or cannot be, before anything is done with it."""

import os
from pathlib import Path

from induction_bump.config.errors import ConfigError
from induction_bump.config.identity import run_id
from induction_bump.config.resolve import load
from induction_bump.data.errors import CorpusError
from induction_bump.launch.job import Job
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.training.options import RunConfig

_LONGEST_NAME = 255
"""Bytes of a file's name where the file system does not tell."""


def refuse_long_names(config: RunConfig, directory: Path) -> None:
    """Raises ConfigError where the file system does not take a name on the way to the run's directory or the cache."""
    given = {
        "name": [directory.name],
        "study": [config.study],
        "paths.runs": directory.parents[1].parts,
        "paths.cache": Path(config.paths.cache).expanduser().parts,
    }
    limit = _longest_name(directory)
    for key, names in given.items():
        for name in names:
            if (length := len(os.fsencode(name))) > limit:
                how = " with the run's id" if key == "name" else ""
                raise ConfigError(
                    f"{key}={name[:40]}…: takes {length} bytes{how}, and a file's name here {limit} at most"
                )


def _longest_name(path: Path) -> int:
    for place in path.parents:
        try:
            return os.pathconf(place, "PC_NAME_MAX")
        except (OSError, ValueError):
            continue
    return _LONGEST_NAME


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
