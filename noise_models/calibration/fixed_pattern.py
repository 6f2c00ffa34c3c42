"""What stays the same from frame to frame: dark shading, unequal pixels, hot and dead ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from noise_models.calibration.dark import DarkFit
from noise_models.calibration.dark_sums import DarkSums
from noise_models.calibration.frames import FrameStack
from noise_models.tukey_lambda import quantile

FloatMap = npt.NDArray[np.float32]

POSITIONS: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of each place in the 2x2 cell."""

_SMOOTH_PIXELS: Final = 15
_HOT_SIGMAS: Final = 6.0
_REST_SIGMAS: Final = 4.0
_FALSE_ALARM: Final = 1e-7
_DEAD_RESPONSE: Final = 0.5
_STEP_DN: Final = 1 / 32
_PRNU_STEPS: Final = 2048


@dataclass(frozen=True, eq=False)
class MeanDark:
    """The mean dark frame of one ISO, kept on disk by position, and what was measured on its stack."""

    place: Path
    """Beginning of the names of its files, one for each position of the 2x2 cell."""
    shape: tuple[int, int]
    """Height and width of the frame [px]."""
    fit: DarkFit
    """Of the same stack."""
    hot: npt.NDArray[np.intp]
    """Numbers of the hot pixels, counted row by row."""

    @classmethod
    def keep(cls, sums: DarkSums, fit: DarkFit, hot: npt.NDArray[np.intp], place: Path) -> MeanDark:
        """Write the mean frame of a stack to disk."""
        mean = cls(place, sums.mean_dn.shape, fit, hot)
        for row, column in POSITIONS:
            plane = sums.mean_dn[row::2, column::2] + np.float32(sums.offset_dn[row, column])
            np.save(mean._file(row, column), plane)
        return mean

    def plane(self, row: int, column: int) -> FloatMap:
        """Read the mean of every second row and column, (H/2, W/2) [DN]."""
        return np.asarray(np.load(self._file(row, column)))

    def _file(self, row: int, column: int) -> Path:
        return self.place.with_name(f"{self.place.name}-{row}{column}.npy")


def smooth(plane: npt.NDArray[np.floating]) -> FloatMap:
    """Return the mean over 15 by 15 pixels of a plane, borders reflected."""
    blurred = cv2.blur(plane, (_SMOOTH_PIXELS, _SMOOTH_PIXELS), borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred, np.float32)


