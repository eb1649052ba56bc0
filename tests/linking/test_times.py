"""Which statement says when a run had the bump, and what is known where none was located."""

import numpy as np
import pytest

from induction_bump.linking.lags import lags
from induction_bump.linking.times import event_times, sightings
from tests.linking.studies import made_study, row_of


def study(*events):
    return made_study({f"r{i}": {"seed": i, "events": event} for i, event in enumerate(events)})


def test_the_states_of_events():
    records = study(
        {"icl": (4e5, 5e5)},
        {"icl": (0, 1e5)},
        {"icl": "right_censored"},
        {"icl": None},
        {"icl": "not_applicable"},
        {"icl": "left_censored"},
        {},
    )
    times = event_times(records)
    assert times["state"].tolist() == ["located", "located", "after", "after", "undefined", "before", "undefined"]
    assert set(times["source"]) == {"event"}
    assert times["estimate"].tolist()[:2] == [pytest.approx((4e5 * 5e5) ** 0.5), 1e5]
    end = records.runs["total_tokens"].iloc[3]
    assert times.loc[2, ["low", "high"]].tolist() == [1e6, np.inf]
    assert times.loc[3, ["low", "high"]].tolist() == [end, np.inf]


def test_changes_are_read_only_where_every_run_with_the_event_has_one():
    both = {"icl": (4e5, 5e5), "icl_change": (3e5, 7e5)}
    all_have = study(both, both, {"icl": None, "icl_change": "none"})
    times = event_times(all_have)
    assert set(times["source"]) == {"change"}
    assert times["state"].tolist() == ["located", "located", "after"]
    assert times.loc[0, ["low", "high"]].tolist() == [3e5 * 1.01, 7e5 * 0.99]
    one_lacks = study(both, {"icl": (4e5, 5e5), "icl_change": "undetermined"})
    assert set(event_times(one_lacks)["source"]) == {"event"}
    assert event_times(one_lacks, source="change")["state"].tolist() == ["located", "undefined"]


def test_placed_changes_are_estimates_and_events_are_brackets():
    both = {"icl": (4e5, 5e5), "icl_change": (3e5, 7e5)}
    records = study(both, both, {"icl": None, "icl_change": "none"})
    end = np.log(records.runs["total_tokens"].iloc[0])
    changes, events = (sightings(event_times(records, source=source)) for source in ("change", "event"))
    low, high = np.log([3e5 * 1.01, 7e5 * 0.99])
    assert changes.placed.tolist() == [True, True, False]
    assert (changes.estimate[0], changes.stderr[0]) == pytest.approx(((low + high) / 2, (high - low) / 2 / 1.645), 1e-3)
    np.testing.assert_allclose([changes.low, changes.high], [[-np.inf, -np.inf, end], [end, end, np.inf]])
    assert not events.placed.any()
    np.testing.assert_allclose([events.low[0], events.high[0]], np.log([4e5, 5e5]))


def test_lags_are_what_brackets_leave_open():
    records = study(
        {"previous_token": (3e5, 4e5), "icl": (6e5, 8e5)},
        {"previous_token": (3e5, 5e5), "icl": (4e5, 6e5)},
        {"previous_token": (7e5, 8e5), "icl": (3e5, 5e5)},
        {"previous_token": None, "icl": (3e5, 5e5)},
        {"previous_token": None, "icl": None},
        {"previous_token": "not_applicable", "icl": (3e5, 5e5)},
    )
    found = lags(records).query("first == 'previous_token' and second == 'icl'")
    assert found["order"].tolist() == ["after", "together", "before", "before"]
    first = found.iloc[0]
    assert (first["lag_low"], first["lag_high"]) == (2e5, 5e5)
    assert first["log_ratio"] == pytest.approx(np.log((6e5 * 8e5) ** 0.5 / (3e5 * 4e5) ** 0.5))
    assert (first["log_ratio_low"], first["log_ratio_high"]) == (
        pytest.approx(np.log(6 / 4)),
        pytest.approx(np.log(8 / 3)),
    )
    censored = found.iloc[3]
    assert censored["lag_low"] == -np.inf
    assert np.isnan(censored["lag"])


def test_every_lag_within_the_brackets_lies_within_the_interval():
    records = study({"prefix_matching": (0, 4e5), "icl": (3e5, 8e5)})
    row = row_of(lags(records), second="icl", first="prefix_matching")
    rng = np.random.default_rng(0)
    first, second = rng.uniform(1, 4e5, 500), rng.uniform(3e5, 8e5, 500)
    assert (row["lag_low"] <= second - first).all()
    assert (second - first <= row["lag_high"]).all()
    assert (row["log_ratio_low"] <= np.log(second / first)).all()
    assert row["log_ratio_high"] == np.inf


def test_changes_have_lags_of_their_own():
    both = {
        "icl": (4e5, 5e5),
        "icl_change": (3e5, 7e5),
        "prefix_matching": (3e5, 4e5),
        "prefix_matching_change": (2e5, 3e5),
    }
    found = lags(study(both))
    assert found.groupby("source").size().to_dict() == {"event": 1, "change": 1}
    assert row_of(found, source="change")["lag_high"] == pytest.approx(7e5 * 0.99 - 2e5 * 1.01)
