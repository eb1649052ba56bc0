"""A fit that comes to no result leaves its own quantity open; all else is told."""

from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from induction_bump.linking.law import NoFitError, fit_power_law
from induction_bump.locate import changes, further, lognormal
from induction_bump.locate.cell import fit_cell
from induction_bump.locate.curve import Curve, noise_of_stderrs
from induction_bump.locate.loss_bump import find_loss_bump
from induction_bump.locate.run import Located, find
from induction_bump.locate.sighting import Sighting
from tests.linking.test_law import BATCH, bracketed, drawn
from tests.records.make import make_run


def fails(error: Exception):
    """A routine that comes to no result."""

    def routine(*_: object, **__: object) -> None:
        raise error

    return routine


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), snapshots=16)


def rows(located: Located) -> dict[str, tuple[str, str]]:
    return {row.event: (row.verdict, row.rule) for row in located.table.itertuples()}


def test_a_convex_fit_that_does_not_end_leaves_the_loss_bump_open_alone(run: Path, monkeypatch: pytest.MonkeyPatch):
    whole = rows(find(run, changes=True))
    monkeypatch.setattr(optimize, "nnls", fails(RuntimeError("Maximum number of iterations reached.")))
    verdict, rule = (left := rows(find(run, changes=True))).pop("loss_bump")
    assert verdict == "undetermined"
    assert "convex curve does not end" in rule
    del whole["loss_bump"]
    assert left == whole


def test_changes_whose_matrices_are_singular_are_left_open_beside_events_and_loss_bump(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = rows(find(run, changes=True))
    monkeypatch.setattr(changes, "find_change", fails(np.linalg.LinAlgError("Singular matrix")))
    left = rows(find(run, changes=True))
    for event in changes.CHANGES:
        assert left.pop(event) == ("undetermined", "undetermined: a fit came to no result (Singular matrix)")
        del whole[event]
    assert {event: row for event, row in left.items() if event in whole} == whole


def test_the_noise_of_examples_that_has_no_decomposition_leaves_the_change_open(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "induction_bump.locate.quantities.noise_of_examples", fails(np.linalg.LinAlgError("SVD did not converge"))
    )
    assert rows(find(run, changes=True))["icl_change"][0] == "undetermined"


def test_a_further_search_that_comes_to_no_result_is_told_where_no_other_found_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make_run(tmp_path, snapshots=16, bump_at=None)
    monkeypatch.setattr(further, "principal_components", fails(np.linalg.LinAlgError("Eigenvalues did not converge")))
    verdict, rule = rows(find(run, changes=True))["components_further"]
    assert verdict == "undetermined"
    assert rule.startswith("principal components: undetermined: a fit came to no result (Eigenvalues")


@pytest.mark.parametrize("seed", [2, 4, 10])
def test_a_loss_that_does_not_move_has_no_bump_whatever_its_standard_errors(seed: int):
    """Beside them jitter of rounding alone made the covariance singular."""
    random = np.random.default_rng(seed)
    n = int(random.integers(8, 80))
    tokens = np.sort(random.choice(5_000_000, n, replace=False)) + 1
    stderrs = 10.0 ** random.uniform(-3, 1) * (1 + 0.1 * random.standard_normal(n))
    curve = Curve(np.arange(1, n + 1), tokens, np.full(n, 4.2), noise_of_stderrs(stderrs))
    assert not find_loss_bump(curve, draws=9, random=random).found


SIGHTINGS = [Sighting(1e6, 1.1e6), Sighting(1.2e6, 1.3e6), Sighting(1.5e6, 1.6e6)]


@pytest.mark.parametrize("error", [ValueError("f(a) and f(b) must have different signs"), RuntimeError("no end")])
def test_a_spread_over_seeds_that_comes_to_no_result_is_left_open(error: Exception, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optimize, "root_scalar", fails(error))
    cell = fit_cell("all runs", "icl", SIGHTINGS)
    assert (cell.n, cell.found, cell.median, cell.cv_high) == (3, 3, None, None)
    assert cell.rule.endswith("the fit came to no result (the search for the end of an interval does not end)")


def test_a_power_law_that_comes_to_no_result_is_refused_like_one_that_is_not_determined(
    monkeypatch: pytest.MonkeyPatch,
):
    times, x = bracketed(drawn(np.random.default_rng(0)), 10.0), {"batch": BATCH}
    law = fit_power_law(times, x)
    monkeypatch.setattr(optimize, "root_scalar", fails(ValueError("different signs")))
    with pytest.raises(NoFitError, match="came to no result"):
        _ = law.sigma_interval
    monkeypatch.setattr(lognormal.np.linalg, "solve", fails(np.linalg.LinAlgError("Singular matrix")))
    with pytest.raises(NoFitError, match="Singular matrix"):
        fit_power_law(times, x)
