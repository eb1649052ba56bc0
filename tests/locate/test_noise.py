"""The noise about a curve: sizes that were put in come out, and likelihoods are those of the textbook."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from benchmarks.simulated_curves import Setting, draw, truth
from induction_bump.locate.curve import Array, Curve, ProbeNoise, correlations
from induction_bump.locate.drift import polynomial
from induction_bump.locate.noise import Relaxation, _restricted_likelihoods, fit_noise
from induction_bump.locate.ramp import Ramps, designs

TOKENS = np.unique(np.concatenate([np.linspace(2e5, 5e6, 90), np.geomspace(2e5, 5e6, 20)]).astype(np.int64))
X = np.log(TOKENS.astype(np.float64))


def by_contrasts(covariance: Array, design: Array, values: Array) -> float:
    """ln of the density of what the design cannot touch, S − p contrasts."""
    contrasts = np.linalg.svd(design)[0][:, design.shape[1] :].T
    return float(
        multivariate_normal.logpdf(contrasts @ values, cov=contrasts @ covariance @ contrasts.T)  # pyright: ignore
    )


def test_the_restricted_likelihood_is_the_density_of_contrasts():
    random = np.random.default_rng(0)
    x = np.sort(random.uniform(12, 15, 25))
    design, values = polynomial(x, 2), random.standard_normal(25)
    gained = np.column_stack(Relaxation(0.8).columns(x, np.array(13.0)))
    seen, expected = [], []
    for size in (0.3, 1.0, 2.0):
        covariance = size**2 * correlations(np.exp(x), 0.5) + 0.1 * np.eye(25)
        seen += _restricted_likelihoods(covariance, design, values, [gained])
        expected += [by_contrasts(c, design, values) for c in (covariance, covariance + gained @ gained.T)]
    # up to one constant
    np.testing.assert_allclose(np.diff(seen), np.diff(expected), rtol=1e-8)


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_jitter_is_known_again(phi: float):
    random = np.random.default_rng(1)
    values = np.linalg.cholesky(0.02**2 * correlations(TOKENS, phi) + 1e-12 * np.eye(len(X))) @ random.standard_normal(
        len(X)
    )
    nothing = ProbeNoise(np.zeros((len(X), 0)), np.zeros(len(X)))
    noise = fit_noise(Curve(np.arange(len(X)), TOKENS, values, nothing), polynomial(X, 1))
    assert noise.jitter == pytest.approx(0.02, rel=0.4)
    assert noise.phi == pytest.approx(phi, abs=0.21)


def test_drifts_that_relax_are_told_from_those_that_do_not():
    def relaxes(setting: Setting) -> bool:
        known, curve = truth(setting), draw(setting, np.random.default_rng(2))
        ramp = Ramps(np.array([known.onset]), np.array([known.end]), np.array([0]))
        return fit_noise(curve, designs(curve.x, ramp)[0], known.end).relaxation is not None

    assert relaxes(Setting(relaxing=0.6))
    assert not relaxes(Setting())
