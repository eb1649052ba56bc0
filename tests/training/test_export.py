"""Exports of a run's saved weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from induction_bump.model.transformer import Transformer
from induction_bump.model.transformer_lens import config_of, state_dict_of
from induction_bump.records.directory import RunDirectory
from induction_bump.records.schema import RecordsError
from induction_bump.training import export as module
from induction_bump.training.export import ExportError, export
from induction_bump.training.weights import save_weights
from tests.training.runs import begin
from tests.training.runs import config_of as run_config

TO = "transformer_lens"


def saved_run(path: Path, weights: tuple[int, ...] = (0, 5, 8), **model: object) -> RunDirectory:
    """Snapshots at 0, 5, 8 and 9; the weights at step s are those of seed s."""
    config = run_config(path.parent / "cache", model=model)
    run = begin(path, config)
    for step in (0, 5, 8, 9):
        saved = Transformer(config.model, run.info.vocab_size, config.data.context, step)
        write = (lambda file, saved=saved: save_weights(saved, file)) if step in weights else None
        run.write_snapshot(step, {}, write)
    return run


def tree(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


@pytest.mark.parametrize(("asked", "step"), [(None, 8), (5, 5), (0, 0)])
def test_config_and_weights_of_the_chosen_snapshot_are_written(tmp_path: Path, asked: int | None, step: int) -> None:
    run = saved_run(tmp_path / "run")
    written = export(run.path, TO, asked)
    assert written == run.path / "export" / f"transformer_lens-{step}"
    assert {file.name for file in written.iterdir()} == {"config.json", "model.safetensors"}
    config = run_config(tmp_path).model
    assert json.loads((written / "config.json").read_text()) == config_of(config, 256, 32)
    expected = state_dict_of(Transformer(config, 256, 32, step))
    found = load_file(written / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with safe_open(written / "model.safetensors", "pt") as file:
        about = {"run_id": "0123456789", "generation": "1", "step": str(step), "tokens": str(step * 8 * 32)}
        assert file.metadata() == {"format": "pt", **about}


def test_another_directory_may_be_named_and_may_be_there_empty(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "new/inner", tmp_path / "empty"):
        assert export(run.path, TO, out=out) == out
        assert (out / "config.json").is_file()
    assert not (run.path / "export").exists()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run")
    written = export(run.path, TO)
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    for out in (None, written, tmp_path / "file"):
        with pytest.raises(ExportError, match=f"--out={out or written}: is there already; remove it, or choose"):
            export(run.path, TO, out=out)
    assert tree(tmp_path) == before


def test_other_runs_than_those_with_weights_there_are_refused(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "study/run")
    bare = saved_run(tmp_path / "study/bare", weights=())
    before = tree(tmp_path)
    with pytest.raises(ExportError, match=r"--step=9: no weights were saved there; steps with weights: 0, 5, 8$"):
        export(run.path, TO, 9)
    with pytest.raises(ExportError, match=r"bare: no snapshot has weights; .*snapshots\.save_weights=true"):
        export(bare.path, TO)
    with pytest.raises(ExportError, match=r"study: is a study, and one run is .*; its runs: bare, run$"):
        export(tmp_path / "study", TO)
    with pytest.raises(ExportError, match=r"--to=onnx: no such format; known: transformer_lens$"):
        export(run.path, "onnx")
    with pytest.raises(RecordsError, match="missing: no such directory"):
        export(tmp_path / "missing", TO)
    assert tree(tmp_path) == before


def test_of_many_steps_the_first_and_last_are_listed(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", run_config(tmp_path))
    for step in range(100):
        run.write_snapshot(step, {}, lambda file: file.touch())
    with pytest.raises(ExportError, match=r": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …, 90, 91, .*, 99$"):
        export(run.path, TO, 100)


def test_a_model_that_it_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run", smeared_keys=True)
    before = tree(tmp_path)
    with pytest.raises(ExportError, match=r"model\.smeared_keys=true: "):
        export(run.path, TO)
    assert tree(tmp_path) == before


def test_a_failure_while_writing_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved_run(tmp_path / "run")

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save", full)
    with pytest.raises(OSError, match="No space left"):
        export(run.path, TO)
    assert not list((run.path / "export").iterdir())


def test_weights_of_another_step_are_not_exported(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run")
    first, last = (run.path / f"snapshots/{step:08d}/weights.safetensors" for step in (0, 8))
    last.write_bytes(first.read_bytes())
    with pytest.raises(RecordsError, match="these are not the weights that were saved there"):
        export(run.path, TO)
    assert not (run.path / "export").exists()
    assert export(run.path, TO, 0).is_dir()


@pytest.mark.parametrize("damage", ["cut short", "of another model"])
def test_damaged_weights_are_told(tmp_path: Path, damage: str) -> None:
    run = saved_run(tmp_path / "run")
    file = run.path / "snapshots/00000008/weights.safetensors"
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.unlink()
        save_weights(Transformer(run_config(tmp_path, model={"sublayers": "s"}).model, 256, 32), file)
    with pytest.raises(RecordsError, match=r"00000008/weights\.safetensors: "):
        export(run.path, TO)
    assert not (run.path / "export").exists()


def test_a_config_that_no_run_can_have_is_told(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run")
    file = run.path / "config.yaml"
    file.write_text(file.read_text().replace("n_heads: 2", "n_heads: x"))
    with pytest.raises(RecordsError, match=r"config\.yaml: model\.n_heads: "):
        export(run.path, TO)
    assert not (run.path / "export").exists()
