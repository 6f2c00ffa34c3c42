"""The standard noise cases are what the field defines."""

from __future__ import annotations

import math

import pytest
import torch

from noise_models.base import NoiseModelError
from noise_models.cube_cases import CUBE_CASES, IMPULSE_DENSITIES, SIGMAS, spoil_cube
from noise_models.finch_stripes import StripeSettings, add_finch_stripes

BANDS, HEIGHT, WIDTH = 31, 60, 50


def spoil(case: str, seed: int = 1) -> torch.Tensor:
    return spoil_cube(torch.full((BANDS, HEIGHT, WIDTH), 0.5), case, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sigma", [2, 30, 70])
def test_gaussian_noise_has_its_sigma_and_is_not_cut(sigma: int) -> None:
    noise = spoil(f"gaussian-{sigma}") - 0.5
    assert float(noise.std()) == pytest.approx(sigma / 255, rel=4 * (0.5 / noise.numel()) ** 0.5)
    if sigma == 70:
        assert float(noise.max()) > 0.5


@pytest.mark.parametrize("case", CUBE_CASES)
def test_each_band_has_one_of_the_four_sigmas(case: str) -> None:
    noisy = spoil(case)
    assert torch.equal(noisy, spoil(case))
    assert not torch.equal(noisy, spoil(case, 2))
    if case in ("impulse", "mixture"):
        return
    moves = (noisy[:, 1:] - noisy[:, :-1]) / 2**0.5
    sigmas = torch.stack([band[:, band.any(0)].flatten().std() for band in moves])  # dead columns do not move
    nearest = torch.tensor(SIGMAS)[(sigmas[:, None] - torch.tensor(SIGMAS)).abs().argmin(1)]
    assert float((sigmas / nearest - 1).abs().max()) < 5 * (0.75 / (HEIGHT * WIDTH * 0.85)) ** 0.5
    assert len(set(nearest.tolist())) == len(SIGMAS)


def test_stripes_lie_on_a_third_of_the_bands_and_a_twentieth_to_three_of_the_columns() -> None:
    clean = torch.full((BANDS, 2000, WIDTH), 0.5)
    offsets = spoil_cube(clean, "stripe", generator=torch.Generator().manual_seed(3)).mean(1) - 0.5
    striped = offsets.abs() > 5 * SIGMAS[-1] / 2000**0.5
    counts = striped.sum(1)
    assert int((counts > 0).sum()) == BANDS // 3
    assert int(counts.max()) <= math.ceil(0.15 * WIDTH)
    assert float(offsets.abs().max()) <= 0.25 + 5 * SIGMAS[-1] / 2000**0.5


def test_dead_columns_are_zero() -> None:
    dead = (spoil("deadline") == 0).all(1).sum(1)
    assert int((dead > 0).sum()) == BANDS // 3
    assert set(dead[dead > 0].tolist()) <= set(range(math.ceil(0.05 * WIDTH), math.ceil(0.15 * WIDTH) + 1))


def test_impulses_are_salt_and_pepper_alike_and_cut_their_band() -> None:
    clean = torch.full((30, 200, 200), 0.5)
    noisy = spoil_cube(clean, "impulse", generator=torch.Generator().manual_seed(5))
    hit = [band for band in noisy if float((band == 1).float().mean()) > 0.04]
    assert len(hit) == 10
    for band in hit:
        assert 0 <= float(band.min()) <= float(band.max()) <= 1
        salt, pepper = float((band == 1).float().mean()), float((band == 0).float().mean())
        assert salt == pytest.approx(pepper, abs=4 * (0.5 / 200**2) ** 0.5)
        least = min(abs(salt + pepper - density) for density in IMPULSE_DENSITIES)
        assert least < 0.08  # the densest noise, sigma 70, is cut in 7 % of what impulses leave


def test_no_band_of_the_mixture_has_two_flaws() -> None:
    noisy = spoil("mixture", 4)
    dead = (noisy == 0).all(1).any(1)
    salted = (noisy == 1).float().mean((1, 2)) > 0.01
    assert int(dead.sum()) == int(salted.sum()) == BANDS // 3
    assert not (dead & salted).any()


def test_what_is_not_a_case_is_answered() -> None:
    with pytest.raises(NoiseModelError, match="Did you mean 'mixture'"):
        spoil("mixtures")
    with pytest.raises(NoiseModelError, match="float32"):
        spoil_cube(torch.zeros(3, 4, 5, dtype=torch.float64), "stripe", generator=torch.Generator())


def finch(settings: StripeSettings | None, seed: int = 1, bands: int = 8) -> torch.Tensor:
    ramp = torch.linspace(0, 1, 80)[None, :, None].expand(bands, 80, 60).contiguous()
    return add_finch_stripes(ramp, settings, generator=torch.Generator().manual_seed(seed)) - ramp


@pytest.mark.parametrize("seed", range(6))
def test_finch_stripes_brighten_whole_columns_or_pieces(seed: int) -> None:
    whole = finch(StripeSettings(fragmented=False), seed)
    assert torch.allclose(whole, whole[:, :1].expand_as(whole), atol=1e-6)
    assert float(whole.min()) >= -1e-6
    pieces = finch(StripeSettings(most_clusters=1), seed)
    partly = ((pieces > 1e-6).any(1) & (pieces <= 1e-6).any(1)).sum()
    assert int(partly) > 0
    assert int((pieces > 1e-6).any(1).sum(1).max()) <= 30


def test_finch_stripes_have_the_strength_that_was_asked_for() -> None:
    steps = finch(StripeSettings(intensity=0.2, most_clusters=0, fragmented=False), bands=60)[:, 0]
    drawn = steps[steps.abs() > 1e-6]
    strength = float(drawn.square().mean().sqrt())  # of |N(0, s^2)|: s, from 0.15 to 0.25
    assert 0.15 * (1 - 4 / (2 * len(drawn)) ** 0.5) < strength < 0.25 * (1 + 4 / (2 * len(drawn)) ** 0.5)


def test_columns_are_those_of_the_first_band_if_asked() -> None:
    same = (finch(StripeSettings(by_band=False, fragmented=False)) > 1e-6).any(1)
    assert torch.equal(same, same[:1].expand_as(same))
    assert not torch.equal(finch(None)[0] > 1e-6, finch(None)[1] > 1e-6)


def test_an_impossible_stripe_is_refused() -> None:
    with pytest.raises(NoiseModelError, match="0 to 1"):
        StripeSettings(frequency=2.0)
