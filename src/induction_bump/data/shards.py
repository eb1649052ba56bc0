"""Tokenised text on disk: memory-mapped shards of token ids, document boundaries, counts, and a manifest.

    manifest.json       format, corpus and tokenizer hashes, dtype, counts, size and sha256 of every other file
    tokenizer.json
    unigrams.bin        int64 [V]: how often each token occurs in the training part, BOS between documents left out
    train-00000.bin …   token ids; the documents of a split one after the other with one BOS between them
    train.documents     int64 [documents + 1]: where each document starts, and the stream's length + 1
    held_out-00000.bin, held_out.documents
    held_out.sources    int64 [documents], where sections are held out: of which of the corpus's documents each is

Document d is stream[starts[d] : starts[d+1] − 1]; what stands at starts[d+1] − 1 is the BOS between it and the next.
All numbers are little-endian.
"""

import hashlib
import json
import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from jaxtyping import Int, Integer

from induction_bump.data.tokenizer import TokenizerInfo

FORMAT = 1
SHARD_TOKENS = 1 << 26
FEW_CLUSTERS = 20
"""Documents below which sections of them are taken for independent: a standard error over fewer is unsure itself."""
TRAINING, HELD_OUT = "train", "held_out"
SPLITS = (TRAINING, HELD_OUT)
_ALWAYS_HASHED = 64_000_000  # bytes; so much is read through at every opening, the tokenizer among it


class DamagedShards(OSError):  # noqa: N818
    """Shards that are not what their manifest says."""


def dtype_for(vocab_size: int) -> str:
    """The smallest of uint16 and uint32 that holds every id."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


class _File:
    """A file that is hashed while it is written."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self._file: BinaryIO = opened.enter_context(path.open("xb"))
        self._hash = hashlib.sha256()
        self.name, self.bytes = path.name, 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    def close(self) -> dict[str, Any]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"name": self.name, "bytes": self.bytes, "sha256": self._hash.hexdigest()}


class _SplitWriter:
    def __init__(self, directory: Path, split: str, dtype: str, shard_tokens: int, opened: ExitStack) -> None:
        self._directory, self._split, self._dtype, self._shard_tokens = directory, split, dtype, shard_tokens
        self._opened = opened
        self._starts = _File(directory / f"{split}.documents", opened)
        self._shard: _File | None = None
        self._closed: list[dict[str, Any]] = []
        self.tokens = self.documents = 0

    def add(self, stream: Integer[np.ndarray, " n"], lengths: Int[np.ndarray, " d"]) -> None:
        """Append documents of the given lengths; in `stream` a BOS precedes each."""
        if not len(lengths):
            return
        starts = self.tokens + np.cumsum(lengths + 1) - lengths
        if not self.documents:
            stream, starts = stream[1:], starts - 1
        self._starts.write(starts.astype("<i8").tobytes())
        self.documents += len(lengths)
        while len(stream):
            room = self._shard_tokens - self.tokens % self._shard_tokens
            if self._shard is None:
                name = f"{self._split}-{len(self._closed):05d}.bin"
                self._shard = _File(self._directory / name, self._opened)
            piece, stream = stream[:room], stream[room:]
            self._shard.write(piece.astype(self._dtype).tobytes())
            self.tokens += len(piece)
            if len(piece) == room:
                self._closed.append(self._shard.close())
                self._shard = None

    def close(self) -> dict[str, Any]:
        if self._shard:
            self._closed.append(self._shard.close())
        self._starts.write(np.array([self.tokens + 1], dtype="<i8").tobytes())
        return {
            "tokens": self.tokens,
            "documents": self.documents,
            "shards": self._closed,
            "boundaries": self._starts.close(),
        }


class ShardWriter:
    """Writes tokenised documents into an empty directory; complete once `close` has written the manifest.

    A context manager: leaving it lets go of the files, complete or not.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer_json: str,
        tokenizer: TokenizerInfo,
        shard_tokens: int = SHARD_TOKENS,
        *,
        sectioned: bool = False,
    ) -> None:
        self._directory, self._tokenizer = directory, tokenizer
        self._tokenizer_json, self._shard_tokens = tokenizer_json, shard_tokens
        self.dtype = dtype_for(tokenizer.vocab_size)
        self._opened = ExitStack()
        self._splits = {
            split: _SplitWriter(directory, split, self.dtype, shard_tokens, self._opened) for split in SPLITS
        }
        self._sources = _File(directory / "held_out.sources", self._opened) if sectioned else None
        self._unigrams = np.zeros(tokenizer.vocab_size, dtype=np.int64)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def add(
        self,
        split: str,
        stream: Integer[np.ndarray, " n"],
        lengths: Int[np.ndarray, " d"],
        sources: Int[np.ndarray, " d"] | None = None,
    ) -> None:
        """Append documents to a split; in `stream` a BOS precedes each of the `lengths`.

        Args: sources, of which of the corpus's documents each is a section, where sections are held out.
        """
        if split == HELD_OUT and self._sources:
            assert sources is not None
            self._sources.write(sources.astype("<i8").tobytes())
        if split == TRAINING and len(stream):
            self._unigrams += np.bincount(stream, minlength=len(self._unigrams))
        self._splits[split].add(stream, lengths)

    def documents(self, split: str) -> int:
        """How many documents the split holds so far."""
        return self._splits[split].documents

    def close(self, corpus: str, text_bytes: int) -> None:
        """Write the rest and the manifest. Args: the corpus's fingerprint, and its size as UTF-8."""
        counts = self._unigrams
        counts[list(self._tokenizer.special_tokens)] = 0
        splits = {split: writer.close() for split, writer in self._splits.items()}
        if self._sources:
            splits[HELD_OUT]["sources"] = self._sources.close()
        manifest = {
            "format": FORMAT,
            "corpus": corpus,
            "text_bytes": text_bytes,
            "dtype": self.dtype,
            "shard_tokens": self._shard_tokens,
            "tokenizer": {
                "hash": self._tokenizer.hash,
                "vocab_size": self._tokenizer.vocab_size,
                "bos": self._tokenizer.bos,
                "special_tokens": list(self._tokenizer.special_tokens),
                "file": self._whole("tokenizer.json", self._tokenizer_json.encode()),
            },
            "unigrams": self._whole("unigrams.bin", counts.astype("<i8").tobytes()),
            "splits": splits,
        }
        self._whole("manifest.json", json.dumps(manifest, indent=1).encode())

    def _whole(self, name: str, data: bytes) -> dict[str, Any]:
        file = _File(self._directory / name, self._opened)
        file.write(data)
        return file.close()


