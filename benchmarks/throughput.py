"""Training speed: the harness beside a plain PyTorch loop over the same model and the same batches.

    python benchmarks/throughput.py [--rounds 5]

Both run in one process, in turns, so that what else the machine does falls on both. A row is the median over rounds.
The harness's figure holds everything it does in a step: loading, callbacks, the training table and its part files.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

# spinning OpenMP threads make every figure on a shared machine a figure of the others
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from induction_bump.config.resolve import dump
from induction_bump.data.corpus import prepare
from induction_bump.model.transformer import Transformer, next_token_losses
from induction_bump.options import parse
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RunInfo
from induction_bump.training.options import RunConfig
from induction_bump.training.train import train

SIZES = {
    "quickstart: 2 layers, d 64, context 128, batch 32": {
        "steps": 60,
        "model": {"sublayers": "ss", "d_model": 64, "n_heads": 4},
        "context": 128,
        "batch": 32,
    },
    "4 layers, d 256, context 512, batch 8": {
        "steps": 12,
        "model": {"sublayers": "ssss", "d_model": 256, "n_heads": 8},
        "context": 512,
        "batch": 8,
    },
}
WARM = 4
"""Steps at the start of each turn that are not timed."""


def config_of(size: dict, cache: str) -> RunConfig:
    context = size["context"]
    return parse(
        RunConfig,
        {
            "model": size["model"],
            "data": {"context": context, "corpus": {"name": "repeats"}},
            "training": {"length": f"{size['steps']}step", "batch_sequences": size["batch"], "warmup": "2step"},
            "snapshots": {"measures": {}, "save_weights": False},
            "measures": {
                "icl": {"early": 8, "late": context, "window": 32},
                "held_out": {"examples": 2},
                "repeats": {"sequences": 2},
                "null": {"initialisations": 10, "examples": 2},
            },
            "devices": {"accelerator": "cpu"},
            "paths": {"cache": cache},
        },
    )


def plain(config: RunConfig) -> float:
    """Tokens/s of a loop that does nothing but train."""
    corpus = prepare(config.data, Path(config.paths.cache))
    model = Transformer(config.model, corpus.vocab_size, config.data.context)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    B = config.training.batch_sequences
    began = 0.0
    for step in range(config.total_steps):
        if step == WARM:
            began = time.perf_counter()
        windows = torch.from_numpy(corpus.windows(np.arange(step * B, (step + 1) * B), 0))
        loss = next_token_losses(model(windows[:, :-1]), windows[:, 1:]).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return (config.total_steps - WARM) * config.tokens_per_step / (time.perf_counter() - began)


def harness(config: RunConfig, directory: Path) -> float:
    """Tokens/s of the same steps under the trainer, snapshots apart."""
    run = RunDirectory(directory)
    run.begin(dump(config), first_info(config))
    train(config, run)
    speeds = run.table("training").column("tokens_per_second").to_numpy()[WARM:]
    return len(speeds) / float(np.sum(1 / speeds))


def first_info(config: RunConfig) -> RunInfo:
    return RunInfo(
        run_id="benchmark",
        study="benchmark",
        name="benchmark",
        status="running",
        host="",
        pid=os.getpid(),
        created_at="",
        started_at="",
        versions={},
        hardware={},
        threads=torch.get_num_threads(),
        world_size=1,
        parameters=0,
        vocab_size=0,
        tokens_per_step=config.tokens_per_step,
        total_steps=config.total_steps,
        total_tokens=config.total_steps * config.tokens_per_step,
        hashes={},
        probes={},
        measure_versions={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds")
    print("| size | plain loop, tokens/s | harness, tokens/s | harness / plain |")
    print("|---|---|---|---|")
    for name, size in SIZES.items():
        plains, harnesses, ratios = [], [], []
        with tempfile.TemporaryDirectory() as directory:
            config = config_of(size, f"{directory}/cache")
            plain(config)
            for number in range(rounds):
                plains.append(plain(config))
                harnesses.append(harness(config, Path(directory) / f"run{number}"))
                ratios.append(harnesses[-1] / plains[-1])
        print(
            f"| {name} | {statistics.median(plains):,.0f} | {statistics.median(harnesses):,.0f} | "
            f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) |"
        )


if __name__ == "__main__":
    main()
