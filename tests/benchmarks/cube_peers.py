"""Peers of our methods for cubes, written anew from what their papers say."""

from __future__ import annotations

from typing import Any, Final

import bm3d
import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter
from skimage.restoration import denoise_nl_means

Planes = npt.NDArray[np.float32]
RANK = 8


def small_robust_subspace(noisy: Planes) -> Planes:
    """Denoise by a small robust subspace: outliers and dead columns masked, rank 8, column medians, non-local means."""
    _, height, width = noisy.shape
    smooth = np.stack([median_filter(band, 5) for band in noisy])
    rough = noisy - smooth
    sigma = 1.4826 * np.median(np.abs(rough), (1, 2)) + 1e-9
    spread = noisy.std(1)
    dead = spread < 0.2 * np.median(spread, 1, keepdims=True)
    bad = (np.abs(rough) > 4 * sigma[:, None, None]) | dead[:, None, :]
    filled = np.where(bad, smooth, noisy)
    for band, missing in enumerate(dead):
        if missing.any() and not missing.all():
            places = np.arange(width)
            for row in filled[band]:
                row[missing] = np.interp(places[missing], places[~missing], row[~missing])
    for _ in range(3):
        spectra, images, mean = _principal(filled, sigma)
        fitted = ((spectra @ images + mean) * sigma[:, None]).reshape(noisy.shape)
        offsets = np.median(noisy - fitted, 1)
        offsets -= np.median(offsets, 1, keepdims=True)
        rest = noisy - offsets[:, None, :] - fitted
        sigma = 1.4826 * np.median(np.abs(rest), (1, 2)) + 1e-9
        bad = (np.abs(rest) > 4 * sigma[:, None, None]) | dead[:, None, :]
        filled = np.where(bad, fitted, noisy - offsets[:, None, :])
    spectra, images, mean = _principal(filled, sigma)
    cleaned = [
        denoise_nl_means(image, patch_size=5, patch_distance=8, h=0.8, sigma=1.0, fast_mode=True)
        for image in images.reshape(-1, height, width)
    ]
    flat = np.stack(cleaned).reshape(len(cleaned), -1)
    return ((spectra @ flat + mean) * sigma[:, None]).reshape(noisy.shape).astype(np.float32)


def _principal(cube: npt.NDArray[Any], sigma: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    white = (cube / sigma[:, None, None]).reshape(len(cube), -1).astype(np.float64)
    mean = white.mean(1, keepdims=True)
    spectra = np.linalg.svd((white - mean) @ (white - mean).T)[0][:, :RANK]
    return spectra, spectra.T @ (white - mean), mean


def fasthyde(noisy: Planes) -> Planes:
    """Denoise a cube (bands, H, W) by FastHyDe: whitened, in HySime's subspace, each eigen-image by BM3D.

    For Gaussian noise, white or of its own strength in each band. L. Zhuang, J. M. Bioucas-Dias, IEEE JSTARS 11(3),
    2018; HySime: J. M. Bioucas-Dias, J. M. P. Nascimento, IEEE TGRS 46(8), 2008.
    """
    observed = noisy.reshape(len(noisy), -1).astype(np.float64)
    noise = _left_by_regression(observed)
    sigma = noise.std(1, keepdims=True)
    white, noise = observed / sigma, noise / sigma
    spectra = _hysime(white, noise)
    images = (spectra.T @ white).reshape(-1, *noisy.shape[1:])
    cleaned = np.stack([_by_bm3d(image) for image in images]).reshape(len(images), -1)
    return (sigma * (spectra @ cleaned)).reshape(noisy.shape).astype(np.float32)


def _left_by_regression(observed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what a linear regression on all other bands leaves of each band (bands, n)."""
    correlation = observed @ observed.T
    inverse = np.linalg.inv(correlation + 1e-9 * np.trace(correlation) / len(correlation) * np.eye(len(correlation)))
    return inverse @ observed / np.diag(inverse)[:, None]


def _hysime(white: npt.NDArray[Any], noise: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the directions (bands, k) of the signal that hold more of it than of the noise."""
    count = white.shape[1]
    signal = white - noise
    directions = np.linalg.eigh(signal @ signal.T / count)[1]
    observed, noisy = (np.square(directions.T @ part).mean(1) for part in (white, noise))
    return directions[:, 2 * noisy < observed]


def _by_bm3d(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Denoise an image (H, W) of unit noise, shown from 0 to 1."""
    low, span = image.min(), np.ptp(image)
    return bm3d.bm3d((image - low) / span, 1 / span) * span + low


PEERS: Final = {"prototype": small_robust_subspace, "fasthyde": fasthyde}
"""By name; each takes and returns a cube (bands, H, W) from 0 to 1."""
