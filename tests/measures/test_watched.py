"""Which code decides a measure: that all of it is seen, however it is reached, and no more than it."""

import ast
import shutil
from pathlib import Path

import pytest

from induction_bump.measures.registry import MEASURES
from tests.measures.definitions import PACKAGE, digest_of, parts_of
from tests.measures.watched import FOLLOWED, NAMED_ONLY, Sources

MEASURE = """
from typing import TYPE_CHECKING
from made_up.measures import others
from made_up.measures import others as renamed
from made_up.measures.passes_on import moved
from made_up.model.layers import Layer, scale as scaled
from made_up.data.text import read

if TYPE_CHECKING:
    from made_up.measures.typed import Typed

SIZE = 4
LOW, HIGH = 1, 2
DEFAULT = 0
try:
    TRIED = 1
except ImportError:
    TRIED = 2
GROWN = [1]
GROWN += [2]


def of_function(x: "Typed", n=SIZE) -> Layer:
    return _private(x) + n


def _private(x):
    return sum(_twice(v) for v in x)


def _twice(x):
    return 2 * x


def of_class():
    return _Kept.of(LOW)


class _Kept:
    value: int = HIGH

    @classmethod
    def of(cls, x):
        return _private(x)


def of_modules(x):
    return others.listed(x) + renamed.other(x).real


def of_imports():
    from made_up.measures.late import late

    return late(scaled(1))


def of_what_is_passed_on():
    return moved


def of_data():
    return read()


def of_grown():
    return GROWN


def of_annotations(x: Layer) -> Layer:
    found: Layer = x
    return found


def of_own_names(scaled, *others):
    _twice = [SIZE for SIZE in others]
    for _private, moved in _twice:
        lambda HIGH: HIGH
    return scaled, _private, moved


def of_what_own_names_leave():
    inner = [_twice for _twice in _twice(SIZE)]
    return inner, (lambda DEFAULT=DEFAULT: DEFAULT), [HIGH for v in inner]


@others.decorated
def of_decorators():
    def inner():
        global SIZE
        SIZE = 5
        return SIZE
    return inner


def of_itself(n):
    return of_itself(n - 1) if n else of_each_other(n)


def of_each_other(n):
    return of_itself(n)


def of_a_whole_module():
    return vars(others)
"""
FILES = {
    "measures/measure.py": MEASURE,
    "measures/others.py": "def listed(x): return _below(x)\ndef _below(x): ...\ndef other(): ...\ndef decorated(f): 0",
    "measures/passes_on.py": "from made_up.measures.late import moved",
    "measures/late.py": "def late(x): ...\nmoved = 3",
    "measures/typed.py": "class Typed: ...",
    "measures/take.py": "from made_up.measures.others import listed\ndef take(): return listed(_on())\ndef _on(): ...",
    "model/layers.py": "class Layer: ...\ndef scale(x): return _by(x)\ndef _by(x): ...",
    "data/text.py": "def read(): ...",
}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    root = tmp_path / "made_up"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return Sources(root)


@pytest.mark.parametrize(
    ("name", "parts"),
    {
        "of_function": {"_private", "_twice", "SIZE"},
        "of_class": {"_Kept", "_private", "_twice", "LOW", "HIGH"},
        "of_modules": {"others.listed", "others._below", "others.other"},
        "of_imports": {"late.late", "model.layers.scale", "model.layers._by"},
        "of_what_is_passed_on": {"late.moved"},
        "of_data": set(),
        "of_grown": {"GROWN"},
        "of_annotations": set(),
        "of_own_names": set(),
        "of_what_own_names_leave": {"_twice", "SIZE", "DEFAULT", "HIGH", "LOW"},  # bound in one statement, the last two
        "of_decorators": {"others.decorated", "SIZE"},
        "of_itself": {"of_each_other"},
    }.items(),
)
def test_a_definition_goes_on_to_all_that_its_code_names(sources: Sources, name: str, parts: set[str]) -> None:
    places = {1: "measures.measure.", 2: "measures.", 3: ""}
    expected = {f"measures.measure.{name}"} | {places[len(part.split("."))] + part for part in parts}
    assert set(sources.watched([f"measures.measure.{name}"])) == expected


def test_a_constant_is_all_that_is_done_to_it(sources: Sources) -> None:
    assert len(sources.definition("measures.measure.GROWN")) == 2
    assert len(sources.definition("measures.measure.TRIED")) == 2


