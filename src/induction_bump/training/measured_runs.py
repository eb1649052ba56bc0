"""One snapshot of one run, measured from its saved weights: what a process that measures afterwards does."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from induction_bump.data.corpus import Corpus, prepare
from induction_bump.measures.ablation import Kind
from induction_bump.measures.causal import Effects, effects
from induction_bump.measures.groups import choose, matched_sets
from induction_bump.measures.ngrams import Ngrams, find_or_build
from induction_bump.measures.null import null99
from induction_bump.measures.probes import Probes
from induction_bump.measures.statistics import NotFiniteError
from induction_bump.measures.take import take
from induction_bump.model.transformer import Transformer
from induction_bump.records.directory import RunDirectory
from induction_bump.records.saved_weights import weights_at, with_weights
from induction_bump.training.measured_tables import add_nulls, group_rows, tables_of
from induction_bump.training.options import RunConfig
from induction_bump.training.weights import load_weights

GROUP = "induction"
"""Name of the group of induction heads, in `run.json` and in the table `ablations`."""
MATCHED = "matched"
"""Name of the sets of other heads that it is compared with; `draw` counts them."""
_GROUP_KINDS: tuple[Kind, ...] = ("zero", "pattern_preserving")

Heads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GroupTask:
    """The heads to ablate together."""

    heads: Heads
    matched: tuple[Heads, ...]


@dataclass(frozen=True)
class Task:
    """What to take at one snapshot."""

    step: int
    tokens: int
    names: frozenset[str]
    group: GroupTask | None


@dataclass(frozen=True)
class Bench:
    """A run with all that measuring it needs, each made when it is first asked for."""

    path: Path

    @classmethod
    @lru_cache(maxsize=2)
    def of(cls, path: Path) -> "Bench":
        """The same object for the same run, as long as only few runs are measured in turns."""
        return cls(path)

    @cached_property
    def run(self) -> RunDirectory:
        """Its directory."""
        return RunDirectory(self.path)

    @cached_property
    def config(self) -> RunConfig:
        """Its config, checked. Raises RecordsError for one that no run can have."""
        return self.run.typed(RunConfig)

    @cached_property
    def cache(self) -> Path:
        """Where corpora and nulls are kept."""
        return Path(self.config.paths.cache).expanduser()

    @cached_property
    def corpus(self) -> Corpus:
        """What it was trained on."""
        return prepare(self.config.data, self.cache)

    @cached_property
    def probes(self) -> Probes:
        """What it is measured on."""
        return Probes.draw(self.corpus, self.config.data.context, self.config.measures)

    @cached_property
    def ngrams(self) -> Ngrams:
        """What its losses are compared with."""
        return find_or_build(self.corpus, self.config.data.context, self.config.measures.ngrams, self.cache)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """sha256 of corpus, tokenizer and probes as they are now."""
        return {"corpus": self.corpus.fingerprint, "tokenizer": self.corpus.tokenizer_hash, **self.probes.hashes}

    @cached_property
    def device(self) -> torch.device:
        """CUDA where the run may use it and it is there: the current one, which each process of a pool has set."""
        cuda = self.config.devices.accelerator != "cpu" and torch.cuda.is_available()
        return torch.device("cuda" if cuda else "cpu")

    @cached_property
    def _model(self) -> Transformer:
        model = Transformer(self.config.model, self.corpus.vocab_size, self.config.data.context)
        return model.to(self.device).eval()

    def model_at(self, step: int) -> Transformer:
        """The model with the weights of a snapshot; the one object for all of them."""
        load_weights(self._model, weights_at(self.run, step))
        return self._model

    def nulls(self) -> dict[str, float]:
        """null99 of the head scores, computed where no run has done so yet."""
        config, corpus = self.config, self.corpus
        shape = (config.model, corpus.vocab_size, config.data.context)
        return null99(*shape, self.probes, config.measures.null, self.cache, self.device)


def devices_of(workers: int, cuda_devices: int) -> list[int | None]:
    """The CUDA device of each process that measures, so that they share them evenly; None on the CPU."""
    return [worker % cuda_devices if cuda_devices else None for worker in range(workers)]


def prepare_worker(threads: int, devices: "SimpleQueue[int | None]") -> None:
    """Start a process of the pool: it takes the next of `devices` for itself."""
    torch.set_num_threads(threads)
    device = devices.get()
    if device is not None:
        torch.cuda.set_device(device)  # what `Bench.device` means by "cuda" in this process


def perform(bench: Bench | Path, task: Task) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Rows of the measures of a task, with what came along with them, and what could not be taken with the reason."""
    bench = bench if isinstance(bench, Bench) else Bench.of(bench)
    config, run_id = bench.config, bench.run.info.run_id
    model = bench.model_at(task.step)
    measured = take(model, bench.probes, config.measures, task.names, bench.ngrams)
    if "null99" in task.names:
        add_nulls(measured, bench.nulls())
    tables = tables_of(measured, run_id, task.step, task.tokens)
    if task.group:
        found = _ablate_groups(model, bench, task.group)
        rows = group_rows(found, run_id, task.step, task.tokens)
        tables["ablations"] = pa.concat_tables([tables["ablations"], rows]) if "ablations" in tables else rows
    return tables, measured.left_out


