"""The calibration's own arithmetic: settings that it draws can be identified, and its tables count right."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import calibration, cells, components
from benchmarks.calibration import OURS, QUANTITIES, change_table, locate_one, null_table
from benchmarks.calibration_settings import FRESH
from benchmarks.simulated_curves import autoregressive, times, truth


def made(setting: str, truths: list[float], bounds: list[tuple[float, float] | None]) -> pd.DataFrame:
    """Curves on which every quantity is found within the same bounds, at their middle."""
    rows = []
    for number, (true, found) in enumerate(zip(truths, bounds, strict=True)):
        row: dict[str, object] = {"setting": setting, "curve": number, "method": OURS, "p": 0.005 if found else 0.5}
        row["verdict"] = "abrupt" if found else "none"
        low, high = found or (np.nan, np.nan)
        for q in QUANTITIES:
            row |= {q: (low + high) / 2, f"{q}_low": low, f"{q}_high": high, f"true_{q}": true}
        rows.append(row)
    return pd.DataFrame(rows)


def test_coverage_is_of_the_curves_that_were_placed_each_against_its_own_truth():
    (line,) = change_table(made("middle", [1.0, 2.0, 2.0, 5.0], [(0.5, 1.5), (1.5, 3.5), (3.0, 4.0), None])).to_dict(
        "records"
    )
    assert (line["kind"], line["placed"], line["none"]) == ("change", 0.75, 0.25)
    assert line["coverage_onset"] == pytest.approx(2 / 3)
    assert line["bias_drop"] == pytest.approx((0 + 0.5 + 1.5) / 3)


def test_false_alarms_are_counted_with_exact_bounds():
    (line,) = null_table(made("line, phi 0.6", [0.0] * 40, [(0.5, 1.5), *[None] * 39])).to_dict("records")
    assert (line["alarms"], line["curves"], line["p_below_0.01"]) == (1, 40, 1 / 40)
    # at the lower bound one alarm or more has a probability of 2.5 %
    assert 1 - (1 - line["low"]) ** 40 == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("kind", FRESH)
def test_settings_that_are_drawn_can_be_identified(kind: str):
    random = np.random.default_rng(0)
    drawn = [FRESH[kind](random) for _ in range(50)]
    for setting in drawn:
        x, known = np.log(times(setting)), truth(setting)
        counts = np.histogram(x, [-np.inf, known.onset, known.end, np.inf])[0]
        assert (counts >= [5, 2, 5]).all()
    assert len({setting.width for setting in drawn}) == 50


def test_a_located_curve_stands_beside_its_truth(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "RULES", {"threshold": calibration.RULES["threshold"]})  # others need ruptures
    rows = pd.DataFrame(locate_one("fresh, logistic", 0))
    assert rows["method"].tolist() == [OURS, "threshold"]
    assert rows["true_width"].nunique() == 1
    ours = rows[rows["method"] == OURS].iloc[0]
    assert ours["midpoint"] == pytest.approx(ours["true_midpoint"], abs=0.1)


def test_a_common_change_of_tokens_is_found_and_a_random_walk_is_not():
    name, changes, draws = components.found(("together", 1, 5))
    assert (name, draws) == ("together", 4)
    assert changes
    assert components.found(("random walk", 0, 3)) == ("random walk", 0, 3)


@pytest.mark.parametrize("known", ["placed", "between"])
def test_runs_of_a_simulated_cell_say_what_is_true_of_them(known: str):
    """A quarter too short; their intervals hold the time in nine cases of ten, or always."""
    setting, random = cells.Setting(known, 1.0, 0.25, 4000), np.random.default_rng(0)
    seen, again = cells.draw(setting, random), np.random.default_rng(0)
    times = np.exp(cells.MEDIAN + cells.SPREAD * again.standard_normal(setting.runs))
    found = np.array([one.found for one in seen])
    assert found.mean() == pytest.approx(0.75, abs=0.02)
    assert all(one.low < time for one, time in zip(seen, times, strict=True))
    held = [(one.placed or (one.low, one.high)) for one in seen]
    inside = np.array([low < time <= high for (low, high), time in zip(held, times, strict=True)])
    assert inside[found].mean() == pytest.approx(0.9 if known == "placed" else 1.0, abs=0.015)


def test_cells_of_a_setting_are_counted_together():
    place = cells.SETTINGS.index(cells.Setting("placed", 1, 0, 6))
    parts = [cells.fitted((place, 0, 4)), cells.fitted((place, 4, 10))]
    (line,) = cells.cell_table(parts).to_dict("records")
    assert (line["known"], line["size"], line["runs"]) == ("placed", 1, 6)
    assert line["cells"] == line["medians"] == line["spreads"] == 10
    assert line["medians_held"] >= 6
    assert line["spreads_held"] >= 6
    assert line["spreads_above_0"] < 10


def test_jitter_forgets_over_the_distance_of_snapshots():
    random = np.random.default_rng(0)
    drawn = autoregressive(np.array([1.0, 0.1, 3.0]), 0.6, 20_000, random)
    assert drawn.std(axis=1) == pytest.approx([1.0] * 4, abs=0.02)
    for i, distance in enumerate((1.0, 0.1, 3.0)):
        assert np.corrcoef(drawn[i], drawn[i + 1])[0, 1] == pytest.approx(0.6**distance, abs=0.02)
