"""Claims held against studies in which they hold, do not, or cannot be told."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from induction_bump.linking.claims import CLAIMS, judge, markdown, reservation, table
from induction_bump.linking.claims.claim import LEVEL, PAPERS, share_of_runs, within
from induction_bump.linking.claims.timing import power_law
from induction_bump.linking.claims.wording import ends, number
from induction_bump.locate.lognormal import LogNormal
from induction_bump.locate.sighting import Sightings
from tests.linking.studies import made_study, paired

ONE = {"model.sublayers": "s"}
SMEARED = {"model.smeared_keys": True}
TWO = {"model.sublayers": "ss"}


def clamp(kind: str, layer: int = 0) -> dict[str, object]:
    return {"model.clamps": [{"layer": layer, "head": 0, "kind": kind, "strength": 8.0}]}


def spread(tokens: float, n: int, sigma: float = 0.02, seed: int = 0) -> list[tuple[float, float]]:
    """Brackets of ± 1 % around log-normal times."""
    t = tokens * np.exp(sigma * np.random.default_rng(seed).standard_normal(n))
    return [(float(0.99 * time), float(1.01 * time)) for time in t]


def verdict(claim: str, study) -> str | None:
    """What a study says about one claim."""
    finding = CLAIMS[claim].check(_evidence(study))
    return finding and finding.verdict


def found(claim: str, study) -> str:
    """What was found, in words."""
    finding = CLAIMS[claim].check(_evidence(study))
    assert finding
    return finding.found


def _evidence(study):
    from induction_bump.linking.claims.evidence import Evidence

    return Evidence(study)


def cells_with(times: dict[str, list], **cells: dict[str, object]):
    return made_study(paired(cells, times))


def with_ramps(study, ramps: dict[str, tuple[float, float, float]]):
    """The study with changes of the ICL score as `bump locate` finds them: run_id → onset, end (tokens), share."""
    rows = [
        {"run_id": run, "event": "icl_change", "verdict": "abrupt", "onset": onset, "end": end, "share": share}
        | {"midpoint": np.sqrt(onset * end), "width": np.log(end / onset)}
        for run, (onset, end, share) in ramps.items()
    ]
    study.__dict__["changes"] = pd.DataFrame(rows)
    return study


BUMP, NONE = spread(1e6, 5), [None] * 5


@pytest.mark.parametrize(
    ("claim", "cell", "times", "expected"),
    [
        ("one_layer_has_none", ONE, NONE, "supported"),
        ("one_layer_has_none", ONE, BUMP, "contradicted"),
        ("one_layer_has_none", ONE, NONE[:4], "cannot tell"),
        ("one_layer_has_none", ONE, ["right_censored"] * 5, None),
        ("one_layer_has_none", ONE, ["left_censored"] * 5, "contradicted"),
        ("one_layer_has_none", ONE | SMEARED, NONE, None),
        ("smeared_keys_give_it_to_one_layer", ONE | SMEARED, BUMP, "supported"),
        ("smeared_keys_give_it_to_one_layer", ONE | SMEARED, NONE, "contradicted"),
        ("smeared_keys_give_it_to_one_layer", ONE | SMEARED, [*BUMP[:4], "left_censored"], "supported"),
        ("two_layers_have_it", TWO, BUMP, "supported"),
        ("two_layers_have_it", TWO, [*BUMP[:3], None, None], "cannot tell"),
        ("two_layers_have_it", TWO, ["left_censored"] * 5, "supported"),
        ("two_layers_have_it", TWO | {"data.corpus.copy_share": 0.0}, NONE, None),
    ],
)
def test_claims_that_count_runs(claim: str, cell: dict[str, object], times: list, expected: str | None):
    assert verdict(claim, cells_with({"a": times}, a=cell)) == expected


@pytest.mark.parametrize(
    ("claim", "cell", "factor", "expected"),
    [
        ("smeared_keys_bring_it_forward", SMEARED, 0.4, "supported"),
        ("smeared_keys_bring_it_forward", SMEARED, 2.0, "contradicted"),
        ("smeared_keys_bring_it_forward", SMEARED, 1.0, "cannot tell"),
        ("smeared_keys_bring_it_forward", {"model.sublayers": "sss"}, 0.4, None),
        ("clamp_brings_it_forward", clamp("previous"), 1 / 1.75, "supported"),
        ("clamp_brings_it_forward", clamp("previous"), 1.0, "cannot tell"),
        ("clamp_brings_it_forward", clamp("previous", layer=1), 0.5, None),
        ("clamp_brings_it_forward", clamp("previous") | SMEARED, 0.5, None),
        ("other_clamps_do_not", clamp("first"), 1.0, "supported"),
        ("other_clamps_do_not", clamp("first"), 0.5, "contradicted"),
        ("other_clamps_do_not", clamp("previous"), 1.0, None),
        ("time_does_not_depend_on_size", {"model.sublayers": "sss"}, 1.0, "supported"),
        ("time_does_not_depend_on_size", {"model.sublayers": "sss"}, 2.0, "contradicted"),
        ("time_does_not_depend_on_size", {"data.context": 256}, 1.0, None),
    ],
)
def test_claims_that_compare_times(claim: str, cell: dict[str, object], factor: float, expected: str | None):
    times = {"plain": spread(1e6, 8, seed=1), "treated": spread(factor * 1e6, 8, seed=2)}
    assert verdict(claim, cells_with(times, plain=TWO, treated=TWO | cell)) == expected


def test_a_clamp_is_compared_with_models_without_one():
    times = {"a": spread(1e6, 8, seed=1), "b": spread(5e5, 8, seed=2)}
    assert verdict("clamp_brings_it_forward", cells_with(times, a=clamp("first"), b=clamp("previous"))) is None


@pytest.mark.parametrize(("b", "c", "expected"), [(0.5, 0.5, "supported"), (0.5, 0.0, "contradicted")])
def test_the_law_of_batch_and_context(b: float, c: float, expected: str):
    cells, times = {}, {}
    for batch in (8, 16, 32):
        for context in (128, 256, 512):
            name = f"{batch}x{context}"
            cells[name] = {"training.batch_sequences": batch, "data.context": context}
            times[name] = spread(1e4 * batch**b * context**c, 3, seed=batch + context)
    study = cells_with(times, **cells)
    assert verdict("time_grows_with_the_root", study) == expected
    assert verdict("time_by_the_law", study) == "not comparable"


def test_the_constant_of_the_law_compares_on_text():
    cell = {"data.corpus.name": "files", "data.context": 512, "training.batch_sequences": 16}
    expected = 10**5.7 * np.sqrt(16 * 512)
    on_it, off_it = ({"a": spread(factor * expected, 5)} for factor in (1.0, 0.3))
    assert verdict("time_by_the_law", cells_with(on_it, a=cell)) == "supported"
    assert verdict("time_by_the_law", cells_with(off_it, a=cell)) == "contradicted"


def test_repetition_decides_only_where_both_ends_agree():
    def study(without, having):
        events = {"none": without, "much": having}
        runs = {
            f"{name}-{seed}": {
                "cell": {"data.corpus.copy_share": 0.0 if name == "none" else 0.9},
                "seed": seed,
                "events": {"prefix_matching": known},
            }
            for name, times in events.items()
            for seed, known in enumerate(times)
        }
        return made_study(runs)

    assert verdict("repetition_decides", study(NONE, BUMP)) == "supported"
    assert verdict("repetition_decides", study(BUMP, BUMP)) == "contradicted"
    assert verdict("repetition_decides", study(["left_censored"] * 5, BUMP)) == "contradicted"
    assert verdict("repetition_decides", study(NONE[:2], BUMP)) == "cannot tell"


@pytest.mark.parametrize(("cell", "claim"), [(ONE, "one_layer_has_no"), (TWO, "two_layers_have")])
def test_induction_heads_from_the_start_are_induction_heads(cell: dict[str, object], claim: str):
    events = {"icl": None, "prefix_matching": "left_censored"}
    study = made_study({f"r{i}": {"cell": cell, "seed": i, "events": events} for i in range(5)})
    expected = "supported" if cell is TWO else "contradicted"
    assert verdict(f"{claim}_induction_heads", study) == expected


def both_events(first: list, second: list, names=("previous_token", "icl")):
    return made_study(
        {
            f"r{i}": {"seed": i, "events": dict(zip(names, known, strict=True))}
            for i, known in enumerate(zip(first, second, strict=True))
        }
    )


def test_the_lead_of_the_precursor_is_that_of_one_cell():
    """1.2 in the plainest cell; 2 in another, which has more runs."""
    runs = {}
    for name, layers, factor, n in (("a", "ss", 1.2, 4), ("b", "sss", 2.0, 8)):
        for seed, (low, high) in enumerate(spread(5e5, n)):
            events = {"previous_token": (low, high), "icl": (factor * low, factor * high)}
            runs[f"{name}{seed}"] = {"cell": {"model.sublayers": layers}, "seed": seed, "events": events}
    assert found("precursor_lead", made_study(runs)) == "1.20 [1.20, 1.20]; of ss, one of 2 cells"


def test_the_order_of_events_and_the_correlation_of_their_times():
    times = spread(1e6, 8, sigma=0.2)
    later = [(1.15 * low, 1.15 * high) for low, high in times]
    study = both_events(times, later)
    assert verdict("previous_token_head_announces_it", study) == "supported"
    assert verdict("precursor_correlation", study) == "supported"
    assert found("precursor_lead", study).startswith("1.15 [1.15, 1.15]")
    assert verdict("previous_token_head_announces_it", both_events(later, times)) == "contradicted"
    assert verdict("precursor_correlation", both_events(times, later[::-1])) != "supported"
    names = ("previous_token", "prefix_matching")
    assert verdict("previous_token_heads_come_first", both_events(times, later, names)) == "supported"
    wide = [(0.8 * low, 1.25 * high) for low, high in times]
    assert verdict("previous_token_head_announces_it", both_events(wide, wide)) == "cannot tell"


def test_heads_form_with_in_context_learning_or_long_before():
    names = ("prefix_matching", "icl")
    times = spread(1e6, 5)
    assert verdict("heads_form_with_it", both_events(times, times, names)) == "supported"
    late = [(2 * low, 2 * high) for low, high in times]
    assert verdict("heads_form_with_it", both_events(times, late, names)) == "contradicted"


def curves(scores: dict[str, list[float]], name: str = "icl_window_score", tokens=(1e5, 5e5, 1e6, 1.5e6, 2e6)):
    rows = [
        {"run_id": run, "step": int(t), "tokens": int(t), "name": name, "value": value, "stderr": 0.01}
        for run, values in scores.items()
        for t, value in zip(tokens, values, strict=True)
    ]
    return pd.DataFrame(rows)


def with_change(window: tuple[float, float], **about):
    return {"seed": 0, "events": {"icl": window, "icl_change": window}, **about}


@pytest.mark.parametrize(
    ("inside", "expected"), [(0.9, "supported"), (0.4, "contradicted")], ids=["most inside", "most outside"]
)
def test_how_much_forms_inside_the_change(inside: float, expected: str):
    runs = {f"r{i}": with_change((5e5, 1e6)) | {"seed": i} for i in range(5)}
    study = made_study(runs, scalars=curves({run: [0.0, -0.1, -0.5, -1.0, -1.0] for run in runs}))
    with_ramps(study, {run: (5e5, 1e6, inside + 0.01 * i) for i, run in enumerate(runs)})
    assert verdict("most_forms_in_the_window", study) == expected
    assert verdict("the_change_is_abrupt", study) == "supported"
    assert found("length_of_the_ramp", study).startswith("71 % [71 %, 71 %]")
    assert verdict("score_before_and_after", study) == "not comparable"


@pytest.mark.parametrize(
    ("seeds", "end", "expected"), [(5, -0.4, "supported"), (5, -0.8, "contradicted"), (1, -0.4, "cannot tell")]
)
def test_scores_before_and_after_are_judged_on_text(seeds: int, end: float, expected: str):
    """One run has no interval, before or after: two parts that cannot be told do not make a claim that is supported."""
    text = {"data.corpus.name": "python_source", "data.context": 512}
    runs = {f"r{i}": with_change((5e5, 1e6), cell=text) | {"seed": i} for i in range(seeds)}
    scores = {run: [-0.05 + 0.001 * i, -0.05, -0.2, end, end + 0.01 * i] for i, run in enumerate(runs)}
    study = made_study(runs, scalars=curves(scores))
    assert verdict("score_before_and_after", study) == expected


@pytest.mark.parametrize(("factor", "expected"), [(1.5, "supported"), (2.2, "contradicted")])
def test_treatments_shift_a_change_or_reshape_it_too(factor: float, expected: str):
    """Changes a third as late; their widths are ln 1.5 without the treatment, ln `factor` with it."""
    cells = {"a": (TWO, 9e5, 1.5), "b": (TWO | SMEARED, 3e5, factor)}
    runs, ramps = {}, {}
    for seed in range(8):
        for name, (cell, onset, width) in cells.items():
            ramps[f"{name}{seed}"] = (onset, (width + 0.01 * seed) * onset, 0.8)
            runs[f"{name}{seed}"] = with_change((onset, width * onset), cell=cell) | {"seed": seed}
    assert verdict("treatments_do_not_reshape", with_ramps(made_study(runs), ramps)) == expected


def test_without_a_located_change_nothing_is_inside_it():
    study = made_study(
        {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(5)},
        scalars=curves({f"r{i}": [0, 0, -1, -1, -1] for i in range(5)}),
    )
    finding = CLAIMS["most_forms_in_the_window"].check(_evidence(study))
    assert finding
    assert (finding.verdict, finding.needs) == ("cannot tell", "a located change of the ICL score")


@pytest.mark.parametrize(
    ("gap", "noise", "expected"),
    [(0.0, 0.01, "supported"), (0.5, 0.01, "contradicted"), (0.0, 0.5, "cannot tell")],
)
def test_scores_are_the_same_in_all_sizes(gap: float, noise: float, expected: str):
    rng = np.random.default_rng(3)
    runs = paired({"a": TWO, "b": {"model.sublayers": "sss"}}, {"a": BUMP, "b": BUMP})
    ends = {run: -1 - gap * run.startswith("b") + noise * rng.standard_normal() for run in runs}
    study = made_study(runs, scalars=curves({run: [0, 0, end, end, end] for run, end in ends.items()}))
    assert verdict("same_score_in_all_sizes", study) == expected


@pytest.mark.parametrize(("inverts", "expected"), [(True, "supported"), (False, "contradicted")])
def test_the_order_of_sizes_by_the_slope_of_the_loss(inverts: bool, expected: str):
    tokens = np.geomspace(1e5, 4e6, 200)
    rng, runs, losses = np.random.default_rng(4), {}, {}
    for layers in (2, 3, 4):
        for seed in range(3):
            run = f"{layers}-{seed}"
            cell = {"model.sublayers": "s" * layers}
            runs[run] = with_change((8e5, 1e6), cell=cell, parameters=1000 * layers) | {"seed": seed}
            before, after = -0.1 * layers, (0.1 if inverts else -0.1) * layers - 0.6
            ln = np.log(tokens / 1e6)
            losses[run] = list(np.where(ln < 0, before * ln, after * ln) + 1e-3 * rng.standard_normal(200))
    study = made_study(runs, scalars=curves(losses, "loss", tokens))
    with_ramps(study, dict.fromkeys(runs, (9e5, 1.1e6, 0.8)))
    assert verdict("order_of_sizes_inverts", study) == expected


def ablated(share: float, matched: bool, n: int = 5):
    """Runs that lose a share of an ICL score of −1 without their induction heads, and nothing without others."""
    runs = {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(n)}
    base = {"step": 2, "tokens": 2, "layer": None, "head": None, "kind": "pattern_preserving", "stderr": 0.02}
    rows = []
    for run in runs:
        row = base | {"run_id": run, "quantity": "icl_window_score"}
        rows.append(row | {"group": "induction", "draw": None, "value": share})
        rows += [row | {"group": "matched", "draw": draw, "value": 0.01 * draw} for draw in range(3) if matched]
    scalars = curves({run: [-1.0] for run in runs}, tokens=(2,))
    return made_study(runs, ablations=pd.DataFrame(rows), scalars=scalars)


@pytest.mark.parametrize(
    ("share", "matched", "expected"),
    [(0.8, True, "supported"), (0.2, True, "contradicted"), (0.8, False, "cannot tell")],
)
def test_what_induction_heads_carry_needs_matched_heads_to_compare_with(share: float, matched: bool, expected: str):
    assert verdict("heads_carry_it", ablated(share, matched)) == expected


def heads_of(run: str, scores: dict[tuple[int, int], dict[str, float]]) -> list[dict[str, object]]:
    return [
        {"run_id": run, "step": 2, "tokens": 2, "layer": layer, "head": head, "measure": name, "value": value}
        for (layer, head), measures in scores.items()
        for name, value in measures.items()
    ]


@pytest.mark.parametrize(("sign", "reads", "expected"), [(1, 0, "supported"), (-1, 1, "contradicted")])
def test_eigenvalues_and_composition_of_induction_heads(sign: int, reads: int, expected: str):
    """An induction head L1H1, a previous-token head L0H0; L1H1 reads L0H0 or the other one."""
    runs = {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(5)}
    quiet = {"prefix_matching": 0.02, "previous_token": 0.1, "copying_eigenvalue": -0.5, "qk_eigenvalue": -0.5}
    induction = quiet | {"prefix_matching": 0.9, "copying_eigenvalue": 0.9, "qk_eigenvalue": 0.8 * sign}
    scores = {(0, 0): quiet | {"previous_token": 0.9}, (0, 1): quiet, (1, 0): quiet, (1, 1): induction}
    heads = [row for run in runs for row in heads_of(run, scores)]
    pairs = [
        {"run_id": run, "step": 2, "tokens": 2, "kind": "k", "baseline": 0.12, "layer_in": 0, "layer_out": 1}
        | {"head_in": a, "head_out": b, "value": 0.5 if (a, b) == (reads, 1) else 0.13 + 0.2 * (b == 0 and a != reads)}
        for run in runs
        for a in (0, 1)
        for b in (0, 1)
    ]
    study = made_study(runs, heads=pd.DataFrame(heads), head_pairs=pd.DataFrame(pairs))
    assert verdict("induction_heads_in_the_corner", study) == expected
    assert verdict("keys_read_the_previous_token_head", study) == expected
    if expected == "supported":  # values of the table are above random factors already
        assert "; +0.500 above random factors" in found("keys_read_the_previous_token_head", study)


def test_a_single_earlier_head_is_no_choice():
    runs = {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(5)}
    low, high = ({"prefix_matching": x, "previous_token": 0.5} for x in (0.02, 0.9))
    heads = [row for run in runs for row in heads_of(run, {(0, 0): low, (1, 0): high})]
    pair = {"step": 2, "tokens": 2, "kind": "k", "baseline": 0.12, "value": 0.5}
    pair |= {"layer_in": 0, "layer_out": 1, "head_in": 0, "head_out": 0}
    study = made_study(runs, heads=pd.DataFrame(heads), head_pairs=pd.DataFrame([pair | {"run_id": r} for r in runs]))
    assert verdict("keys_read_the_previous_token_head", study) is None


@pytest.mark.parametrize(("order_2", "expected"), [(0.05, "supported"), (0.5, "contradicted")])
def test_what_virtual_heads_save(order_2: float, expected: str):
    runs = {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(3)}
    runs["without the change"] = {"seed": 3, "events": {"icl": None}}
    rows = [
        {"run_id": run, "step": 2, "tokens": 2, "path": "all", "order": order, "how": "up_to", "value": loss}
        for i, run in enumerate(runs)
        for order, loss in enumerate((5.0, 5.0 - (1 - (order_2 if i < 3 else 0.3)) - 0.001 * i, 4.0))
    ]
    assert verdict("virtual_heads_matter_little", made_study(runs, paths=pd.DataFrame(rows))) == expected


@pytest.mark.parametrize(("gap", "expected"), [(0.01, "supported"), (0.3, "contradicted")])
def test_a_model_without_attention(gap: float, expected: str):
    runs = {f"r{i}": {"cell": {"model.sublayers": ""}, "seed": i, "events": {"icl": None}} for i in range(3)}
    gaps = curves({run: [gap + 0.001 * i] for i, run in enumerate(runs)}, "bigram_gap", (2,))
    assert verdict("no_layer_is_a_bigram_table", made_study(runs, scalars=gaps)) == expected


def test_the_spread_over_seeds_is_found_behind_wide_brackets():
    """A spread of 10 % and brackets of 20 %: the estimates alone would not show it."""
    t = 1e6 * np.exp(0.10 * np.random.default_rng(5).standard_normal(200))
    edges = 1e6 * np.exp(np.arange(-20, 20) * 0.2)
    place = np.searchsorted(edges, t)
    study = cells_with({"a": [(edges[i - 1], edges[i]) for i in place]}, a=TWO)
    assert verdict("spread_over_seeds", study) == "not comparable"
    assert float(found("spread_over_seeds", study).split(" %")[0]) == pytest.approx(10, abs=1.5)


def test_the_interval_of_the_spread_over_seeds_knows_how_wide_brackets_are():
    place = np.floor(np.random.default_rng(5).standard_normal(8))
    brackets = [(int(1e6 * np.exp(0.1 * each)), int(1e6 * np.exp(0.1 * each + 0.1))) for each in place]
    low, high = LogNormal(Sightings.of_tokens(*zip(*brackets, strict=True))).sigma_interval
    shown = found("spread_over_seeds", cells_with({"a": brackets}, a=TWO))
    assert f" [{100 * low:.1f} %, {100 * high:.1f} %] and " in shown


@pytest.mark.parametrize(("known", "side"), [("left_censored", 0), (None, -1)])
def test_a_run_of_which_only_a_bound_is_known_counts_in_the_spread_over_seeds(known: str | None, side: int):
    """The earliest, or the latest, of ten runs."""
    times = sorted(spread(1e6, 10, sigma=0.1))
    whole = found("spread_over_seeds", cells_with({"a": times}, a=TWO))
    assert whole.endswith("over 10 seeds of all runs")
    assert "with an estimate" not in whole
    times[side] = known
    some = found("spread_over_seeds", cells_with({"a": times}, a=TWO))
    extremes = [high for _, high in filter(lambda each: isinstance(each, tuple), times)]
    assert f" and {max(extremes) / min(extremes):.2f} (of the 9 with an estimate) over 10 seeds" in some


def test_the_law_of_a_claim_reads_runs_that_had_the_bump_from_the_start():
    """Exponents of ½; the runs of the smallest setting are too early to be seen, which the other runs do not say."""
    cells, times = {}, {}
    for batch in (8, 16, 32):
        for context in (128, 256, 512):
            name = f"{batch}x{context}"
            cells[name] = {"training.batch_sequences": batch, "data.context": context}
            times[name] = spread(1e4 * (batch * context) ** 0.5, 3, seed=batch + context)
    times["8x128"] = ["left_censored"] * 3
    law = power_law(_evidence(cells_with(times, **cells)))
    assert law
    assert (law.n, law.before) == (27, 3)
    for exponent in law.exponents.values():
        assert exponent.low < 0.5 < exponent.high
        assert exponent.value == pytest.approx(0.5, abs=0.05)


def test_a_mean_of_one_run_has_no_interval():
    runs = {"r0": with_change((5e5, 1e6)) | {"seed": 0}}
    study = made_study(runs, scalars=curves({"r0": [0.0, -0.1, -0.5, -1.0, -1.0]}))
    with_ramps(study, {"r0": (5e5, 1e6, 0.9)})
    assert found("length_of_the_ramp", study) == "71 % (one run)"
    assert found("score_before_and_after", study) == "−0.10 nats before (one run), −1.00 at the end (one run)"
    assert found("most_forms_in_the_window", study) == "90 % (one run)"
    assert verdict("most_forms_in_the_window", study) == "cannot tell"
    assert not any("inf" in each.finding.found or "∞" in each.finding.found for each in judge([study]))


def test_numbers_are_written_with_a_minus_and_no_more_than_is_known():
    assert [number(x, ".2f") for x in (-0.151, np.nan, np.inf, -np.inf)] == ["−0.15", "–", "∞", "−∞"]
    assert [ends(-0.02, 0.03, ".0%"), ends(0, np.inf, ".2f")] == ["[−2 %, 3 %]", "(one run)"]


def test_five_runs_that_agree_are_the_least_that_can_tell():
    findings = [share_of_runs([True] * n, "do") for n in (4, 5)]
    assert [finding and finding.verdict for finding in findings] == ["cannot tell", "supported"]
    none = share_of_runs([False] * 5, "do")
    assert none
    assert none.verdict == "contradicted"
    assert share_of_runs([], "do") is None


@pytest.mark.parametrize(
    ("happened", "undecided", "expected"),
    [([True] * 7, 1, "supported"), ([True] * 12, 12, "cannot tell"), ([False] * 7, 7, "cannot tell")],
)
def test_runs_that_are_left_open_may_do_either(happened: list[bool], undecided: int, expected: str):
    finding = share_of_runs(happened, "do", undecided=undecided)
    assert finding
    assert finding.verdict == expected
    assert f"left open in {undecided} more" in finding.found


def test_an_interval_within_outside_or_across():
    assert [within(*ends, 0, 1) for ends in ((0.2, 0.8), (1.1, 2), (0.5, 1.5))] == [
        "supported",
        "contradicted",
        "cannot tell",
    ]


def test_claims_do_not_fail_where_runs_are_censored_or_unknown():
    """Every mixture of what can be known of a time, with smeared keys, clamps and sizes."""
    kinds = [(9e5, 1e6), None, "right_censored", "left_censored", "not_applicable"]
    cells = {"plain": TWO, "one": ONE, "smeared": TWO | SMEARED, "three": {"model.sublayers": "sss"}}
    cells |= {kind: TWO | clamp(kind) for kind in ("previous", "first")}
    rng = np.random.default_rng(6)
    for _ in range(3):
        mixed = {name: [kinds[i] for i in rng.choice(5, 5, p=[0.5, 0.2, 0.1, 0.1, 0.1])] for name in cells}
        judge([made_study(_with_heads(paired(cells, mixed), rng.permuted))])
    for kind in (None, "left_censored", "not_applicable"):
        judge([made_study(_with_heads(paired(cells, {name: [kind] * 3 for name in cells}), list))])


def _with_heads(runs, shuffled):
    """Each run's heads have another run's times."""
    times = shuffled(np.array([*(about["events"]["icl"] for about in runs.values()), None], dtype=object))
    for about, known in zip(runs.values(), times, strict=False):
        about["events"] |= {"prefix_matching": known, "previous_token": about["events"]["icl"]}
    return runs


def test_a_ratio_beyond_what_was_trained_is_shown_as_without_end():
    times = {"plain": [None] * 8, "treated": spread(1e6, 8)}
    study = cells_with(times, plain=TWO, treated=TWO | clamp("previous"))
    assert verdict("clamp_brings_it_forward", study) == "supported"
    assert "∞] (range of pairs), p = " in found("clamp_brings_it_forward", study)


@pytest.mark.parametrize(
    ("claim", "cell", "what"),
    [
        ("smeared_keys_bring_it_forward", SMEARED, "0.50 times the tokens"),
        ("clamp_brings_it_forward", clamp("previous"), "2.00 times earlier"),
    ],
)
def test_a_ratio_says_what_its_interval_is(claim: str, cell: dict[str, object], what: str):
    plain = spread(1e6, 8)
    times = {"plain": plain, "treated": [(low / 2, high / 2) for low, high in plain]}
    assert found(claim, cells_with(times, plain=TWO, treated=TWO | cell)).startswith(
        f"{what} [{what[:4]}, {what[:4]}] (95 %), p = "
    )


def test_a_run_with_a_change_but_no_event_is_not_also_without_it():
    """The change is read where each run with the event has one."""
    runs = {f"r{i}": with_change((5e5, 1e6)) | {"seed": i} for i in range(2)}
    runs["r1"]["events"]["icl"] = None
    study = _evidence(made_study(runs))
    assert study.located() == ["r0", "r1"]
    assert study.without() == []


def test_what_claims_ask_of_every_run_is_read_once():
    study = _evidence(cells_with({"a": BUMP}, a=TWO))
    assert study.located() is study.located()
    assert study.event("icl") is study.event("icl")


def test_a_run_without_snapshots_has_no_last_value():
    runs = {f"r{i}": {"seed": i, "events": {"icl": (5e5, 1e6)}} for i in range(2)}
    study = _evidence(made_study(runs, scalars=curves({"r0": [0, 0, 0, 0, -1.0]})))
    assert study.end("icl_window_score", "r0") == -1
    assert np.isnan(study.end("icl_window_score", "r1"))


@pytest.mark.parametrize(
    ("event", "change", "expected"),
    [
        ((5e5, 1e6), "none", "supported"),
        ((5e5, 1e6), "gradual", "supported"),
        (None, (5e5, 1e6), "contradicted"),
        (None, "undetermined", "cannot tell"),
        (None, "not_applicable", "supported"),
    ],
)
def test_one_layer_is_judged_by_its_change(event, change, expected: str):
    runs = {f"r{i}": {"cell": ONE, "seed": i, "events": {"icl": event, "icl_change": change}} for i in range(5)}
    assert verdict("one_layer_has_none", made_study(runs)) == expected


def test_in_context_learning_without_heads_contradicts_that_they_form_together():
    names = ("prefix_matching", "icl")
    apart = both_events([*BUMP, *[None] * 11], [*BUMP, *spread(1e6, 11)], names)
    assert verdict("heads_form_with_it", apart) == "cannot tell"
    assert found("heads_form_with_it", apart).startswith("5 of 16 runs")
    assert verdict("heads_form_with_it", both_events([None] * 8, spread(1e6, 8), names)) == "contradicted"
    wide = [(0.7e6, 1.3e6)] * 12
    half = both_events([*spread(1e6, 12), *wide], [*spread(1e6, 12), *wide], names)
    assert verdict("heads_form_with_it", half) == "cannot tell"


@pytest.mark.parametrize(("at", "expected"), [(1e6, "contradicted"), (1.9e6, "cannot tell")])
@pytest.mark.parametrize("claim", ["other_clamps_do_not", "time_does_not_depend_on_size"])
def test_a_cell_without_the_bump_is_not_passed_over(claim: str, at: float, expected: str):
    """Two cells that are alike, and a third that ended without the bump at 2M tokens."""
    other = {"other_clamps_do_not": (clamp("first"), clamp("second_previous"))}.get(
        claim, ({"model.sublayers": "sss"}, {"model.sublayers": "ssss"})
    )
    cells = {"plain": TWO, "b": TWO | other[0], "c": TWO | other[1]}
    study = cells_with({"plain": spread(at, 8), "b": spread(at, 8, seed=1), "c": [None] * 8}, **cells)
    assert verdict(claim, study) == expected
    assert "8 of 8 runs of" in found(claim, study)


@pytest.mark.parametrize("claim", ["other_clamps_do_not", "time_does_not_depend_on_size"])
def test_a_cell_that_had_the_bump_from_the_start_is_not_passed_over(claim: str):
    """Two cells that are alike and a third that had the bump at step 0; a cell with one such run; none and all."""
    other = {"other_clamps_do_not": (clamp("first"), clamp("second_previous"))}.get(
        claim, ({"model.sublayers": "sss"}, {"model.sublayers": "ssss"})
    )
    cells = {"plain": TWO, "b": TWO | other[0], "c": TWO | other[1]}
    early = ["left_censored"] * 8
    alike = cells_with({"plain": spread(1e6, 8), "b": spread(1e6, 8, seed=1), "c": early}, **cells)
    assert verdict(claim, alike) == "contradicted"
    assert "8 of 8 runs of" in found(claim, alike)
    assert "had the bump from the start" in found(claim, alike)
    del cells["c"]
    one = cells_with({"plain": spread(1e6, 8), "b": [*spread(1e6, 7, seed=1), "left_censored"]}, **cells)
    assert verdict(claim, one) == "cannot tell"
    both = cells_with({"plain": [None] * 8, "b": early}, **cells)
    assert verdict(claim, both) == "contradicted"


@pytest.mark.parametrize(("factor", "shown"), [(1.0, "beyond it"), (2.0, "within it")])
def test_sameness_is_shown_with_the_p_of_its_verdict(factor: float, shown: str):
    times = {"a": spread(1e6, 8, seed=1), "b": spread(factor * 1e6, 8, seed=2)}
    text = found("time_does_not_depend_on_size", cells_with(times, a=TWO, b={"model.sublayers": "sss"}))
    assert text.startswith("ss and sss differ by ")
    assert float(text.split(f"p of a difference {shown} ")[1]) < 1e-6


def test_scores_are_not_shown_to_be_the_same_where_a_size_has_no_change():
    cells = {"a": TWO, "b": {"model.sublayers": "sss"}, "c": {"model.sublayers": "ssss"}}
    runs = paired(cells, {"a": BUMP, "b": BUMP, "c": NONE})
    study = made_study(runs, scalars=curves({run: [0, 0, -1, -1, -1.0] for run in runs}))
    assert verdict("same_score_in_all_sizes", study) == "cannot tell"
    assert "left out for fewer than two runs with the change: ssss" in found("same_score_in_all_sizes", study)


def test_a_size_that_had_the_change_from_the_start_is_compared_too():
    cells = {"a": TWO, "b": {"model.sublayers": "sss"}}
    runs = paired(cells, {"a": BUMP, "b": ["left_censored"] * len(BUMP)})
    ends = {run: [0, 0, end, end, end] for run in runs for end in [-1 + 0.01 * int(run[-1])]}
    assert verdict("same_score_in_all_sizes", made_study(runs, scalars=curves(ends))) == "supported"


def test_claims_about_models_as_they_are_leave_treated_runs_out():
    runs = {f"p{i}": with_change((5e5, 1e6)) | {"seed": i} for i in range(5)}
    for run in runs.values():
        run["events"] |= {"prefix_matching": (5e5, 1e6), "icl_change": "gradual", "loss_bump": None}
    runs |= {f"t{i}": with_change((5e5, 1e6), cell=SMEARED) | {"seed": i} for i in range(20)}
    for name, run in runs.items():
        run["events"] |= {"loss_bump": (5e5, 1e6)} if name.startswith("t") else {}
    study = made_study(runs)
    assert verdict("the_change_is_abrupt", study) == "contradicted"
    assert verdict("the_loss_has_a_bump", study) == "contradicted"


def test_the_least_favourable_cell_decides():
    def study(last: list[object]):
        cells = {"a": TWO, "b": {"model.sublayers": "sss"}, "c": {"model.sublayers": "ssss"}}
        runs = paired(cells, dict.fromkeys(cells, spread(1e6, 6)))
        for name, run in runs.items():
            run["events"] |= {"loss_bump": last[run["seed"]] if name.startswith("c") else (5e5, 1e6)}
        return made_study(runs)

    yes = (5e5, 1e6)
    assert verdict("the_loss_has_a_bump", study([yes] * 6)) == "supported"
    assert verdict("the_loss_has_a_bump", study([yes, yes, yes, None, None, None])) == "cannot tell"
    assert verdict("the_loss_has_a_bump", study([None] * 6)) == "contradicted"
    assert "that is ssss, the least favourable of 3 cells" in found("the_loss_has_a_bump", study([None] * 6))


@pytest.mark.parametrize(("end", "expected"), [(4e6, "cannot tell"), (1.2e6, "contradicted")])
def test_the_law_counts_runs_that_ended_without_the_bump(end: float, expected: str):
    """END / 1.25 is 1.6M tokens: runs are known to be later than 1.25 times the law where that is earlier."""
    cell = {"data.corpus.name": "files", "data.context": 512}
    cell["training.batch_sequences"] = (end / 10**5.7) ** 2 / 512
    study = cells_with({"a": [*NONE, *NONE, (1.7e6, 1.8e6)]}, a=cell)
    assert verdict("time_by_the_law", study) == expected
    assert "(one run); 10 of 11 runs ended without it" in found("time_by_the_law", study)


def test_the_law_counts_runs_that_had_the_bump_from_the_start():
    cell = {"data.corpus.name": "files", "data.context": 512, "training.batch_sequences": 16}
    times = spread(10**5.7 * np.sqrt(16 * 512), 5)
    most = cells_with({"a": [*times[:1], *["left_censored"] * 10]}, a=cell)
    assert verdict("time_by_the_law", most) == "contradicted"
    assert "10 of 11 runs had it from the start" in found("time_by_the_law", most)
    assert verdict("time_by_the_law", cells_with({"a": [*times, "left_censored"]}, a=cell)) == "cannot tell"


def test_a_correlation_needs_six_runs_and_a_small_p():
    times = spread(1e6, 5, sigma=0.2)
    later = [(1.15 * low, 1.15 * high) for low, high in times]
    assert verdict("precursor_correlation", both_events(times, later)) == "cannot tell"


def moved(heads: float, icl: float, n: int = 8, treated: object = None):
    """Heads at 1M and ICL at 1.1M tokens, in treated runs `heads` and `icl` times as late; brackets of ± 1 %."""
    runs = {}
    for cell, factors in (("plain", (1.0, 1.0)), ("treated", (heads, icl))):
        for seed, (low, high) in enumerate(spread(1e6, n, sigma=0.1)):
            events = {"prefix_matching": (factors[0] * low, factors[0] * high)}
            events["icl"] = (1.1 * factors[1] * low, 1.1 * factors[1] * high)
            settings = TWO | (SMEARED if cell == "treated" else {})
            runs[f"{cell}{seed}"] = {"cell": settings, "seed": seed, "events": events}
            if cell == "treated" and treated:
                events["prefix_matching"] = None
    return made_study(runs)


@pytest.mark.parametrize(
    ("heads", "icl", "expected"),
    [
        (0.4, 0.4, "supported"),
        (0.4, 0.41, "supported"),
        (0.4, 0.5, "contradicted"),
        (1.0, 0.5, "contradicted"),
        (1.0, 1.0, "cannot tell"),
        (0.4, 0.44, "cannot tell"),
    ],
)
def test_treatments_move_heads_and_in_context_learning_together_or_apart(heads: float, icl: float, expected: str):
    study = moved(heads, icl)
    assert verdict("moved_together", study) == expected
    ratios = [f"{each:.2f} times the tokens [{each:.2f}, {each:.2f}] (95 %)" for each in (heads, icl)]
    assert found("moved_together", study).startswith(f"smeared keys: heads at {ratios[0]}, ICL at {ratios[1]}; ")


@pytest.mark.parametrize(
    ("claim", "cell"), [("smeared_keys_bring_it_forward", SMEARED), ("clamp_brings_it_forward", clamp("previous"))]
)
def test_the_seeds_it_would_take_are_those_of_the_corrected_test(claim: str, cell: dict[str, object]):
    """An effect of half a standard deviation, alone and beside eight more treatments that p is corrected for."""
    times = {"plain": spread(1e6, 8, seed=1), "treated": spread(0.99 * 1e6, 8, seed=2)}
    cells = {"plain": TWO, "treated": TWO | cell}
    more = {f"x{i}": TWO | {"model.d_model": 64 + i} for i in range(1, 9)}
    alone = CLAIMS[claim].check(_evidence(cells_with(times, **cells)))
    among = CLAIMS[claim].check(
        _evidence(cells_with(times | dict.fromkeys(more, spread(1e6, 8, seed=3)), **cells, **more))
    )
    assert alone
    assert among
    seeds = [int(finding.needs.removesuffix(" seeds a model")) for finding in (alone, among)]
    assert 8 < seeds[0] < seeds[1]


def test_a_reference_of_several_treatments_is_counted_once():
    cells = {"plain": TWO, "smeared": TWO | SMEARED, "first": TWO | clamp("first")}
    runs = paired(cells, dict.fromkeys(cells, spread(1e6, 8)))
    for about in runs.values():
        about["events"]["prefix_matching"] = about["events"]["icl"]
    finding = CLAIMS["moved_together"].check(_evidence(made_study(runs)))
    assert finding
    assert finding.n == 24
    assert finding.found.startswith("of 2 compared")


def test_pairs_of_which_one_run_has_neither_event_are_not_passed_over():
    study = moved(0.4, 0.4)
    ended = study.phase_changes["run_id"].isin(["treated0", "treated1"])
    study.phase_changes.loc[ended, ["found", "verdict"]] = [False, "not_found"]
    assert verdict("moved_together", study) == "cannot tell"


def test_a_treatment_that_takes_the_heads_away_does_not_move_them_together():
    assert verdict("moved_together", moved(1.0, 1.0, treated=True)) == "contradicted"


def test_the_table_and_the_page_hold_what_was_judged_and_what_was_not():
    study = cells_with({"a": NONE}, a=ONE)
    judged = judge([study, study])
    rows = table(judged)
    assert set(rows["claim"]) >= {"one_layer_has_none"}
    assert (rows.groupby("claim").size() == 2).all()
    page = markdown(judged)
    assert page.startswith(reservation([each.finding.verdict for each in judged]))
    assert "| models of one attention layer do not go through an abrupt change" in page
    silent = page.split("Claims that no study here can speak to")[1]
    assert len(silent.split("\n- ")) - 1 == len(CLAIMS) - rows["claim"].nunique()


def test_how_many_verdicts_chance_would_give_is_told_by_their_number_and_level():
    many = ["supported"] * 50 + ["contradicted"] * 4 + ["cannot tell"] * 26 + ["not comparable"] * 30
    assert LEVEL == 0.9
    assert reservation(many).startswith("80 verdicts were judged, each by itself at 5 % a side and uncorrected")
    assert reservation(many).endswith("up to 4.0 would come out supported, and as many contradicted.")


def test_the_published_table_says_it_of_its_own_verdicts():
    page = (Path(__file__).parents[2] / "docs/results/claims.md").read_text(encoding="utf-8")
    verdicts = re.findall(r"^\| .*\| \*\*(supported|contradicted|not comparable|cannot tell)\*\*", page, re.MULTILINE)
    assert len(verdicts) > 100
    assert reservation(verdicts) in page


def test_every_claim_names_a_paper_and_how_it_is_judged():
    assert {claim.source for claim in CLAIMS.values()} <= PAPERS.keys()
    assert all(claim.rule.endswith(".") and len(claim.rule) > 40 for claim in CLAIMS.values())
