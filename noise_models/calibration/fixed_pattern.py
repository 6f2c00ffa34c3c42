"""What stays the same from frame to frame: dark shading, unequal pixels, hot and dead ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from noise_models.calibration.dark import DarkFit
from noise_models.calibration.frames import FrameStack
from noise_models.tukey_lambda import quantile

FloatMap = npt.NDArray[np.float32]

_SMOOTH_PIXELS: Final = 15
_HOT_SIGMAS: Final = 6.0
_REST_SIGMAS: Final = 4.0
_FALSE_ALARM: Final = 1e-7
_DEAD_RESPONSE: Final = 0.5
_STEP_DN: Final = 1 / 32


@dataclass(frozen=True, eq=False)
class MeanDark:
    """The mean dark frame of one ISO, and what was measured on its stack."""

    mean_dn: FloatMap
    """(H, W) mean frame [DN], may lie on disk."""
    fit: DarkFit
    """Of the same stack."""


def each_position(values: npt.NDArray[np.floating]) -> list[tuple[tuple[slice, slice], npt.NDArray[np.floating]]]:
    """Return the four planes of a mosaic with their places, each contiguous."""
    places = [(slice(row, None, 2), slice(column, None, 2)) for row in (0, 1) for column in (0, 1)]
    return [(place, np.ascontiguousarray(values[place])) for place in places]


def smooth(plane: npt.NDArray[np.floating]) -> FloatMap:
    """Return the mean over 15 by 15 pixels of a plane, borders reflected."""
    blurred = cv2.blur(plane, (_SMOOTH_PIXELS, _SMOOTH_PIXELS), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _robust_sigma(values: npt.NDArray[np.floating]) -> float:
    few = values.ravel()[:: max(1, values.size // 1_000_000)]
    return 1.4826 * float(np.median(np.abs(few - np.median(few))))


def hot_pixels(mean: MeanDark) -> npt.NDArray[np.bool_]:
    """Find pixels whose dark mean stands out of its neighbours of the same colour.

    Parameters
    ----------
    mean : MeanDark
        Of one ISO and exposure.

    Returns
    -------
    (H, W) bool
        True where the mean differs from the median of 5 by 5 by more than 6 sigma, and by more than one draw in ten
        million of the read noise's own tails would.

    References
    ----------
    .. [1] H. Feng et al., "Learnability enhancement for low-light raw image denoising", TPAMI 46(1), 2024.
    """
    fit = mean.fit
    chance = quantile(1 - _FALSE_ALARM / fit.frames, fit.read_lambda.value) * fit.read_scale_dn.value / fit.frames
    hot = np.zeros(mean.mean_dn.shape, bool)
    for place, plane in each_position(mean.mean_dn):
        deviation = plane - cv2.medianBlur(plane.astype(np.float32), 5)
        spread = _robust_sigma(deviation)  # one far draw lifts the mean by its share, the others add their spread
        hot[place] = np.abs(deviation) > max(_HOT_SIGMAS * spread, float(chance) + _REST_SIGMAS * spread, 1.0)
    return hot


@dataclass(frozen=True, eq=False)
class Shading:
    """Dark shading of one gain mode: at + slope * ISO, above the mean of each position."""

    at_zero_dn: FloatMap
    """(H, W) [DN]."""
    per_iso_dn: FloatMap | None
    """(H, W) [DN/ISO]; None where only one ISO was measured."""
    dsnu_dn: float
    """Spread of single pixels around the smooth shading, noise removed, at the lowest ISO of the mode [DN]."""
    kept: float
    """Share of the single-pixel pattern that is signal and was kept [1]."""


def fit_shading(means: Sequence[MeanDark]) -> Shading:
    """Fit the mean frames of one gain mode, linear in ISO, and shrink what is only noise of the mean.

    Parameters
    ----------
    means : sequence of MeanDark
        One for each ISO of the mode.

    Returns
    -------
    Shading
        Smooth part as it is; single pixels multiplied by their share of signal.

    Notes
    -----
    at_zero = sum_i a_i S_i, per_iso = sum_i b_i S_i, weights 1 / (sigma_i**2 / n_i)                             (1)
    kept = D**2 / (D**2 + noise**2), D the pattern's own spread, noise**2 = sum_i a_i**2 sigma_i**2 / n_i        (2)

    References
    ----------
    .. [1] H. Feng et al., "Learnability enhancement for low-light raw image denoising", TPAMI 46(1), 2024.
    """
    noise = np.array([item.fit.pixel_variance_dn2.value / item.fit.frames for item in means])
    isos = np.array([item.fit.iso for item in means])
    zero, slope = _coefficients(isos, noise)
    first, dsnu, kept = _combined(means, zero, math.sqrt(float(zero**2 @ noise)))
    if slope is None:
        return Shading(first, None, dsnu, kept)
    second, _, _ = _combined(means, slope, math.sqrt(float(slope**2 @ noise)))
    return Shading(first, second, dsnu, kept)


def _coefficients(
    isos: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    if len(isos) == 1:
        return np.ones(1), None
    design = np.stack([np.ones_like(isos), isos], axis=1)
    weight = 1 / noise
    solve = np.linalg.inv(design.T @ (weight[:, None] * design)) @ (design.T * weight)  # (1)
    return solve[0], solve[1]


def _combined(
    means: Sequence[MeanDark], coefficients: npt.NDArray[np.float64], noise: float
) -> tuple[FloatMap, float, float]:
    """Return sum_i c_i S_i with its single-pixel part shrunk, that part's own spread, and how much was kept."""
    total = np.zeros(means[0].mean_dn.shape, np.float32)
    for item, coefficient in zip(means, coefficients, strict=True):
        for row in (0, 1):
            for column in (0, 1):
                part = item.mean_dn[row::2, column::2] - np.float32(item.fit.level_dn[row, column])
                total[row::2, column::2] += np.float32(coefficient) * part
    spreads, shares = [], []
    for place, plane in each_position(total):
        low = smooth(plane)
        fine = plane - low
        seen = _robust_sigma(fine) / math.sqrt(1 - 1 / _SMOOTH_PIXELS**2)
        own = math.sqrt(max(seen**2 - noise**2, 0.0))
        share = own**2 / max(seen**2, 1e-12)  # (2)
        standing = np.abs(fine) > _HOT_SIGMAS * max(seen, 1e-12)
        fine = np.where(standing, fine, np.float32(share) * fine)
        total[place] = low + fine
        spreads.append(own)
        shares.append(share)
    return total, float(np.mean(spreads)), float(np.mean(shares))


