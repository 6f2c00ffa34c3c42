"""Whole frames: what a camera writes of a scene, in the dark, of a flat field."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from noise_models.base import NoiseModelError, ProfileError
from noise_models.poisson_gaussian import PoissonGaussianNoise
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark, simulate_flat, simulate_mosaic

SHAPE = (300, 400)
PIXELS = SHAPE[0] * SHAPE[1]


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def sony() -> CameraProfile:
    return load_profile("sony-a7s2")


@pytest.mark.parametrize("iso", [100.0, 1600.0, 25600.0])
def test_a_dark_frame_has_black_bias_and_noise(sony: CameraProfile, iso: float) -> None:
    dark = simulate_dark(sony, iso, SHAPE, generator=generator())
    point = sony.at(iso)
    assert dark.dtype == np.uint16
    assert dark.shape == SHAPE
    error = math.sqrt(point.read_sigma_dn**2 / PIXELS + point.row_sigma_dn**2 / SHAPE[0] + point.bias_sigma_dn**2)
    assert dark.mean() == pytest.approx(512 + point.bias_dn[0][0], abs=4 * error + 1e-3)
    within = (dark - dark.mean(1, keepdims=True)).var() * SHAPE[1] / (SHAPE[1] - 1)
    assert within == pytest.approx(point.read_sigma_dn**2 + 1 / 12, rel=4 * math.sqrt(4 / PIXELS) + 0.003)


def test_a_camera_of_unknown_gain_takes_dark_frames_and_no_flat_ones(sony: CameraProfile) -> None:
    points = tuple(point.model_copy(update={"gain_dn_per_e": None}) for point in sony.points)
    profile = sony.model_copy(update={"points": points})
    assert simulate_dark(profile, 800, SHAPE, generator=generator()).std() > 3
    with pytest.raises(ProfileError, match="dark frames alone"):
        simulate_flat(profile, 800, 100.0, SHAPE, generator=generator())


def test_pairs_of_flat_frames_show_the_gain(sony: CameraProfile) -> None:
    draw = generator()
    point = sony.at(3200)
    slopes = []
    for electrons in (50.0, 400.0, 2000.0):
        one, two = (
            simulate_flat(sony, 3200, electrons, SHAPE, generator=draw).astype(np.float64) - 512 for _ in range(2)
        )
        noise = point.read_sigma_dn**2 + point.row_sigma_dn**2 + 1 / 12
        slopes.append((((one - two).var() / 2 - noise) / (one.mean() - point.bias_dn[0][0]), electrons))
    for slope, electrons in slopes:
        assert slope == pytest.approx(point.gain_dn_per_e, rel=4 * math.sqrt(2 / PIXELS) * 1.3 + 2 / electrons / 50)


def test_a_flat_field_may_be_uneven(sony: CameraProfile) -> None:
    light = np.linspace(10, 1000, SHAPE[1], dtype=np.float32)[None].repeat(SHAPE[0], 0)
    flat = simulate_flat(sony, 800, light, SHAPE, generator=generator())
    expected = 512 + sony.at(800).bias_dn[0][0] + light[0] * sony.gain_dn_per_e(800)
    assert flat.mean(0) == pytest.approx(expected, abs=6 * math.sqrt(1000 * 0.765**2 / SHAPE[0]))


def test_a_scene_comes_out_darker_by_the_ratio(sony: CameraProfile) -> None:
    planes = torch.stack([torch.full((64, 80), level) for level in (0.8, 0.6, 0.5, 0.2)])
    mosaic = simulate_mosaic(planes, sony, 800, 10.0, generator=generator())
    assert mosaic.shape == (128, 160)
    for level, (row, column) in zip((0.8, 0.6, 0.5, 0.2), sony.positions, strict=True):
        expected_dn = level / 10 * (16383 - 512)
        found = mosaic[row::2, column::2].mean() - 512 - sony.at(800).bias_dn[0][0]
        error = math.sqrt((sony.gain_dn_per_e(800) * expected_dn + 13) / (64 * 80)) + 0.1
        assert found == pytest.approx(expected_dn, abs=4 * error)
    packed = simulate_mosaic(torch.full((128, 160), 0.5).numpy(), sony, 800, generator=generator())
    assert packed.shape == (128, 160)


def test_a_scene_beyond_white_is_clipped_by_the_converter(sony: CameraProfile) -> None:
    mosaic = simulate_mosaic(torch.full((4, 32, 32), 1.5), sony, 800, generator=generator())
    assert mosaic.max() == mosaic.min() == 16383


def test_the_phone_never_leaves_its_ten_bits() -> None:
    phone = load_profile("xiaomi-redmi-k30")
    for frame in (
        simulate_dark(phone, 6400, SHAPE, generator=generator()),
        simulate_mosaic(torch.rand((4, 64, 64), generator=generator()), phone, 6400, generator=generator()),
    ):
        assert frame.max() <= 1023


def test_another_model_may_be_named_or_given(sony: CameraProfile) -> None:
    scene = torch.full((4, 32, 32), 0.1)
    named = simulate_mosaic(scene, sony, 800, generator=generator(), model="poisson-gaussian")
    given = simulate_mosaic(scene, sony, 800, generator=generator(), model=PoissonGaussianNoise(sony))
    assert np.array_equal(named, given)
    with pytest.raises(NoiseModelError, match="Did you mean 'eld'"):
        simulate_mosaic(scene, sony, 800, generator=generator(), model="elt")
    with pytest.raises(NoiseModelError, match="not built from a profile alone"):
        simulate_mosaic(scene, sony, 800, generator=generator(), model="virtual")


def test_the_same_seed_is_the_same_frame(sony: CameraProfile) -> None:
    first, again, other = (simulate_dark(sony, 800, SHAPE, generator=generator(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("scene", "ratio"), [(torch.zeros((3, 8, 8)), 1.0), (torch.zeros((4, 8, 8)), 0.0), (torch.zeros(8), 1.0)]
)
def test_what_is_no_scene_is_refused(sony: CameraProfile, scene: torch.Tensor, ratio: float) -> None:
    with pytest.raises(NoiseModelError):
        simulate_mosaic(scene, sony, 800, ratio, generator=generator())
