"""Regression of what lies between limits: a line found again through cuts and impulses, its stated error true."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoise.cubes.truncated import TruncatedFit, _Likelihood, fit_truncated

BANDS, PIXELS = 24, 6000


def made(impulses: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return values (bands, n) between 0 and 1, features, coefficients and noise; half of the bands lie near 0."""
    generator = torch.Generator().manual_seed(3)
    features = torch.cat((torch.ones(1, PIXELS), torch.randn(2, PIXELS, generator=generator)))
    mean = torch.linspace(0.02, 0.4, BANDS)[:, None]
    theta = torch.cat((mean, 0.03 * torch.randn(BANDS, 2, generator=generator)), 1)
    sigma = torch.tensor([0.04, 0.12, 0.2, 0.27]).repeat(BANDS // 4)
    values = theta @ features + sigma[:, None] * torch.randn(BANDS, PIXELS, generator=generator)
    chance = torch.rand(BANDS, PIXELS, generator=generator)
    values = torch.where(chance < impulses, (chance < impulses / 2).float(), values.clamp(0, 1))
    return values, features, theta, sigma


def fit(values: Tensor, features: Tensor) -> TruncatedFit:
    limits = torch.zeros_like(values), torch.ones_like(values)
    start = torch.tensor([0.2, 0.0, 0.0]).expand(len(values), -1)
    return fit_truncated(values, (values > 0) & (values < 1), features, limits, start, torch.full((len(values),), 0.1))


@pytest.mark.parametrize("impulses", [0.0, 0.5])
def test_line_and_noise_are_found_whatever_lies_at_the_limits(impulses: float) -> None:
    values, features, theta, sigma = made(impulses)
    found = fit(values, features)
    assert torch.isfinite(found.variance).all()
    torch.testing.assert_close(found.sigma, sigma, rtol=0.12, atol=0)
    error = (found.theta - theta) / found.variance.sqrt()[:, None]
    assert 0.6 < float(error.square().mean().sqrt()) < 1.4
    assert float(error.abs().max()) < 5
    seen = torch.where((values > 0) & (values < 1), values, torch.nan)
    naive = seen.nanmean(1) - theta[:, 0]
    assert (found.theta[:, 0] - theta[:, 0]).abs().mean() < 0.2 * naive.abs().mean()


def test_without_limits_it_is_least_squares() -> None:
    _, features, theta, sigma = made(0.0)
    values = theta @ features + sigma[:, None] * torch.randn(BANDS, PIXELS, generator=torch.Generator().manual_seed(4))
    limits = torch.full_like(values, -torch.inf), torch.full_like(values, torch.inf)
    found = fit_truncated(values, torch.ones_like(values, dtype=torch.bool), features, limits, theta, 2 * sigma)
    expected = torch.linalg.lstsq(features.T, values.T).solution.T
    torch.testing.assert_close(found.theta, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.sigma, (values - expected @ features).square().mean(1).sqrt(), rtol=1e-3, atol=0)
    torch.testing.assert_close(found.variance, found.sigma.square() / PIXELS, rtol=0.05, atol=0)


def test_gradient_and_curvature_are_those_of_the_likelihood() -> None:
    values, features, theta, sigma = (part.double() for part in made(0.2))
    low, high = torch.zeros_like(values), torch.ones_like(values)
    likelihood = _Likelihood(values, ((values > 0) & (values < 1)).double(), features, low, high)
    parameters = (torch.cat((theta / sigma[:, None], 1 / sigma[:, None]), 1) * 1.1).requires_grad_()

    def value(each: Tensor) -> Tensor:
        return likelihood.at(each)[0].sum()

    slope = torch.autograd.grad(value(parameters), parameters)[0]
    torch.testing.assert_close(likelihood.at(parameters)[1], slope, rtol=1e-8, atol=1e-6)
    for band in range(2):
        few, place = likelihood.of(torch.tensor([band])), parameters.detach()[band]
        by_each = torch.autograd.functional.jacobian(lambda each, few=few: few.at(each[None])[1][0], place)
        assert isinstance(by_each, Tensor)
        torch.testing.assert_close(-by_each, few.at(place[None])[2][0], rtol=1e-8, atol=1e-5)


def test_where_nothing_was_seen_what_was_begun_with_stays() -> None:
    values, features, theta, sigma = made(0.0)
    limits = torch.zeros_like(values), torch.ones_like(values)
    found = fit_truncated(values, torch.zeros_like(values, dtype=torch.bool), features, limits, theta, sigma)
    assert torch.isinf(found.variance).all()
    assert torch.equal(found.theta, theta)
    assert torch.equal(found.sigma, sigma)
