"""The verdict: ok for true noise well removed, warn with the right reason for everything else."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from denoise import cfa
from denoise.errors import DenoiseError, ShapeError
from denoise.fidelity import LIMITS, check_fidelity
from denoise.images import Photo, RawImage
from noise_models.level import NoiseLevel

RANGE_DN = 15871.0
GAIN_DN, SIGMA_DN = 6.0, 8.0
LEVEL = NoiseLevel(np.array([GAIN_DN / RANGE_DN]), np.array([(SIGMA_DN**2 + 1 / 12) / RANGE_DN**2]))


def scaled(factor: float) -> NoiseLevel:
    """The level with its standard deviation times a factor."""
    return replace(LEVEL, shot=LEVEL.shot * factor**2, read=LEVEL.read * factor**2)


def blurred(planes: np.ndarray, radius: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(plane, (0, 0), radius) for plane in planes])


def scene(height: int = 256, width: int = 320) -> np.ndarray:
    """Clean planes (4, h, w): shaded discs over each other, softly focused."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    light = np.full((height, width), 0.2, np.float32)
    for _ in range(120):
        x, y, radius = generator.uniform(0, width), generator.uniform(0, height), generator.uniform(8, 60)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        light[inside] = generator.uniform(0.05, 0.7) ** 1.5 + 1e-4 * (columns - x)[inside]
    light = cv2.GaussianBlur(np.clip(light, 0.01, 0.8), (0, 0), 0.7)
    return np.stack([0.5 * light, light, light, 0.7 * light])


CLEAN = scene()


def raw(planes: np.ndarray, black_dn: float = 512.0, scale: int = 1) -> RawImage:
    levels = np.rint(cfa.unpack(planes, "RGGB") * (RANGE_DN * scale) + black_dn * scale)
    mosaic = np.clip(levels, 0, min(65535, (RANGE_DN + black_dn) * scale)).astype(np.uint16)
    return RawImage(mosaic, "RGGB", np.full((2, 2), black_dn * scale), (RANGE_DN + black_dn) * scale)


def spoiled(clean: np.ndarray = CLEAN, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    dn = generator.poisson(clean * RANGE_DN / GAIN_DN) * GAIN_DN + generator.normal(size=clean.shape) * SIGMA_DN
    return (dn / RANGE_DN).astype(np.float32)


NOISY = spoiled()


def good(noisy: np.ndarray = NOISY, clean: np.ndarray = CLEAN) -> np.ndarray:
    """What a good denoiser gives: the picture, and a little of the noise smoothed."""
    return clean + 0.6 * blurred(noisy - clean, 1.5)


def check(denoised: np.ndarray, level: NoiseLevel = LEVEL, noisy: np.ndarray = NOISY, strength: float = 1.0):
    return check_fidelity(raw(noisy), raw(denoised, scale=4), level, strength=strength)


def test_true_noise_well_removed_is_ok() -> None:
    report = check(CLEAN)
    assert (report.verdict, report.reasons) == ("ok", ())
    bound = 5 * np.sqrt(2 / (report.checked_share * NOISY[0].size / 4))
    assert report.variance_ratio == pytest.approx([1] * 4, abs=bound)
    assert max(map(abs, report.correlation)) < bound
    assert max(map(abs, report.banding)) < 0.01
    assert report.unchanged_share == pytest.approx(0.954, abs=4 * np.sqrt(0.05 * 0.95 / 320))
    assert abs(report.edge_excess) < 0.1
    assert report.checked_share > 0.9
    assert len(report.by_brightness) >= 3
    assert check(good()).verdict == "ok"


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_noise_left_is_measured_in_sigma(strength: float) -> None:
    denoised = CLEAN + (1 - strength) * (NOISY - CLEAN)
    report = check(denoised, strength=strength)
    assert report.verdict == "ok"
    assert report.noise_left == pytest.approx(1 - strength, abs=0.03)
    assert report.variance_ratio == pytest.approx([1] * 4, abs=0.05)
    assert "noise is left" in " ".join(check(denoised).reasons).lower()  # at full strength that is too much


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.4, 2.0])
def test_a_wrong_noise_level_is_noticed(factor: float) -> None:
    report = check(good(), scaled(factor))
    assert report.verdict == "warn"
    assert "times the predicted noise" in report.reasons[0]
    assert ("more than expected" in report.reasons[0]) == (factor < 1)


