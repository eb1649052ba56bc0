"""Run directories with made-up curves, complete and valid, for the tests of what reads records."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from induction_bump.records.directory import RunDirectory
from induction_bump.records.frames import rows
from induction_bump.records.schema import RunInfo
from tests.records import make_heads

BATCH = 64


def make_run(
    directory: Path,
    *,
    sublayers: str = "ss",
    n_heads: int = 4,
    snapshots: int = 20,
    bump_at: float | None = 0.5e6,
    total_tokens: float = 2e6,
    study: str = "study",
    name: str = "run",
    run_id: str | None = None,
    seed: int = 0,
    status: str = "finished",
    context: int = 128,
    examples: int = 16,
    smeared_keys: bool = False,
    message: str | None = None,
    expensive_every: int | None = None,
) -> Path:
    """Write `<directory>/<study>/<name>-<run_id>` with a bump at `bump_at` tokens (None: no bump); returns its path.

    With `expensive_every` heads are read from their weights at every snapshot, and at each so many-th, counted back
    from the last, composition, ablations and path order are there too.
    """
    rng = np.random.default_rng(seed)
    run_id = run_id or f"{seed:04x}{abs(hash_text(study + name)) % 16**6:06x}"
    per_step = BATCH * context
    last = int(total_tokens // per_step)
    steps = sorted({0, *np.unique(np.geomspace(1, last, max(1, snapshots - 1)).astype(int)).tolist()})[:snapshots]
    run = RunDirectory(directory / study / f"{name}-{run_id}")
    config = config_of(sublayers, n_heads, context, study, name, seed, smeared_keys, last)
    run.begin(config, info_of(run_id, study, name, per_step, last, context, examples, message))
    layers = sublayers.count("s")
    for place, step in enumerate(steps):
        tokens = step * per_step
        after = 0.0 if bump_at is None else 1 / (1 + np.exp(-12 * np.log(max(tokens, 1) / bump_at)))
        columns = _columns(step, tokens, after, layers, n_heads, context, examples, rng)
        if layers and expensive_every:
            for key, values in make_heads.weight_measures(after, layers, n_heads, rng).items():
                columns["heads"][key] += values
            for key, entry in zip(("name", "value", "stderr"), make_heads.CHANCE, strict=True):
                columns["scalars"][key].append(entry)
            if (len(steps) - 1 - place) % expensive_every == 0:
                columns |= _expensive(after, layers, n_heads, rng)
        run.write_snapshot(step, {name: rows(name, run_id, step, tokens, values) for name, values in columns.items()})
    if layers and expensive_every:
        refused = {} if layers > 1 else dict.fromkeys(make_heads.OF_TWO_LAYERS, make_heads.ONE_LAYER)
        group = make_heads.GROUP | {"heads": [[layers - 1, n_heads - 1]]}
        run.update(groups={"induction": group}, not_applicable=refused)
    for part in np.array_split(np.arange(1, last + 1), 3):
        if part.size:
            run.append_training(_training(run_id, part, per_step, rng))
    if status == "finished":
        run.compact()
    run.update(status=status, finished_at=None if status == "running" else "2026-01-01T00:10:00+00:00")
    return run.path


def hash_text(text: str) -> int:
    """A small hash that is the same in every process."""
    value = 0
    for character in text:
        value = (value * 131 + ord(character)) % 2**31
    return value


def config_of(
    sublayers: str, n_heads: int, context: int, study: str, name: str, seed: int, smeared_keys: bool, last: int
) -> dict[str, Any]:
    """The parts of a resolved config that readers of records look at."""
    return {
        "study": study,
        "name": name,
        "model": {
            "sublayers": sublayers,
            "d_model": 64,
            "n_heads": n_heads,
            "d_head": 16,
            "positions": "rotary",
            "norm": "layernorm",
            "smeared_keys": smeared_keys,
        },
        "data": {"corpus": {"name": "repeats", "vocab_size": 256}, "context": context},
        "training": {"length": f"{last}step", "batch_sequences": BATCH, "learning_rate": 0.004},
        "measures": {"icl": {"early": 8, "late": context, "window": 32}},
        "seed": {"init": seed, "data": seed},
        "locate": {
            "sustain": 2,
            "head_floor": 0.1,
            "null_margin": 0.05,
            "strong": 0.3,
            "copy_nats": 2.0,
            "icl_drop": 0.1,
            "icl_standard_errors": 4.0,
        },
        "tracking": {"mode": "offline", "project": "induction-bump", "entity": None, "tags": ["made-up"]},
        "report": {"live": True, "every_seconds": 10.0},
    }


def info_of(
    run_id: str, study: str, name: str, per_step: int, last: int, context: int, examples: int, message: str | None
) -> RunInfo:
    """A run.json that is valid."""
    return RunInfo(
        run_id=run_id,
        study=study,
        name=name,
        status="running",
        message=message,
        host="here",
        pid=1,
        created_at="2026-01-01T00:00:00+00:00",
        started_at="2026-01-01T00:00:00+00:00",
        versions={"python": "3.11", "torch": "2.13.0"},
        hardware={"cpu": "made up", "cores": 2},
        threads=2,
        world_size=1,
        parameters=74_000,
        vocab_size=256,
        tokens_per_step=per_step,
        total_steps=last,
        total_tokens=last * per_step,
        hashes={"corpus": "c" * 64, "tokenizer": "none", "held_out": "a" * 64, "repeats": "b" * 64},
        probes={
            "held_out": {"examples": examples, "documents": examples, "context": context},
            "repeats": {"sequences": 128, "pool": 200, "block": 50},
        },
        measure_versions={"loss": 1, "prefix_matching": 1},
    )


def _columns(
    step: int,
    tokens: int,
    after: float,
    layers: int,
    n_heads: int,
    context: int,
    examples: int,
    rng: np.random.Generator,
) -> dict[str, dict[str, Any]]:
    learned = min(1.0, np.log1p(tokens) / 14)
    noise = 0.01 * rng.standard_normal(64)
    loss = 5.5 - 1.2 * learned - 0.8 * after
    values = {
        "loss": loss + noise[0],
        "icl_score": -0.05 * learned - 1.2 * after + noise[1],
        "icl_window_score": -0.05 * learned - 1.2 * after + 0.2 * noise[2],
        "first_copy_loss": 5.6 - learned + noise[3],
        "second_copy_loss": 5.6 - learned - 3.5 * after + noise[4],
        "shuffled_copy_loss": 5.6 - learned - 0.4 * after + noise[5],
        "copy_advantage": 3.5 * after + noise[6],
        "ordered_copy_advantage": 3.1 * after + noise[7],
        "predictable_loss": loss - after,
        "predictable_share": 0.3,
        "unpredictable_loss": loss,
        "unpredictable_share": 0.5,
    }
    if step == 0 and layers:
        values |= {"null99/prefix_matching": 0.03, "null99/previous_token": 0.06}
    position = np.arange(1, context + 1)
    wiggle = 0.02 * rng.standard_normal(context)
    window = values["icl_window_score"] + 0.05 * rng.standard_normal(examples)
    tables = {
        "scalars": {"name": list(values), "value": list(values.values()), "stderr": [0.01] * len(values)},
        "positions": {
            "position": position,
            "loss": loss - after * np.clip((position - 40) / context, 0, 1) + wiggle,
            "stderr": np.full(context, 0.02),
        },
        "tokens": {"example": np.arange(examples), "loss": (loss + rng.standard_normal(examples)).astype("f4")},
        "examples": {
            "name": ["icl_window_score"] * examples,
            "example": np.arange(examples),
            "value": window.astype("f4"),
        },
    }
    if layers:
        tables["heads"] = _heads(after, layers, n_heads, rng)
    return tables


def _expensive(after: float, layers: int, n_heads: int, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    tables = {
        "ablations": make_heads.ablations(after, layers, n_heads, rng),
        "paths": make_heads.paths(after, layers, n_heads, rng),
    }
    return tables | ({"head_pairs": make_heads.composition(after, layers, n_heads, rng)} if layers > 1 else {})


def _heads(after: float, layers: int, n_heads: int, rng: np.random.Generator) -> dict[str, list[Any]]:
    """The last layer's last head becomes an induction head, the first layer's first a previous-token head."""
    columns: dict[str, list[Any]] = {"layer": [], "head": [], "measure": [], "value": [], "stderr": []}
    floor = {
        "prefix_matching": 0.02,
        "prefix_matching_off_by_one": 0.02,
        "duplicate_token": 0.02,
        "previous_token": 0.05,
        "first_token": 0.1,
    }
    for layer in range(layers):
        for head in range(n_heads):
            for measure, base in floor.items():
                value = base * rng.uniform(0.8, 1.2)
                if measure == "prefix_matching" and (layer, head) == (layers - 1, n_heads - 1):
                    value += 0.85 * after
                if measure == "previous_token" and (layer, head) == (0, 0):
                    value += 0.6 * after
                for key, entry in zip(columns, (layer, head, measure, value, 0.004), strict=True):
                    columns[key].append(entry)
    return columns


def _training(run_id: str, steps: np.ndarray, per_step: int, rng: np.random.Generator) -> pa.Table:
    columns = {
        "loss": 5.5 - 0.1 * np.log(steps * per_step) + 0.05 * rng.standard_normal(steps.size),
        "learning_rate": np.full(steps.size, 0.004),
        "grad_norm": np.abs(rng.normal(0.5, 0.1, steps.size)),
        "tokens_per_second": np.full(steps.size, 150_000.0),
    }
    parts = [
        rows("training", run_id, int(step), int(step) * per_step, {k: [v[i]] for k, v in columns.items()})
        for i, step in enumerate(steps)
    ]
    return pa.concat_tables(parts)
