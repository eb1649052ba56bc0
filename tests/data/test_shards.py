"""Shards hold the documents they were given, across files, and notice damage."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from induction_bump.data import shards as module
from induction_bump.data.shards import DamagedShards, Shards, ShardWriter, dtype_for
from induction_bump.data.tokenizer import TokenizerInfo

INFO = TokenizerInfo(hash="h", vocab_size=50, bos=7, special_tokens=(7, 9))


def write(
    directory: Path, batches: list[list[list[int]]], shard_tokens: int = 10, info: TokenizerInfo = INFO
) -> Shards:
    """Shards of batches of documents; each batch's last document is held out."""
    directory.mkdir()
    with ShardWriter(directory, "{}", info, shard_tokens) as writer:
        for batch in batches:
            for split, documents in (("train", batch[:-1]), ("held_out", batch[-1:])):
                stream = np.array([token for ids in documents for token in (info.bos, *ids)], dtype=writer.dtype)
                writer.add(split, stream, np.array([len(ids) for ids in documents], dtype=np.int64))
        writer.close("corpus", 123)
    return Shards(directory)


BATCHES = [[[1, 2, 3], [4, 5], [6]], [[8] * 17, [10, 11]], [[12]]]
STREAM = [1, 2, 3, 7, 4, 5, 7, *[8] * 17]


def test_a_split_is_its_documents_with_one_bos_between(tmp_path: Path):
    shards = write(tmp_path / "s", BATCHES)
    train, held_out = shards.stream("train"), shards.stream("held_out")
    assert len(train) == len(STREAM)
    assert train.read(np.array([0]), len(STREAM))[0].tolist() == STREAM
    assert held_out.read(np.array([0]), 6)[0].tolist() == [6, 7, 10, 11, 7, 12]


def test_boundaries_say_where_each_document_starts_and_ends(tmp_path: Path):
    shards = write(tmp_path / "s", BATCHES)
    for split, documents in (("train", [[1, 2, 3], [4, 5], [8] * 17]), ("held_out", [[6], [10, 11], [12]])):
        stream = shards.stream(split)
        assert stream.documents == 3
        starts = stream.starts
        for number, ids in enumerate(documents):
            length = int(starts[number + 1] - 1 - starts[number])
            assert stream.read(starts[number : number + 1], length)[0].tolist() == ids


@pytest.mark.parametrize("shard_tokens", [1, 3, 24, 1000])
def test_reading_crosses_shards(tmp_path: Path, shard_tokens: int):
    shards = write(tmp_path / "s", BATCHES, shard_tokens)
    found = shards.stream("train").read(np.arange(20), 5)
    assert found.dtype == np.int64
    assert found.tolist() == [STREAM[start : start + 5] for start in range(20)]
    assert len(list((tmp_path / "s").glob("train-*.bin"))) == -(-len(STREAM) // shard_tokens)


def test_unigrams_count_training_text_only(tmp_path: Path):
    counts = write(tmp_path / "s", BATCHES).unigrams
    assert {token: int(count) for token, count in enumerate(counts) if count} == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 8: 17}


@pytest.mark.parametrize(("vocab_size", "dtype"), [(258, "<u2"), (65_536, "<u2"), (65_537, "<u4"), (200_000, "<u4")])
def test_ids_take_as_few_bytes_as_they_need(tmp_path: Path, vocab_size: int, dtype: str):
    assert dtype_for(vocab_size) == dtype
    info = TokenizerInfo("h", vocab_size, 7, (7,))
    shards = write(tmp_path / "s", [[[vocab_size - 1, 3], [1]]], info=info)
    assert shards.manifest["dtype"] == dtype
    assert shards.stream("train").read(np.array([0]), 2)[0].tolist() == [vocab_size - 1, 3]


def test_the_manifest_says_what_is_there(tmp_path: Path):
    shards = write(tmp_path / "s", BATCHES)
    assert shards.tokenizer == INFO
    assert shards.manifest["corpus"] == "corpus"
    assert shards.manifest["splits"]["train"]["tokens"] == len(STREAM)
    listed = {"manifest.json"} | {file["name"] for file in shards._files()}
    assert listed == {path.name for path in (tmp_path / "s").iterdir()}


def test_a_stream_that_was_read_is_sent_without_its_tokens(tmp_path: Path):
    stream = write(tmp_path / "s", [[[1] * 100_000, [1]]], shard_tokens=1 << 20).stream("train")
    stream.read(np.array([0]), 10)
    sent = pickle.dumps(stream)
    assert len(sent) < 2000
    assert pickle.loads(sent).read(np.array([5]), 3).tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("always_hashed", [0, 10**9])
@pytest.mark.parametrize("name", ["train-00001.bin", "train.documents", "unigrams.bin", "tokenizer.json"])
def test_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, always_hashed: int):
    monkeypatch.setattr(module, "_ALWAYS_HASHED", always_hashed)
    shards = write(tmp_path / "s", BATCHES)
    path = tmp_path / "s" / name
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShards, match=f"{name} is damaged"):
        shards.verify()
    if always_hashed:
        with pytest.raises(DamagedShards, match=f"{name} is damaged"):
            Shards(tmp_path / "s")
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedShards, match="bytes instead of"):
        Shards(tmp_path / "s")
    path.unlink()
    with pytest.raises(DamagedShards):
        Shards(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "{", json.dumps({"format": 1})])
def test_a_damaged_manifest_is_noticed(tmp_path: Path, text: str):
    write(tmp_path / "s", BATCHES)
    (tmp_path / "s/manifest.json").write_text(text)
    with pytest.raises(DamagedShards):
        Shards(tmp_path / "s")
