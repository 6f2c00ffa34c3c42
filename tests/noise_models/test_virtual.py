"""Virtual cameras: sound, wide, repeatable, and as noisy as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noise_models.base import NoiseModelError, ProfileError, SensorSettings
from noise_models.profile import CameraProfile
from noise_models.virtual import GAIN_RANGE_DN_PER_E, ISO_RANGE, VirtualCameraNoise, draw_camera


@pytest.fixture(scope="module")
def cameras() -> list[CameraProfile]:
    generator = torch.Generator().manual_seed(0)
    return [draw_camera(generator) for _ in range(400)]


def test_cameras_cover_the_ranges_that_are_promised(cameras: list[CameraProfile]) -> None:
    gains = np.array([[point.gain_dn_per_e for point in camera.points] for camera in cameras], float)
    lowest, highest = GAIN_RANGE_DN_PER_E
    assert gains.min() >= lowest * (1 - 1e-9)
    assert gains.min() < 1.2 * lowest
    assert gains.max() <= highest * (1 + 1e-9)
    assert gains.max() > highest / 1.2
    assert {camera.bit_depth for camera in cameras} == {10, 12, 14, 16}
    assert {camera.cfa for camera in cameras} == {"RGGB", "GRBG", "GBRG", "BGGR"}
    assert {camera.iso_range for camera in cameras} == {ISO_RANGE}
    shapes = np.array([point.read_lambda for camera in cameras for point in camera.points])
    assert shapes.min() >= -0.35
    assert shapes.min() < -0.25
    assert shapes.max() > 0.15
    dual = np.mean([bool(camera.breaks_iso) for camera in cameras])
    assert dual == pytest.approx(0.4, abs=4 * math.sqrt(0.24 / 400))
    banded = [camera.points[0].row_sigma_dn / camera.points[0].read_sigma_dn for camera in cameras]
    assert max(banded) > 0.35
    assert min(banded) < 0.02


def test_the_second_gain_mode_is_quieter(cameras: list[CameraProfile]) -> None:
    for camera in cameras:
        for edge in camera.breaks_iso:
            above = camera.at(edge)
            below = camera.at(edge / 2)
            growth = above.read_sigma_dn / below.read_sigma_dn
            assert growth < 2**1.0 * 0.8 + 1e-9


def test_the_same_seed_draws_the_same_camera() -> None:
    first, again, other = (draw_camera(torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert first == again
    assert first != other
    assert draw_camera(torch.Generator().manual_seed(4), bit_depth=12).bit_depth == 12


def test_images_are_as_noisy_as_their_level_says() -> None:
    noise_model = VirtualCameraNoise(without={"scatter", "bias", "dark-current", "clip", "quantise"})
    clean = torch.full((48, 1, 128, 128), 0.05)
    noisy, level = noise_model.spoil(clean, generator=torch.Generator().manual_seed(1))
    assert level.shot.shape == level.read.shape == (48, 1)
    variance = level.variance(np.full((48, 1), 0.05))[:, 0]
    # Within rows and columns only: their values are few, and their sample variance wide.
    residual = (noisy - clean)[:, 0].double().numpy()
    residual = residual - residual.mean(1, keepdims=True) - residual.mean(2, keepdims=True)
    ratios = residual.var(axis=(1, 2)) / variance
    # The level also holds rows, columns and rounding, which this residual lacks.
    assert (ratios < 1.25).all()
    assert np.median(ratios) == pytest.approx(1, abs=0.05)


def test_each_image_has_a_camera_of_its_own() -> None:
    settings = [SensorSettings(iso=800, exposure_s=0.01)] * 6
    model = VirtualCameraNoise(white_dn=1000.0)
    noisy = model(torch.zeros((6, 1, 64, 64)), settings, generator=torch.Generator().manual_seed(0))
    sigmas = noisy.std(dim=(1, 2, 3))
    assert float(sigmas.max() / sigmas.min()) > 1.5
    assert float(noisy.max()) <= 1000.0


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(NoiseModelError, match="above 0"):
        VirtualCameraNoise(white_dn=0.0)
    with pytest.raises(ProfileError, match="covers ISO"):
        VirtualCameraNoise()(
            torch.zeros((1, 1, 8, 8)), [SensorSettings(50, 0.01)], generator=torch.Generator().manual_seed(0)
        )
