"""Cells, references, and what treatments do to times that are known."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from induction_bump.linking.permutation import sign_flip, two_groups
from induction_bump.linking.times import event_times
from induction_bump.linking.treatments import effects
from induction_bump.records.cells import cells
from tests.linking.studies import made_study, paired

PLAIN = {"model.sublayers": "ss", "model.smeared_keys": False, "model.clamps": []}
SMEARED = PLAIN | {"model.smeared_keys": True}
CLAMP = {"layer": 0, "head": 0, "kind": "previous", "strength": 8.0}


def around(tokens: float, n: int, seed: int) -> list[tuple[float, float]]:
    t = tokens * np.exp(0.05 * np.random.default_rng(seed).standard_normal(n))
    return [(float(0.99 * time), float(1.01 * time)) for time in t]


def of(records):
    return effects(event_times(records), cells(records.runs))


def test_cells_are_named_by_what_varies_and_compared_with_the_same_without_the_treatment():
    settings = {
        "plain": PLAIN,
        "smeared": SMEARED,
        "clamped": PLAIN | {"model.clamps": [CLAMP]},
        "one": PLAIN | {"model.sublayers": "s"},
        "one-smeared": SMEARED | {"model.sublayers": "s"},
    }
    records = made_study(paired(settings, {name: [(4e5, 5e5)] * 2 for name in settings}))
    found = cells(records.runs)
    assert found.varied == ("model.sublayers", "model.smeared_keys", "model.clamps")
    clamped = "ss, L0H0 pulled to the previous token"
    assert set(found.names) == {"ss", "ss, smeared keys", clamped, "s", "s, smeared keys"}
    assert found.plainest() == "ss"
    references = {name: found.reference_of(name, "ss") for name in found.names}
    assert references == {"ss": None, "ss, smeared keys": "ss", clamped: "ss", "s": "ss", "s, smeared keys": "s"}
    assert found.table.loc[found.runs("s"), "seed"].tolist() == ["0/0", "1/0"]


def test_seeds_and_probes_make_no_cell():
    runs = paired({"plain": PLAIN}, {"plain": [(4e5, 5e5)] * 3})
    runs["plain-1"]["cell"] = PLAIN | {"measures.icl.window": 16, "devices.threads": 7}
    assert cells(made_study(runs).runs).names == ["all runs"]


def test_a_paired_effect_is_found_again():
    before = around(1e6, 8, 0)
    after = [(0.5 * low, 0.5 * high) for low, high in before]
    after[0] = (0.55 * before[0][0], 0.55 * before[0][1])
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": before, "b": after})))
    assert (effect.cell, effect.reference, effect.n, effect.paired) == ("smeared keys", "plain", 8, True)
    d = np.log([0.55, *[0.5] * 7])
    assert effect.ratio == pytest.approx(np.exp(d.mean()), rel=1e-5)
    assert effect.test
    assert effect.test.p == effect.p_holm == sign_flip(d).p == 2 / 256
    assert effect.direction == "earlier"
    half = 2.364624 * d.std(ddof=1) / np.sqrt(8)
    assert np.log([effect.ratio_low, effect.ratio_high]) == pytest.approx([d.mean() - half, d.mean() + half], rel=1e-3)


def test_five_seeds_are_compared_unpaired_since_pairs_could_not_tell():
    times = {"a": around(1e6, 5, 0), "b": around(0.5e6, 5, 1)}
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, times)))
    assert not effect.paired
    assert effect.p_holm == pytest.approx(2 / 252)
    logs = [0.5 * np.log(np.prod(np.round(times[name]), axis=1)) for name in "ab"]
    assert effect.test
    assert effect.test.p == pytest.approx(two_groups(*logs).p)
    pooled = np.sqrt((logs[0].var(ddof=1) + logs[1].var(ddof=1)) / 2)
    assert effect.d == pytest.approx((logs[1].mean() - logs[0].mean()) / pooled * (1 - 3 / 31), rel=1e-4)
    assert effect.ratio_low < 0.5 < effect.ratio_high


def test_p_is_corrected_for_all_comparisons_of_the_study():
    settings = {"a": PLAIN, "b": SMEARED, "c": PLAIN | {"model.clamps": [CLAMP]}}
    times = {"a": around(1e6, 5, 0), "b": around(0.5e6, 5, 1), "c": around(1e6, 5, 2)}
    found = {effect.cell: effect for effect in of(made_study(paired(settings, times)))}
    smeared, clamped = found["smeared keys"], found["L0H0 pulled to the previous token"]
    assert smeared.p_holm == pytest.approx(2 * 2 / 252)
    assert clamped.test
    assert clamped.p_holm == pytest.approx(max(clamped.test.p, smeared.p_holm))
    assert clamped.direction == "cannot tell"
    assert clamped.seeds_needed is None or clamped.seeds_needed > 5
    assert smeared.seeds_needed is None


@pytest.mark.parametrize(
    ("shift", "comparisons", "told"), [(0.0, 1, True), (0.0, 2, False), (0.4, 2, False), (0.0, 6, False)]
)
def test_the_seeds_that_it_takes_are_those_of_the_corrected_test(shift: float, comparisons: int, told: bool):
    """Eight pairs with p = 0.031 before correction, or more alike with a larger p."""
    apart = np.array([0.3, 0.5, 0.2, 0.6, 0.4, 0.35, 0.1, -0.25])
    apart[0] -= shift
    middle = 1e5 * np.exp(0.05 * np.arange(8))
    others = {f"s{'s' * i}": middle for i in range(2, comparisons + 1)}
    times = {"plain": middle, "smeared": middle * np.exp(apart), **others}
    settings = {"plain": PLAIN, "smeared": SMEARED} | {name: PLAIN | {"model.sublayers": name} for name in others}
    brackets = {name: [(0.99 * t, 1.01 * t) for t in values] for name, values in times.items()}
    effect = next(e for e in of(made_study(paired(settings, brackets))) if "smeared" in e.cell)
    assert (effect.paired, effect.comparisons) == (True, comparisons)
    if told:
        assert effect.p_holm == pytest.approx(8 / 256)
        assert effect.seeds_needed is None
        return
    d = apart.mean() / apart.std(ddof=1) * (1 - 3 / 27)
    needed = TTestPower().solve_power(d, power=0.8, alpha=0.05 / comparisons)
    assert effect.direction == "cannot tell"
    assert effect.seeds_needed == max(9, int(np.ceil(needed)))


@pytest.mark.parametrize(("comparisons", "seeds"), [(1, 4), (4, 5)])
def test_no_fewer_seeds_are_named_than_an_exact_test_takes(comparisons: int, seeds: int):
    """An effect of many standard deviations, but 2 / C(8, 4) = 0.029 and 4 · 2 / C(10, 5) = 0.032."""
    names = {"plain": PLAIN, "smeared": SMEARED} | {
        name: PLAIN | {"model.sublayers": name} for name in ("sss", "ssss", "s")[: comparisons - 1]
    }
    times = {name: around(0.2e6 if name == "smeared" else 1e6, 3, i) for i, name in enumerate(names)}
    effect = next(e for e in of(made_study(paired(names, times))) if "smeared" in e.cell)
    assert effect.comparisons == comparisons
    assert effect.seeds_needed == effect.fewest == seeds


def test_runs_that_never_have_the_bump_are_later_by_a_bound():
    records = made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": [None] * 5, "b": around(0.5e6, 5, 1)}))
    (effect,) = of(records)
    assert (effect.censored, effect.censored_reference, effect.ratio, effect.ratio_low) == (0, 5, 0.0, 0.0)
    end = float(records.runs["total_tokens"].iloc[0])
    latest = event_times(records)["estimate"].max()
    assert effect.ratio_high == pytest.approx(latest / end)
    assert effect.p_holm == pytest.approx(2 / 252)
    assert effect.direction == "earlier"


def test_pairs_with_a_censored_run_count_by_their_order():
    """Eight pairs, each later when treated, two of these never: as extreme as eight pairs can be."""
    before = around(0.8e6, 8, 0)
    after = [None, None, *((1.5 * low, 1.5 * high) for low, high in before[2:])]
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": before, "b": after})))
    assert effect.test
    assert (effect.paired, effect.test.statistic, effect.test.p) == (True, "mean log-rank score", 2 / 256)
    assert (effect.censored, effect.direction) == (2, "later")
    assert 1.3 < effect.ratio < 1.9
    assert effect.ratio_high == np.inf


@pytest.mark.parametrize(("having", "says"), [("a", "later"), ("b", "earlier")])
def test_the_direction_is_that_of_what_was_tested(having: str, says: str):
    """5 of 12 against 0 of 12: most pairs of runs had the bump in neither, and have no ratio."""
    times = {name: [*around(1e6, 5, 0), *[None] * 7] if name == having else [None] * 12 for name in "ab"}
    runs = paired({"a": PLAIN, "b": SMEARED}, times)
    for seed in range(12):
        runs[f"b-{seed}"]["seed"] = 100 + seed
    (effect,) = of(made_study(runs))
    assert not effect.paired
    assert effect.p_holm == pytest.approx(0.038, abs=0.003)
    assert effect.direction == says
    assert (effect.difference < 0) == (says == "earlier")
    assert np.isnan(effect.ratio)
    assert (effect.ratio_low, effect.ratio_high) == (0, np.inf)


def test_the_direction_of_times_that_are_all_known_is_that_of_their_means():
    before, after = around(1e6, 8, 0), around(2e6, 8, 1)
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": before, "b": after})))
    assert np.exp(effect.difference) == pytest.approx(effect.ratio)
    assert effect.direction == "later"


def test_runs_that_had_the_bump_at_the_first_snapshot_are_the_earliest():
    """Four of five, against five that had it late: as extreme as five and five can be."""
    early = ["left_censored"] * 4 + around(0.9e6, 1, 0)
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": around(1e6, 5, 1), "b": early})))
    assert (effect.n, effect.before, effect.before_reference, effect.censored) == (5, 4, 0, 0)
    assert (effect.ratio, effect.ratio_low) == (0, 0)
    assert 0.8 < effect.ratio_high < 1.1
    assert effect.p_holm == pytest.approx(2 / 252)
    assert effect.direction == "earlier"


def test_of_runs_that_all_had_the_bump_at_the_first_snapshot_nothing_can_be_told():
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, dict.fromkeys("ab", ["left_censored"] * 5))))
    assert (effect.p_holm, effect.direction) == (1, "cannot tell")
    assert np.isnan(effect.ratio)


def test_the_interval_is_named_for_what_it_is():
    known, never = around(1e6, 6, 0), [None, *around(1e6, 5, 1)]
    for times, what in ((known, "95 %"), (never, "range of pairs")):
        (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": around(0.9e6, 6, 2), "b": times})))
        assert effect.interval == what


def test_nothing_is_said_where_no_run_has_the_bump():
    (effect,) = of(made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": [None] * 3, "b": [None] * 3})))
    assert (effect.test, effect.direction) == (None, "no bump in either")


def test_many_comparisons_ask_for_more_runs():
    """Seven comparisons of 5 + 5 runs cannot reach 0.05 after correction, of 6 + 6 they can: 7 · 2 / C(12, 6)."""
    settings = {str(layers): {"model.sublayers": "s" * layers} for layers in range(2, 10)}
    times = {name: [None] * 5 if name != "2" else around(1e6, 5, 0) for name in settings}
    found = of(made_study(paired(settings, times)))
    assert len(found) == 7
    assert {effect.direction for effect in found} == {"cannot tell"}
    assert {(effect.could_tell, effect.fewest) for effect in found} == {(False, 6)}


def test_an_unknown_reference_is_refused():
    records = made_study(paired({"a": PLAIN, "b": SMEARED}, {"a": [None], "b": [None]}))
    with pytest.raises(ValueError, match="no cell is called 'x'; there are: plain; smeared keys"):
        effects(event_times(records), cells(records.runs), "x")
