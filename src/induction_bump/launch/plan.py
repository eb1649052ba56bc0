"""The cells of a sweep, composed once and found again: what was composed is remembered below the study.

A remembered plan holds for the same arguments over the same YAML files, program, environment and corpora, and for
nothing else, so that a repeated call knows a thousand cells without composing one.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import induction_bump
from induction_bump.config.errors import ConfigError
from induction_bump.config.resolve import dump, load
from induction_bump.data.cache import read_json, write_json
from induction_bump.data.errors import CorpusError
from induction_bump.launch.job import Job, threads_per_process
from induction_bump.records.files import made
from induction_bump.training.options import RunConfig

REMEMBERED = "remembered"
"""Directory in a study's metadata that may be removed at any time."""

_KEPT = 10
_LIBRARIES = ("hydra-core", "omegaconf", "pydantic", "pydantic-core")
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:\s*([^,}]*)")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep, composed and named."""

    overrides: list[str]
    values: dict[str, Any]
    """The resolved config as plain containers."""
    run_id: str
    fingerprint: str
    """Content hash of the corpus."""
    path: str
    """The run's directory, absolute."""
    total_steps: int

    @classmethod
    def of(cls, overrides: Sequence[str], config: RunConfig, job: Job) -> "Cell":
        """The cell of a config that `cell.plan` has named."""
        return cls(list(overrides), job.config, job.run_id, job.fingerprint, job.path, config.total_steps)

    @cached_property
    def config(self) -> RunConfig:
        """The config, typed."""
        return load(self.values)

    @property
    def job(self) -> Job:
        """What a launcher makes of it."""
        return Job(self.values, self.run_id, self.fingerprint, self.path, threads_per_process(self.config))


def key(combinations: Sequence[Sequence[str]], search_path: Iterable[str], own: Path) -> str | None:
    """What the composition of these overrides depends on, as a hash; None where that cannot be told.

    Args: search_path, Hydra's, as URLs; own, a directory below which nothing is config, though YAML files lie there.
    """
    package = Path(induction_bump.__file__).parent
    texts: dict[str, str] = {}
    for url in search_path:
        scheme, _, place = url.rpartition("://")
        if scheme in ("", "file"):
            texts |= _yaml_files(Path(place), own)
        elif (scheme, place) not in (("pkg", "hydra.conf"), ("structured", "")):
            return None
    names: set[str] = set()
    for text in [*texts.values(), *(override for overrides in combinations for override in overrides)]:
        for resolver, argument in _RESOLVER.findall(text):
            if resolver == "oc.env" and re.fullmatch(r"\w+\s*", argument):
                names.add(argument.strip())
            elif not resolver.startswith("oc.") or resolver == "oc.env":
                return None  # the time, say, or what a plugin makes up
    sources = {str(file.relative_to(package)): file.read_bytes() for file in sorted(package.rglob("*.py"))}
    content = {
        "combinations": [list(overrides) for overrides in combinations],
        "files": {name: _hash(text.encode()) for name, text in sorted(texts.items())},
        "variables": {name: os.environ.get(name) for name in sorted({*names, "HOME"})},
        "directory": str(Path.cwd()),
        "program": _hash(b"".join(name.encode() + text for name, text in sources.items())),
        "versions": {name: version(name) for name in _LIBRARIES},
    }
    return _hash(json.dumps(content, sort_keys=True).encode())[:16]


def _yaml_files(place: Path, own: Path) -> dict[str, str]:
    """Text of every YAML file below, whatever is hidden or lies below `own` left out."""
    found: dict[str, str] = {}
    seen = {own} - {place.resolve()}
    for directory, below, files in os.walk(place, followlinks=True):
        if Path(directory).resolve() in seen:
            below.clear()
            continue
        seen.add(Path(directory).resolve())
        below[:] = [name for name in below if not name.startswith(".")]
        for name in files:
            if name.endswith((".yaml", ".yml")):
                path = Path(directory, name)
                found[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Corpora:
    """Content hashes of the corpora of many runs, each taken once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def fingerprint(self, config: RunConfig) -> str:
        """The corpus's content hash. Raises CorpusError where there is nothing to read."""
        from induction_bump.data.fingerprint import fingerprint

        key = json.dumps([dump(config)["data"], config.paths.cache], sort_keys=True)
        if key not in self._known:
            self._known[key] = fingerprint(config.data, Path(config.paths.cache).expanduser())
        return self._known[key]


def read(directory: Path, key: str) -> list[Cell] | None:
    """The cells that were remembered under `key`, if their corpora and tokenizers are what they were."""
    content = read_json(directory / REMEMBERED / f"plan-{key}.json")
    if content is None:
        return None
    cells = [Cell(**cell) for cell in content["cells"]]
    try:
        return cells if _contents(cells) == content["corpora"] else None
    except (OSError, ConfigError, CorpusError):
        return None  # composing tells what is wrong


def remember(directory: Path, key: str, cells: Sequence[Cell]) -> Path:
    """Keep the cells for the next call with this key, and the last few plans beside it. Returns the file."""
    content = {"corpora": _contents(cells), "cells": [_plain(cell) for cell in cells]}
    plans = made(directory / REMEMBERED)
    file = plans / f"plan-{key}.json"
    write_json(file, content)
    for old in sorted(plans.glob("plan-*.json"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return file


def _plain(cell: Cell) -> Mapping[str, Any]:
    return {name: cell.__dict__[name] for name in Cell.__dataclass_fields__}


def _contents(cells: Sequence[Cell]) -> list[list[Any]]:
    """Every section of data among the cells, with what its corpus and its tokenizer hold today."""
    from induction_bump.data.fingerprint import tokenizer_fingerprint

    corpora = Corpora()
    of_data = {json.dumps([cell.values["data"], cell.values["paths"]["cache"]], sort_keys=True): cell for cell in cells}
    return [
        [
            section,
            corpora.fingerprint(cell.config),
            tokenizer_fingerprint(cell.config.data.tokenizer) if cell.config.data.is_text else None,
        ]
        for section, cell in sorted(of_data.items())
    ]
