"""Whether a corpus's documents are too few and too long to hold out any of them whole.

Asked before anything is tokenised, since it is part of what a run is: files are counted, and rows where a file tells
their number without being decoded.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from induction_bump.data.documents import local_files, source_files
from induction_bump.data.options import (
    CorpusOptions,
    DataOptions,
    FilesOptions,
    HeldOutBy,
    PythonSourceOptions,
)
from induction_bump.data.sections import SECTION

FEW_HELD_OUT = 30
"""Held-out documents of which there are too few for standard errors."""


@dataclass(frozen=True)
class _Counted:
    documents: int
    bytes: int


def held_out_by(options: DataOptions) -> HeldOutBy:
    """What is held out as a whole of a text corpus, `auto` decided by how many documents there are and how long.

    Sections, where fewer than FEW_HELD_OUT documents are to be expected in the held-out share, and have room for two
    sections on average. Documents of the hub and in compressed files cannot be counted and are held out whole.
    Raises CorpusError where there is nothing to read.
    """
    if options.held_out_by != "auto":
        return options.held_out_by
    enough = math.ceil(FEW_HELD_OUT / options.held_out_share)
    counted = _count(options.corpus, enough)
    if counted is None or counted.documents >= enough:
        return "documents"
    return "sections" if counted.bytes >= 2 * SECTION * max(counted.documents, 1) else "documents"


def _count(corpus: CorpusOptions, enough: int) -> _Counted | None:
    """Documents, counted until they are enough, and the bytes of what was counted; None where that cannot be told."""
    if isinstance(corpus, PythonSourceOptions):
        return _files(source_files(corpus))
    if not isinstance(corpus, FilesOptions):
        return None
    files = local_files(corpus)
    if corpus.format == "text":
        return _files(files)
    rows = _rows_of_parquet(files, corpus.text_field) if corpus.format == "parquet" else _rows_of_jsonl(files)
    if rows is None:
        return None
    documents = size = 0
    for row in rows:
        documents, size = documents + row.documents, size + row.bytes
        if documents >= enough:
            break
    return _Counted(documents, size)


def _files(files: list[Path]) -> _Counted:
    return _Counted(len(files), sum(file.stat().st_size for file in files))


def _rows_of_jsonl(files: list[Path]) -> Iterator[_Counted] | None:
    """Lines with something on them."""
    if any(file.suffix in (".gz", ".zst") for file in files):
        return None

    def lines() -> Iterator[_Counted]:
        for file in files:
            with file.open("rb") as opened:
                yield from (_Counted(1, len(line)) for line in opened if line.strip())

    return lines()


def _rows_of_parquet(files: list[Path], field: str) -> Iterator[_Counted]:
    """Row groups, with the size of the column of texts before it was compressed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        with suppress(pa.ArrowInvalid):  # reading will say what is wrong with it
            described = pq.read_metadata(file)
            for number in range(described.num_row_groups):
                group = described.row_group(number)
                columns = (group.column(k) for k in range(group.num_columns))
                size = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == field)
                yield _Counted(group.num_rows, size)
