"""How much sooner a snapshot is measured when its probes are split over processes.

    OMP_NUM_THREADS=1 python -m torch.distributed.run --standalone --nproc_per_node 2 benchmarks/ranks.py [--rounds 5]

Two layers of 8 heads, d_model 128, context 256; 512 held-out windows, ablations on 64 of them and paths on 16. In
turns, the first process measures alone while the others wait for it, and all of them measure together. Processor time
is that of the busiest process, which other work on the machine changes less.
"""

import argparse
import os
import time
from collections.abc import Collection
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
import torch.distributed as dist

from induction_bump.data.corpus import prepare
from induction_bump.data.options import DataOptions, RepeatsOptions
from induction_bump.measures.ngrams import build
from induction_bump.measures.options import CausalOptions, HeldOutOptions, IclOptions, MeasureOptions, NgramOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.registry import CHEAP
from induction_bump.measures.take import take
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer

CONTEXT, VOCABULARY = 256, 512
OPTIONS = MeasureOptions(
    icl=IclOptions(early=16, late=CONTEXT, window=32),
    held_out=HeldOutOptions(examples=512),
    causal=CausalOptions(examples=64, path_examples=16),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group("gloo")
    together = Ranks.of_group()
    corpus = prepare(DataOptions(corpus=RepeatsOptions(vocab_size=VOCABULARY), context=CONTEXT), Path(mkdtemp()))
    probes = Probes.draw(corpus, CONTEXT, OPTIONS)
    ngrams = build(corpus, CONTEXT, NgramOptions(tokens=1_000_000))
    model = Transformer(ModelOptions(sublayers="ss", d_model=128, n_heads=8), VOCABULARY, CONTEXT).eval()

    def seconds(names: Collection[str], ranks: Ranks) -> tuple[float, float]:
        """Wall time, and the processor time of the busiest process."""
        dist.barrier()
        began, used = time.perf_counter(), time.process_time()
        if ranks is together or together.rank == 0:
            take(model, probes, OPTIONS, names, ngrams, ranks)
        busiest = torch.tensor(time.process_time() - used)
        dist.all_reduce(busiest, dist.ReduceOp.MAX)
        return time.perf_counter() - began, busiest.item()

    lines = [f"| measures | | one process, s | {together.count} processes, s | ratio |", "|---|---|---|---|---|"]
    for label, names in {"cheap": CHEAP, "cheap and expensive": CHEAP.union(OPTIONS.expensive)}.items():
        seconds(names, together)  # what is kept from one snapshot to the next
        times = np.array([(seconds(names, ALONE), seconds(names, together)) for _ in range(rounds)])
        for which, what in enumerate(("wall", "processor")):
            alone, split = np.median(times[:, :, which], axis=0)
            ratio = np.median(times[:, 0, which] / times[:, 1, which])
            lines.append(f"| {label} | {what} | {alone:.2f} | {split:.2f} | {ratio:.2f} |")
    if together.rank == 0:
        print("\n".join(lines))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
