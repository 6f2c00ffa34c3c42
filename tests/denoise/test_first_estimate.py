"""Two estimates of one cube: put together no worse than the better of them, band by band."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoise.cubes.first_estimate import FirstEstimate, combine

SIGMA = 0.05


@pytest.fixture
def clean() -> Tensor:
    return torch.rand(1, 24, 48, 48, generator=torch.Generator().manual_seed(0))


def measured(clean: Tensor, estimate: Tensor, sigma: float = SIGMA) -> FirstEstimate:
    noise = sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return FirstEstimate(
        estimate, clean + noise - estimate, torch.ones_like(clean, dtype=torch.bool), torch.full(clean.shape[:2], sigma)
    )


def error(found: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of each band."""
    return (found - clean).square().mean((0, 2, 3))


def test_a_perfect_estimate_is_kept(clean: Tensor) -> None:
    first = measured(clean, clean)
    assert float(error(combine(clean, first), clean).max()) < 0.01 * SIGMA**2


def test_a_band_that_was_lost_comes_back(clean: Tensor) -> None:
    estimate = clean.clone()
    estimate[:, 2] = 0.5
    combined = error(combine(estimate, measured(clean, estimate)), clean)
    assert float(combined[2]) < 1.02 * SIGMA**2
    assert float(combined[3:].max()) < 0.02 * SIGMA**2


def test_a_mean_that_moved_comes_back(clean: Tensor) -> None:
    """Far below the noise of a value, but not of a band's mean: what moved comes back, and no other band moves."""
    estimate = clean.clone()
    estimate[:, 3] += 0.2 * SIGMA
    change = (combine(estimate, measured(clean, estimate)) - clean).mean((0, 2, 3))
    assert float(change.abs().max()) < 4 * SIGMA / 48


def test_two_independent_estimates_make_a_better_one(clean: Tensor) -> None:
    """An estimate that errs as much as the measurement: half of each, and nearly half the error."""
    generator = torch.Generator().manual_seed(2)
    estimate = clean + SIGMA * torch.randn(clean.shape, generator=generator)
    combined = error(combine(estimate, measured(clean, estimate)), clean)
    assert float(combined.mean()) < 0.52 * SIGMA**2


@pytest.mark.parametrize("sigma", [1e-6, 1e-3])
def test_a_nearly_clean_cube_is_not_made_worse(clean: Tensor, sigma: float) -> None:
    smooth = clean.mean((2, 3), keepdim=True).expand_as(clean)
    first = measured(clean, smooth, sigma)
    noisy = error(first.cube + first.rest, clean)
    assert (error(combine(smooth, first), clean) <= 1.01 * noisy).all()


def test_a_small_thing_that_was_lost_comes_back(clean: Tensor) -> None:
    with_it = clean.clone()
    with_it[..., 20:22, 30:32] += 10 * SIGMA
    combined = combine(clean, measured(with_it, clean))
    lost = (with_it - combined)[..., 20:22, 30:32].mean()
    assert float(lost.abs()) < 0.5 * SIGMA


def test_what_was_not_measured_adds_nothing(clean: Tensor) -> None:
    first = measured(clean, torch.zeros_like(clean))
    valid = first.valid.clone()
    valid[..., 10] = False
    results = [
        combine(first.cube, FirstEstimate(first.cube, torch.where(valid, first.rest, value), valid, first.sigma))
        for value in (0.0, 1e6)
    ]
    assert torch.equal(*results)
    assert (results[0][..., 10].amax(2) == results[0][..., 10].amin(2)).all()


def test_noise_that_is_not_known_is_that_of_the_noisiest_band(clean: Tensor) -> None:
    sigma = torch.tensor([[0.1, 0.3, torch.inf, 0.0, 0.2, 0.2]])
    clean = clean[:, :6]
    first = FirstEstimate(clean, clean, torch.ones_like(clean, dtype=torch.bool), sigma)
    assert first.known_sigma[0, 2] == pytest.approx(0.3)
    assert 0 < first.known_sigma[0, 3] < 1e-5