@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_lost_detail_is_noticed(radius: float) -> None:
    for denoised in (blurred(NOISY, radius), blurred(CLEAN, radius)):
        report = check(denoised)
        assert report.verdict == "warn"
        assert any("Edges show" in reason for reason in report.reasons)
        assert report.edge_correlation > 0.2


def test_a_colour_cast_is_noticed() -> None:
    report = check(good() * np.array([1.02, 1, 1, 1], np.float32)[:, None, None])
    assert report.verdict == "warn"
    assert any("brighter" in reason for reason in report.reasons)
    assert report.shift == pytest.approx([0.02, 0, 0, 0], abs=2e-3)


def test_banding_and_blotches_are_noticed() -> None:
    sigma = np.sqrt(LEVEL.shot[0] * CLEAN + LEVEL.read[0])
    generator = np.random.default_rng(3)
    for shape, place in (((4, 256, 1), 0), ((4, 1, 320), 1)):
        bands = 0.35 * generator.normal(size=shape) * sigma
        report = check(good(), noisy=(NOISY + bands).astype(np.float32))
        assert report.verdict == "warn"
        assert any("banding" in reason for reason in report.reasons)
        assert report.banding[place] == pytest.approx(0.35**2 / (1 + 0.35**2), rel=0.4)
    grain = blurred(generator.normal(size=CLEAN.shape), 0.8)
    report = check(CLEAN, noisy=(CLEAN + grain / grain.std() * sigma).astype(np.float32))
    assert any("neighbouring pixels agree" in reason for reason in report.reasons)


def test_noise_left_behind_is_noticed() -> None:
    report = check(NOISY)
    assert report.verdict == "warn"
    assert any("Noise is left: 1.0" in reason for reason in report.reasons)


def test_clipped_pixels_stay_out() -> None:
    clean = CLEAN.copy()
    clean[:, :80] = 0.0
    clean[:, 200:] = 1.1
    noisy = spoiled(clean)
    assert check_fidelity(raw(noisy, 0.0), raw(np.clip(clean, 0, 1), 0.0, 4), LEVEL).verdict == "ok"
    report = check_fidelity(raw(np.ones_like(CLEAN)), raw(np.ones_like(CLEAN)), LEVEL)
    assert report.verdict == "warn"
    assert "could be checked" in report.reasons[0]


def test_a_photograph_is_checked_too() -> None:
    generator = np.random.default_rng(4)
    clean = CLEAN[:3].transpose(1, 2, 0)
    noisy = clean + generator.normal(size=clean.shape) * 0.05
    photos = [Photo(np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)) for values in (noisy, clean)]
    level = NoiseLevel(np.array([0.0]), np.array([0.05**2]))
    assert check_fidelity(photos[0], photos[1], level).verdict == "ok"
    assert check_fidelity(photos[0], photos[1], level.left(2.0)).verdict == "warn"


def test_the_report_is_plain_json() -> None:
    report = check(good())
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["verdict"] == "ok"
    assert plain["by_brightness"][0].keys() == {"low", "high", "variance_ratio", "pixels"}
    assert set(LIMITS) >= {"variance_low", "correlation", "edge_excess"}
    nothing = check(NOISY, strength=0.0)
    assert nothing.verdict == "ok"
    assert json.loads(json.dumps(nothing.to_dict(), allow_nan=False))["noise_left"] is None


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ShapeError, match="same picture"):
        check_fidelity(raw(NOISY), raw(NOISY[:, :100]), LEVEL)
    with pytest.raises(DenoiseError, match="between 0"):
        check(NOISY, strength=1.5)
