"""Tweedie's formulas against closed forms, and against posterior means integrated over known priors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import norm

from denoise.errors import DenoiseError
from denoise.tweedie import (
    gamma_mean,
    gamma_mean_by_logarithm,
    gaussian_mean,
    mean_by_stabilising,
    poisson_mean,
    tweedie_mean,
)
from noise_models.level import NoiseLevel

FloatArray = npt.NDArray[np.float64]


def test_gaussian_prior_gives_the_wiener_estimate() -> None:
    """A prior N(m, t^2) under noise of variance v has score (m - y) / (t^2 + v), and the mean is known exactly."""
    y = torch.linspace(-1, 2, 31, dtype=torch.float64)
    mean, prior, noise = 0.4, 0.02, 0.01
    exact = (prior * y + noise * mean) / (prior + noise)
    torch.testing.assert_close(gaussian_mean(y, (mean - y) / (prior + noise), noise), exact)


def test_gamma_prior_of_poisson_noise() -> None:
    """A gamma(a, b) prior of the rate gives counts a negative binomial law and the posterior mean (a + z) / (b + 1)."""
    zeta, a, b = 0.01, 40.0, 0.8
    z = np.arange(20.0, 90.0)

    def log_p(count: FloatArray) -> FloatArray:
        return gammaln(count + a) - gammaln(count + 1) - count * np.log(b + 1)

    step = 1e-4
    score_of_counts = (log_p(z + step) - log_p(z - step)) / (2 * step)
    y, score = torch.from_numpy(zeta * z), torch.from_numpy(score_of_counts / zeta)
    exact = torch.from_numpy(zeta * (a + z) / (b + 1))
    estimate = poisson_mean(y, score, zeta)
    # the formula is exp(E[log x]), below the mean by half the posterior's relative variance, 1 / (2 (a + z))
    expected = exact * torch.exp(torch.digamma(torch.from_numpy(a + z)) - torch.log(torch.from_numpy(a + z)))
    torch.testing.assert_close(estimate, expected, rtol=4e-4, atol=0)
    assert ((estimate / exact - 1).abs() < 0.01).all()
    wrong = (y + zeta / 2) * torch.exp(score / zeta)
    assert not torch.isfinite(wrong).all() or (wrong / exact - 1).abs().max() > 1


def test_inverse_gamma_prior_of_gamma_noise() -> None:
    """Of x ~ inverse gamma(a, b), y = x g: the posterior is inverse gamma (a + k, b + k y), and E[1 / x] is known."""
    k, a, b = 80.0, 12.0, 5.0
    y = torch.linspace(0.1, 1.5, 29, dtype=torch.float64)
    score = (k - 1) / y - (a + k) * k / (b + k * y)  # of y^(k - 1) (b + k y)^-(a + k)
    torch.testing.assert_close(gamma_mean(y, score, k), (b + k * y) / (a + k))


def test_a_wrong_score_does_not_break_the_gamma_formula() -> None:
    y = torch.tensor([1.0, 1.0, 1.0])
    estimate = gamma_mean(y, torch.tensor([99.0, 150.0, 1e6]), 100.0)
    assert torch.isfinite(estimate).all()
    assert (estimate > 0).all()


@pytest.mark.parametrize(
    ("index", "dispersion", "formula"),
    [
        (0.0, 0.01, lambda y, s: gaussian_mean(y, s, 0.01)),
        (1.0, 0.01, lambda y, s: y * torch.exp(0.005 / y + 0.01 * s)),
        (2.0, 0.01, lambda y, s: y / (1 - 0.01 - 0.01 * y * s)),
    ],
)
def test_one_formula_holds_every_family(index: float, dispersion: float, formula) -> None:
    generator = torch.Generator().manual_seed(1)
    y = 0.2 + 0.6 * torch.rand(200, generator=generator, dtype=torch.float64)
    score = 8 * torch.randn(200, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(tweedie_mean(y, score, index, dispersion), formula(y, score))


def test_the_family_changes_smoothly_with_its_index() -> None:
    y, score = torch.tensor([0.2, 0.7], dtype=torch.float64), torch.tensor([5.0, -4.0], dtype=torch.float64)
    for index in (1.0, 1.5):
        near = [tweedie_mean(y, score, index + change, 0.01) for change in (-2e-3, 0.0, 2e-3)]
        torch.testing.assert_close((near[0] + near[2]) / 2, near[1], rtol=1e-5, atol=0)
    with pytest.raises(DenoiseError, match="between"):
        tweedie_mean(y, score, 2.5, 0.01)


def poisson_gaussian(
    y: FloatArray, zeta: float, read: float, mean: float, spread: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Integrate over a normal prior: posterior mean, score and density of y = zeta Poisson(x / zeta) + normal noise."""
    x = np.linspace(max(1e-3, mean - 4 * spread), mean + 4 * spread, 161)
    counts = np.arange(0, int(1.5 * x[-1] / zeta + 60))[:, None]
    rates = x / zeta
    weights = np.exp(counts * np.log(rates) - rates - gammaln(counts + 1)) * norm.pdf(x, mean, spread)
    distance = (y[:, None] - zeta * counts[:, 0]) / read
    kernel = np.exp(-0.5 * distance**2 * read)
    density = (kernel @ weights).sum(1)
    score = ((kernel * -distance) @ weights).sum(1) / density
    return (kernel @ (weights * x)).sum(1) / density, score, density / density.sum()


