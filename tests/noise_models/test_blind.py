"""The noise of one image, against noise that was put there."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from noise_models.base import NoiseModelError
from noise_models.blind import estimate, measure
from noise_models.blocks import haar_energies, sample_windows

DATA = Path(os.environ.get("DENOISE_DATA", Path(__file__).parents[3] / "shared" / "data"))
A7S2 = {100: (0.0956, 1.0067), 800: (0.765, 3.5476), 3200: (3.0602, 3.9194), 25600: (24.4813, 25.853)}
"""DN per electron and read noise [DN] by ISO."""
RANGE_DN = 15871.0
SIGNALS = np.array([0.02, 0.1, 0.4])


def scene(height: int = 384, width: int = 512, seed: int = 0) -> np.ndarray:
    """A clean mosaic's planes (4, h, w): shaded discs that cover each other, some with texture, softly focused."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    light = np.full((height, width), 0.2, np.float32)
    for _ in range(220):
        x, y, radius = generator.uniform(0, width), generator.uniform(0, height), generator.uniform(8, 70)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        level, slope = generator.uniform(0.02, 0.7) ** 1.5, generator.normal(size=2) * 0.1 / width
        disc = level + slope[0] * (columns - x) + slope[1] * (rows - y)
        if generator.random() < 0.3:
            disc = disc * (1 + 0.3 * np.sin(generator.uniform(0.3, 1.5) * columns + generator.uniform(0, 1) * rows))
        light[inside] = disc[inside]
    light = cv2.GaussianBlur(np.clip(light, 0.004, 0.8), (0, 0), 0.8)
    return np.stack([0.5 * light, light, light, 0.7 * light])


def spoil(
    clean: np.ndarray, gain_dn: float, sigma_dn: float, seed: int = 1, *, black_clips: bool = False
) -> np.ndarray:
    """Add photon and read noise, round to the converter's steps, clip at white."""
    generator = np.random.default_rng(seed)
    dn = generator.poisson(clean * RANGE_DN / gain_dn) * gain_dn + generator.normal(size=clean.shape) * sigma_dn
    dn = np.minimum(np.round(dn), RANGE_DN)
    return (np.maximum(dn, 0) if black_clips else dn).astype(np.float32) / np.float32(RANGE_DN)


def ratio(level, gain_dn: float, sigma_dn: float) -> np.ndarray:
    """Estimated over true standard deviation at SIGNALS (3, C)."""
    true = gain_dn / RANGE_DN * SIGNALS + (sigma_dn**2 + 1 / 12) / RANGE_DN**2
    return np.sqrt(np.stack([level.variance(signal) for signal in SIGNALS]) / true[:, None])


@pytest.mark.parametrize("iso", A7S2)
def test_from_the_noisy_image_alone(iso: int) -> None:
    found = measure(spoil(scene(), *A7S2[iso]))
    assert found.level.source == "blind"
    assert np.abs(ratio(found.level, *A7S2[iso]) - 1).max() < 0.1
    assert found.message == ""


@pytest.mark.parametrize("iso", A7S2)
def test_with_a_denoised_image(iso: int) -> None:
    clean = scene()
    noisy = spoil(clean, *A7S2[iso])
    denoised = clean + 0.2 * (cv2.GaussianBlur(noisy.transpose(1, 2, 0), (0, 0), 1.5).transpose(2, 0, 1) - clean)
    found = measure(noisy, denoised.astype(np.float32))
    assert np.abs(ratio(found.level, *A7S2[iso]) - 1).max() < 0.06


def test_flat_frames_give_the_truth_within_the_standard_errors() -> None:
    stairs = np.repeat(np.linspace(0.01, 0.6, 16, dtype=np.float32), 32)
    clean = np.broadcast_to(stairs, (4, 512, 512))
    gain, sigma = A7S2[3200]
    found = measure(spoil(clean, gain, sigma))
    assert found.shot_error[0] < 0.02 * found.level.shot[0]
    assert abs(found.level.shot[0] - gain / RANGE_DN) < 5 * found.shot_error[0]
    assert abs(found.level.read[0] - (sigma**2 + 1 / 12) / RANGE_DN**2) < 5 * found.read_error[0]
    assert found.flat_share > 0.5
    assert found.pixels > 1e5


def test_clipped_darkness_and_light_stay_out() -> None:
    clean = scene()
    clean[:, :120] = 0.0
    clean[:, 300:] = 1.3
    gain, sigma = A7S2[25600]
    level = estimate(spoil(clean, gain, sigma, black_clips=True))
    assert np.abs(ratio(level, gain, sigma) - 1).max() < 0.12


def test_planes_apart_and_white_noise() -> None:
    clean = scene()
    noisy = np.stack([spoil(plane[None], gain, 4.0, seed)[0] for seed, (plane, gain) in
                      enumerate(zip(clean, (2.0, 4.0, 4.0, 8.0), strict=True))])  # fmt: skip
    level = estimate(noisy, pooled=False)
    assert level.shot * RANGE_DN == pytest.approx([2, 4, 4, 8], rel=0.25)
    sigma = 25 / 255
    generator = np.random.default_rng(4)
    photo = scene()[:3] + generator.normal(size=(3, 384, 512)) * sigma
    white = estimate(photo.astype(np.float32), white=True)
    assert not white.shot.any()
    assert np.sqrt(white.read) == pytest.approx([sigma] * 3, rel=0.05)


