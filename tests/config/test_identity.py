"""A run's id depends on what is computed, on nothing else, and stays what it is."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from induction_bump.config.compose import compose
from induction_bump.config.identity import NEUTRAL, canonical, directory_name, run_id, slug
from induction_bump.config.resolve import dump, load
from induction_bump.data.fingerprint import fingerprint
from induction_bump.training.options import RunConfig

CONTENT = "0" * 64
BASE = [
    "snapshots=dense",
    "data.context=128",
    "training.length=10Mtok",
    "training.warmup=100step",
    "training.batch_sequences=64",
    "training.learning_rate=4e-3",
    "snapshots.measures.log={start:10step,count:32}",
    "snapshots.measures.every=500ktok",
]


def identity(*overrides: str) -> str:
    config = compose([*BASE, *overrides])
    return run_id(config, fingerprint(config.data) if not config.data.is_text else CONTENT)


def rewritten(**changes: Any) -> str:
    """The id of the quickstart with top-level parts changed after composing."""
    values = dump(compose(BASE))
    for key, part in changes.items():
        values[key] = values[key] | part if isinstance(part, dict) else part
    config = load(values)
    return run_id(config, fingerprint(config.data))


GOLDEN: list[tuple[dict[str, Any], str]] = [
    ({}, "4732820f84"),
    ({"model": {"sublayers": "s", "smeared_keys": True}, "seed": {"init": 3}}, "0e09723e6a"),
    (
        {"model": {"sublayers": "sfsf"}, "training": {"precision": "bf16", "length": "3Mtok", "clip": None}},
        "72965b872c",
    ),
    ({"data": {"context": 128, "corpus": {"name": "triggers"}}, "snapshots": {"save_weights": False}}, "59ac6273d5"),
    ({"data": {"context": 128, "corpus": {"name": "files", "paths": ["a"]}}}, "b46938a209"),
]


CLAMPED = (
    {
        "model": {
            "sublayers": "ss",
            "clamps": [{"layer": 0, "head": 0, "kind": "first"}, {"layer": 1, "head": 0, "kind": "zero"}],
        }
    },
    "00ec74e3b5",
)


def golden(values: dict[str, Any]) -> RunConfig:
    base = {
        "data": {"context": 128, "corpus": {"name": "repeats"}},
        "measures": {"icl": {"early": 8, "late": 128, "window": 32}},
    }
    return load(base | values)


@pytest.mark.parametrize(("values", "expected"), [*GOLDEN, CLAMPED])
def test_ids_are_what_they_were_on_every_python_and_in_every_release(values: dict[str, Any], expected: str) -> None:
    assert run_id(golden(values), CONTENT) == expected


@pytest.mark.parametrize(
    "override",
    [
        "study=other",
        "name=other",
        "devices=two_cpu",
        "devices.threads=1",
        "devices.sequences_per_device=8",
        "paths.runs=/elsewhere",
        "paths.cache=/elsewhere",
        "tracking=none",
        "tracking.tags=[a]",
        "report=off",
        "locate.sustain=5",
    ],
)
def test_where_a_run_is_computed_and_how_it_is_shown_does_not_change_its_id(override: str) -> None:
    assert identity(override) == identity()


@pytest.mark.parametrize(
    "override",
    [
        "model.sublayers=sss",
        "model.smeared_keys=true",
        "data.corpus.zipf=1.1",
        "data.context=256",
        "data.prepend_bos=false",
        "training.length=11Mtok",
        "training.learning_rate=4.1e-3",
        "training.precision=bf16",
        "training.compile=true",
        "training.tf32=true",
        "training.batch_sequences=32",
        "seed.init=1",
        "seed.data=1",
        "snapshots.measures.log.count=33",
        "snapshots.save_weights=false",
        "measures.held_out.examples=512",
        "measures.repeats.seed=1",
    ],
)
def test_whatever_changes_the_numbers_changes_the_id(override: str) -> None:
    assert identity(override) != identity()


@pytest.mark.parametrize(
    "same",
    [
        "model.d_head=16",
        "model.d_mlp=256",
        "training.length=1221step",
        "training.length=10_000ktok",
        "training.warmup=819200tok",
        "training.learning_rate=0.004",
        "snapshots.measures.every=62step",
        "snapshots.weights={log:{start:10step,count:32},every:500ktok,at:[]}",
        "data.tokenizer.vocab_size=4096",
        "data.held_out_share=0.1",
        "data.held_out_by=sections",
    ],
)
def test_the_same_thing_said_otherwise_has_the_same_id(same: str) -> None:
    assert identity(same) == identity()


def test_a_corpus_of_files_is_known_by_its_content() -> None:
    here = compose(["data=files", "data.corpus.paths=[here]"])
    there = compose(["data=files", "data.corpus.paths=[there,too]"])
    assert run_id(here, CONTENT) == run_id(there, CONTENT)
    assert run_id(here, CONTENT) != run_id(here, "1" * 64)


def test_an_option_added_later_leaves_ids_alone_at_its_neutral_value() -> None:
    config = compose(BASE)
    today = json.loads(canonical(config, CONTENT))
    neutral = {"model.smear_init": 0.0, "measures.icl.early": 8, "model.nothing.of.the.kind": 1}
    without = json.loads(canonical(config, CONTENT, neutral=neutral))
    assert "smear_init" in today["model"]
    assert "smear_init" not in without["model"]
    assert "early" not in without["measures"]["icl"]
    other = compose([*BASE, "model.smear_init=1.0"])
    assert "smear_init" in json.loads(canonical(other, CONTENT, neutral=neutral))["model"]


def dictionaries(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[dict[str, Any]]]]:
    """Every level of plain data by its dotted path: the dictionaries there, of which a list may hold several."""
    level = [value for value in (values if isinstance(values, list) else [values]) if isinstance(value, dict)]
    if level:
        yield path, level
    for key in {key: None for value in level for key in value}:
        inner = [value[key] for value in level if key in value]
        yield from dictionaries(inner[0] if len(inner) == 1 else inner, (*path, key))


SECTIONS = ("model", "data", "training", "seed", "snapshots", "measures")


@pytest.mark.parametrize("first", [True, False], ids=["above-all-others", "below-all-others"])
@pytest.mark.parametrize("values", [values for values, _ in [*GOLDEN, CLAMPED]])
def test_a_field_may_be_added_anywhere_and_its_line_may_stand_anywhere(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], first: bool
) -> None:
    config = golden(values)
    before = canonical(config, CONTENT)
    levels = [path for path, _ in dictionaries({key: dump(config)[key] for key in SECTIONS}) if path]
    assert {("model",), ("measures", "copying"), ("measures", "icl")} < set(levels)

    def with_a_new_field(path: tuple[str, ...]) -> Any:
        def dumped(config: RunConfig) -> dict[str, Any]:
            whole = dump(config)
            for value in next(level for where, level in dictionaries(whole) if where == path):
                value["added_later"] = 7
            return whole

        return dumped

    for path in levels:
        line = {".".join((*path, "added_later")): 7}
        monkeypatch.setattr("induction_bump.config.identity.dump", with_a_new_field(path))
        assert canonical(config, CONTENT, line | NEUTRAL if first else NEUTRAL | line) == before, path
        if path[:2] not in (("data", "corpus"), ("data", "tokenizer")) and path[:1] != ("snapshots",):
            assert canonical(config, CONTENT) != before, (
                path
            )  # a content's hash and lists of steps stand for the others


def test_an_option_of_a_synthetic_corpus_may_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    options = compose([*BASE, "data=repeats"]).data
    before = fingerprint(options)
    values = dataclasses.asdict(options.corpus)
    monkeypatch.setattr("induction_bump.data.fingerprint.asdict", lambda _: {"later": 7} | values)
    assert fingerprint(options) != before
    monkeypatch.setattr("induction_bump.data.fingerprint.NEUTRAL", {"later": 7})
    assert fingerprint(options) == before


def test_the_canonical_form_is_sorted_ascii_json_with_exact_floats() -> None:
    text = canonical(compose([*BASE, "training.learning_rate=0.1"]), CONTENT)
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert '"learning_rate":0.1,' in text


def test_parts_changed_after_composing_count_like_overrides() -> None:
    assert rewritten(seed={"init": 1}) == identity("seed.init=1")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "2L-attn-rotary-d64-h4-s0"),
        (["model=one_layer_smeared"], "1L-attn-smeared-rotary-d64-h4-s0"),
        (["model=two_layers_mlp", "seed.init=2"], "2L-mlp-rotary-d64-h4-s2"),
        (["model=sandwich", "model.positions=none"], "ssffsf-d64-h4-s0"),
        (["model=zero_layers", "seed.data=3"], "0L-d64-s0-data3"),
        (["name=mine"], "mine"),
    ],
)
def test_the_readable_name_shows_what_the_model_is(overrides: list[str], expected: str) -> None:
    config = compose(overrides)
    assert slug(config) == expected
    assert directory_name(config, "0123456789") == f"{expected}-0123456789"
