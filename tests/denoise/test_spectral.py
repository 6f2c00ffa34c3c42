"""What a cube says of itself: noise, rank, stripes, dead elements, limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from made_cubes import made_cube

from denoise.cubes.band_noise import blur, robust_sigma, sigma_by_differences, signal_spectra
from denoise.cubes.flaws import find_flaws
from denoise.cubes.low_rank import fit_low_rank
from denoise.cubes.spectra import refit
from denoise.cubes.spectral import band_quality
from denoise.cubes.stripes import column_offsets, weighted_fit

BANDS, HEIGHT, WIDTH, RANK = 60, 64, 72, 4


def noise(shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    return made_cube(BANDS, HEIGHT, WIDTH, RANK)


@pytest.fixture(scope="module")
def sigmas() -> torch.Tensor:
    return 0.01 * 3 ** torch.linspace(0, 2, BANDS)[torch.randperm(BANDS, generator=torch.Generator().manual_seed(2))]


def test_sigma_rank_and_ranking_are_found(clean: torch.Tensor, sigmas: torch.Tensor) -> None:
    quality = band_quality(clean + noise(clean.shape) * sigmas[:, None, None])
    # The median's standard error is 1.17 times that of a standard deviation.
    assert float((quality.sigma / sigmas - 1).abs().max()) < 4.5 * 1.17 / math.sqrt(2 * HEIGHT * WIDTH)
    assert quality.rank == RANK
    truth = clean.mean((1, 2)) / sigmas
    assert np.corrcoef(quality.snr.numpy(), truth.numpy())[0, 1] > 0.999
    assert quality.best_first[0] == int(truth.argmax())
    assert int((quality.striped * WIDTH).sum()) <= 1  # 4.5 standard errors, 4320 columns: by chance 0.03
    assert float(quality.dead.max()) == 0.0


def test_stripes_dead_columns_and_spikes_do_not_spoil_the_noise(clean: torch.Tensor, sigmas: torch.Tensor) -> None:
    noisy = clean + noise(clean.shape) * sigmas[:, None, None]
    noisy[10, :, 5] += 0.2
    noisy[40, :, 30] = 0.0
    noisy[20].view(-1)[::23] += 1.0
    quality = band_quality(noisy)
    assert float((quality.sigma / sigmas - 1).abs().max()) < 0.1
    assert quality.rank == RANK
    assert float(quality.striped[10]) == pytest.approx(1 / WIDTH)
    assert int((quality.striped * WIDTH).sum()) <= 2
    assert quality.dead.nonzero().flatten().tolist() == [40]


def test_offsets_are_those_that_were_added(clean: torch.Tensor) -> None:
    noisy = clean + 0.02 * noise(clean.shape)
    offsets = torch.zeros(BANDS, WIDTH)
    bands, columns = torch.arange(0, BANDS, 3), torch.arange(20) * 3 % WIDTH
    offsets[bands, columns] = 0.05 * torch.sign(noise((20,)))
    found = fit_low_rank(noisy + offsets[:, None, :], find_flaws(noisy)).offsets
    assert bool((found[offsets != 0] != 0).all())
    assert int((found[offsets == 0] != 0).sum()) <= 1
    assert float((found - offsets)[offsets != 0].abs().max()) < 5 * 0.02 / math.sqrt(HEIGHT)


def test_a_cube_without_signal_has_one_spectrum_and_its_noise() -> None:
    quality = band_quality(0.5 + 0.1 * noise((40, 64, 64)))
    assert quality.rank == 1
    assert quality.sigma.numpy() == pytest.approx(0.1, rel=0.08)


def test_the_blur_keeps_a_mean_and_states_its_gain() -> None:
    white = noise((4, 256, 256))
    smooth, gain = blur(white + 3.0, 1.0)
    assert float(smooth.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(smooth.var()) == pytest.approx(gain, rel=0.03)


def test_signal_below_white_noise_is_found_because_it_is_smooth() -> None:
    """An eigenvalue of 1.1 drowns in the Marchenko-Pastur bulk, which ends at 1.21 here; not after the blur."""
    rows = torch.arange(128.0)[:, None] + torch.arange(128.0)
    weak = 0.35 * torch.sin(rows / 12)
    spectrum = torch.nn.functional.normalize(torch.ones(160), dim=0)
    whitened = noise((160, 128, 128)) + spectrum[:, None, None] * weak * 2**0.5
    found = signal_spectra(whitened, 10)
    assert found.shape == (160, 1)
    assert float((found[:, 0] @ spectrum).abs()) > 0.8


def test_differences_see_noise_not_slopes_nor_stripes() -> None:
    ramp = torch.linspace(0, 50, 80)[:, None] + 10 * noise((1, 90))
    planes = (ramp + 0.3 * noise((80, 90)))[None]
    assert float(sigma_by_differences(planes, torch.ones_like(planes, dtype=torch.bool))) == pytest.approx(
        0.3, rel=0.07
    )


@pytest.mark.parametrize(("rows", "every"), [(90, 3), (90, 9), (2, 1)])
def test_sigma_is_that_of_the_valid_values_where_no_three_neighbours_are(rows: int, every: int) -> None:
    planes = noise((1, rows, 400))
    valid = torch.zeros_like(planes, dtype=torch.bool)
    valid[:, ::every] = True
    planes[~valid] = 1e6
    assert float(sigma_by_differences(planes, valid)) == pytest.approx(1.0, rel=0.05)


def test_where_nothing_is_valid_sigma_is_unknown() -> None:
    planes = noise((2, 20, 20))
    valid = torch.ones_like(planes, dtype=torch.bool)
    valid[1] = False
    assert torch.isfinite(robust_sigma(planes, valid)).tolist() == [True, False]


def test_limits_are_found_and_a_dark_band_of_whole_numbers_has_none() -> None:
    planes = noise((4, 60, 60))
    planes[1] = planes[1].clamp(min=-0.5)
    planes[2].view(-1)[::7] = 7.0
    planes[3] = (0.8 * planes[3]).round()
    flaws = find_flaws(planes)
    assert torch.isfinite(flaws.low).tolist() == [False, True, False, False]
    assert torch.isfinite(flaws.high).tolist() == [False, False, True, False]
    assert not flaws.valid[1][planes[1] == -0.5].any()
    assert flaws.valid[0].all()
    assert flaws.valid[3].all()


def test_a_flat_scene_is_no_dead_detector() -> None:
    planes = torch.linspace(0, 1, 30)[None, None, :].expand(5, 40, 30).contiguous()
    planes[3] = 0.5
    flaws = find_flaws(planes)
    assert not flaws.stuck[:3].any()
    assert flaws.valid.flatten(1).all(1).tolist() == [True, True, True, False, True]


def test_a_weighted_fit_leaves_out_what_does_not_count() -> None:
    spectra, images = noise((30, 3)), noise((3, 500), 2)
    values = spectra @ images
    weight = torch.ones(30, 500)
    weight[4, ::3] = 0
    values[4, ::3] = 1e3
    fitted, covariance = weighted_fit(values, weight, spectra)
    assert torch.allclose(fitted, images, atol=1e-3)
    exact = torch.linalg.inv(spectra.T @ spectra)
    assert torch.allclose(covariance, exact, rtol=0.15, atol=0.1 * float(exact.abs().max()))


def test_offsets_of_few_bands_are_left_alone() -> None:
    flat = torch.zeros(4, 30, 20)
    flat[1, :, 3] = 5.0
    offsets = column_offsets(flat, torch.ones_like(flat, dtype=torch.bool), torch.ones(4, 1), torch.ones(4))
    assert not offsets.any()


def test_what_all_columns_share_is_no_stripe() -> None:
    residual = 0.1 * noise((12, 40, 50))
    residual[5] += 0.3
    residual[5, :, 7] += 0.4
    flat = torch.ones(12, 1)
    found = column_offsets(residual, torch.ones_like(residual, dtype=torch.bool), flat, torch.full((12,), 0.1))
    assert found.nonzero().tolist() == [[5, 7]]
    assert float(found[5, 7]) == pytest.approx(0.4, abs=5 * 0.1 / math.sqrt(40))


def test_a_band_that_was_cut_off_is_what_its_neighbours_say(clean: torch.Tensor) -> None:
    """A band whose zeros hide half of its noise has a mean far too high; its neighbours know better."""
    clean = 0.3 * clean
    noisy = clean + 0.03 * noise(clean.shape)
    noisy[30] = (clean[30] + 0.4 * noise(clean[30].shape, 5)).clamp(0, 1)
    flaws = find_flaws(noisy)
    model = fit_low_rank(noisy, flaws)
    images, _ = model.images(noisy)
    model = refit(model, noisy, images, flaws)
    error = (model.cube(images, noisy.shape)[30] - clean[30]).mean().abs()
    assert float((noisy[30] - clean[30]).mean().abs()) > 0.05
    assert float(error) < 0.01
