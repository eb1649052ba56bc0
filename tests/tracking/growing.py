"""A run that is going: the records of a finished one, committed again bit by bit."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from induction_bump.records.directory import RunDirectory
from induction_bump.records.lock import RunLock
from induction_bump.records.schema import TABLES
from tests.records.make import make_run


def small_run(directory: Path, **options: Any) -> Path:
    """A finished run of 122 steps, 8 of which are measured."""
    return make_run(directory, snapshots=8, total_tokens=1e6, **options)


class GrowingRun:
    """`path` holds what has been committed so far; `source` holds everything that will be."""

    def __init__(self, directory: Path, *, name: str = "growing", seed: int = 0, **config: dict[str, Any]) -> None:
        """Begin a run in `directory`, with sections of its config changed by `config`."""
        self.source = RunDirectory(small_run(directory / "source", name=name, seed=seed))
        self.run = RunDirectory(directory / "runs" / "study" / self.source.path.name)
        self.lock = RunLock(self.path)
        self.lock.acquire()
        sections = self.source.config
        for section, values in config.items():
            sections[section] |= values
        self.run.begin(sections, self.source.info.model_copy(update={"status": "running"}))

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self.run.path

    @property
    def snapshot_steps(self) -> list[int]:
        """Steps at which the whole run is measured."""
        return [s.step for s in self.source.snapshots()]

    @property
    def last_step(self) -> int:
        """The whole run's last step."""
        return self.source.info.total_steps

    def train(self, first: int, last: int) -> None:
        """Commit the training rows of steps `first` to `last`."""
        table = self.source.table("training")
        steps = pc.field("step")
        self.run.append_training(table.filter((steps >= first) & (steps <= last)))

    def measure(self, step: int) -> None:
        """Commit the snapshot at `step`."""
        tables = {name: self.source.table(name, [step]) for name in TABLES if name != "training"}
        self.run.write_snapshot(step, {name: t for name, t in tables.items() if t.num_rows})

    def grow(self, first: int, last: int) -> None:
        """Do what training does from step `first` to `last`: rows up to each snapshot, then the snapshot."""
        begun = first
        for step in (s for s in self.snapshot_steps if first <= s <= last):
            if step > 0:
                self.train(begun, step)
            self.measure(step)
            begun = step + 1
        if max(begun, 1) <= last:
            self.train(max(begun, 1), last)

    def end(self, status: str = "finished") -> None:
        """Let the run end."""
        if status == "finished":
            self.run.compact()
        self.run.update(status=status)
        self.lock.release()

    def die(self) -> None:
        """Let the training process vanish."""
        self.lock.release()

    def start_again(self) -> None:
        """Begin the run from step 0 once more."""
        generation = self.run.info.generation + 1
        self.run.clear()
        self.lock.acquire()
        self.run.update(status="running", generation=generation)


def expected_rows(path: Path) -> dict[int, dict[str, float]]:
    """Step → W&B key → number, read from the records by another way than the mirror's."""
    run = RunDirectory(path)
    rows: dict[int, dict[str, float]] = {}

    def put(entry: dict[str, Any], key: str, value: float) -> None:
        rows.setdefault(entry["step"], {"tokens": entry["tokens"]})[key] = value

    for entry in run.table("training").to_pylist():
        for name in ("loss", "learning_rate", "grad_norm", "tokens_per_second"):
            put(entry, f"train/{name}", entry[name])
    keys = {
        "loss": "eval/loss",
        "predictable_loss": "eval/predictable_loss",
        "unpredictable_loss": "eval/unpredictable_loss",
        "icl_score": "icl/score",
        "icl_window_score": "icl/window_score",
        "copy_advantage": "copy/advantage",
        "ordered_copy_advantage": "copy/ordered_advantage",
    }
    for entry in run.table("scalars").to_pylist():
        put(entry, keys.get(entry["name"]) or "scalars/" + entry["name"], entry["value"])
    for entry in run.table("positions").to_pylist():
        if entry["position"] in (1, 4, 8, 16, 64, 128):
            put(entry, f"loss_at/{entry['position']}", entry["loss"])
    heads = run.table("heads")
    for entry in heads.to_pylist():
        put(entry, f"heads/{entry['measure']}/L{entry['layer']}H{entry['head']}", entry["value"])
    best = pa.TableGroupBy(heads, ["step", "tokens", "measure"]).aggregate([("value", "max")])
    for entry in best.to_pylist():
        put(entry, f"heads/{entry['measure']}/max", entry["value_max"])
    return rows


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """A W&B row without W&B's own entries and without charts."""
    charts = ("loss_by_position", "heads/grid")
    return {key: value for key, value in row.items() if not key.startswith(("_", *charts))}
