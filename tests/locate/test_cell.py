"""The spread over seeds of the time of a change."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from induction_bump.linking.law import fit_power_law
from induction_bump.locate.cell import fit_cell
from induction_bump.locate.change import Change
from induction_bump.locate.events import Event
from induction_bump.locate.formats import format_tokens
from induction_bump.locate.located import LocatedRun
from induction_bump.locate.moments import Moment
from induction_bump.locate.outcome import LocatedChange
from induction_bump.locate.placing import Place, Range
from induction_bump.locate.run import find
from induction_bump.locate.sighting import Sighting
from induction_bump.locate.text import cell_block
from tests.records.make import make_run


def sightings(times: np.ndarray, step: float = 1e3) -> list[Sighting]:
    return [Sighting(t // step * step, t // step * step + step) for t in times]


def test_times_that_are_known_well_give_the_t_interval_of_their_logarithms():
    from scipy.stats import t

    times = np.array([2.7e6, 3.1e6, 3.0e6, 3.6e6, 2.9e6])
    logs = np.log(times)
    cell = fit_cell("all runs", "icl", sightings(times))
    reach = t.ppf(0.95, 4) * logs.std(ddof=1) / math.sqrt(5)
    assert cell.median == pytest.approx(math.exp(logs.mean()), rel=0.005)
    assert cell.low == pytest.approx(math.exp(logs.mean() - reach), rel=0.01)
    assert cell.high == pytest.approx(math.exp(logs.mean() + reach), rel=0.01)
    assert cell.cv == pytest.approx(logs.std(ddof=1), rel=0.05)


def test_censored_times_agree_with_lifelines():
    from lifelines import LogNormalFitter

    random = np.random.default_rng(0)
    times = sightings(np.exp(random.normal(0, 0.3, 12)) * 3e6, step=2e5)
    seen = [s if s.high < 4e6 else Sighting(4e6) for s in times]
    cell = fit_cell("all runs", "icl", seen)
    assert cell.found < cell.n
    fitted = LogNormalFitter().fit_interval_censoring([s.low / 3e6 for s in seen], [s.high / 3e6 for s in seen])
    assert cell.median == pytest.approx(3e6 * math.exp(fitted.mu_), rel=0.01)
    spread = fitted.sigma_ * math.sqrt(12 / 11)
    assert cell.cv == pytest.approx(math.sqrt(math.expm1(spread**2)), rel=0.06)


def test_runs_without_the_change_move_the_median_up():
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.1e6]))
    alone = fit_cell("all runs", "icl", found)
    censored = fit_cell("all runs", "icl", [*found, *[Sighting(2e6)] * 3])
    assert alone.median is not None
    assert censored.median is not None
    assert censored.median > alone.median
    assert "3 right-censored" in censored.rule


@pytest.mark.parametrize("without", [4, 5, 13])
def test_a_median_that_most_runs_did_not_reach_is_only_bounded_below(without: int):
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6]))
    cell = fit_cell("all runs", "icl", [*found, *[Sighting(5e6)] * without])
    assert (cell.median, cell.cv, cell.high) == (None, None, math.inf)
    assert cell.low is not None
    assert cell.low > 1.0e6
    assert "open above" in cell.rule
    assert f"later than {format_tokens(cell.low)}" in cell_block([cell])


def test_a_median_that_most_runs_had_at_the_first_snapshot_is_only_bounded_above():
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6]))
    cell = fit_cell("all runs", "icl", [*found, *[Sighting(0, 1e5)] * 5])
    assert (cell.found, cell.median, cell.low) == (8, None, 0)
    assert cell.high is not None
    assert 1e5 < cell.high < 1.1e6
    assert "earlier than" in cell_block([cell])


@pytest.mark.parametrize(("end", "runs"), [(1.0, 16), (1.4, 8)])
def test_the_interval_holds_the_median_where_runs_are_too_short(end: float, runs: int):
    """A median of 1e6, half of the runs or an eighth censored: about nine intervals in ten, or more."""
    random = np.random.default_rng(4)
    inside = []
    for _ in range(40):
        times = np.exp(0.3 * random.standard_normal(runs)) * 1e6
        seen = [s if s.high <= end * 1e6 else Sighting(end * 1e6) for s in sightings(times, 5e4)]
        cell = fit_cell("all runs", "icl", seen)
        if cell.low is not None and cell.high is not None:
            inside.append(cell.low <= 1e6 <= cell.high)
    assert len(inside) >= 35
    assert np.mean(inside) >= 0.85


@pytest.mark.parametrize("brackets", [[(3.0e6, 3.2e6)] * 8, [(3.0e6, 3.2e6)] * 3 + [(3.2e6, 3.4e6)] * 5])
def test_snapshots_too_far_apart_only_bound_the_spread(brackets: list[tuple[float, float]]):
    cell = fit_cell("all runs", "icl", [Sighting(*bracket) for bracket in brackets])
    assert (cell.cv, cell.cv_low) == (None, 0)
    assert cell.cv_high is not None
    assert 0.01 < cell.cv_high < 0.1
    assert f"≤ {100 * cell.cv_high:.1f} %" in cell_block([cell])


def test_a_cell_and_a_law_without_settings_tell_one_spread():
    random = np.random.default_rng(2)
    times = sightings(np.exp(random.normal(0, 0.1, 8)) * 3e6, step=2e5)
    seen = [s if s.high < 3.4e6 else Sighting(3.4e6) for s in times]
    cell = fit_cell("all runs", "icl", seen)
    rows = pd.DataFrame({"low": [s.low for s in seen], "high": [s.high for s in seen]})
    law = fit_power_law(rows.assign(state="located", source="event", end=3.4e6), {})
    assert cell.n > cell.found
    assert cell.median == pytest.approx(law.predict({}))
    assert cell.cv == pytest.approx(math.sqrt(math.expm1(law.sigma**2)))


def test_undetermined_runs_are_counted_and_change_no_number():
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.1e6, 1.2e6]))
    cell, alone = (fit_cell("all runs", "icl", [*found, *more]) for more in ([Sighting()] * 2, []))
    assert (cell.n, cell.found, cell.undetermined, cell.without) == (8, 6, 2, 0)
    assert (cell.median, cell.low, cell.high) == pytest.approx((alone.median, alone.low, alone.high))
    assert (cell.cv_low, cell.cv, cell.cv_high) == pytest.approx((alone.cv_low, alone.cv, alone.cv_high))
    assert "2 undetermined" in cell.rule
    assert "6/0/2" in cell_block([cell])


def test_more_undetermined_runs_than_others_leave_no_median():
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6]))
    cell = fit_cell("all runs", "icl", [*found, *[Sighting()] * 4])
    assert (cell.undetermined, cell.median, cell.low, cell.high, cell.cv) == (4, None, None, None, None)
    assert "too few to bound the median" in cell.rule


def test_two_changes_are_too_few():
    cell = fit_cell("all runs", "icl", sightings(np.array([1e6, 2e6])))
    assert (cell.median, cell.found) == (None, 2)
    assert "least" in cell.rule


def test_runs_that_share_all_but_their_seeds_are_a_cell(tmp_path: Path):
    for seed in range(2):
        make_run(tmp_path, name="one", sublayers="s", seed=seed, snapshots=4)
        make_run(tmp_path, name="two", sublayers="ss", seed=seed, snapshots=4)
    cells = find(tmp_path / "study").cells
    assert {(cell.cell, cell.n) for cell in cells} == {("s", 2), ("ss", 2)}


def test_a_run_says_of_an_event_what_its_verdict_says(tmp_path: Path):
    run = find(make_run(tmp_path, snapshots=4)).runs[0]
    first, later = Moment(0, 0), Moment(10, 1000)
    told = {
        "not_applicable": (Event("icl", "not_applicable", ""), None),
        "left_censored": (Event("icl", "left_censored", "", later, later), Sighting(0, 1000)),
        "found": (Event("icl", "found", "", first, later), Sighting(0, 1000)),
        "not_found": (Event("icl", "not_found", ""), Sighting(run.tokens)),
        "goes on": (Event("icl", "right_censored", "", later), Sighting(1000)),
        "too few snapshots left": (Event("icl", "right_censored", ""), Sighting()),
    }
    for event, expected in told.values():
        assert replace(run, events=(event,)).sighting("icl") == expected


def test_a_run_says_of_a_change_what_its_verdict_says(tmp_path: Path):
    run = find(make_run(tmp_path, snapshots=4)).runs[0]
    told = {"undetermined": Sighting(), "not_applicable": None, "none": Sighting(run.tokens)}
    for verdict, expected in told.items():
        change = LocatedChange("icl_change", "icl_window_score", verdict, "")
        assert replace(run, changes=(change,)).sighting("icl_change") == expected


def test_runs_that_leave_a_change_open_stay_in_their_cell(tmp_path: Path):
    for seed in range(3):
        make_run(tmp_path, snapshots=4, seed=seed)
    located = find(tmp_path / "study")
    verdicts = ("none", "undetermined", "not_applicable")
    runs = tuple(
        replace(run, changes=(LocatedChange("icl_change", "icl_window_score", verdict, ""),))
        for run, verdict in zip(located.runs, verdicts, strict=True)
    )
    (cell,) = (c for c in replace(located, runs=runs).cells if c.event == "icl_change")
    assert (cell.n, cell.found, cell.without, cell.undetermined) == (3, 0, 1, 2)


def change_at(ln_low: float, ln_high: float, event: str = "icl_change") -> LocatedChange:
    """A change whose midpoint is placed with a 90 % interval, in ln tokens; nothing else is known of it."""
    low, high = math.exp(ln_low), math.exp(ln_high)
    unknown: dict[str, Any] = dict.fromkeys((field.name for field in fields(Place)), None)
    place = Place(**unknown | {"midpoint": Range(math.sqrt(low * high), low, high)})
    return LocatedChange(event, "", "abrupt", "", Change(0.005, "line", 0.0, 60, place))


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> LocatedRun:
    """Without changes, of 10 million tokens."""
    run = find(make_run(tmp_path_factory.mktemp("runs"), snapshots=4)).runs[0]
    return replace(run, tokens=10_000_000)


def test_a_placed_change_is_an_estimate_within_its_training(long_run: LocatedRun):
    run = replace(long_run, changes=(change_at(14.0, 14.2),))
    assert run.sighting("icl_change") == Sighting(0, 10_000_000, placed=(math.exp(14.0), math.exp(14.2)))


def test_intervals_over_seeds_know_of_the_errors_of_placed_times(long_run: LocatedRun):
    """Errors as large as the spread over seeds: taken for none, they held it in 7 cells of 10."""
    random, held = np.random.default_rng(5), []
    for _ in range(60):
        logs = 14 + 0.1 * random.standard_normal((2, 12)).sum(0)
        changes = [change_at(y - 0.1645, y + 0.1645) for y in logs]
        seen = [replace(long_run, changes=(change,)).sighting("icl_change") for change in changes]
        cell = fit_cell("all runs", "icl_change", [s for s in seen if s])
        assert None not in (cell.low, cell.high, cell.cv_low, cell.cv_high)
        held.append((cell.low <= math.exp(14) <= cell.high, cell.cv_low <= 0.1 <= cell.cv_high))
    median, spread = np.mean(held, axis=0)
    assert median >= 0.85
    assert spread >= 0.85


def test_errors_that_explain_the_scatter_only_bound_the_spread():
    logs = 14 + 0.1 * np.array([-1.2, -0.4, 0.1, 0.5, 1.0])
    seen = [Sighting(0, 1e7, (math.exp(y - 0.2), math.exp(y + 0.2))) for y in logs]
    cell = fit_cell("all runs", "icl_change", seen)
    assert (cell.cv, cell.cv_low) == (None, 0)
    assert cell.median == pytest.approx(math.exp(logs.mean()), rel=1e-3)
    assert cell.cv_high is not None
    assert f"≤ {100 * cell.cv_high:.0f} %" in cell_block([cell])
    assert "log-normal over 5 seeds, 5 placed" in cell.rule


def test_whatever_change_is_placed_has_its_time_over_seeds(tmp_path: Path):
    for seed in range(3):
        make_run(tmp_path, snapshots=4, seed=seed)
    located = find(tmp_path / "study")
    others = (LocatedChange("loss_bump", "loss", "not_found", ""), change_at(15.0, 15.1, "icl_further"))
    runs = tuple(
        replace(run, tokens=10_000_000, changes=(change_at(y, y + 0.1, "some_change"), *others))
        for run, y in zip(located.runs, (14.0, 14.1, 14.3), strict=True)
    )
    told = {cell.event: cell for cell in replace(located, runs=runs).cells}
    assert told["some_change"].found == 3
    assert told["some_change"].median == pytest.approx(math.exp(14.05 + 0.4 / 3), rel=1e-3)
    assert not told.keys() & {"loss_bump", "icl_further"}
