"""Strength leaves (1 - strength) of the noise's standard deviation, at every brightness."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise.errors import DenoiseError
from denoise.strength import MEAN_HALO, keep_detail, keep_mean, leave
from noise_models.level import NoiseLevel

LEVEL = NoiseLevel(np.zeros(1), np.array([0.05**2]))


def textured(side: int = 256) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] / side
    return (0.3 + 0.2 * np.sin(40 * rows * columns) + 0.1 * (columns > 0.5)).astype(np.float32)


@pytest.mark.parametrize("strength", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("clean", [np.full((256, 256), 0.2, np.float32), textured()], ids=["flat", "textured"])
def test_noise_left_is_in_units_of_sigma(strength: float, clean: np.ndarray) -> None:
    noise = np.random.default_rng(1).normal(size=clean.shape) * np.sqrt(1e-3 * clean + 1e-5)
    noisy = (clean + noise).astype(np.float32)
    left = leave(noisy, clean, strength) - clean
    bound = 4 / np.sqrt(2 * clean.size)
    relative = left / np.sqrt(1e-3 * clean + 1e-5)
    assert relative.std() == pytest.approx(1 - strength, rel=bound)


def test_an_imperfect_denoiser_still_leaves_the_share_of_what_it_removed() -> None:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(1, 1, 256, 256, generator=generator) * 0.05
    noisy = 0.4 + noise
    denoised = 0.4 + 0.1 * noise  # a tenth of sigma stays in at full strength
    for strength in (0.3, 0.6):
        left = (leave(noisy, denoised, strength) - 0.4).std() / noise.std()
        assert float(left) == pytest.approx(1 - 0.9 * strength, rel=1e-4)


def test_the_ends_are_exact_and_inputs_stay_untouched() -> None:
    noisy, denoised = torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)
    before = noisy.clone(), denoised.clone()
    assert leave(noisy, denoised, 0.0) is noisy
    assert leave(noisy, denoised, 1.0) is denoised
    leave(noisy, denoised, 0.5)
    assert torch.equal(noisy, before[0])
    assert torch.equal(denoised, before[1])


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_zero_to_one_is_refused(strength: float) -> None:
    with pytest.raises(DenoiseError, match="between 0"):
        leave(torch.zeros(1), torch.zeros(1), strength)


def test_the_mean_is_kept_and_little_noise_returns() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = 0.05 * torch.randn(1, 4, 256, 320, generator=generator)
    clean = torch.linspace(0.1, 0.5, 320).expand(1, 4, 256, 320)
    dark = clean - 0.01  # a denoiser that darkens
    kept = keep_mean(clean + noise, dark, LEVEL)
    returned = (kept - clean).std() / 0.05
    assert 0.012 < float(returned) < 0.035
    blocks = torch.nn.functional.avg_pool2d(kept - clean - noise, 32)
    assert float(blocks.abs().max()) < 2 * 0.05 / 32
    assert torch.allclose(keep_mean(clean, dark, LEVEL), clean, atol=1e-6)


def test_keeping_the_mean_by_tiles_equals_the_whole() -> None:
    generator = torch.Generator().manual_seed(4)
    noisy, denoised = torch.rand(2, 1, 3, 160, 201, generator=generator)
    whole = keep_mean(noisy, denoised, LEVEL)
    assert whole.shape == noisy.shape
    tile = keep_mean(noisy[:, :, 16:, 8:160], denoised[:, :, 16:, 8:160], LEVEL)
    inner = slice(MEAN_HALO, 128), slice(MEAN_HALO, -MEAN_HALO)
    assert torch.allclose(tile[:, :, inner[0], inner[1]], whole[:, :, 16:, 8:160][:, :, inner[0], inner[1]], atol=1e-6)
    small = torch.rand(1, 1, 20, 20)
    assert keep_mean(small + 1, small, LEVEL) is small


def test_a_cell_that_moved_more_than_noise_explains_comes_back() -> None:
    clean = torch.full((1, 1, 128, 128), 0.2)
    noisy = clean.clone()
    noisy[0, 0, 64:72, 64:72] += 0.05  # eight standard errors of the cell's mean: a detail that was taken for noise
    moved = (keep_mean(noisy, clean, LEVEL) - noisy)[0, 0, 64:72, 64:72].mean()
    assert abs(float(moved)) < 0.6 * 0.05


def test_an_outlier_does_not_glow() -> None:
    clean = torch.full((1, 1, 128, 128), 0.2)
    noisy = clean.clone()
    noisy[0, 0, 64, 64] = 5.0
    assert float((keep_mean(noisy, clean, LEVEL) - clean).max()) < 0.05 / 100


def test_no_more_than_the_noise_is_removed() -> None:
    """Noise n and an error e of its own, E = 1 + e: the best share is 1 / E, and leaves e / E of the noise's energy."""
    generator = torch.Generator().manual_seed(6)
    noise, error = 0.05 * torch.randn(2, 1, 3, 256, 256, generator=generator)
    clean = torch.rand(1, 3, 256, 256, generator=generator)
    for energy in (1.0, 3.0, 15.0):
        kept = keep_detail(clean + noise, clean + energy**0.5 * error, LEVEL)
        left = float((kept - clean).square().mean()) / 0.05**2
        share = min(1, 1.25 / (1 + energy))
        expected = (1 - share) ** 2 + share**2 * energy
        assert left == pytest.approx(expected, rel=0.06)  # E is told within a sixth here
        assert left < min(1.0, energy)


def test_what_is_noise_goes_whole_and_hot_pixels_with_it() -> None:
    generator = torch.Generator().manual_seed(7)
    clean = torch.full((1, 4, 250, 201), 0.3)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=generator)
    noisy[..., 100, 100] = 5.0
    assert float((keep_detail(noisy, clean, LEVEL) - clean).abs().max()) < 0.05 * 0.25
    assert torch.equal(keep_detail(noisy, noisy, LEVEL), noisy)
    silent = NoiseLevel(np.zeros(4), np.zeros(4))
    error = 0.02 * torch.randn(clean.shape, generator=generator)
    assert float((keep_detail(clean, clean + error, silent) - clean).abs().mean()) < 0.02 * 0.06


def test_keeping_detail_by_tiles_equals_the_whole() -> None:
    generator = torch.Generator().manual_seed(8)
    noisy, denoised = torch.rand(2, 1, 3, 160, 200, generator=generator)
    whole = keep_detail(noisy, denoised, LEVEL)
    tile = keep_detail(noisy[:, :, 16:, 8:160], denoised[:, :, 16:, 8:160], LEVEL)
    inner = slice(20, -20), slice(20, -20)
    assert torch.allclose(tile[:, :, inner[0], inner[1]], whole[:, :, 16:, 8:160][:, :, inner[0], inner[1]], atol=1e-6)
