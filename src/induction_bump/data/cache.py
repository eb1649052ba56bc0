"""Entries of caches: whatever is wrong with one, it is made again, and the log says so.

An entry of JSON holds its own checksum, so that one that parses and is not what was written is none either.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from induction_bump.data.building import whole_or_not_at_all

_log = logging.getLogger(__name__)

_told: set[Path] = set()
"""What this process has said to be damaged and has not seen sound since."""

T = TypeVar("T")


def entry(path: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` makes of an entry of a cache; None where there is none, or a damaged one, which is said in the log.

    `read` raises whatever comes of damage, ValueError for what it finds wrong itself. Raises MemoryError, and OSError
    where the system refuses to read it: what it holds may be sound.
    """
    try:
        found = read(path) if path.exists() else None
    except MemoryError:
        raise
    except Exception as error:  # what damage makes a reader raise depends on the byte
        by_the_system = isinstance(error, OSError) and error.errno is not None
        if by_the_system and not isinstance(error, FileNotFoundError):
            raise
        if path not in _told:
            _told.add(path)
            reason = (str(error).splitlines() or [""])[0]
            _log.warning("%s in a cache is damaged (%s: %s); it is made again", path, type(error).__name__, reason)
        return None
    _told.discard(path)
    return found


def read_json(path: Path) -> Any:
    """What `write_json` has kept; None where there is nothing, or not that. Raises as `entry`."""
    return entry(path, _content)


def write_json(path: Path, content: Any) -> None:
    """Keep plain data. Raises OSError where it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_or_not_at_all(path) as aside:
        aside.write_text(json.dumps({"sha256": _sha256(content), "content": content}), encoding="utf-8")


def _content(path: Path) -> Any:
    kept = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(kept, dict) and "sha256" not in kept:
        _log.debug("%s was kept by a version that wrote no checksum; it is made again", path)
        return None
    if not isinstance(kept, dict) or kept.keys() != {"sha256", "content"}:
        raise ValueError("there is no checksum in it")
    if kept["sha256"] != _sha256(kept["content"]):
        raise ValueError("its sha256 is another")
    return kept["content"]


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
