"""Few and long documents are held out by sections, all others whole, and a run's id says which."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from induction_bump.data.fingerprint import fingerprint
from induction_bump.data.holding_out import held_out_by
from induction_bump.data.options import DataOptions, FilesOptions, HubOptions, PythonSourceOptions, RepeatsOptions

LONG, SHORT = "some words. " * 4_000, "some words. " * 3_000
"""Of 48,000 and 36,000 characters: with room for two sections, and without."""


def written(directory: Path, texts: list[str], kind: str) -> DataOptions:
    """A corpus of these texts, made different, in a directory of its own; 5 % are to be held out."""
    directory.mkdir()
    texts = [f"{number}: {text}" for number, text in enumerate(texts)]
    if kind == "text":
        for number, text in enumerate(texts):
            (directory / f"{number:04d}.txt").write_text(text)
    elif kind == "jsonl":
        lines = "\n\n".join(json.dumps({"text": text}) for text in texts)
        (directory / "all.jsonl").write_text(lines + "\n")
    else:
        columns = {"title": ["a book"] * len(texts), "text": texts}
        pq.write_table(pa.table(columns), directory / "all.parquet", row_group_size=7)
    return DataOptions(corpus=FilesOptions(paths=(str(directory),), format=kind))


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("texts", "by"),
    [([LONG] * 20, "sections"), ([SHORT] * 20, "documents"), ([SHORT] * 10 + [LONG + LONG] * 10, "sections")],
    ids=["long", "short", "long on average"],
)
def test_few_documents_are_held_out_by_sections_where_they_are_long(
    tmp_path: Path, kind: str, texts: list[str], by: str
):
    options = written(tmp_path / "texts", texts, kind)
    assert held_out_by(options) == by


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_many_are_held_out_whole_however_long(tmp_path: Path, kind: str):
    options = dataclasses.replace(written(tmp_path / "texts", [LONG] * 60, kind), held_out_share=0.5)
    assert held_out_by(options) == "documents"
    assert held_out_by(dataclasses.replace(options, held_out_share=0.49)) == "sections"


@pytest.mark.parametrize("corpus", [PythonSourceOptions(), HubOptions(dataset="owner/name", revision="1")])
def test_what_cannot_be_counted_and_the_library_s_source_are_held_out_whole(corpus: HubOptions | PythonSourceOptions):
    assert held_out_by(DataOptions(corpus=corpus)) == "documents"


def test_a_damaged_file_is_left_to_whoever_reads_it(tmp_path: Path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    options = DataOptions(corpus=FilesOptions(paths=(str(tmp_path),), format="parquet"))
    assert held_out_by(options) == "documents"


def test_what_is_said_counts(tmp_path: Path):
    few = written(tmp_path / "texts", [LONG] * 3, "text")
    for by in ("documents", "sections"):
        assert held_out_by(dataclasses.replace(few, held_out_by=by)) == by


def test_the_content_s_hash_is_another_where_sections_are_held_out_and_there_alone(tmp_path: Path):
    few, short = (written(tmp_path / name, [text] * 3, "text") for name, text in (("few", LONG), ("short", SHORT)))
    auto, whole, sections = (
        fingerprint(dataclasses.replace(few, held_out_by=by)) for by in ("auto", "documents", "sections")
    )
    assert auto == sections != whole
    assert fingerprint(short) == fingerprint(dataclasses.replace(short, held_out_by="documents"))
    repeats = DataOptions(corpus=RepeatsOptions())
    assert fingerprint(repeats) == fingerprint(dataclasses.replace(repeats, held_out_by="sections"))
