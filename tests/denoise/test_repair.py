"""A profile's fixed pattern is taken out of a photograph; broken pixels take their colour's neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denoise.errors import ShapeError
from denoise.images import RawImage
from denoise.repair import mend_pixels, remove_fixed_pattern
from noise_models.base import ProfileError, SensorSettings
from noise_models.fixed_pattern import FixedPattern
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile


@pytest.fixture
def profile(tmp_path: Path) -> CameraProfile:
    """The A7S2 with a fixed pattern of 8x10 pixels."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    shading = np.broadcast_to(0.25 * rows, (2, 8, 10)).copy()
    hot, dead = np.zeros((8, 10), bool), np.zeros((8, 10), bool)
    hot[2, 3] = dead[5, 6] = True
    FixedPattern(shading, np.zeros((8, 10), np.float32), hot, dead).save(tmp_path / "mine.npz")
    mine = load_profile("sony-a7s2").model_copy(update={"fixed_pattern": "mine.npz"})
    mine.save(tmp_path / "mine.json")
    return CameraProfile.load(tmp_path / "mine.json")


def shot(shape: tuple[int, int] = (8, 10), iso: float = 3200) -> RawImage:
    rows = np.arange(shape[0])[:, None]
    mosaic = np.broadcast_to(1000 + rows // 4, shape).astype(np.uint16).copy()
    return RawImage(mosaic, "RGGB", np.full((2, 2), 512.0), 16383.0, SensorSettings(iso, 0.1))


def test_shading_below_one_step_counts_and_hot_pixels_go(profile: CameraProfile) -> None:
    image = shot()
    image.mosaic[2, 3] = 16000
    image.mosaic[5, 6] = 0
    mended = remove_fixed_pattern(image, profile)
    expected = (1000 + np.arange(8)[:, None] // 4 - 0.25 * np.arange(8)[:, None]) * 4
    sound = np.ones((8, 10), bool)
    sound[2, 3] = sound[5, 6] = False
    np.testing.assert_array_equal(mended.mosaic[sound], np.broadcast_to(expected, (8, 10))[sound])
    assert abs(int(mended.mosaic[2, 3]) - expected[2, 0]) <= 4
    assert abs(int(mended.mosaic[5, 6]) - expected[5, 0]) <= 4
    assert mended.white_dn == 4 * 16383
    assert "2 hot or dead" in mended.history[-1]


def test_only_the_same_colour_is_asked() -> None:
    levels = np.zeros((6, 6), np.float32)
    levels[::2, ::2] = 7
    broken = np.zeros((6, 6), bool)
    broken[2, 2] = broken[0, 2] = True
    levels[broken] = 999
    mend_pixels(levels, broken, "RGGB")
    assert levels[2, 2] == levels[0, 2] == 7


def test_what_does_not_fit_is_refused(profile: CameraProfile) -> None:
    with pytest.raises(ShapeError, match="same size and crop"):
        remove_fixed_pattern(shot((8, 12)), profile)
    with pytest.raises(ProfileError, match="ISO"):
        remove_fixed_pattern(shot(iso=0), profile)
    plain = load_profile("sony-a7s2")
    image = shot()
    assert remove_fixed_pattern(image, plain) is image