def rounded(values: FloatMap, largest_iso: float = 1.0) -> FloatMap:
    """Round a map to a power of two near 1/32 DN at the largest ISO, so that it compresses well; in place."""
    step = np.float32(2.0 ** math.floor(math.log2(_STEP_DN / largest_iso)))
    np.divide(values, step, out=values)
    np.rint(values, out=values)
    return np.multiply(values, step, out=values)


@dataclass(frozen=True, eq=False)
class Response:
    """How unequally pixels answer to light."""

    prnu: FloatMap
    """(H, W) response minus 1 [1]."""
    dead: npt.NDArray[np.bool_]
    """(H, W) pixels that answer with less than half."""
    prnu_sigma: float
    """Spread of single pixels, noise removed [1]."""


def fit_response(flats: FrameStack, dark_dn: FloatMap, variance_of: float, intercept: float) -> Response:
    """Measure pixel response non-uniformity on one stack of flats.

    Parameters
    ----------
    flats : FrameStack
        Bright, below 70 % of saturation, out of focus.
    dark_dn : (H, W)
        Mean dark frame [DN].
    variance_of, intercept : float
        Photon transfer: variance = variance_of * signal + intercept [DN], [DN^2].

    Returns
    -------
    Response
        Relative to the mean over 15 by 15 pixels of the same colour, so that uneven light drops out; noise shrunk as
        in `fit_shading`.
    """
    total = np.zeros(flats.info.shape, np.float32)
    for frame in flats:
        total += frame.mosaic
    total /= np.float32(len(flats))
    total -= dark_dn
    prnu = np.zeros_like(total)
    dead = np.zeros(total.shape, bool)
    spreads = []
    for place, plane in each_position(total):
        light = cv2.medianBlur(plane.astype(np.float32), 5)
        light = smooth(np.maximum(light, 1.0))
        ratio = plane / light - 1
        level = float(np.median(light))
        noise = math.sqrt(max(variance_of * level + intercept, 0.0) / len(flats)) / level
        dead[place] = ratio < _DEAD_RESPONSE - 1
        seen = _robust_sigma(ratio)
        own = math.sqrt(max(seen**2 - noise**2, 0.0))
        standing = np.abs(ratio) > _HOT_SIGMAS * max(seen, 1e-9)
        prnu[place] = np.where(standing, ratio, np.float32(own**2 / max(seen**2, 1e-12)) * ratio)
        spreads.append(own)
    return Response((np.rint(prnu * 2048) / 2048).astype(np.float32), dead, float(np.mean(spreads)))
