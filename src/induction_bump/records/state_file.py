"""Whether the numbers in a checkpoint's file are all finite, without torch, which a launcher does not load.

`torch.save` writes a ZIP archive: `data.pkl` describes nested containers, in which each tensor names an entry of
`data/` that holds its bytes. The description is read here with stand-ins for all that it names: nothing in it is run.
"""

import io
import math
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_NUMPY = {"DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2"}


def not_finite(path: Path) -> str | None:
    """The first entry of a saved state that holds a NaN or an infinity, such as `optimizer.state.0.exp_avg`; None where
    all are finite, or where the file is no such archive, which whoever loads it will say."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, value in _leaves(_described(archive)):
                if isinstance(value, float) and not math.isfinite(value):
                    return name
                if isinstance(value, _Tensor) and not value.finite(archive):
                    return name
    except (zipfile.BadZipFile, KeyError, pickle.UnpicklingError, EOFError, AttributeError, TypeError, ValueError):
        return None
    return None


class _StandIn:
    """Takes the place of any class or function."""

    def __init__(self, *_: object) -> None:
        pass


class _Tensor:
    """What `torch._utils._rebuild_tensor_v2` is called with: a storage as `_Describing.persistent_load` names it."""

    def __init__(self, storage: tuple[str, str] | None = None, *_: object) -> None:
        self.storage = storage

    def finite(self, archive: zipfile.ZipFile) -> bool:
        """Whether all of its storage is; of a type that holds no fractions it is."""
        if self.storage is None or self.storage[0] not in _NUMPY:
            return True
        kind, entry = self.storage
        numbers = np.frombuffer(archive.read(entry), ("<" if sys.byteorder == "little" else ">") + _NUMPY[kind])
        return bool(np.isfinite(numbers).all())


class _Describing(pickle.Unpickler):
    def __init__(self, description: bytes, root: str) -> None:
        super().__init__(io.BytesIO(description))
        self._root = root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        return type(name, (_StandIn,), {})

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, entry, *_ = pid
        return kind.__name__, f"{self._root}data/{entry}"


def _described(archive: zipfile.ZipFile) -> Any:
    description = next(name for name in [*archive.namelist(), "data.pkl"] if name.endswith("data.pkl"))
    return _Describing(archive.read(description), description.removesuffix("data.pkl")).load()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if below is None:
        yield name, value
        return
    for key, inner in below:
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))