@pytest.mark.parametrize(("law", "amount"), [("even", 0.0), ("even", 4.0), ("even", 12.0), ("even", 30.0),
                                             ("photons", 0.0025), ("photons", 0.01)])  # fmt: skip
def test_noise_that_follows_the_light_is_told_from_even_noise(law: str, amount: float) -> None:
    generator = np.random.default_rng(4)
    clean = scene()[:3]
    if law == "even":
        noisy = clean + amount / 255 * generator.standard_normal(clean.shape)
    else:
        noisy = amount * generator.poisson(clean / amount)
    found = measure((np.clip(np.rint(255 * noisy), 0, 255) / 255).astype(np.float32))
    assert found.follows_light == (law == "photons")


def test_read_never_falls_below_the_rounding_step() -> None:
    generator = np.random.default_rng(5)
    clean = np.repeat(np.linspace(0.1, 0.9, 256)[None, None], 256, 1)
    photo = np.round((clean + 1e-3 * generator.normal(size=(3, 256, 256))) * 255) / 255
    assert estimate(photo.astype(np.float32)).read.min() >= (1 / 255) ** 2 / 12 * 0.999


def test_the_same_image_by_windows() -> None:
    noisy = spoil(scene(), *A7S2[3200])

    class Windowed:
        shape = noisy.shape

        def window(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
            return noisy[:, top:bottom, left:right].copy()

    assert estimate(Windowed()).shot.tolist() == estimate(noisy).shot.tolist()


def test_small_pictures_work_and_tiny_ones_are_refused() -> None:
    noisy = spoil(scene(), *A7S2[25600])[:, 100:140, 100:164]
    assert np.isfinite(estimate(noisy).shot).all()
    with pytest.raises(NoiseModelError, match="at least 16x16"):
        estimate(noisy[:, :15])
    white = np.ones((4, 64, 64), np.float32)
    for flat in (white, np.float32(0.3) * white):
        with pytest.raises(NoiseModelError, match="is flat: in no block of 8x8 pixels does a value vary"):
            estimate(flat)
    with pytest.raises(NoiseModelError, match="holds clipped pixels"):
        estimate(white * (np.indices((64, 64)).sum(0) % 2).astype(np.float32))
    with pytest.raises(NoiseModelError, match=r"values above 1, which is white, go up to \d+"):
        estimate((100 + 255 * noisy).clip(2))
    with pytest.raises(NoiseModelError, match="must be the same picture"):
        estimate(noisy, noisy[:, :32])
    with pytest.raises(NoiseModelError, match="planes"):
        estimate(noisy[0])


def test_texture_everywhere_is_said() -> None:
    generator = np.random.default_rng(6)
    grain = cv2.GaussianBlur(generator.normal(size=(256, 256)), (0, 0), 1.2)
    clean = np.clip(0.3 + 0.6 * grain, 0.01, 0.9)[None].repeat(4, 0)
    assert "doubtful" in measure(spoil(clean, *A7S2[100])).message


@pytest.mark.parametrize("shape", [(4, 1732, 2608), (3, 300, 200), (1, 16, 16), (4, 257, 5000)])
def test_windows_lie_inside_and_apart(shape: tuple[int, int, int]) -> None:
    seen = np.zeros(shape[1:], np.uint8)
    windows = sample_windows(shape)
    for top, bottom, left, right in windows:
        assert 0 <= top < bottom <= shape[1]
        assert 0 <= left < right <= shape[2]
        seen[top:bottom, left:right] += 1
    assert seen.max() == 1
    assert len(windows) <= 36
    assert windows == sample_windows(shape)


def test_haar_outputs_are_the_variance_of_white_noise() -> None:
    noise = np.random.default_rng(7).normal(size=(1, 1024, 1024)).astype(np.float32)
    mean, diagonal, energy = haar_energies(noise, 8)
    blocks = mean.size
    assert diagonal.mean() == pytest.approx(1, abs=5 * np.sqrt(2.3 / 16 / blocks))
    for level, count in enumerate((32, 12, 3)):
        assert energy[..., level].mean() == pytest.approx(1, abs=5 * np.sqrt(2 / count / blocks))
    assert mean.std() == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "clean" / "photos").is_dir(), reason="needs clean/photos (DENOISE_DATA)")
@pytest.mark.parametrize("iso", [3200, 25600])
def test_on_photographs(iso: int) -> None:
    paths = sorted((DATA / "clean" / "photos").glob("*.jpg"))[::10]
    errors = []
    for path in paths:
        photo = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
        light = cv2.resize(photo**2.2 * 0.9, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        light = light[: light.shape[0] // 2 * 2, : light.shape[1] // 2 * 2]
        clean = np.stack([light[::2, ::2, 0], light[::2, 1::2, 1], light[1::2, ::2, 1], light[1::2, 1::2, 2]])
        errors.append(np.abs(ratio(estimate(spoil(clean, *A7S2[iso])), *A7S2[iso])[:, 0] - 1))
    assert (np.median(errors, 0) < 0.25).all()
