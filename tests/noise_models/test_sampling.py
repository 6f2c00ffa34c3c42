"""How far the fast ways of drawing are from the laws they draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from noise_models import sampling


def law_of_many(expected_e: float) -> np.ndarray:
    """Return the probability of each count under the rounded normal law, without drawing."""
    edges = np.arange(int(expected_e * 3 + 60)) + 0.5
    spread = np.sqrt(expected_e - 1 / 12 - 1 / 18)
    # Where expected + spread z + (z**2 - 1) / 6 passes the edge; counts below 0 count as 0.
    z = 3 * (np.sqrt(np.maximum(spread**2 - (expected_e - 1 / 6 - edges) * 2 / 3, 0.0)) - spread)
    return np.diff(stats.norm.cdf(z), prepend=0.0)


@pytest.mark.parametrize("expected_e", [10.0, 17.3, 40.0, 300.0])
def test_the_rounded_normal_law_is_as_near_to_poisson_as_stated(expected_e: float) -> None:
    law = law_of_many(expected_e)
    counts = np.arange(len(law))
    distance = 0.5 * np.abs(law - stats.poisson.pmf(counts, expected_e)).sum()
    mean = (counts * law).sum()
    assert distance <= max(2.3e-3 * 10 / expected_e, 1.5e-4)
    assert mean / expected_e == pytest.approx(1, abs=2e-6)
    assert ((counts - mean) ** 2 * law).sum() / expected_e == pytest.approx(1, abs=3e-5)


@pytest.mark.parametrize("expected_e", [0.003, 0.1, 1.0, 4.7, 9.99])
def test_two_levels_are_as_near_to_poisson_as_stated(expected_e: float) -> None:
    root = np.sqrt(expected_e) * 64
    part = root - np.floor(root)
    low, high = (np.floor(root) / 64) ** 2, ((np.floor(root) + 1) / 64) ** 2
    counts = np.arange(60)
    law = (1 - part) * stats.poisson.pmf(counts, low) + part * stats.poisson.pmf(counts, high)
    mean = (counts * law).sum()
    assert 0.5 * np.abs(law - stats.poisson.pmf(counts, expected_e)).sum() < 3e-4
    assert mean == pytest.approx(expected_e, abs=6.2e-5)
    assert ((counts - mean) ** 2 * law).sum() == pytest.approx(expected_e, abs=2.5e-4 * expected_e + 6.2e-5)


@pytest.mark.parametrize("expected_e", [0.0, 0.05, 0.8, 3.0, 9.9, 10.1, 55.0])
def test_counts_follow_the_poisson_law(expected_e: float) -> None:
    generator = torch.Generator().manual_seed(11)
    pixels = 400_000
    signal = torch.full((pixels,), expected_e)
    sampling.count_photons_(signal, 1.0, generator)
    found = np.bincount(signal.numpy().astype(int))
    law = stats.poisson.pmf(np.arange(len(found)), expected_e)
    usual = law * pixels > 20
    spread = np.sqrt(np.maximum(law * pixels * (1 - law), 1.0))
    error = (np.abs(found - law * pixels) / spread)[usual]
    # 4.5 sigma for the worst of some tens of counts, and the bias that the rounded normal law may have.
    assert error.max() < 4.5 + 2.3e-3 * np.sqrt(pixels)
    assert error.max() < 4.5 or expected_e >= 10


def test_light_and_dark_side_by_side_keep_mean_and_variance() -> None:
    generator = torch.Generator().manual_seed(5)
    expected = torch.rand((1 << 19,), generator=generator)
    for most_e in (12.0, 40.0, 400.0):  # mostly dark, half, hardly any
        signal = expected * most_e
        counted = signal.clone()
        sampling.count_photons_(counted, 1.0, generator)
        score = (counted - signal).double()[signal > 0.5] / signal.double()[signal > 0.5].sqrt()
        assert abs(float(score.mean())) < 4 / np.sqrt(len(score))
        assert float(score.var()) == pytest.approx(1, abs=4 * np.sqrt(3 / len(score)))


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.0, 0.0977, 0.2])
def test_tukey_lambda_draws_follow_the_law(shape: float) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = 600_000
    noise = torch.zeros(pixels)
    sampling.add_tukey_lambda_(noise, 2.0, shape, generator)
    values = noise.double().numpy() / 2.0
    for share in (1e-4, 1e-3, 0.01, 0.1, 0.5, 0.8, 0.99, 0.9999):
        found = (values < stats.tukeylambda.ppf(share, shape)).mean()
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / pixels) + 1.3e-4 * share)


def test_tails_reach_beyond_the_table() -> None:
    generator = torch.Generator().manual_seed(4)
    pixels = 4_000_000
    values = sampling.draw_tukey_lambda(pixels, -0.25, generator)
    outermost = stats.tukeylambda.ppf(0.5 / sampling.TABLE_CELLS, -0.25)
    expected = pixels * 0.5 / sampling.TABLE_CELLS
    for side in (values, -values):
        beyond = int((side < outermost).sum())
        assert beyond == pytest.approx(expected, abs=4 * np.sqrt(expected))
    far = stats.tukeylambda.ppf(4 / pixels, -0.25)
    assert float(values.min()) < far
    assert float(values.max()) > -far


def test_tail_cells_lie_evenly_on_both_sides() -> None:
    generator = torch.Generator().manual_seed(8)
    values = sampling.draw_tukey_lambda(2_000_000, 0.0, generator)
    border = stats.tukeylambda.ppf(sampling.TAIL_CELLS / sampling.TABLE_CELLS, 0.0)
    expected = 2_000_000 * sampling.TAIL_CELLS / sampling.TABLE_CELLS
    for side in (values, -values):
        assert int((side < border).sum()) == pytest.approx(expected, abs=4 * np.sqrt(expected))


@pytest.mark.parametrize("count", [0, 1, 7, 16, 1000, 4097])
def test_indices_are_those_that_are_true(count: int) -> None:
    mask = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.1
    assert torch.equal(sampling.indices_of(mask), mask.nonzero().view(-1))