def _robust_sigma(values: npt.NDArray[np.floating]) -> float:
    few = values.ravel()[:: max(1, values.size // 1_000_000)]
    return 1.4826 * float(np.median(np.abs(few - np.median(few))))


def hot_pixels(sums: DarkSums, fit: DarkFit) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Find pixels whose dark mean stands out of its neighbours of the same colour.

    Parameters
    ----------
    sums, fit : DarkSums, DarkFit
        Of one stack.

    Returns
    -------
    hot : (n,) int
        Numbers of the pixels, counted row by row, whose mean differs from the median of 5 by 5 by more than 6 sigma,
        and by more than one draw in ten million of the read noise's own tails would.
    lift_dn : (2, 2) float64
        By how much they raise the mean of their position [DN].

    References
    ----------
    .. [1] H. Feng et al., "Learnability enhancement for low-light raw image denoising", TPAMI 46(1), 2024.
    """
    chance = quantile(1 - _FALSE_ALARM / fit.frames, fit.read_lambda.value) * fit.read_scale_dn.value / fit.frames
    width = sums.mean_dn.shape[1]
    found, lift_dn = [], np.zeros((2, 2))
    for row, column in POSITIONS:
        deviation = np.ascontiguousarray(sums.mean_dn[row::2, column::2])
        deviation = deviation - cv2.medianBlur(deviation, 5)
        spread = _robust_sigma(deviation)  # one far draw lifts the mean by its share, the others add their spread
        limit = max(_HOT_SIGMAS * spread, float(chance) + _REST_SIGMAS * spread, 1.0)
        down, along = np.nonzero(np.abs(deviation) > limit)
        found.append((2 * down + row) * width + 2 * along + column)
        lift_dn[row, column] = deviation[down, along].sum(dtype=np.float64) / deviation.size
    return np.concatenate(found), lift_dn


@dataclass(frozen=True, eq=False)
class Weights:
    """How the mean frames of one gain mode add up to its dark shading, linear in ISO."""

    at_zero: npt.NDArray[np.float64]
    """(n,) of each mean frame, for the shading extrapolated to ISO 0 [1]."""
    per_iso: npt.NDArray[np.float64] | None
    """(n,) for its growth [1/ISO]; None where only one ISO was measured."""


def shading_weights(means: Sequence[MeanDark]) -> Weights:
    """Return the weights of a straight line over ISO through the mean frames of one gain mode.

    Parameters
    ----------
    means : sequence of MeanDark
        One for each ISO of the mode.

    Returns
    -------
    Weights
        Of the least squares in which each frame weighs 1 / (sigma_i**2 / n_i).
    """
    if len(means) == 1:
        return Weights(np.ones(1), None)
    isos = np.array([item.fit.iso for item in means])
    design = np.stack([np.ones_like(isos), isos], axis=1)
    weight = 1 / _noise_of(means)
    solve = np.linalg.inv(design.T @ (weight[:, None] * design)) @ (design.T * weight)
    return Weights(solve[0], solve[1])


def _noise_of(means: Sequence[MeanDark]) -> npt.NDArray[np.float64]:
    """Return the variance that noise left in each mean frame, (n,) [DN^2]."""
    return np.array([item.fit.pixel_variance_dn2.value / item.fit.frames for item in means])


@dataclass(frozen=True, eq=False)
class Shading:
    """One map of the dark shading, above the mean of each position."""

    values: FloatMap
    """(H, W) [DN], or [DN/ISO]."""
    dsnu: float
    """Spread of single pixels around the smooth shading, noise removed [DN], or [DN/ISO]."""
    kept: float
    """Share of the single-pixel pattern that is signal and was kept [1]."""


def fit_shading(means: Sequence[MeanDark], weights: npt.NDArray[np.float64]) -> Shading:
    """Add up the mean frames of one gain mode, and shrink what is only noise of the mean.

    Parameters
    ----------
    means : sequence of MeanDark
        One for each ISO of the mode.
    weights : (n,) array
        From `shading_weights`.

    Returns
    -------
    Shading
        Smooth part as it is; single pixels multiplied by their share of signal. Only the result is whole in memory.

    Notes
    -----
    S = sum_i w_i (mean_i - level_i)                                                                              (1)
    kept = D**2 / (D**2 + noise**2), D the pattern's own spread, noise**2 = sum_i w_i**2 sigma_i**2 / n_i         (2)

    References
    ----------
    .. [1] H. Feng et al., "Learnability enhancement for low-light raw image denoising", TPAMI 46(1), 2024.
    """
    noise = math.sqrt(float(weights**2 @ _noise_of(means)))
    total = np.zeros(means[0].shape, np.float32)
    hot = np.unique(np.concatenate([item.hot for item in means]))
    spreads, shares = [], []
    for row, column in POSITIONS:
        plane = np.zeros_like(total[row::2, column::2], order="C")
        for item, weight in zip(means, weights, strict=True):
            part = item.plane(row, column)
            part -= np.float32(item.fit.level_dn[row, column])
            part *= np.float32(weight)
            plane += part  # (1)
        low = smooth(_without(hot, total.shape[1], plane, row, column))
        fine = np.subtract(plane, low, out=plane)
        seen = _robust_sigma(fine) / math.sqrt(1 - 1 / _SMOOTH_PIXELS**2)
        own = math.sqrt(max(seen**2 - noise**2, 0.0))
        share = own**2 / max(seen**2, 1e-12)  # (2)
        _shrink(fine, share, _HOT_SIGMAS * max(seen, 1e-12))
        np.add(low, fine, out=total[row::2, column::2])
        spreads.append(own)
        shares.append(share)
    return Shading(total, float(np.mean(spreads)), float(np.mean(shares)))


def _without(hot: npt.NDArray[np.intp], width: int, plane: FloatMap, row: int, column: int) -> FloatMap:
    """Return a plane with the median of 5 by 5 in place of its hot pixels, which a mean would smear over their box."""
    down, along = np.divmod(hot, width)
    own = (down % 2 == row) & (along % 2 == column)
    if not own.any():
        return plane
    places = down[own] // 2, along[own] // 2
    mended = plane.copy()
    mended[places] = cv2.medianBlur(plane, 5)[places]
    return mended


def _shrink(values: FloatMap, share: float, standing: float) -> None:
    """Multiply by ``share``, in place, all values but those that stand out."""
    np.multiply(values, np.float32(share), out=values, where=np.abs(values) <= standing)


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


def fit_response(flats: FrameStack, dark: MeanDark, variance_of: float, intercept: float) -> Response:
    """Measure pixel response non-uniformity on one stack of flats.

    Parameters
    ----------
    flats : FrameStack
        Bright, below 70 % of saturation, out of focus.
    dark : MeanDark
        Of the same ISO.
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
    dead = np.zeros(total.shape, bool)
    spreads = []
    for row, column in POSITIONS:
        place = slice(row, None, 2), slice(column, None, 2)
        ratio = total[place] - dark.plane(row, column)
        light = cv2.medianBlur(ratio, 5)
        light = smooth(np.maximum(light, np.float32(1.0), out=light))
        ratio /= light
        ratio -= np.float32(1.0)
        level = float(np.median(light))
        noise = math.sqrt(max(variance_of * level + intercept, 0.0) / len(flats)) / level
        dead[place] = ratio < _DEAD_RESPONSE - 1
        seen = _robust_sigma(ratio)
        own = math.sqrt(max(seen**2 - noise**2, 0.0))
        _shrink(ratio, own**2 / max(seen**2, 1e-12), _HOT_SIGMAS * max(seen, 1e-9))
        ratio *= np.float32(_PRNU_STEPS)
        np.rint(ratio, out=ratio)
        np.divide(ratio, np.float32(_PRNU_STEPS), out=total[place])
        spreads.append(own)
    return Response(total, dead, float(np.mean(spreads)))
