"""One pass over a stack of flat frames: the mean and variance of every tile of every pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.base import CalibrationError
from noise_models.calibration.frames import Frame, FrameStack

FloatArray = npt.NDArray[np.float64]

_MOST_TILES: Final = 12
_SMALLEST_TILE: Final = 24
_SAME_LIGHT: Final = 0.05
_MOST_WAITING: Final = 6


@dataclass(frozen=True, eq=False)
class FlatSums:
    """What is kept of the flat frames of one ISO, exposure and light: each pair, colour and tile is a point."""

    iso: float
    """Sensitivity [ISO]."""
    exposure_s: float
    """Exposure time [s]."""
    photons_per_pixel: float | None
    """Metered light [1]."""
    level_dn: FloatArray
    """(P, 4, T) mean of a tile in a pair, black included [DN]."""
    variance_dn2: FloatArray
    """(P, 4, T) half the variance of the tile's difference, its rows' and columns' means removed [DN^2]."""
    degrees: FloatArray
    """(4, T) degrees of freedom of each variance [1]."""
    saturated: FloatArray
    """(P, 4, T) share of pixels at the largest value seen, or at white [1]."""
    frame_means_dn: FloatArray
    """(n,) mean of every frame [DN]."""
    frames: int
    """Number of frames."""
    texture: float
    """Spread of a tile's pixels over its mean signal beyond noise, the median tile [1]."""
    highest_dn: float
    """Largest value [DN]."""
    flicker: float
    """Difference of the light within a pair, the worst one [1]."""

    @property
    def steady(self) -> bool:
        """True if all frames show the same light, so that their mean is one brightness."""
        spread = float(np.ptp(self.frame_means_dn))
        return spread <= 0.1 * float(self.frame_means_dn.mean())

    @property
    def mean_dn(self) -> float:
        """Mean of all tiles [DN]."""
        return float(self.level_dn.mean())


def tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Cut a plane (height, width) into a grid of at most 12 by 12 tiles of at least 24 pixels a side."""
    down = min(_MOST_TILES, max(1, height // _SMALLEST_TILE))
    along = min(_MOST_TILES, max(1, width // _SMALLEST_TILE))
    rows = np.linspace(0, height, down + 1).astype(int)
    columns = np.linspace(0, width, along + 1).astype(int)
    return [
        (slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1]))
        for row in range(down)
        for column in range(along)
    ]


def sum_flats(stack: FrameStack, black_dn: FloatArray, white_dn: float) -> FlatSums:
    """Read a stack of flat frames once; each frame waits for one of the same light, six at most.

    Parameters
    ----------
    stack : FrameStack
        Two or more flat frames.
    black_dn : (2, 2)
        Dark level by position [DN].
    white_dn : float
        Saturation [DN].

    Returns
    -------
    FlatSums
        Mean and variance of every tile of every pair.

    Raises
    ------
    CalibrationError
        If there are fewer than two frames, or no two of them show the same light.
    """
    if len(stack) < 2:
        raise CalibrationError(
            f"There is only one flat frame at ISO {stack.iso:g}, {stack.exposure_s:g} s ({stack.paths[0].name}), but "
            "photon transfer needs pairs. Shoot every brightness twice or more."
        )
    levels, variances, saturated, means, textures = [], [], [], [], []
    highest = 0.0
    waiting: list[tuple[Frame, float]] = []
    flicker = 0.0
    degrees: FloatArray = np.empty(0)
    for frame in stack:
        mean = float(frame.mosaic.mean(dtype=np.float64))
        means.append(mean)
        highest = max(highest, float(frame.mosaic.max()))
        signal = max(abs(mean - float(black_dn.mean())), 1.0)
        apart = [abs(other - mean) / signal for _, other in waiting]
        if not apart or min(apart) > _SAME_LIGHT:
            waiting = [*waiting, (frame, mean)][-_MOST_WAITING:]
            continue
        partner, _ = waiting.pop(int(np.argmin(apart)))
        level, variance, share, degrees, texture = _pair(partner, frame, black_dn, white_dn)
        levels.append(level)
        variances.append(variance)
        saturated.append(share)
        textures.append(texture)
        flicker = max(flicker, min(apart))
    if not levels:
        raise CalibrationError(
            f"The flat frames at ISO {stack.iso:g}, {stack.exposure_s:g} s have means of "
            f"{', '.join(f'{mean:.0f}' for mean in means[:6])} DN: no two agree within "
            f"{_SAME_LIGHT:.0%}. The light flickers: use daylight or a steady lamp and exposures above 1/30 s."
        )
    return FlatSums(
        iso=stack.iso,
        exposure_s=stack.exposure_s,
        photons_per_pixel=stack.photons_per_pixel,
        level_dn=np.array(levels),
        variance_dn2=np.array(variances),
        degrees=degrees,
        saturated=np.array(saturated),
        frame_means_dn=np.array(means),
        frames=len(means),
        texture=float(np.median(textures)),
        highest_dn=highest,
        flicker=flicker,
    )


def _pair(
    first: Frame, second: Frame, black_dn: FloatArray, white_dn: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, float]:
    """Return level, variance, saturated share, degrees of freedom (4, T) and texture of a pair.

    Notes
    -----
    v = sum((d - row - column)**2) / (2 (h - 1) (w - 1)), d the tile's difference                                 (1)
    A slow flicker scales the light: the second tile is brought to the first one's mean before.                   (2)
    """
    level, variance, share, degrees, texture = [], [], [], [], []
    for position in range(4):
        row, column = divmod(position, 2)
        one, two = (_plane(frame.mosaic, row, column) for frame in (first, second))
        black = np.float32(black_dn[row, column])
        found = []
        for place in tiles(*one.shape):
            left, right = one[place].astype(np.float32) - black, two[place].astype(np.float32) - black
            means = float(left.mean(dtype=np.float64)), float(right.mean(dtype=np.float64))
            ratio = means[0] / means[1] if min(means) > 20 and abs(means[0] - means[1]) < 0.2 * means[1] else 1.0
            difference = left - right * np.float32(ratio)  # (2)
            difference -= difference.mean(axis=1, keepdims=True)
            difference -= difference.mean(axis=0, keepdims=True)
            rows, columns = difference.shape
            freedom = (rows - 1) * (columns - 1)
            half = float(np.vdot(difference, difference)) / freedom / (1 + ratio**2)  # (1)
            constant = left.min() == left.max() or right.min() == right.max()
            top = (
                left.size
                if constant
                else max(np.count_nonzero(left >= white_dn - black), np.count_nonzero(right >= white_dn - black))
            )
            middle = sum(means) / 2
            still = float(left.var(dtype=np.float64)) - half
            found.append(
                (middle + float(black), half, top / left.size, freedom, math.sqrt(max(still, 0)) / max(middle, 1.0))
            )
        columns_of = list(zip(*found, strict=True))
        for target, values in zip((level, variance, share, degrees, texture), columns_of, strict=True):
            target.append(values)
    return (np.array(level), np.array(variance), np.array(share), np.array(degrees), float(np.median(texture)))


def _plane(mosaic: npt.NDArray[np.generic], row: int, column: int) -> npt.NDArray[np.generic]:
    height, width = mosaic.shape[0] // 2 * 2, mosaic.shape[1] // 2 * 2
    return mosaic[row:height:2, column:width:2]