def test_where_measures_meet_what_is_named_counts_and_leads_nowhere(sources: Sources) -> None:
    assert set(sources.watched(["measures.take.take"])) == {"measures.take.take"}


def test_a_module_that_is_taken_whole_cannot_be_followed(sources: Sources) -> None:
    with pytest.raises(ValueError, match=r"of_a_whole_module does not say what of measures\.others it goes on to"):
        sources.watched(["measures.measure.of_a_whole_module"])


@pytest.mark.parametrize("name", ["measures.measure.nothing", "measures.others.read"])
def test_what_is_not_there_is_an_error(sources: Sources, name: str) -> None:
    with pytest.raises(KeyError):
        sources.watched([name])


CHANGES = {
    "a constant of a probe": (
        "measures/probes.py",
        ("BLOCK_LENGTHS = 4", "BLOCK_LENGTHS = 5"),
        ("prefix_matching", "previous_token"),
    ),
    "a kernel": (
        "model/attention.py",
        ("masked_fill(column < 0, 0)", "masked_fill(column < 0, 1)"),
        ("previous_token", "composition_k"),
    ),
    "what puts measures together": (
        "measures/take.py",
        ("for c in (1, 2))", "for c in (2, 1))"),
        ("copy_advantage", "loss"),
    ),
    "which window is scored": (
        "measures/losses.py",
        ("late.mean(1) - early", "late.sum(1) - early"),
        ("zero_ablation", "copy_advantage"),
    ),
    "which ablations are the same": (
        "measures/ablation.py",
        ("min(layer for layer, _ in group) == last", "True"),
        ("group_ablation", "path_order"),
    ),
    "what an intact pass leaves": (
        "measures/ablation.py",
        ("site.layer > 0:", "site.layer > 1:"),
        ("mean_ablation", "icl_score"),
    ),
    "random factors": (
        "measures/composition.py",
        ("def _random_ratios(", "def _random_ratios(x, "),
        ("composition_q", "copying_eigenvalue"),
    ),
    "norms of products": (
        "measures/composition.py",
        ("def _norms_of_products(", "def _norms_of_products(x, "),
        ("composition_v", "qk_trace"),
    ),
    "eigenvalues of a term": (
        "measures/circuits.py",
        ("def _eigenvalue_ratio_of_term(", "def _eigenvalue_ratio_of_term(x, "),
        ("qk_eigenvalue", "copying_logit"),
    ),
    "forms of a circuit": ("measures/circuits.py", ("class _Form:", "class _Form(X):"), ("qk_trace", "smear")),
    "fresh weights": ("model/init.py", ("VERSION = ", "VERSION = 1 + "), ("null99", "first_token")),
    "frozen patterns": (
        "measures/paths.py",
        ("mixed[:, :, head] @ layer.W_O[head]\n", "mixed[:, :, head]\n"),
        ("path_order", "zero_ablation"),
    ),
}
"""What, in which file, what becomes what, a measure that is another one then, and one that is not."""


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_anywhere_in_its_code_is_a_change_of_the_measure(tmp_path: Path, what: str) -> None:
    file, (old, new), (concerned, other) = CHANGES[what]
    root = tmp_path / PACKAGE.name
    for package in FOLLOWED:
        shutil.copytree(PACKAGE / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (root / file).read_text(encoding="utf-8")
    assert old in text
    (root / file).write_text(text.replace(old, new), encoding="utf-8")
    before, after = Sources(PACKAGE), Sources(root)
    assert digest_of(parts_of(concerned, after)) != digest_of(parts_of(concerned, before))
    assert digest_of(parts_of(other, after)) == digest_of(parts_of(other, before))


def test_nothing_that_take_calls_is_left_to_no_measure() -> None:
    """It leads to nothing by itself, so that what it calls must be part of a measure that names the caller."""
    sources = Sources(PACKAGE)
    named = {f"measures.{name}": set[str]() for measure in MEASURES.values() for name in measure.defined_by}
    for measure in MEASURES:
        parts = parts_of(measure, sources)
        for name in MEASURES[measure].defined_by:
            named[f"measures.{name}"] |= parts.keys()
    for name in sources.names("measures.take"):
        if isinstance(sources.definition(name)[0], ast.FunctionDef | ast.ClassDef):
            to = {part for part in sources.leads_to(name) if part.rpartition(".")[0] not in NAMED_ONLY}
            assert to <= named[name], name
