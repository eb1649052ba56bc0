"""Small text corpora; no test here reaches the network."""

import os
import random
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from induction_bump.data.options import DataOptions, FilesOptions, TokenizerOptions

WORDS = ["tree", "river", "stone", "cloud", "lamp", "under", "every", "seven", "ünïcode", "paper", "window", "bright"]


@pytest.fixture(autouse=True)
def own_arrow_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` prepares goes to the test's own directory, whoever imported it first."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def make_texts(count: int, words: int = 200, seed: int = 0) -> list[str]:
    """Documents of random words, all different."""
    random_ = random.Random(seed)
    return [f"{number}: " + " ".join(random_.choices(WORDS, k=words)) + "\n" for number in range(count)]


def write_texts(directory: Path, texts: list[str]) -> Path:
    """One file a document, in their order."""
    directory.mkdir(parents=True)
    for number, text in enumerate(texts):
        (directory / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    return directory


@pytest.fixture
def text_options(tmp_path: Path) -> DataOptions:
    """Sixty documents of about 200 words, a BPE of 300, context 32."""
    directory = write_texts(tmp_path / "texts", make_texts(60))
    return DataOptions(
        corpus=FilesOptions(paths=(str(directory),)),
        tokenizer=TokenizerOptions(vocab_size=300),
        context=32,
        held_out_share=0.2,
    )
