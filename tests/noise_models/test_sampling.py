"""How far the fast ways of drawing are from the laws they draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from noise_models import sampling
from noise_models.tukey_lambda import sigma_per_scale


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


def test_table_and_rest_are_together_the_poisson_law_of_each_level() -> None:
    law, cells = sampling._count_laws()
    ends = sampling._rest_ends().reshape(law.shape) - np.arange(len(law))[:, None]
    rest = np.diff(ends, axis=1, prepend=0.0)
    assert (cells >= 0).all()
    assert (cells.sum(1) == sampling.COUNT_CELLS).all()
    assert rest.min() > -1e-9
    both = (1 - sampling.REST_SHARE) * cells / sampling.COUNT_CELLS + sampling.REST_SHARE * rest
    expected = (np.arange(len(law)) / sampling.LEVELS_PER_ROOT) ** 2
    exact = stats.poisson.pmf(np.arange(law.shape[1])[None], expected[:, None])
    assert np.abs(both - exact).max() < 1e-11


def test_the_table_of_the_normal_law_has_the_variance_of_the_law_between_its_tails() -> None:
    body = sampling._normal_table(torch.device("cpu")).double().numpy()
    tail = stats.norm.ppf(sampling.REST_SHARE / 2)
    within = 1 - sampling.REST_SHARE + 2 * tail * stats.norm.pdf(tail)  # integral of z**2 over the body
    assert body.mean() == pytest.approx(0, abs=1e-7)
    assert (1 - sampling.REST_SHARE) * np.mean(body**2) == pytest.approx(within, abs=1e-6)


def test_few_are_hit_independently() -> None:
    dice = sampling.Dice(torch.Generator().manual_seed(2))
    pixels, rounds = 1000, 4000
    hits = np.zeros(pixels)
    for _ in range(rounds):
        hits[np.unique(dice.few(pixels)[0])] += 1
    expected = rounds * sampling.REST_SHARE
    assert hits.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / pixels))
    assert hits.var() == pytest.approx(expected * (1 - sampling.REST_SHARE), rel=4 * np.sqrt(2 / pixels) + 0.02)


@pytest.mark.parametrize("expected_e", [0.0, 0.05, 0.8, 3.0, 9.9, 10.1, 55.0])
def test_counts_follow_the_poisson_law(expected_e: float) -> None:
    generator = torch.Generator().manual_seed(11)
    pixels = 400_000
    signal = torch.full((pixels,), expected_e)
    sampling.count_photons_(signal[None], [1.0], generator)
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
        sampling.count_photons_(counted[None], [1.0], generator)
        score = (counted - signal).double()[signal > 0.5] / signal.double()[signal > 0.5].sqrt()
        assert abs(float(score.mean())) < 4 / np.sqrt(len(score))
        assert float(score.var()) == pytest.approx(1, abs=4 * np.sqrt(3 / len(score)))


@pytest.mark.parametrize("shape", [-0.3, -0.1, 0.0, 0.0977, 0.2])
def test_tukey_lambda_draws_follow_the_law(shape: float) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = 600_000
    noise = torch.zeros(pixels)
    sampling.add_tukey_lambda_(noise[None], [2.0], [shape], generator)
    values = noise.double().numpy() / 2.0
    for share in (1e-4, 1e-3, 0.01, 0.1, 0.5, 0.8, 0.99, 0.9999):
        found = (values < stats.tukeylambda.ppf(share, shape)).mean()
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / pixels) + 1.3e-4 * share)


@pytest.mark.parametrize("shape", [-0.25, 0.0, 0.14])
def test_tails_reach_beyond_the_table(shape: float) -> None:
    dice = sampling.Dice(torch.Generator().manual_seed(4))
    pixels = 2_000_000
    values = sampling.draw_tukey_lambda(pixels, [shape], dice)[0]
    for part in (1.0, 0.1, 3e-3):  # of either tail
        share = part * sampling.REST_SHARE / 2
        border, expected = stats.tukeylambda.ppf(share, shape), pixels * share
        for side in (values, -values):
            assert int((side < border).sum()) == pytest.approx(expected, abs=4.5 * np.sqrt(expected))


def test_every_image_has_its_own_law() -> None:
    """Small images share a piece; a large one is drawn in several."""
    generator = torch.Generator().manual_seed(6)
    for pixels in (1000, 300_000):
        noise = torch.zeros((3, pixels))
        sampling.add_tukey_lambda_(noise, [1.0, 2.0, 5.0], [-0.2, 0.14, -0.2], generator)
        signal = torch.tensor([[2.0], [40.0], [300.0]]).expand(3, pixels).contiguous()
        counted = signal.clone()
        sampling.count_photons_(counted, [0.5, 2.0, 4.0], generator)
        for k, (scale, shape, gain) in enumerate(((1.0, -0.2, 0.5), (2.0, 0.14, 2.0), (5.0, -0.2, 4.0))):
            sigma = scale * sigma_per_scale(shape)
            assert float(noise[k].std()) == pytest.approx(sigma, rel=5 * np.sqrt(5 / pixels))
            quarter = float(scale * stats.tukeylambda.ppf(0.25, shape))
            assert float((noise[k] < quarter).to(torch.float32).mean()) == pytest.approx(
                0.25, abs=4 * np.sqrt(0.19 / pixels)
            )
            whole = counted[k] / gain
            assert torch.allclose(whole, whole.round(), atol=1e-3)
            assert float(counted[k].var()) == pytest.approx(gain * float(signal[k, 0]), rel=4 * np.sqrt(2.5 / pixels))
