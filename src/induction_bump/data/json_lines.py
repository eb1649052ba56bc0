"""Which line of which JSONL file cannot be read: `datasets` tells a row of a block, and not of which file."""

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

from induction_bump.data.compressed import DAMAGED

_COMPRESSED = (".bz2", ".lz4", ".xz", ".zip", ".zst")


def fault(files: Sequence[Path], field: str) -> str | None:
    """File and first line that is no JSON object, else the first without text in `field`; None where all are well.

    Files that are compressed otherwise than by gzip, and JSON arrays, are passed over, and what cannot be unpacked.
    """
    first: str | None = None
    for path in files:
        for number, line in _lines(path):
            where = f"{path} cannot be read: line {number}"
            try:
                row: Any = json.loads(line)
            except ValueError as error:
                reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
                return f"{where} is not JSON ({reason})"
            if not isinstance(row, dict):
                return f"{where} holds {_kind(row)}; every line must be an object, such as {json.dumps({field: '…'})}"
            first = first or _without_text(cast(dict[str, Any], row), field, where)
    return first


def _without_text(row: dict[str, Any], field: str, where: str) -> str | None:
    if field not in row:
        return f"{where} has no {field!r}; data.corpus.text_field must be one of {', '.join(map(repr, row))}"
    value = row[field]
    return None if value is None or isinstance(value, str) else f"{where} holds {_kind(value)} in {field!r}, not text"


def _kind(value: Any) -> str:
    kinds = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "null")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1."""
    if path.suffix in _COMPRESSED:
        return
    with suppress(*DAMAGED), _open(path) as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line.lstrip().startswith("["):
                return
            if line.strip():
                yield number, line


def _open(path: Path) -> TextIO:
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "replace"}
    return cast(TextIO, gzip.open(path, "rt", **how)) if path.suffix == ".gz" else path.open(**how)