def _ablate_groups(
    model: Transformer, bench: Bench, group: GroupTask
) -> dict[tuple[str, int | None], Mapping[Kind, Effects]]:
    sets: dict[tuple[str, int | None], frozenset[tuple[int, int]]] = {(GROUP, None): frozenset(group.heads)}
    sets |= {(MATCHED, draw): frozenset(heads) for draw, heads in enumerate(group.matched)}
    found = effects(model, bench.probes, bench.config.measures, list(dict.fromkeys(sets.values())), _GROUP_KINDS)
    return {label: {kind: found[kind, heads] for kind in _GROUP_KINDS} for label, heads in sets.items()}


def choose_group(run: RunDirectory, bench: Bench) -> tuple[GroupTask | None, str | None]:
    """The induction heads of a finished run and their matched sets, or the reason why there are none.

    They are chosen once, at the last snapshot with weights, and noted in `run.json`; later calls take what stands
    there. The run's lock must be held.
    """
    known = run.info.groups.get(GROUP)
    if known is None:
        if run.info.status != "finished":
            return None, f"the run is {run.status}, and induction heads are chosen at the end of a finished one"
        saved = with_weights(run)
        if not saved:
            return None, "the run kept no weights"
        step = saved[-1].step
        try:
            known = _chosen(bench, step)
        except NotFiniteError as error:
            return None, f"at step {step}, where induction heads are chosen, {error}"
        run.update(groups={**run.info.groups, GROUP: known})
    if not known["heads"]:
        return None, f"no head has a prefix matching of {known['threshold']:.3f} at step {known['step']}"
    as_heads = [
        tuple((int(layer), int(head)) for layer, head in heads) for heads in (known["heads"], *known["matched"])
    ]
    return GroupTask(as_heads[0], tuple(as_heads[1:])), None


def _chosen(bench: Bench, step: int) -> dict[str, Any]:
    """As `run.json` keeps it: heads as [layer, head], `matched` sets, or `no_match` where too few heads are left."""
    config = bench.config
    options, context = config.measures, config.data.context
    nulls = _recorded_null(bench.run)
    null = nulls if nulls is not None else bench.nulls().get("prefix_matching", 0.0)
    threshold = max(config.locate.head_floor, null + config.locate.null_margin)
    model = bench.model_at(step)
    group = choose(model, bench.corpus, context, options, threshold) if model.options.n_attention else frozenset()
    matched = matched_sets(model, group, options.causal.draws, options.causal.group_seed)
    return {
        "step": step,
        "seed": options.causal.group_seed,
        "threshold": threshold,
        "heads": [list(head) for head in sorted(group)],
        "matched": [[list(head) for head in sorted(heads)] for heads in matched],
        "no_match": bool(group) and not matched,
    }


def _recorded_null(run: RunDirectory) -> float | None:
    rows = run.table("scalars", [0], {"name": "null99/prefix_matching"}, ["value"])
    return float(rows.column("value")[0].as_py()) if rows.num_rows else None
