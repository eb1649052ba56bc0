"""Which compressed file cannot be unpacked: what reads many of them tells that one cannot, and not which."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, BadZipFile)
"""What unpacking raises for content that is cut or of another kind."""

_OPEN: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_AT_ONCE = 1 << 20


def is_damage(error: BaseException) -> bool:
    """Whether an error tells of content that cannot be unpacked; bz2 raises for it an OSError that has no number."""
    return isinstance(error, DAMAGED) or (type(error) is OSError and error.errno is None)


def fault(files: Iterable[Path]) -> str | None:
    """The first that cannot be unpacked, and why; None where all can. Those of other names are passed over."""
    for path in files:
        if not (opened := _OPEN.get(path.suffix)):
            continue
        try:
            with opened(path) as file:
                while file.read(_AT_ONCE):
                    pass
        except (*DAMAGED, OSError) as error:
            if not is_damage(error):
                raise
            return f"{path} cannot be read: {error}"
    return None
