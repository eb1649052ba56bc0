"""What is lost without the induction heads, from rows that are known."""

from pathlib import Path

import numpy as np
import pytest

from induction_bump.linking.causal_share import at_the_end, causal_shares
from induction_bump.records.load import load
from tests.linking.studies import row_of
from tests.records.make import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), snapshots=12, expensive_every=1)


def test_losses_and_shares_are_those_of_the_tables(run: Path):
    """Written out from the rows, one snapshot and quantity at a time."""
    records = load(run)
    shares = causal_shares(records)
    step = int(shares["step"].max())
    ablations = records.ablations.query("step == @step and kind == 'pattern_preserving'")
    for quantity, sign in (("icl_window_score", 1), ("ordered_copy_advantage", -1)):
        row = row_of(shares, step=step, quantity=quantity)
        own = row_of(ablations, group="induction", quantity=quantity)
        intact = row_of(records.scalars, step=step, name=quantity)
        sets = ablations.query("group == 'matched' and quantity == @quantity")["value"].to_numpy() * sign
        assert row["lost"] == sign * own["value"] > 0
        assert row["share"] == pytest.approx(row["lost"] / abs(intact["value"]))
        error = np.hypot(own["stderr"], row["share"] * intact["stderr"]) / abs(intact["value"])
        assert row["share_stderr"] == pytest.approx(error)
        assert (row["matched"], row["matched_low"], row["matched_high"]) == pytest.approx(
            (sets.mean(), sets.min(), sets.max())
        )
        assert (row["draws"], row["p"]) == (3, 1 / 4)


def test_there_is_no_share_of_what_is_not_there(run: Path):
    shares = causal_shares(load(run))
    early = shares[shares["intact"].abs() < 0.1]
    assert len(early)
    assert early["share"].isna().all()
    assert early["lost"].notna().all()
    assert shares[shares["intact"].abs() > 0.2]["share"].notna().all()


def test_the_error_of_the_share_is_not_too_small():
    """Heads that carry a share of each example's score: taking errors as independent overstates them."""
    rng = np.random.default_rng(0)
    shares, errors = [], []
    for _ in range(300):
        intact = rng.normal(-1.0, 0.8, 100)
        change = -0.8 * intact + rng.normal(0, 0.2, 100)
        share = -change.mean() / intact.mean()
        shares.append(share)
        parts = (change.std(ddof=1) / 10, share * intact.std(ddof=1) / 10)
        errors.append(np.hypot(*parts) / abs(intact.mean()))
    assert np.std(shares) < np.mean(errors)


def test_without_matched_sets_the_rest_is_told_all_the_same(run: Path, monkeypatch: pytest.MonkeyPatch):
    records = load(run)
    whole = records.read
    monkeypatch.setattr(records, "read", lambda table, **equals: _unmatched(whole(table, **equals)))
    shares = causal_shares(records)
    assert (shares["draws"] == 0).all()
    assert shares[["matched", "p", "matched_share"]].isna().all(axis=None)
    assert at_the_end(shares)["share"].notna().all()


def _unmatched(frame):
    return frame[frame["group"] != "matched"].copy() if "group" in frame else frame


def test_a_study_without_groups_has_no_rows(tmp_path: Path):
    assert causal_shares(load(make_run(tmp_path, snapshots=4))).empty
