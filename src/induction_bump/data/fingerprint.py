"""Content hashes of corpora and tokenizers: what run ids hold in place of paths.

A corpus's fingerprint depends on what it says and in which order, and on whether parts of documents are held out, never
on where it lies, and needs no tokenising. The hash of a file is remembered with its path, size and times, so that the
second look is quick.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from induction_bump.data.cache import read_json, write_json
from induction_bump.data.documents import local_directory_files, local_files, source_files
from induction_bump.data.errors import CorpusError
from induction_bump.data.holding_out import held_out_by
from induction_bump.data.options import (
    DataOptions,
    FilesOptions,
    HubOptions,
    PythonSourceOptions,
    RepeatsOptions,
    TokenizerOptions,
    TriggersOptions,
)
from induction_bump.options import without_neutral

GENERATION = 1
"""Raised whenever the windows of a synthetic corpus change, or the way documents are read."""
NEUTRAL: Mapping[str, Any] = {}
"""Options of corpora that were added after runs existed, with the value at which a corpus is what it was without them.
"""
SETTLED_NS = 2_000_000_000  # ns; a file younger than the clock's grain may change without a trace in its times


def digest(value: Any) -> str:
    """sha256 of plain data as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(options: DataOptions, cache: Path | None = None) -> str:
    """The corpus's content hash, 64 hexadecimal digits.

    Args: cache, the directory in which hashes of files are remembered; None remembers none. Raises CorpusError where
    there is nothing to read.
    """
    corpus = options.corpus
    if isinstance(corpus, RepeatsOptions | TriggersOptions):
        return digest({"generation": GENERATION, **without_neutral(asdict(corpus), NEUTRAL)})
    files = FileHashes(cache)
    if isinstance(corpus, PythonSourceOptions):
        content: Any = [files.sha256(path) for path in source_files(corpus)]
        about: dict[str, Any] = {}
    elif isinstance(corpus, FilesOptions):
        content = [files.sha256(path) for path in local_files(corpus)]
        about = {"format": corpus.format}
        if corpus.format != "text":
            about["text_field"] = corpus.text_field
    else:
        assert isinstance(corpus, HubOptions)
        here = [(name, files.sha256(path)) for name, path in local_directory_files(corpus)]
        content = here or [corpus.dataset, corpus.revision]
        about = {
            "config": corpus.config,
            "split": corpus.split,
            "text_field": corpus.text_field,
            "max_documents": corpus.max_documents,
        }
    if held_out_by(options) == "sections":
        about["held_out_by"] = "sections"
    if corpus.undecodable == "replace":  # the other policies give the same texts, where they give any
        about["undecodable"] = corpus.undecodable
    files.remember()
    return digest(
        {"generation": GENERATION, "name": corpus.name, "content": content, **without_neutral(about, NEUTRAL)}
    )


def tokenizer_fingerprint(options: TokenizerOptions) -> str:
    """What a text corpus's tokens depend on beside the corpus: content in place of a path.

    Raises CorpusError for a missing tokenizer file, or a name on the hub without a revision.
    """
    if options.name == "bpe":
        how = {"vocab_size": options.vocab_size, "training_documents": options.training_documents}
        return digest({"name": "bpe", **how})
    file = tokenizer_file(options)
    if file:
        return digest({"name": "pretrained", "sha256": FileHashes(None).sha256(file)})
    if options.revision is None:
        raise CorpusError(
            f"data.tokenizer.revision: give a commit or tag of {options.source} on the hub, to make runs repeatable"
        )
    return digest({"name": "pretrained", "source": options.source, "revision": options.revision})


def tokenizer_file(options: TokenizerOptions) -> Path | None:
    """The file of a pretrained tokenizer; None where it is a name on the hub."""
    assert options.source is not None
    path = Path(options.source).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if path.is_file():
        return path
    if options.source.endswith(".json") or options.source.startswith((".", "~", "/")):
        raise CorpusError(
            f"data.tokenizer.source={options.source!r} is missing; give a tokenizer.json or a name on the hub"
        )
    return None


class FileHashes:
    """sha256 of files; with a directory, those of unchanged files are remembered in it."""

    def __init__(self, cache: Path | None) -> None:
        self._store = Path(cache).expanduser() / "file_hashes.json" if cache else None
        self._known: dict[str, list[Any]] = {}
        self._new: dict[str, list[Any]] = {}
        if self._store:
            self._known = read_json(self._store) or {}

    def sha256(self, path: Path) -> str:
        """Hash of a file's content."""
        status = path.stat()
        # the change time as well, which no tool sets back
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(str(path))
        if known and known[:3] == stamp:
            return known[3]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - status.st_ctime_ns > SETTLED_NS:
            self._new[str(path)] = [*stamp, found]
        return found

    def remember(self) -> None:
        """Write what was learned; a directory that cannot be written only costs time."""
        if not self._store or not self._new:
            return
        with suppress(OSError):
            write_json(self._store, {**self._known, **self._new})
