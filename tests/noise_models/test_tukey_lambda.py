"""The Tukey-lambda law in numbers: published table, scipy's law, tails, the logistic limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from noise_models.base import NoiseModelError
from noise_models.tukey_lambda import cumulated, quantile, scale_from_sigma, sigma_from_scale, sigma_per_scale

SHAPES = (-0.4, -0.25, -0.1, -0.003, -1e-6, 0.0, 1e-9, 0.001, 0.14, 0.5, 1.0)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (-0.30, 3.654),
        (-0.25, 3.127),
        (-0.20, 2.736),
        (-0.10, 2.186),
        (0.0, 1.814),
        (0.10, 1.542),
        (0.14, 1.453),
        (0.20, 1.334),
        (0.5, 0.9265),
        (1.0, 0.5774),
    ],
)
def test_the_table_of_sigma_per_scale(shape: float, expected: float) -> None:
    assert sigma_per_scale(shape) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_sigma_is_that_of_scipys_law(shape: float) -> None:
    known = math.pi / math.sqrt(3) if abs(shape) < 1e-5 else math.sqrt(float(np.asarray(stats.tukeylambda.var(shape))))
    assert sigma_per_scale(shape) == pytest.approx(known, rel=3e-6)


def test_sigma_has_no_step_where_the_series_takes_over() -> None:
    shapes = np.linspace(-4e-3, 4e-3, 401)
    sigmas = np.array([sigma_per_scale(shape) for shape in shapes])
    assert np.abs(np.diff(sigmas, 2)).max() < 1e-8


@pytest.mark.parametrize("shape", SHAPES)
def test_quantiles_are_scipys_to_the_tails(shape: float) -> None:
    shares = np.array([1e-12, 1e-6, 1e-3, 0.1, 0.5, 0.7, 0.999])
    assert quantile(shares, shape) == pytest.approx(stats.tukeylambda.ppf(shares, shape), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_law_is_inverted(shape: float) -> None:
    shares = np.array([1e-9, 1e-4, 0.2, 0.5, 0.9, 1 - 1e-6])
    assert cumulated(quantile(shares, shape), shape) == pytest.approx(shares, rel=1e-7)


def test_scale_and_sigma_undo_each_other() -> None:
    assert scale_from_sigma(sigma_from_scale(2.5, -0.17), -0.17) == pytest.approx(2.5)


@pytest.mark.parametrize("shape", [-0.5, -1.0, math.nan])
def test_an_infinite_variance_is_refused(shape: float) -> None:
    with pytest.raises(NoiseModelError, match="finite only above"):
        sigma_per_scale(shape)
