"""A sweep as Hydra composes it, but checked whole before anything is created or started.

Hydra's own sweeper starts the first cells before it has composed the last, and knows nothing of types. Every program
that uses Hydra imports this module while it looks for plugins, so what is needed for a sweep is imported by the sweep.
"""

import hashlib
import json
import shlex
from abc import abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from induction_bump.launch.outcome import Outcome
    from induction_bump.launch.plan import Cell
    from induction_bump.training.options import RunConfig


_INSTEAD = {"hydra_joblib_launcher": "pool", "hydra_submitit_launcher": "slurm or slurm_local"}
"""Launchers on which ours are built. By themselves they lend no devices, and take or lose signals meant for workers."""


class AsChecked:
    """In place of Hydra's loader, gives launchers each cell as it was checked, whatever became of its files since."""

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The cell whose resolved values, as JSON, are the last of the overrides."""
        *overrides, values = sweep_overrides
        composed = cast(DictConfig, OmegaConf.create(json.loads(values)))
        composed.hydra = master_config.hydra  # a copy
        with read_write(composed.hydra), open_dict(composed.hydra):
            composed.hydra.overrides.task = overrides
        return composed


class Prepared(Launcher):
    """A launcher that wants to see the cells before anything is created."""

    elsewhere = False
    """Whether the cells run on other machines than this one."""

    @abstractmethod
    def prepare(self, cells: "Sequence[Cell]") -> None:
        """Learn what the next `launch` will be given. Raises ConfigError for cells that it cannot run."""


class CheckedSweeper(Sweeper):
    """Hydra's cartesian product of overrides, with every cell composed, typed and named before the first starts."""

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        """`params` are overrides that a sweep's file gives beside those of the command line."""
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; `task_function` is a `Task`. Raises ConfigError for a launcher of another kind."""
        from induction_bump.config.errors import ConfigError
        from induction_bump.launch.task import Task

        assert isinstance(task_function, Task)
        package = str(config.hydra.launcher.get("_target_")).removeprefix("hydra_plugins.").partition(".")[0]
        if package in _INSTEAD:
            raise ConfigError(
                f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: must be {_INSTEAD[package]}, "
                "or basic for one run after the other"
            )
        self.task = task_function
        self.context, self.composed = hydra_context, config
        checked = HydraContext(config_loader=cast(ConfigLoader, AsChecked()), callbacks=hydra_context.callbacks)
        self.starter = Plugins.instance().instantiate_launcher(
            hydra_context=checked, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells. Raises ConfigError or CorpusError, with nothing started or left, where one is wrong."""
        # Hydra runs this module anew when it looks for plugins, so it is imported as late as this.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        from induction_bump.config.overrides import rewrite
        from induction_bump.launch import plan, stop
        from induction_bump.launch.finished import Finished
        from induction_bump.launch.outcome import Outcome

        _refuse_inside_a_rank()
        given = rewrite(f"{key}={value}" for key, value in self.params.items())
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        overrides = parser.parse_overrides([*given, *arguments])
        _refuse_no_values(overrides)
        [combinations] = BasicSweeper.split_arguments(overrides, None)
        directory, key, cells, to_run = self._cells(combinations)
        self._prepare(to_run)

        there = set(directory.glob("*.json"))
        written = {self._write_metadata(directory, cells, arguments)} - there
        if key:
            written.add(plan.remember(directory, key, cells))
        outcomes = {cell.run_id: Outcome(cell.run_id, cell.path, "skipped") for cell in cells}
        # A run that another launcher trains is passed over at first: it may well be finished before the others are.
        self.task.wait = 0 if len(to_run) > 1 else None
        outcomes |= self._launch(directory, to_run)
        if to_run:
            _refuse_what_all_were_refused_for([outcomes[cell.run_id] for cell in to_run], written, directory)
        busy = [cell for cell in to_run if outcomes[cell.run_id].status == "busy"]
        if len(to_run) > 1 and busy and not stop.requested():
            self.task.wait = None
            outcomes |= self._launch(directory, busy)
        self.task.outcomes = list(outcomes.values())
        done = Finished(directory)
        done.add((o.run_id, Path(o.path)) for o in self.task.outcomes if o.status in ("finished", "skipped"))
        done.write()
        return self.task.outcomes

    def _cells(self, combinations: Sequence[Sequence[str]]) -> "tuple[Path, str | None, list[Cell], list[Cell]]":
        """Compose, type and name every cell, leaving out those that equal an earlier one.

        Returns the directory of the study's metadata, the key under which the cells are remembered, all of them, and
        those that are not finished.
        """
        from induction_bump.config.errors import ConfigError
        from induction_bump.launch import cell, plan
        from induction_bump.launch.finished import Finished
        from induction_bump.launch.plan import Cell
        from induction_bump.launch.study import METADATA
        from induction_bump.records.directory import RunDirectory

        first = self._compose(combinations, 0)  # it tells the study, and so where to look
        study = cell.study_directory(first)
        finished = Finished(study / METADATA)
        search_path = [entry.path for entry in self.context.config_loader.get_search_path().get_path()]
        key = plan.key(combinations, filter(None, search_path), study.parent.resolve())
        cells: dict[str, Cell] = {}
        for known in (key and plan.read(study / METADATA, key)) or ():
            where = known.path
            if not finished.holds(known.run_id, Path(where)):
                where = cell.plan(known.config, known.fingerprint).path
            cells[known.run_id] = replace(known, path=where)
        corpora = plan.Corpora()
        for number, overrides in enumerate(combinations if not cells else ()):
            config = self._compose(combinations, number) if number else first
            with _told_with_its_number(number, len(combinations)):
                job = cell.plan(config, corpora.fingerprint(config))
            if (other := cell.study_directory(config)) != study:
                raise ConfigError(f"study: the runs of a sweep belong to one study, not to {study}, {other}")
            cells.setdefault(job.run_id, Cell.of(overrides, config, job))
        to_run = [
            each
            for each in cells.values()
            if not finished.holds(each.run_id, Path(each.path)) and not cell.is_finished(RunDirectory(each.path))
        ]
        return study / METADATA, key, list(cells.values()), to_run

    def _compose(self, combinations: Sequence[Sequence[str]], number: int) -> "RunConfig":
        from induction_bump.config.resolve import resolve

        composed = self.context.config_loader.load_sweep_config(self.composed, list(combinations[number]))
        with _told_with_its_number(number, len(combinations)):
            return resolve(composed)

    def _prepare(self, cells: "Sequence[Cell]") -> None:
        """Make every corpus, and see that each of the cells can be run."""
        from induction_bump.launch import cell

        configs = [each.config for each in cells]
        for config in configs:
            cell.check_tracking(config)
        if isinstance(self.starter, Prepared) and cells:
            self.starter.prepare(cells)
        cell.prepare_data(configs, here=not (isinstance(self.starter, Prepared) and self.starter.elsewhere))

    def _launch(self, directory: Path, cells: "Sequence[Cell]") -> "dict[str, Outcome]":
        """Run the cells; returns how each ended, by run id."""
        if not cells:
            return {}
        if isinstance(self.starter, Prepared):
            self.starter.prepare(cells)
        # Hydra makes a directory for every job; let it be one that is there.
        with read_write(self.composed), open_dict(self.composed):
            self.composed.hydra.sweep.dir = str(directory)
        batch = [[*cell.overrides, json.dumps(cell.values)] for cell in cells]
        outcomes: list[Outcome] = [each.return_value for each in self.starter.launch(batch, initial_job_idx=0)]
        return {cell.run_id: outcome for cell, outcome in zip(cells, outcomes, strict=True)}

    def _write_metadata(self, directory: Path, cells: "Sequence[Cell]", arguments: list[str]) -> Path:
        """Note the command and the cells below the study; a repeated sweep overwrites its own file. Returns it."""
        from induction_bump.config.overrides import as_typed
        from induction_bump.records.files import replace_atomically

        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "command": shlex.join(self.task.command),
            "overrides": [as_typed(argument) for argument in arguments],
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cells": [
                {
                    "run_id": cell.run_id,
                    "run": Path(cell.path).name,
                    "total_steps": cell.total_steps,
                    "overrides": [as_typed(override) for override in cell.overrides],
                }
                for cell in cells
            ],
        }
        label = hashlib.sha256("".join(sorted(cell.run_id for cell in cells)).encode()).hexdigest()[:8]
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        file = directory / f"{label}.json"
        replace_atomically(file, lambda path: path.write_text(text, encoding="utf-8"))
        return file


