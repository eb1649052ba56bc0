"""Versions of measures, and that a definition does not change without its version."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from induction_bump.measures.options import HeldOutOptions, MeasureOptions
from induction_bump.measures.probes import Probes
from induction_bump.measures.refusals import refusals
from induction_bump.measures.registry import CHEAP, MEASURED_TABLES, MEASURES, PROBES, measure_of, tables_with
from induction_bump.model.options import ModelOptions
from induction_bump.records.schema import TABLES
from tests.measures import definitions
from tests.measures.corpus import SmallCorpus
from tests.measures.definitions import PACKAGE, canonical, changed_in, digest_of, parts_of, recorded
from tests.measures.watched import Sources

SOURCES = Sources(PACKAGE)


@pytest.mark.parametrize("name", MEASURES)
def test_a_definition_changes_with_its_version_only(name: str) -> None:
    noted, parts = recorded()["measures"].get(name), parts_of(name, SOURCES)
    assert noted, f"{name} is new: run python -m tests.measures.definitions"
    assert noted["version"] == MEASURES[name].version, (
        f"{name} has a new version: run python -m tests.measures.definitions"
    )
    assert noted["digest"] == digest_of(parts), (
        f"what defines {name} has changed ({', '.join(changed_in(parts)) or 'something is no part any more'}): raise "
        "its version in measures/registry.py and run python -m tests.measures.definitions, with --same-meaning if "
        "every number stays what it was"
    )


class TestNoting:
    """What is written down, and when."""

    @pytest.fixture
    def changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A function that was another one when its measures were noted."""
        path, name = tmp_path / "definitions.json", "measures.losses.per_example_icl_score"
        noted = recorded()
        noted["parts"][name] = "0" * 16
        for measure in MEASURES:
            if name in parts_of(measure, SOURCES):
                noted["measures"][measure]["digest"] = "0" * 16
        path.write_text(json.dumps(noted), encoding="utf-8")
        monkeypatch.setattr(definitions, "RECORDED", path)
        return name

    def test_without_a_new_version_a_change_stays_one(self, changed: str) -> None:
        definitions.main([])
        assert recorded()["measures"]["icl_score"]["digest"] == "0" * 16
        assert changed_in(parts_of("icl_score", SOURCES)) == [changed]

    def test_of_the_same_meaning_is_what_is_said_to_be(self, changed: str) -> None:
        definitions.main(["--same-meaning", "icl_score"])
        assert recorded()["measures"]["icl_score"]["digest"] == digest_of(parts_of("icl_score", SOURCES))
        assert recorded()["measures"]["zero_ablation"]["digest"] == "0" * 16
        assert changed_in(parts_of("zero_ablation", SOURCES)) == [changed]  # and can still say why
        definitions.main(["--same-meaning", "all"])
        assert {name: noted["digest"] for name, noted in recorded()["measures"].items()} == {
            name: digest_of(parts_of(name, SOURCES)) for name in MEASURES
        }
        assert changed_in(parts_of("zero_ablation", SOURCES)) == []

    def test_a_new_version_is(self, changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
        raised = {**MEASURES, "icl_score": replace(MEASURES["icl_score"], version=8)}
        monkeypatch.setattr(definitions, "MEASURES", raised)
        definitions.main([])
        expected = {"version": 8, "digest": digest_of(parts_of("icl_score", SOURCES))}
        assert recorded()["measures"]["icl_score"] == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (
            "def f(x): return x + 1",
            'def f(x: int) -> int:\n    """Says what."""\n    # and why\n    return (x\n + 1)',
            True,
        ),
        ("def f(x): return x + 1", "def f(x): return x + 2", False),
        ("def f(x): return x + 1", "def f(y): return y + 1", False),
        ("f'{x!r:>3}'", "f'{x!r:>4}'", False),
        ("class A:\n    x: int = 1", "class A:\n    x: float = 1", True),
        ("class A:\n    x: int = 1", "class A:\n    x: int = 2", False),
        ("class A:\n    x: int", "class A:\n    y: int", False),
        ("@a\ndef f(): g()", "@b\ndef f(): g()", False),
    ],
)
def test_only_what_is_computed_counts(one: str, other: str, same: bool) -> None:
    assert (canonical(ast.parse(one)) == canonical(ast.parse(other))) is same


def test_the_canonical_form_is_the_same_on_every_python() -> None:
    """Known text: fields that a version of Python adds to the tree are empty here."""
    assert canonical(ast.parse("def f(x): return x[1:]").body[0]) == (
        "FunctionDef(name='f', args=arguments(args=[arg(arg='x')]), body=[Return(value=Subscript("
        "value=Name(id='x'), slice=Slice(lower=Constant(value=1))))])"
    )


def test_every_table_of_a_measure_is_one_of_the_records() -> None:
    assert {table for name in MEASURES for table in tables_with(name)} <= set(MEASURED_TABLES) <= set(TABLES)


@pytest.mark.parametrize("page", ["README.md", "definitions.md"])
def test_the_pages_on_measures_name_each_of_them(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "measures" / page).read_text(encoding="utf-8")
    assert [name for name in MEASURES if f"`{name}`" not in text] == []


def test_labels_belong_to_measures() -> None:
    labels = {
        ("scalars", "predictable_share"): "predictable_loss",
        ("scalars", "null99/previous_token"): "null99",
        ("heads", "qk_trace_offset0"): "qk_trace",
        ("heads", "qk_trace_shifted_key_raw"): "qk_trace_shifted_key",
        ("heads", "copying_logit_left_out"): "copying_logit",
        ("head_pairs", "k"): "composition_k",
        ("ablations", "pattern_preserving"): "pattern_preserving_ablation",
        ("ablated_tokens", "mean"): "mean_ablation",
        ("paths", ""): "path_order",
        ("tokens", ""): "token_losses",
    }
    assert {key: measure_of(*key) for key in labels} == labels
    assert measure_of("ablations", "zero", group=True) == "group_ablation"


def test_what_is_refused_is_a_measure() -> None:
    assert set(refusals(ModelOptions(sublayers=""))) < set(MEASURES)


def test_each_measure_knows_the_probes_that_it_reads() -> None:
    """Their names are those of the hashes."""
    read = {name: MEASURES[name].probes for name in ("loss", "composition_q", "qk_trace", "copying_logit", "smear")}
    assert read == {
        "loss": {"held_out"},
        "composition_q": set(),
        "qk_trace": {"held_out"},
        "copying_logit": {"copying"},
        "smear": set(),
    }
    assert MEASURES["prefix_matching"].probes == {"repeats"}
    assert MEASURES["zero_ablation"].probes == MEASURES["null99"].probes == {"held_out", "repeats"}
    options = MeasureOptions(held_out=HeldOutOptions(examples=4))
    assert tuple(Probes.draw(SmallCorpus(), 24, options).hashes) == PROBES


def test_only_what_is_quick_is_taken_at_every_snapshot() -> None:
    assert {"loss", "icl_score", "prefix_matching", "copying_logit"} <= CHEAP
    assert not CHEAP & {"zero_ablation", "group_ablation", "composition_k"}
