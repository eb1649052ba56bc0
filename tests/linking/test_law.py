"""A power law found again in times that snapshots only bracket."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from induction_bump.linking.law import NoFitError, fit_power_law

BATCH = np.repeat([8.0, 16, 32], 9)
CONTEXT = np.tile(np.repeat([128.0, 256, 512], 3), 3)


def bracketed(t: np.ndarray, grid: float, end: float = np.inf) -> pd.DataFrame:
    low, high = np.floor(t / grid) * grid, np.floor(t / grid) * grid + grid
    times = pd.DataFrame({"low": low, "high": high, "estimate": (low + high) / 2})
    times.loc[high > end, ["low", "high", "estimate"]] = [end, np.inf, np.nan]
    return times.assign(state=np.where(high > end, "after", "located"), source="event", end=end)


def drawn(rng: np.random.Generator, spread: float = 0.05) -> np.ndarray:
    return np.exp(12 + 0.5 * np.log(BATCH) + 0.3 * np.log(CONTEXT) + spread * rng.standard_normal(27))


def test_narrow_brackets_give_least_squares():
    t = drawn(np.random.default_rng(0))
    law = fit_power_law(bracketed(t, 10.0), {"batch": BATCH, "context": CONTEXT})
    design = sm.add_constant(np.column_stack([np.log(BATCH), np.log(CONTEXT)]))
    ols = sm.OLS(np.log(t), design).fit()
    slopes = [law.intercept, law.exponents["batch"], law.exponents["context"]]
    np.testing.assert_allclose([slope.value for slope in slopes], ols.params, atol=1e-3)
    np.testing.assert_allclose([slope.stderr for slope in slopes], ols.bse, rtol=0.01)
    np.testing.assert_allclose([(slope.low, slope.high) for slope in slopes], ols.conf_int(), atol=2e-3)
    assert law.sigma == pytest.approx(np.sqrt(ols.scale), rel=0.01)
    contrast = ols.t_test([0, 1, -1])
    difference = law.difference("batch", "context")
    assert (difference.value, difference.stderr) == pytest.approx((contrast.effect[0], contrast.sd[0, 0]), rel=0.01)
    assert law.predict({"batch": 16, "context": 256}) == pytest.approx(
        np.exp(ols.predict([[1, np.log(16), np.log(256)]]))[0], rel=1e-3
    )


def test_errors_of_placed_changes_are_no_spread_about_the_law():
    """Equal ones leave exponents and their intervals as least squares have them, and are taken out of the spread."""
    t, error = drawn(np.random.default_rng(0), 0.1), 0.05
    reach = np.exp(1.6449 * error)
    times = bracketed(t, 10.0).assign(low=t / reach, high=t * reach, source="change", end=1e9)
    law = fit_power_law(times, {"batch": BATCH, "context": CONTEXT})
    ols = sm.OLS(np.log(t), sm.add_constant(np.column_stack([np.log(BATCH), np.log(CONTEXT)]))).fit()
    slopes = [law.intercept, law.exponents["batch"], law.exponents["context"]]
    np.testing.assert_allclose([slope.value for slope in slopes], ols.params, atol=1e-4)
    np.testing.assert_allclose([slope.stderr for slope in slopes], ols.bse, rtol=0.01)
    assert law.sigma == pytest.approx(np.sqrt(ols.scale - error**2), rel=0.01)
    assert (law.before, law.censored) == (0, 0)


def test_placed_changes_whose_errors_explain_all_scatter_have_a_law_without_a_spread():
    t = drawn(np.random.default_rng(0), 0.02)
    times = bracketed(t, 10.0).assign(low=t / 1.1, high=t * 1.1, source="change", end=1e9)
    law = fit_power_law(times, {"batch": BATCH, "context": CONTEXT})
    assert law.sigma == 0
    assert law.sigma_interval[0] == 0
    assert law.exponents["batch"].low < 0.5 < law.exponents["batch"].high


def test_the_intervals_cover_the_exponents_with_wide_brackets_and_censoring():
    """Brackets as wide as the spread over seeds, and a tenth of the runs too short."""
    rng, covered, censored = np.random.default_rng(1), np.zeros(2), 0
    for _ in range(100):
        t = drawn(rng)
        times = bracketed(t, 1e5, end=np.quantile(t, 0.9))
        law = fit_power_law(times, {"batch": BATCH, "context": CONTEXT})
        censored += law.censored
        for i, (name, truth) in enumerate({"batch": 0.5, "context": 0.3}.items()):
            slope = law.exponents[name]
            covered[i] += slope.low <= truth <= slope.high
    assert censored >= 200
    assert (covered / 100 >= 0.88).all()


def test_leaving_out_censored_runs_would_bias_the_exponent():
    t = np.concatenate([drawn(np.random.default_rng(seed), 0.3) for seed in range(8)])
    batch, context = np.tile(BATCH, 8), np.tile(CONTEXT, 8)
    times = bracketed(t, 1e4, end=np.quantile(t, 0.6))
    seen = np.isfinite(times["high"])
    kept = fit_power_law(times, {"batch": batch, "context": context}).exponents["batch"]
    careless = fit_power_law(times[seen], {"batch": batch[seen], "context": context[seen]}).exponents["batch"]
    assert kept.low < 0.5 < kept.high
    assert careless.high < 0.5


def test_leaving_out_runs_that_had_it_at_the_first_snapshot_would_bias_the_exponent():
    t = np.concatenate([drawn(np.random.default_rng(seed), 0.3) for seed in range(8)])
    batch, context = np.tile(BATCH, 8), np.tile(CONTEXT, 8)
    times, first = bracketed(t, 1e4), np.ceil(np.quantile(t, 0.4) / 1e4) * 1e4
    early = times["high"] <= first
    times.loc[early, ["low", "high", "estimate"]] = [0.0, first, np.nan]
    kept = fit_power_law(times, {"batch": batch, "context": context}).exponents["batch"]
    careless = fit_power_law(times[~early], {"batch": batch[~early], "context": context[~early]}).exponents["batch"]
    assert kept.low < 0.5 < kept.high
    assert careless.high < 0.5


def test_a_bump_before_training_lies_before_all_that_is_told():
    times = bracketed(drawn(np.random.default_rng(0)), 1e4)
    first = times["low"][1:].min()
    laws = []
    for high in (0.0, first):
        times.loc[0, ["low", "high", "estimate"]] = [0.0, high, np.nan]
        laws.append(fit_power_law(times, {"batch": BATCH}))
    before, at_first = laws
    assert before.exponents["batch"] == at_first.exponents["batch"]
    assert (before.n, before.before, before.censored) == (27, 1, 0)


def test_a_setting_without_logarithm_is_named():
    x = {"batch": BATCH, "training.warmup": np.where(BATCH > 8, 1e5, 0.0)}
    with pytest.raises(NoFitError, match=r"training\.warmup: .* not 0"):
        fit_power_law(bracketed(drawn(np.random.default_rng(0)), 1e4), x)


def test_brackets_too_wide_to_tell_the_spread_are_refused():
    times = bracketed(np.array([3.1e6] * 3 + [3.3e6] * 5), 2e5)
    with pytest.raises(NoFitError, match="too far apart"):
        fit_power_law(times, {})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"batch": BATCH, "half": BATCH / 2}, "follows from the others"),
        ({"batch": np.full(27, 8.0)}, "does not vary"),
    ],
)
def test_what_does_not_vary_by_itself_is_refused(x: dict[str, np.ndarray], message: str):
    with pytest.raises(NoFitError, match=message):
        fit_power_law(bracketed(drawn(np.random.default_rng(0)), 1e4), x)


def test_too_few_bumps_are_refused():
    times = bracketed(drawn(np.random.default_rng(0)), 1e4, end=1.0)
    with pytest.raises(NoFitError, match="0 runs with a bump"):
        fit_power_law(times, {"batch": BATCH})
