"""Peak memory of the head scores beside that of a plain forward pass on the same batch.

    python benchmarks/memory.py [--contexts 512 2048]

Each figure is from a process of its own: the growth of the largest resident size from just before the pass.
"""

import argparse
import resource
import statistics
import subprocess
import sys

ROUNDS = 3
BATCH = {512: 16, 2048: 4}


def measure(what: str, context: int) -> float:
    """MiB that a pass adds to the largest resident size, in this process."""
    import numpy as np
    import torch

    from induction_bump.measures.heads import text_lookup
    from induction_bump.measures.reading import read
    from induction_bump.model.options import ModelOptions
    from induction_bump.model.transformer import Transformer

    options = ModelOptions(sublayers="ss", d_model=768, n_heads=12)
    model = Transformer(options, 2048, context).eval()
    tokens = np.random.default_rng(0).integers(0, 2048, (BATCH[context], context + 1))
    lookup = text_lookup(BATCH[context], context)
    with torch.no_grad():
        model(torch.from_numpy(tokens[:1, :16]))  # libraries allocate their buffers at the first call
    read(model, tokens[:1, :16], text_lookup(1, 15))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if what == "forward":
        with torch.no_grad():
            model(torch.from_numpy(tokens[:, :-1]))
    else:
        read(model, tokens, lookup, losses=what == "scores and losses")
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 2048], choices=list(BATCH))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measure(arguments.one[0], int(arguments.one[1])))
        return
    print("| context (12 heads, d 768) | batch | plain forward, MiB | head scores | head scores and losses | ratios |")
    print("|---|---|---|---|---|---|")
    for context in arguments.contexts:
        peak = {}
        for what in ("forward", "scores", "scores and losses"):
            command = [sys.executable, __file__, "--one", what, str(context)]
            rounds = [float(subprocess.check_output(command, text=True)) for _ in range(ROUNDS)]
            peak[what] = statistics.median(rounds)
        plain, scores, both = peak.values()
        ratios = f"{scores / plain:.2f}, {both / plain:.2f}"
        print(f"| {context} | {BATCH[context]} | {plain:.0f} | {scores:.0f} | {both:.0f} | {ratios} |")


if __name__ == "__main__":
    main()
