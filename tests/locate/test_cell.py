"""The spread over seeds of the time of a change."""

import math
from pathlib import Path

import numpy as np
import pytest

from induction_bump.locate.cell import Sighting, fit_cell
from induction_bump.locate.run import find
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


def test_runs_without_the_change_move_the_median_up_and_leave_it_open():
    found = sightings(np.array([1.0e6, 1.1e6, 1.2e6]))
    alone = fit_cell("all runs", "icl", found)
    censored = fit_cell("all runs", "icl", [*found, *[Sighting(2e6)] * 5])
    assert alone.median is not None
    assert censored.median is not None
    assert censored.median > alone.median
    assert censored.high == math.inf
    assert "5 right-censored" in censored.rule


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
