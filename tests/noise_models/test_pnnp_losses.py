"""The distribution loss: right values, right gradients, no NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise_models.pnnp_losses import (
    EmpiricalLaw,
    cdf_loss,
    centre_grid,
    density_loss,
    distribution_loss,
    dither,
    quantile_loss,
    tail_grid,
)

LIKE = torch.zeros((), dtype=torch.float64)


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_quantiles_and_shares_are_those_of_straight_lines_between_sorted_values():
    values = numbers(101)
    law = EmpiricalLaw.of(values)
    shares = torch.tensor([0.0, 0.013, 0.37, 0.5, 0.999, 1.0], dtype=torch.float64)
    expected = torch.quantile(values, shares)
    assert torch.allclose(law.quantiles(shares), expected, atol=1e-12)
    assert torch.allclose(law.cumulated(expected), shares, atol=1e-12)
    assert law.cumulated(torch.tensor([-99.0, 99.0])).tolist() == [0.0, 1.0]


def test_weights_count_as_repetitions_do():
    values, weights = numbers(4000), torch.randint(1, 4, (4000,), generator=torch.Generator().manual_seed(1))
    repeated = EmpiricalLaw.of(values.repeat_interleave(weights))
    weighted = EmpiricalLaw.of(values, weights.double())
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    assert torch.allclose(weighted.quantiles(shares), repeated.quantiles(shares), atol=0.02)


def test_more_values_than_the_limit_are_thinned_and_keep_their_law():
    law = EmpiricalLaw.of(numbers(100_000), most=5000)
    assert law.values.numel() == 5000
    whole = EmpiricalLaw.of(numbers(100_000))
    assert law.values[0] == whole.values[0]
    assert law.values[-1] == whole.values[-1]
    shares = torch.linspace(0.001, 0.999, 99, dtype=torch.float64)
    assert torch.allclose(law.quantiles(shares), whole.quantiles(shares), atol=2e-3)


def test_gradients_agree_with_differences_in_float64():
    drawn = numbers(60, 1).requires_grad_()
    real = EmpiricalLaw.of(numbers(400, 2))
    # Places and shares away from the drawn values themselves, where the lines have corners.
    shares = (torch.arange(40, dtype=torch.float64) + 0.31) / 41
    places = torch.linspace(-1.3, 1.4, 40, dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        law = EmpiricalLaw.of(values)
        return quantile_loss(law, shares, real.quantiles(shares)) + cdf_loss(law, places, real.cumulated(places))

    assert torch.autograd.gradcheck(loss, (drawn,), eps=1e-7, atol=1e-5)


def test_weighted_gradients_agree_with_differences_in_float64():
    drawn, weights = numbers(60, 3).requires_grad_(), torch.rand(60, generator=torch.Generator().manual_seed(4)) + 0.1
    shares = (torch.arange(30, dtype=torch.float64) + 0.31) / 31

    def loss(values: torch.Tensor) -> torch.Tensor:
        return EmpiricalLaw.of(values, weights.double()).quantiles(shares).square().mean()

    assert torch.autograd.gradcheck(loss, (drawn,), eps=1e-7, atol=1e-5)


def test_ties_give_numbers_and_finite_gradients():
    generator = torch.Generator().manual_seed(5)
    drawn = torch.round(numbers(5000)).requires_grad_()
    real = EmpiricalLaw.of(torch.round(numbers(5000, 6)))
    quantile, cdf = distribution_loss(EmpiricalLaw.of(drawn), real, generator)
    (quantile + cdf).backward()
    assert drawn.grad is not None
    assert bool(torch.isfinite(drawn.grad).all())
    assert float((quantile + cdf).detach()) < 0.2
    same = EmpiricalLaw.of(torch.zeros(50))
    assert bool(torch.isfinite(same.cumulated(torch.tensor([-1.0, 0.0, 1.0]))).all())


def test_the_loss_is_zero_on_itself_and_grows_with_the_distance():
    generator = torch.Generator().manual_seed(7)
    real = EmpiricalLaw.of(numbers(20_000))
    losses = [
        sum(map(float, distribution_loss(EmpiricalLaw.of(numbers(20_000) * (1 + stretch)), real, generator)))
        for stretch in (0.0, 0.1, 0.3)
    ]
    assert losses[0] == pytest.approx(0.0, abs=1e-12)
    assert losses[0] < losses[1] < losses[2]


def test_the_grids_are_sorted_and_reach_as_far_as_they_say():
    generator = torch.Generator().manual_seed(8)
    shares, places = tail_grid(generator, like=LIKE), centre_grid(generator, like=LIKE)
    assert len(shares) == len(places) == 1000
    assert bool((shares.diff() >= 0).all())
    assert bool((places.diff() >= 0).all())
    # Quantiles even in z: a quarter of the points beyond 2 sigma on either side; places even in probability.
    assert float((shares < torch.special.ndtr(torch.tensor(-2.0))).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert float((places < 0).double().mean()) == pytest.approx(0.5, abs=0.002)
    assert -3.8 < float(places[0]) < -3.0


def test_dither_fills_the_steps_and_keeps_the_mean():
    whole = torch.round(3 * numbers(100_000))
    moved = dither(whole, torch.Generator().manual_seed(9)) - whole
    assert float(moved.abs().max()) <= 0.5
    assert abs(float(moved.mean())) < 4 / np.sqrt(12 * 100_000)
    assert float(moved.var()) == pytest.approx(1 / 12, rel=0.02)


def test_the_density_loss_sees_a_swing_that_the_others_hardly_see_and_has_the_right_gradient():
    generator = torch.Generator().manual_seed(10)
    values = numbers(200_000, 11)
    real = EmpiricalLaw.of(values)
    places = centre_grid(generator, like=LIKE)
    swung = EmpiricalLaw.of(values + 0.01 * torch.sin(6 * values))  # density off by 6 %, shares by 0.4 %
    shares = real.cumulated(places)
    assert float(density_loss(real, places, shares)) == pytest.approx(0.0, abs=1e-9)
    assert float(density_loss(swung, places, shares, every=20)) == pytest.approx(0.06**2 / 4, rel=0.3)
    assert float(cdf_loss(swung, places, shares)) < 0.003
    few, cells = numbers(80, 12).requires_grad_(), torch.linspace(-1.2, 1.3, 7, dtype=torch.float64)

    def loss(drawn: torch.Tensor) -> torch.Tensor:
        return density_loss(EmpiricalLaw.of(drawn), cells, real.cumulated(cells), every=1)

    assert torch.autograd.gradcheck(loss, (few,), eps=1e-7, atol=1e-5)
