"""Where a text corpus's documents come from, read one after the other: memory does not grow with the corpus.

Every source yields its documents in an order that depends on names below its root only, never on the file system. What
a user got wrong is a CorpusError that names the key, the value and what is allowed.
"""

import glob
import io
import logging
import os
import sys
import sysconfig
import tokenize
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from induction_bump.data import byte_codec, compressed, json_lines
from induction_bump.data.decoding import Decoder, Piece
from induction_bump.data.errors import CorpusError
from induction_bump.data.options import CorpusOptions, FilesOptions, HubOptions, PythonSourceOptions

log = logging.getLogger(__name__)

_FILES_AT_ONCE = 500  # `datasets` resolves every file of a list before it reads the first
_SUFFIXES = {"text": ("",), "jsonl": (".jsonl", ".json", ".jsonl.gz", ".jsonl.zst"), "parquet": (".parquet",)}
_BUILDERS = {"text": "text", "jsonl": "json", "parquet": "parquet"}
_AS_BYTES = {"text": {"encoding": "latin-1"}, "csv": {"encoding": byte_codec.NAME}}
"""For the builders of `datasets` that decode: has them keep every byte, as the character of that number.

A byte order mark is a character of a text, and none of a CSV's first column. The other builders hand on what they find,
UTF-8 or not.
"""
_ROWS_AT_ONCE = 16


class Documents(Protocol):
    """Texts that can be gone through again and again; empty ones are left out."""

    @property
    def bytes(self) -> int | None:
        """About how much there is, for a progress bar; None where it is not known."""
        ...

    def __iter__(self) -> Iterator[str]: ...


def open_documents(corpus: CorpusOptions) -> Documents:
    """The documents of a text corpus. Raises CorpusError where there are none to read."""
    if isinstance(corpus, PythonSourceOptions):
        return PythonSource(corpus)
    if isinstance(corpus, FilesOptions):
        return Files(corpus)
    assert isinstance(corpus, HubOptions), corpus
    return HubDataset(corpus)


class PythonSource:
    """The standard library's own `.py` files, and on request those of the installed packages."""

    def __init__(self, options: PythonSourceOptions) -> None:
        self.files = source_files(options)
        self.bytes = sum(path.stat().st_size for path in self.files)
        self._decoder = Decoder(options.undecodable, "files", _source)

    def __iter__(self) -> Iterator[str]:
        return self._decoder.texts((str(path), path.read_bytes()) for path in self.files)


