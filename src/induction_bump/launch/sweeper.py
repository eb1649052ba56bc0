"""A sweep as Hydra composes it, but checked whole before anything is created or started.

Hydra's own sweeper starts the first cells before it has composed the last, and knows nothing of types. Every program
that uses Hydra imports this module while it looks for plugins, so what is needed for a sweep is imported by the sweep.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from induction_bump.launch.job import Job
    from induction_bump.training.options import RunConfig


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    overrides: list[str]
    config: "RunConfig"
    job: "Job"


class CheckedSweeper(Sweeper):
    """Hydra's cartesian product of overrides, with every cell composed, typed and named before the first starts."""

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        """`params` are overrides that a sweep's file gives beside those of the command line."""
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; `task_function` is a `Task`."""
        from induction_bump.launch.task import Task

        assert isinstance(task_function, Task)
        self.task = task_function
        self.context, self.composed = hydra_context, config
        self.starter = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells. Raises ConfigError or CorpusError, with nothing started or left, where one is wrong."""
        # Hydra runs this module anew when it looks for plugins, so it is imported as late as this.
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        from induction_bump.config.overrides import rewrite

        _refuse_inside_a_rank()
        given = rewrite(f"{key}={value}" for key, value in self.params.items())
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        overrides = parser.parse_overrides([*given, *arguments])
        [combinations] = BasicSweeper.split_arguments(overrides, None)
        cells = self._check(combinations)
        directory = self._write_metadata(cells, arguments)

        # Hydra makes a directory for every job; let it be one that is there.
        self.composed.hydra.sweep.dir = str(directory)
        batch = [[*cell.overrides, f"hydra.sweep.dir={json.dumps(str(directory))}"] for cell in cells]
        returns = self.starter.launch(batch, initial_job_idx=0)
        self.task.outcomes = [each.return_value for each in returns]
        return returns

    def _check(self, combinations: Sequence[Sequence[str]]) -> list[Cell]:
        """Compose, type and name every cell, make every corpus, and leave out cells that equal an earlier one."""
        from induction_bump.config.errors import ConfigError
        from induction_bump.config.resolve import resolve
        from induction_bump.data.errors import CorpusError
        from induction_bump.launch import cell
        from induction_bump.records.directory import RunDirectory

        cells: dict[str, Cell] = {}
        studies: set[str] = set()
        for number, overrides in enumerate(combinations, start=1):
            composed = self.context.config_loader.load_sweep_config(self.composed, list(overrides))
            try:
                config = resolve(composed)
                job = cell.plan(config)
            except (ConfigError, CorpusError) as error:
                first = str(error).splitlines()[0]
                raise type(error)(f"{first}\nin cell {number} of {len(combinations)}; none was started") from None
            studies.add(str(cell.study_directory(config)))
            cells.setdefault(job.run_id, Cell(list(overrides), config, job))
        if len(studies) > 1:
            raise ConfigError(f"study: the runs of a sweep belong to one study, not to {', '.join(sorted(studies))}")
        to_run = [c.config for c in cells.values() if not cell.is_finished(RunDirectory(c.job.path))]
        for config in to_run:
            cell.check_tracking(config)
        cell.prepare_data(to_run)
        return list(cells.values())

    def _write_metadata(self, cells: Sequence[Cell], arguments: list[str]) -> Path:
        """Note the command and the cells below the study; a repeated sweep overwrites its own file."""
        from induction_bump.config.overrides import as_typed
        from induction_bump.launch.cell import study_directory
        from induction_bump.launch.study import METADATA
        from induction_bump.records.files import replace_atomically

        directory = study_directory(cells[0].config) / METADATA
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "command": shlex.join(self.task.command),
            "overrides": [as_typed(argument) for argument in arguments],
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cells": [
                {
                    "run_id": cell.job.run_id,
                    "run": Path(cell.job.path).name,
                    "total_steps": cell.config.total_steps,
                    "overrides": [as_typed(override) for override in cell.overrides],
                }
                for cell in cells
            ],
        }
        label = hashlib.sha256("".join(sorted(cell.job.run_id for cell in cells)).encode()).hexdigest()[:8]
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        replace_atomically(directory / f"{label}.json", lambda path: path.write_text(text, encoding="utf-8"))
        return directory


def _refuse_inside_a_rank() -> None:
    from induction_bump.config.errors import ConfigError
    from induction_bump.launch import ranks

    if rank := ranks.from_environment():
        raise ConfigError(
            f"-m: a sweep cannot be started inside a process of {rank.starter}; give each of its processes one run"
        )