@pytest.mark.parametrize(
    ("zeta", "read", "mean", "spread", "error"),
    [
        (0.01, 1e-3, 0.4, 0.1, 0.05),
        (0.01, 1e-4, 0.4, 0.03, 0.1),
        (0.002, 5e-4, 0.1, 0.02, 0.05),
        (1e-6, 1e-3, 0.3, 0.05, 0.01),
    ],
)
def test_a_sensors_noise_against_the_exact_posterior_mean(
    zeta: float, read: float, mean: float, spread: float, error: float
) -> None:
    """Root mean square error, in standard deviations of the prior; no formula at all is off by 0.4 and more."""
    sigma = (zeta * mean + read + spread**2) ** 0.5
    y = np.linspace(mean - 2.5 * sigma, mean + 2.5 * sigma, 41)
    if zeta < 1e-5:  # no photon to count: the limit is Gaussian
        exact = (spread**2 * y + read * mean) / (spread**2 + read)
        score, density = (mean - y) / (spread**2 + read), norm.pdf(y, mean, sigma)
    else:
        exact, score, density = poisson_gaussian(y, zeta, read, mean, spread)
    root = np.sqrt(zeta * y + 0.375 * zeta**2 + read)  # one over the slope of the transform
    white = 2 / (np.sqrt(zeta + 0.375 * zeta**2 + read) + np.sqrt(0.375 * zeta**2 + read))
    stabilised = torch.from_numpy((score + zeta / (2 * root**2)) * root * white).view(1, 1, 1, -1)
    level = NoiseLevel(np.array([zeta]), np.array([read]))
    estimate = mean_by_stabilising(lambda _: stabilised, torch.from_numpy(y).view(1, 1, 1, -1), level).numpy().ravel()

    def rms(values: FloatArray) -> float:
        return float(np.sqrt((density * (values - exact) ** 2).sum() / density.sum()) / spread)

    assert rms(estimate) < error
    assert rms(y) > 0.3


def test_without_shot_noise_nothing_is_stabilised() -> None:
    y = 0.1 + torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))

    def score(image: torch.Tensor) -> torch.Tensor:
        return 6 * torch.sin(9 * image)

    read_only = NoiseLevel(np.zeros(3), np.full(3, 0.01))
    expected = gaussian_mean(y, score(y), 0.01)
    torch.testing.assert_close(mean_by_stabilising(score, y, read_only), expected, rtol=1e-4, atol=1e-5)


def test_each_image_of_a_batch_has_its_own_level() -> None:
    y = 0.1 + torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    levels = NoiseLevel(np.array([[0.02] * 3, [0.001] * 3]), np.array([[1e-3] * 3, [1e-4] * 3]))
    together = mean_by_stabilising(torch.neg, y, levels)
    for number in range(2):
        alone = NoiseLevel(levels.shot[number], levels.read[number])
        torch.testing.assert_close(together[[number]], mean_by_stabilising(torch.neg, y[[number]], alone))


@pytest.mark.parametrize(("k", "mean", "spread"), [(100.0, 0.5, 0.06), (50.0, 0.3, 0.05), (100.0, 0.05, 0.005)])
def test_gamma_noise_by_its_logarithm_against_the_exact_posterior_mean(k: float, mean: float, spread: float) -> None:
    """Root mean square error over the noisy values, in standard deviations of a normal prior."""
    x = np.linspace(max(1e-3, mean - 4 * spread), mean + 4 * spread, 801)
    y = np.linspace(mean * (1 - 2.5 / k**0.5), mean * (1 + 2.5 / k**0.5), 41)

    def log_density(values: FloatArray) -> FloatArray:
        """Of y, integrated over the prior; and of the posterior."""
        law = (k - 1) * np.log(values[:, None]) - k * np.log(x) - k * values[:, None] / x
        return law + norm.logpdf(x, mean, spread)

    weights = np.exp(log_density(y) - log_density(y).max())
    exact, density = (weights * x).sum(1) / weights.sum(1), weights.sum(1)
    step = 1e-4 * mean
    above, below = (np.log(np.exp(log_density(values)).sum(1)) for values in (y + step, y - step))
    score_of_y = (above - below) / (2 * step)
    stretched = torch.from_numpy((score_of_y * (y + 0.4) + 1) * np.log(3.5)).view(1, 1, 1, -1)
    noisy = torch.from_numpy(y).view(1, 1, 1, -1)
    estimate = gamma_mean_by_logarithm(lambda _: stretched, noisy, k).numpy().ravel()

    def rms(values: FloatArray) -> float:
        return float(np.sqrt((density * (values - exact) ** 2).sum() / density.sum()) / spread)

    assert rms(estimate) < 0.15
    assert rms(y) > 0.3