class TokenStream:
    """One split, memory-mapped when it is first read; cheap to send to other processes."""

    def __init__(self, directory: Path, split: dict[str, Any], dtype: str, shard_tokens: int) -> None:
        self._directory, self._split = directory, split
        self._dtype, self._shard_tokens = dtype, shard_tokens
        self._maps: list[np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a memory map would be pickled with everything it maps
        return {**self.__dict__, "_maps": None}

    def __len__(self) -> int:
        return self._split["tokens"]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self._split["documents"]

    @property
    def starts(self) -> Int[np.ndarray, " documents+1"]:
        """Where each document starts, memory-mapped; document d ends before starts[d+1] − 1."""
        return _mapped(self._directory / self._split["boundaries"]["name"], "<i8")

    @property
    def sources(self) -> Int[np.ndarray, " documents"]:
        """Of which of the corpus's documents each is a section; where whole ones are held out, each is its own."""
        if "sources" not in self._split:
            return np.arange(self.documents)
        return _mapped(self._directory / self._split["sources"]["name"], "<i8")

    @property
    def clusters(self) -> int:
        """Number of the corpus's documents that these are of."""
        return len(np.unique(self.sources))

    def read(self, starts: Int[np.ndarray, " n"], width: int) -> Int[np.ndarray, "n width"]:
        """The `width` tokens from each start on, int64."""
        if self._maps is None:
            self._maps = [_mapped(self._directory / file["name"], self._dtype) for file in self._split["shards"]]
        found = np.empty((len(starts), width), dtype=np.int64)
        for row, start in zip(found, np.asarray(starts).tolist(), strict=True):
            filled = 0
            while filled < width:
                shard, offset = divmod(start + filled, self._shard_tokens)
                piece = self._maps[shard][offset : offset + width - filled]
                assert len(piece), f"token {start + filled} of {len(self)}"
                row[filled : filled + len(piece)] = piece
                filled += len(piece)
        return found


class Shards:
    """A directory of shards. Raises DamagedShards where a file is missing, or is not what the manifest says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self.manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
            if self.manifest["format"] != FORMAT:
                raise ValueError(f"format {self.manifest['format']} instead of {FORMAT}")
            self._check_sizes()
            about = self.manifest["tokenizer"]
            self.tokenizer = TokenizerInfo(
                hash=about["hash"],
                vocab_size=about["vocab_size"],
                bos=about["bos"],
                special_tokens=tuple(about["special_tokens"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShards(f"{directory} is damaged: {error!r}") from error
        self.verify(_ALWAYS_HASHED)

    def stream(self, split: str) -> TokenStream:
        """The tokens of a split."""
        manifest = self.manifest
        return TokenStream(self.directory, manifest["splits"][split], manifest["dtype"], manifest["shard_tokens"])

    @property
    def unigrams(self) -> Int[np.ndarray, " V"]:
        """How often each token occurs in the training part; 0 for special tokens."""
        return np.array(_mapped(self.directory / self.manifest["unigrams"]["name"], "<i8"), dtype=np.int64)

    def verify(self, most_bytes: float = math.inf) -> None:
        """Compare the sha256 of files, the smallest first, as long as they have `most_bytes` together.

        Raises DamagedShards naming the first file that differs.
        """
        for file in sorted(self._files(), key=lambda file: file["bytes"]):
            most_bytes -= file["bytes"]
            if most_bytes < 0:
                return
            with (self.directory / file["name"]).open("rb") as data:
                if hashlib.file_digest(data, "sha256").hexdigest() != file["sha256"]:
                    raise DamagedShards(f"{self.directory / file['name']} is damaged: its sha256 is another")

    def _files(self) -> list[dict[str, Any]]:
        manifest = self.manifest
        files = [manifest["tokenizer"]["file"], manifest["unigrams"]]
        for split in manifest["splits"].values():
            files += [*split["shards"], split["boundaries"], *([split["sources"]] if "sources" in split else [])]
        return files

    def _check_sizes(self) -> None:
        for file in self._files():
            size = (self.directory / file["name"]).stat().st_size
            if size != file["bytes"]:
                raise ValueError(f"{file['name']} has {size} bytes instead of {file['bytes']}")


def _mapped(path: Path, dtype: str) -> np.ndarray:
    # a plain view: slicing a np.memmap costs several times as much
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)
