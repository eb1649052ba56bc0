"""Configs are checked whole, strictly, and refused in words that name the key as users write it."""

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from induction_bump.config.errors import ConfigError
from induction_bump.config.resolve import PATTERNS, dump, load, resolve
from induction_bump.training.options import RunConfig

SMALL: dict[str, Any] = {
    "data": {"context": 128},
    "measures": {"icl": {"early": 8, "late": 128, "window": 32}},
}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(SMALL | values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"n_heads": 5}}, "model.n_heads=5 does not divide d_model=64"),
        ({"model": {"d_model": "64"}}, 'model.d_model="64": must be a valid integer'),
        ({"model": {"d_model": 64.0}}, "model.d_model=64.0: must be a valid integer"),
        ({"model": {"tied": 1}}, "model.tied=1: must be a valid boolean"),
        ({"model": {"norm": "batch"}}, "model.norm=\"batch\": must be 'layernorm', 'rmsnorm' or 'none'"),
        ({"seed": 0}, "seed=0: must hold keys, which are init, data"),
        ({"training": {"betas": 0.9}}, "training.betas=0.9: must be a list, such as [a,b]"),
        ({"training": {"betas": [0.9]}}, "training.betas: has too few entries; entry 2 is missing"),
        ({"training": {"betas": [0.9, 0.9, 0.9]}}, "training.betas=[0.9, 0.9, 0.9]: must have no more than 2 entries"),
        ({"data": {"corpus": {"name": "files", "paths": []}}}, "data.corpus.paths=[]: must have 1 entries or more"),
        ({"data": {"corpus": 5}}, "data.corpus=5: must hold keys, among them name, which is one of repeats, triggers,"),
        ({"model": {"d_model": 0}}, "model.d_model=0: must be greater than 0"),
        (
            {"model": {"clamps": [{"layer": 0, "head": 0, "kind": "first", "stregth": 3.0}]}},
            "model.clamps[0].stregth: no such key; did you mean model.clamps[0].strength?",
        ),
        ({"model": {"clamps": [{"layer": 0, "head": 7, "kind": "zero"}]}}, "model.clamps: L0H7 does not exist"),
        ({"training": {"length": 2000}}, "training.length: 2000 has no unit; write 2000step or 2000tok"),
        ({"training": {"length": "2 weeks"}}, "training.length: '2 weeks' is not a duration"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate=NaN: must be a finite number"),
        ({"training": {"warmup": "3000step"}}, "training.warmup=3000step is longer than training.length=2000step"),
        ({"data": {"corpus": {"name": "repets"}}}, "data.corpus.name=repets: must be one of 'repeats', 'triggers'"),
        ({"data": {"corpus": {"vocab_size": 64}}}, "data.corpus.name=: must be one of 'repeats', 'triggers'"),
        ({"data": {"corpus": {"name": "files"}}}, "data.corpus.paths: must be set"),
        (
            {"data": {"context": 128, "corpus": {"name": "repeats", "segment": [8, "x"]}}},
            'data.corpus.segment[1]="x": must be a valid integer',
        ),
        (
            {"snapshots": {"measures": {"at": ["5step", "3000step"]}}},
            "snapshots.measures.at[1]=3000step lies past the 2000 steps of the training",
        ),
        (
            {"snapshots": {"measures": {"every": "1Gtok"}}},
            "snapshots.measures.every=1Gtok is longer than the 2000 steps of the training",
        ),
        ({"snapshots": {"weights": {"every": "0step"}}}, "snapshots.weights.every=0step must be at least one step"),
        (
            {"snapshots": {"expensive": {"log": {"start": "2001step"}}}},
            "snapshots.expensive.log.start=2001step must lie within the 2000 steps of the training",
        ),
        (
            {"data": {"context": 128, "corpus": {"name": "repeats", "first_copy": 129}}},
            "data.corpus.first_copy=129 lies past context=128",
        ),
        (
            {"model": {"clamps": [{"layer": 2, "head": 0, "kind": "zero"}]}},
            "model.clamps: L2H0 does not exist",
        ),
        ({"training": {"length": "0step"}}, "training.length=0step must be at least one step"),
        (
            {"measures": {"icl": {"early": 8, "late": 200, "window": 32}}},
            "measures.icl.late=200 lies past data.context",
        ),
        (
            {"measures": {"icl": {"early": 8, "late": 40, "window": 32}}},
            "measures.icl: early window 8…39 and late",
        ),
        (
            {"devices": {"count": 3}},
            "training.batch_sequences=64 cannot be split evenly over 3 devices (devices.count × devices.nodes)",
        ),
        ({"study": "../elsewhere"}, 'study="../elsewhere": must begin with a letter or digit, and go on with letters'),
        ({"name": "a b"}, 'name="a b": must begin with a letter or digit, and go on with letters, digits, '),
        ({"model": {"sublayers": "sa"}}, 'model.sublayers="sa": must be made of s (self-attention) and f (feed-for'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_mistake_is_told_with_its_key_its_value_and_what_is_allowed(values: dict[str, Any], message: str) -> None:
    assert refusal(values).startswith(message)


def test_every_pattern_is_told_in_words() -> None:
    patterns = re.findall(r'"pattern": (".*?")', json.dumps(TypeAdapter(RunConfig).json_schema()))
    assert {json.loads(pattern) for pattern in patterns} == set(PATTERNS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "modle: no such key; did you mean model?"),
        ({"model": {"n_head": 4}}, "model.n_head: no such key; did you mean model.n_heads?"),
        ({"d_model": 64}, "d_model: no such key; did you mean model.d_model?"),
        ({"model": {"colour": 1}}, "model.colour: no such key; model has sublayers, d_model, "),
        (
            {"data": {"context": 128, "corpus": {"name": "repeats", "fist_copy": 3}}},
            "data.corpus.fist_copy: no such key; did you mean data.corpus.first_copy?",
        ),
        (
            {"data": {"context": 128, "corpus": {"name": "files", "paths": ["a"], "zipf": 1.0}}},
            "data.corpus.zipf: no such key; it belongs to data.corpus.name=repeats, and here that is files",
        ),
        (
            {"data": {"context": 128, "corpus": {"name": "repeats", "text_field": "a"}}},
            "data.corpus.text_field: no such key; it belongs to data.corpus.name=files or hub, ",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_unknown_key_is_refused_with_a_suggestion(values: dict[str, Any], message: str) -> None:
    assert refusal(values).startswith(message)


def test_however_many_mistakes_there_are_they_take_two_lines() -> None:
    lines = refusal({"model": {"a": 1, "b": 2, "c": 3}, "study": 4}).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("(and 2 more)")


@given(
    d_model=st.integers(1, 512).map(lambda n: 2 * n),
    rate=st.floats(1e-6, 1.0),
    steps=st.integers(200, 10**6),
    tokens=st.booleans(),
    sublayers=st.text("sf", max_size=6),
    tags=st.lists(st.text(max_size=5), max_size=3),
)
def test_a_dumped_config_loads_to_an_equal_one_through_yaml(
    d_model: int, rate: float, steps: int, tokens: bool, sublayers: str, tags: list[str]
) -> None:
    config = load(
        SMALL
        | {
            "model": {"d_model": d_model, "n_heads": 1, "sublayers": sublayers},
            "training": {"learning_rate": rate, "length": f"{steps * 8192}tok" if tokens else f"{steps}step"},
            "tracking": {"tags": tags},
        }
    )
    assert load(yaml.safe_load(yaml.safe_dump(dump(config)))) == config


def test_a_dump_holds_plain_containers_and_durations_as_text() -> None:
    values = dump(load(SMALL | {"training": {"length": "10Mtok", "betas": [0.9, 0.95]}}))
    assert values["training"]["length"] == "10Mtok"
    assert values["training"]["betas"] == [0.9, 0.95]
    assert values["measures"]["null"]["seed"] == 3003


def test_whole_numbers_are_taken_where_a_float_is_meant_and_become_one() -> None:
    rate = load(SMALL | {"training": {"learning_rate": 1}}).training.learning_rate
    assert isinstance(rate, float)


def test_hydras_own_node_is_left_out_and_interpolations_are_resolved() -> None:
    composed = OmegaConf.create({**SMALL, "hydra": {"help": "???"}, "seed": {"init": 7, "data": "${seed.init}"}})
    assert resolve(composed).seed.data == 7


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": {"init": "${nothing}"}}, "seed.init: Interpolation key 'nothing' not found"),
        ({"seed": {"init": "???"}}, "seed.init: must be set"),
    ],
)
def test_what_omegaconf_cannot_resolve_is_a_mistake_of_the_config(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(OmegaConf.create({**SMALL, **values}))
    assert str(caught.value).startswith(message)