@contextmanager
def _told_with_its_number(number: int, count: int) -> Generator[None, None, None]:
    """Let what is wrong with a cell name it."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.data.errors import CorpusError

    try:
        yield
    except (ConfigError, CorpusError) as error:
        first = str(error).splitlines()[0]
        raise type(error)(f"{first}\nin cell {number + 1} of {count}; none was started") from None


def _refuse_what_all_were_refused_for(outcomes: "Sequence[Outcome]", written: Iterable[Path], directory: Path) -> None:
    """Raises ConfigError where no cell could start for one and the same reason, leaving nothing in the metadata."""
    from induction_bump.config.errors import ConfigError
    from induction_bump.launch.plan import REMEMBERED

    reasons = {outcome.message if outcome.status == "refused" else None for outcome in outcomes}
    if len(reasons) > 1 or None in reasons:
        return
    for file in written:
        file.unlink(missing_ok=True)
    for empty in (directory / REMEMBERED, directory, directory.parent):
        with suppress(OSError):
            empty.rmdir()
    raise ConfigError(str(reasons.pop()))


def _refuse_no_values(overrides: Iterable[Override]) -> None:
    from induction_bump.config.errors import ConfigError
    from induction_bump.config.overrides import as_typed

    for each in overrides:
        if each.is_sweep_override() and not any(True for _ in each.sweep_iterator()):
            raise ConfigError(f"{as_typed(each.input_line or each.key_or_group)}: gives no values to sweep over")


def _refuse_inside_a_rank() -> None:
    from induction_bump.config.errors import ConfigError
    from induction_bump.launch import ranks

    if rank := ranks.from_environment():
        raise ConfigError(
            f"-m: a sweep cannot be started inside a process of {rank.starter}; give each of its processes one run"
        )
