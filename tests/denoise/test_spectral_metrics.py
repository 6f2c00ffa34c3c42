"""Metrics of cubes against their definitions and against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from denoise.cubes.metrics import band_psnr_db, band_ssim, ergas, sam_deg, steady_stripe_energy, stripe_energy
from denoise.errors import ShapeError

RNG = np.random.default_rng(3)
CLEAN = 0.2 + 0.5 * RNG.random((6, 20, 24))


def test_psnr_of_a_known_error_band_by_band() -> None:
    errors = np.array([0.1, 0.01, 0.001, 1.0, 0.0, 0.5])
    expected = [20, 40, 60, 0, math.inf, -20 * math.log10(0.5)]
    assert band_psnr_db(CLEAN + errors[:, None, None], CLEAN) == pytest.approx(expected)


def test_ssim_is_that_of_scikit_image() -> None:
    noisy = CLEAN + 0.1 * RNG.standard_normal(CLEAN.shape)
    expected = [structural_similarity(a, b, data_range=1.0) for a, b in zip(noisy, CLEAN, strict=True)]
    assert band_ssim(noisy, CLEAN) == pytest.approx(expected)
    assert band_ssim(CLEAN, CLEAN) == pytest.approx(np.ones(6))


def test_the_angle_is_in_degrees_and_blind_to_brightness() -> None:
    first, second = np.zeros((2, 1, 2)), np.zeros((2, 1, 2))
    first[0], second[0] = 1.0, 1.0
    second[1, 0, 0] = 1.0  # 45 degrees in the first pixel, 0 in the second
    assert sam_deg(first, second) == pytest.approx(22.5)
    assert sam_deg(3 * CLEAN, CLEAN) == pytest.approx(0.0, abs=1e-5)
    assert math.isnan(sam_deg(np.zeros((2, 3, 3)), np.zeros((2, 3, 3))))


def test_ergas_is_the_relative_error_in_percent() -> None:
    assert ergas(1.05 * np.ones((4, 5, 5)), np.ones((4, 5, 5))) == pytest.approx(5.0)
    assert ergas(CLEAN * 1.0, CLEAN) == 0.0
    scale = np.array([1, 10, 100, 1, 1, 1])[:, None, None]
    noisy = CLEAN + 0.01
    assert ergas(noisy * scale, CLEAN * scale) == pytest.approx(ergas(noisy, CLEAN))


def test_stripes_have_the_energy_that_was_put_in_and_a_scene_has_none() -> None:
    columns = np.sin(np.arange(200) ** 2.0)  # a rough scene, alike in all bands
    scene = np.linspace(0.5, 1, 12)[:, None, None] * columns[None, None, :] * np.ones((12, 30, 200))
    assert stripe_energy(scene) == pytest.approx(np.zeros(12), abs=1e-10)
    offsets = 0.1 * RNG.standard_normal(200)
    striped = scene.copy()
    striped[5] += offsets
    energy = stripe_energy(striped)
    assert energy[5] == pytest.approx(1.5 * 0.1**2, rel=4 * (2 / 200) ** 0.5)
    assert stripe_energy(scene + (striped - scene) / 4)[5] == pytest.approx(energy[5] / 16, rel=1e-3)


def test_steady_stripes_are_told_from_noise_and_spoilt_values() -> None:
    rng = np.random.default_rng(5)
    cube = np.linspace(0.5, 1, 12)[:, None, None] + 0.1 * rng.standard_normal((12, 40, 200))
    cube[5] += 0.05 * rng.standard_normal(200)
    cube[8, :20] -= 2.0 * (rng.random((20, 200)) < 0.05)  # impulses on one half: stripes to `stripe_energy`
    energy, error = steady_stripe_energy(cube)
    assert energy[5] == pytest.approx(1.5 * 0.05**2, abs=5 * error[5])
    assert energy[5] > 5 * error[5]
    assert stripe_energy(cube)[8] > 5 * 1.5 * 0.1**2 / 40
    others = np.arange(12) != 5
    assert (np.abs(energy[others]) < 4.5 * error[others]).all()


@pytest.mark.parametrize("metric", [band_psnr_db, band_ssim, sam_deg, ergas])
def test_cubes_of_two_shapes_are_refused(metric) -> None:
    with pytest.raises(ShapeError, match=r"\(6, 20, 24\)"):
        metric(CLEAN, CLEAN[:, 1:])
    with pytest.raises(ShapeError):
        stripe_energy(np.zeros((3, 4)))
    with pytest.raises(ShapeError, match="both halves"):
        steady_stripe_energy(np.zeros((3, 1, 4)))
