"""How fast training data is made: tokens/s through a DataLoader for each kind of corpus, and of tokenising text.

Run: python benchmarks/loading.py [--context 128] [--batch 64] [--steps 200] [--workers 0] [--tokenise]

Compare the loading columns with the tokens/s of training: loading must not be what limits it. Cached shards of
`python_source` are used where they are there; `--tokenise` builds them anew in a temporary directory and times that.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.data import DataLoader

from induction_bump.data.corpus import Corpus, prepare
from induction_bump.data.dataset import StepBatchSampler, WindowDataset
from induction_bump.data.options import (
    CorpusOptions,
    DataOptions,
    PythonSourceOptions,
    RepeatsOptions,
    TriggersOptions,
)

CORPORA: dict[str, CorpusOptions] = {
    "repeats": RepeatsOptions(),
    "repeats, no copies": RepeatsOptions(copy_share=0.0),
    "triggers": TriggersOptions(),
    "python_source": PythonSourceOptions(),
}


def loading(corpus: Corpus, batch: int, steps: int, workers: int) -> float:
    """Tokens per second of whole batches arriving as tensors, the start of the workers left out."""
    dataset = WindowDataset(corpus, seed=0, sequences=(steps + 1) * batch)
    loader = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=StepBatchSampler(0, steps + 1, batch),
        collate_fn=torch.from_numpy,
        num_workers=workers,
    )
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return steps * batch * corpus.context / (time.perf_counter() - start)


def generating(corpus: Corpus, batch: int, repeats: int = 50) -> float:
    """Median milliseconds of one call of `windows`."""
    taken = []
    for number in range(repeats):
        start = time.perf_counter()
        corpus.windows(np.arange(batch) + number * batch, 0)
        taken.append(time.perf_counter() - start)
    return median(taken) * 1e3


def tokenising(context: int) -> None:
    """Build the shards of python_source from nothing and say how long it took."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        corpus = prepare(DataOptions(corpus=CORPORA["python_source"], context=context), Path(cache))
        seconds = time.perf_counter() - start
        assert corpus.windows_per_epoch
        tokens = corpus.windows_per_epoch * context
        print(f"tokenising python_source, its BPE of {corpus.vocab_size} included: {seconds:.1f} s, ", end="")
        print(f"{tokens / seconds:,.0f} tokens/s")
        start = time.perf_counter()
        prepare(DataOptions(corpus=CORPORA["python_source"], context=context), Path(cache))
        print(f"finding it again: {time.perf_counter() - start:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/induction_bump"))
    parser.add_argument("--tokenise", action="store_true", help="time the tokenising of python_source as well")
    asked = parser.parse_args()
    if asked.tokenise:
        tokenising(asked.context)
    print(f"context {asked.context}, batches of {asked.batch}, {asked.workers} loader workers")
    print(f"{'corpus':<20} {'ms a batch':>12} {'loading tokens/s':>18}")
    for name, options in CORPORA.items():
        corpus = prepare(DataOptions(corpus=options, context=asked.context), asked.cache)
        rate = loading(corpus, asked.batch, asked.steps, asked.workers)
        print(f"{name:<20} {generating(corpus, asked.batch):>12.2f} {rate:>18,.0f}")


if __name__ == "__main__":
    main()
