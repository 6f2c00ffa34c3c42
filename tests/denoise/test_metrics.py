"""Figures of quality: their definitions, against scikit-image and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from denoise.errors import ShapeError
from denoise.metrics import illuminance_scalar, psnr_db, ssim


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.random((3, 24, 24))
    return clean + 0.1 * rng.normal(size=clean.shape), clean


def test_psnr_is_scikit_images_of_cut_values(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, clean = images
    expected = peak_signal_noise_ratio(clean, np.clip(image, 0, 1), data_range=1)
    assert psnr_db(image, clean) == pytest.approx(expected, abs=1e-9)
    assert psnr_db(clean, clean) == np.inf


def test_ssim_of_flat_images_is_its_luminance_term() -> None:
    a, b = 0.3, 0.5
    expected = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    assert ssim(np.full((4, 16, 16), a), np.full((4, 16, 16), b)) == pytest.approx(expected, abs=1e-9)


def test_ssim_is_one_only_for_the_truth(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, clean = images
    assert ssim(clean, clean) == pytest.approx(1, abs=1e-12)
    assert 0 < ssim(image, clean) < 0.99


def test_the_scalar_takes_out_a_wrong_brightness(images: tuple[np.ndarray, np.ndarray]) -> None:
    image, clean = images
    assert illuminance_scalar(0.8 * clean, clean) == pytest.approx(1.25)
    best = illuminance_scalar(image, clean)

    def error(factor: float) -> float:
        return float(np.square(factor * np.clip(image, 0, 1) - clean).mean())

    assert error(best) < min(error(best * 1.001), error(best * 0.999))


def test_saturated_truth_does_not_count_for_the_scalar() -> None:
    clean = np.array([[[0.5, 0.5, 1.0]]])
    assert illuminance_scalar(np.array([[[0.25, 0.25, 1.0]]]), clean) == pytest.approx(2)
    assert illuminance_scalar(np.zeros((1, 1, 3)), clean) == 1


def test_shapes_must_agree() -> None:
    for metric in (psnr_db, ssim, illuminance_scalar):
        with pytest.raises(ShapeError, match=r"\(1, 8, 8\) and \(1, 8, 9\)"):
            metric(np.zeros((1, 8, 8)), np.zeros((1, 8, 9)))
    with pytest.raises(ShapeError, match="at least 7x7"):
        ssim(np.zeros((1, 6, 8)), np.zeros((1, 6, 8)))