def _source(data: bytes, errors: str) -> str:
    """Python source in the encoding that it declares, or with mended bytes in UTF-8 where that is no way to read it."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return io.TextIOWrapper(io.BytesIO(data), encoding, errors).read()
    except (SyntaxError, LookupError, ValueError):
        if errors == "strict":
            raise
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", errors).read()


def source_files(options: PythonSourceOptions) -> list[Path]:
    """The `.py` files of a `python_source` corpus in their order."""
    roots = ["stdlib", *(["purelib", "platlib"] if options.installed_packages else [])]
    found: dict[Path, None] = {}
    for root in dict.fromkeys(Path(sysconfig.get_path(name)) for name in roots):
        found.update(dict.fromkeys(_below(root, (".py",), leave_out=("site-packages", "dist-packages"))))
    return list(found)


class Files:
    """Local text, JSONL or Parquet files, read through `datasets`."""

    def __init__(self, options: FilesOptions) -> None:
        self.options = options
        self.files = local_files(options)
        self.bytes = sum(path.stat().st_size for path in self.files)
        self._decoder = Decoder(options.undecodable, "files" if options.format == "text" else "rows")

    def __iter__(self) -> Iterator[str]:
        return self._decoder.texts(self._pieces())

    def _pieces(self) -> Iterator[Piece]:
        from datasets import load_dataset

        options = self.options
        is_text = options.format == "text"
        as_documents: dict[str, Any] = {"sample_by": "document", **_AS_BYTES["text"]} if is_text else {}
        for start in range(0, len(self.files), _FILES_AT_ONCE):
            files = self.files[start : start + _FILES_AT_ONCE]
            here = str(files[0]) if len(files) == 1 else f"{files[0]} … {files[-1]}"
            kind = "document" if is_text else "row"
            one_each = is_text and not any(map(zipfile.is_zipfile, files))
            with _user_errors("data.corpus.paths", here), self._told_where(files):
                rows = load_dataset(
                    _BUILDERS[options.format],
                    data_files=[glob.escape(str(path)) for path in files],
                    split="train",
                    streaming=True,
                    **as_documents,
                )
                field = "text" if is_text else options.text_field
                for number, data in _column(rows, field, from_bytes=is_text):
                    yield str(files[number]) if one_each else f"{kind} {number} of {here}", data

    @contextmanager
    def _told_where(self, files: list[Path]) -> Generator[None, None, None]:
        """Name the file that is wrong, and the line, where there is one."""
        try:
            yield
        except CorpusError:
            raise
        except Exception as error:
            options = self.options
            wrong = compressed.fault(files) if compressed.is_damage(error) else None
            if not wrong and options.format == "jsonl":
                wrong = json_lines.fault(files, options.text_field)
            if not wrong:
                raise
            raise CorpusError(f"data.corpus.paths: {wrong}") from error


def local_files(options: FilesOptions) -> list[Path]:
    """The files that `paths` name, in their order. Raises CorpusError for one that is missing or empty."""
    found: dict[Path, None] = {}
    for name in options.paths:
        path = Path(name).expanduser()
        if path.is_dir():
            here = _below(path, _SUFFIXES[options.format])
        elif path.is_file():
            here = [path]
        else:
            # pathlib's own glob takes no absolute patterns
            matches = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207
            here = sorted(match for match in matches if match.is_file())
        if not here:
            kind = "readable files" if options.format == "text" else f"{options.format} files"
            raise CorpusError(f"data.corpus.paths: {name!r} names no {kind}; give files, directories or glob patterns")
        found.update(dict.fromkeys(file.resolve() for file in here))
    for file in found:
        if file.stat().st_size == 0:
            raise CorpusError(f"data.corpus.paths: {file} is empty; leave it out or give a file with text")
    return list(found)


class HubDataset:
    """A Hugging Face data set, from the hub or from a local directory in one of its layouts."""

    bytes = None

    def __init__(self, options: HubOptions) -> None:
        self.options = options
        directory = local_directory(options)
        self._path = str(directory or options.dataset)
        # a local directory has no revisions
        self._revision: dict[str, Any] = {} if directory else {"revision": options.revision}
        self._decoder = Decoder(options.undecodable, "rows")

    def __iter__(self) -> Iterator[str]:
        return self._decoder.texts(self._pieces(), self.options.max_documents)

    def _pieces(self) -> Iterator[Piece]:
        options = self.options
        with _user_errors("data.corpus.dataset", options.dataset):
            from datasets import disable_progress_bars, load_dataset, load_dataset_builder

            if not sys.stderr.isatty():
                disable_progress_bars()
            try:
                builder = load_dataset_builder(self._path, name=options.config, **self._revision)
                as_bytes = _AS_BYTES.get(builder.name or "", {})
                how: dict[str, Any] = self._revision | as_bytes
                rows = load_dataset(
                    self._path, name=options.config, split=options.split, streaming=options.streaming, **how
                )
            except RuntimeError as error:  # it wants to run the data set's own code
                raise CorpusError(f"data.corpus.dataset={options.dataset!r} cannot be read: {error}") from error
            except ValueError:
                self._check_names()
                raise
            for number, data in _column(rows, options.text_field, from_bytes=bool(as_bytes)):
                yield f"row {number} of {options.dataset}", data

    def _check_names(self) -> None:
        """Raise CorpusError for a configuration or split that the data set does not have."""
        from datasets import get_dataset_config_names, get_dataset_default_config_name, get_dataset_split_names

        options = self.options
        configs = get_dataset_config_names(self._path, **self._revision)
        chosen = options.config or get_dataset_default_config_name(self._path, **self._revision)
        if chosen not in configs:
            wanted = "null" if options.config is None else repr(options.config)
            raise CorpusError(f"data.corpus.config={wanted}: {options.dataset} has {', '.join(map(repr, configs))}")
        splits = [str(name) for name in get_dataset_split_names(self._path, chosen, **self._revision)]
        if options.split not in splits:
            raise CorpusError(
                f"data.corpus.split={options.split!r}: {options.dataset} has {', '.join(map(repr, splits))}"
            )


def local_directory(options: HubOptions) -> Path | None:
    """The directory that `dataset` names, None where it is a name on the hub. Raises CorpusError for neither."""
    path = Path(options.dataset).expanduser()
    if path.is_dir():
        return path.resolve()
    if options.dataset.startswith((".", "~", os.sep)) or options.dataset.count("/") > 1:
        raise CorpusError(
            f"data.corpus.dataset={options.dataset!r} is no directory; give one, or `owner/name` of the hub"
        )
    return None


def local_directory_files(options: HubOptions) -> list[tuple[str, Path]]:
    """Name below the root and path of every file of a local data set, hidden ones left out; [] for one on the hub."""
    root = local_directory(options)
    return [(path.relative_to(root).as_posix(), path) for path in _below(root, ("",))] if root else []


def _below(root: Path, suffixes: tuple[str, ...], leave_out: tuple[str, ...] = ()) -> list[Path]:
    """Files below a directory with one of the suffixes, in the order of their names; hidden ones are left out."""
    found = []
    for place, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in leave_out and name[0] != "."]
        found.extend(os.path.join(place, name) for name in files if name.endswith(suffixes) and name[0] != ".")  # noqa: PTH118
    return [Path(path) for path in sorted(found)]


def _column(rows: Any, field: str, *, from_bytes: bool) -> Iterator[tuple[int, bytes]]:
    """Number and text, in the bytes in which it lies there, of each row of a `datasets` dataset.

    Rows with null are left out. Args: from_bytes, whether the data set was read with `_AS_BYTES`.
    """
    tables = rows.with_format("arrow")
    columns: list[str] = rows.column_names or []
    batches: Iterator[Any] = iter(tables.iter(batch_size=_ROWS_AT_ONCE))
    if not columns:  # some sources tell them with their first rows only, and are not to be opened twice for it
        first = list(islice(batches, 1))
        columns = first[0].column_names if first else [field]
        batches = chain(first, batches)
    if from_bytes:
        columns = [_bytes_of(name).decode("utf-8", "replace") for name in columns]
    if field not in columns:
        raise CorpusError(f"data.corpus.text_field={field!r} is no column; there are {', '.join(map(repr, columns))}")
    name = field.encode().decode("latin-1") if from_bytes else field
    before = nulls = 0
    for table in batches:
        column = table.column(name)
        is_text = str(column.type) in ("string", "large_string")
        if is_text and not from_bytes:
            column = column.cast("large_binary")  # which looks at no byte of it
        for number, value in enumerate(column.to_pylist(), start=before):
            if value is None:
                nulls += 1
            elif is_text:
                yield number, _bytes_of(value) if from_bytes else value
            else:
                kind = type(value).__name__
                raise CorpusError(f"data.corpus.text_field={field!r} holds {kind} in row {number}, not text")
        before += len(column)
    if nulls:
        log.warning("data.corpus.text_field=%r: %d rows hold no text; left out", field, nulls)


def _bytes_of(text: str) -> bytes:
    return text.encode("latin-1")


@contextmanager
def _user_errors(key: str, value: str) -> Generator[None, None, None]:
    """Turn what `datasets` raises for unreadable input into a CorpusError; a full disk stays what it is."""
    from datasets.exceptions import DatasetsError

    # their own loggers say in many lines what the error will say in one
    theirs = {logger: logger.level for logger in map(logging.getLogger, ("datasets", "huggingface_hub"))}
    for logger in theirs:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except CorpusError:
        raise
    except (DatasetsError, ValueError, FileNotFoundError, ConnectionError, *compressed.DAMAGED) as error:
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        theirs_to_mend = isinstance(cause, FileNotFoundError | ConnectionError) or compressed.is_damage(cause)
        if isinstance(cause, OSError) and not theirs_to_mend:
            raise cause from None
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        if reason == "Couldn't cast":
            reason = "some rows have other columns, or other types in them, than those before"
        raise CorpusError(f"{key}: {value} cannot be read: {reason}") from error
    finally:
        for logger, level in theirs.items():
            logger.setLevel(level)
