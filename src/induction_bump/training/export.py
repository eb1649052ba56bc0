"""Writes a run's saved weights in the format of another library, at one snapshot."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from induction_bump.model import transformer_lens
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer
from induction_bump.model.transformer_lens import ExportError
from induction_bump.records.directory import RunDirectory, Snapshot, find_runs
from induction_bump.records.files import directory_that_appears_whole
from induction_bump.records.saved_weights import weights_at, with_weights
from induction_bump.training.options import RunConfig
from induction_bump.training.weights import load_weights

_MOST_LISTED = 20

Convert = tuple[Callable[[ModelOptions, int, int], dict[str, Any]], Callable[[Transformer], dict[str, Tensor]]]
FORMATS: Mapping[str, Convert] = {"transformer_lens": (transformer_lens.config_of, transformer_lens.state_dict_of)}
"""By name: what makes the config from options, vocabulary size and context, and what makes the state dict."""


def export(path: Path, to: str, step: int | None = None, out: Path | None = None) -> Path:
    """Write `config.json` and `model.safetensors` into a directory that appears whole or not at all; returns it.

    Args: path, a run; to, a name of `FORMATS`; step, a snapshot with weights, the last one by default; out, the
    directory, `<run>/export/<to>-<step>` by default, which must not be there yet.

    A state dict's metadata says which run_id, generation, step and tokens it is of.
    Raises ExportError for what cannot be had, RecordsError where `path` holds no run or a damaged one.
    """
    if to not in FORMATS:
        raise ExportError(f"--to={to}: no such format; known: {', '.join(FORMATS)}")
    run = _the_run(path)
    snapshot = _chosen(run, step)
    target = run.path / "export" / f"{to}-{snapshot.step}" if out is None else out
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(f"--out={target}: is there already; remove it, or choose another")
    if file := next((parent for parent in target.parents if parent.is_file()), None):
        raise ExportError(f"--out={target}: {file} is a file; choose another")
    config = run.typed(RunConfig)
    info = run.info
    make_config, make_state_dict = FORMATS[to]
    written = make_config(config.model, info.vocab_size, config.data.context)
    model = Transformer(config.model, info.vocab_size, config.data.context)
    load_weights(model, weights_at(run, snapshot.step))
    about = {"run_id": info.run_id, "generation": info.generation, "step": snapshot.step, "tokens": snapshot.tokens}
    with directory_that_appears_whole(target) as aside:
        (aside / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
        metadata = {"format": "pt"} | {key: str(value) for key, value in about.items()}
        # as bytes, since the library's own errors of writing are none of the system's
        (aside / "model.safetensors").write_bytes(save(make_state_dict(model), metadata))
    return target


def _the_run(path: Path) -> RunDirectory:
    runs = find_runs(path)
    if runs[0].path != path:
        names = _listed([run.name for run in runs])
        raise ExportError(f"{path}: is a study, and one run is exported at a time; its runs: {names}")
    return runs[0]


def _chosen(run: RunDirectory, step: int | None) -> Snapshot:
    saved = {snapshot.step: snapshot for snapshot in with_weights(run)}
    if not saved:
        raise ExportError(f"{run.path}: no snapshot has weights; runs with snapshots.save_weights=true keep them")
    if step is None:
        return saved[max(saved)]
    if step not in saved:
        raise ExportError(f"--step={step}: no weights were saved there; steps with weights: {_listed(list(saved))}")
    return saved[step]


def _listed(names: Sequence[object]) -> str:
    shown = [str(name) for name in names]
    if len(shown) > _MOST_LISTED:
        shown[_MOST_LISTED // 2 : -_MOST_LISTED // 2] = ["…"]
    return ", ".join(shown)
