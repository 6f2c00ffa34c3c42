"""Small blocks of an image, spread over it by windows: what flatness and noise are read from.

In a block of white noise every orthonormal Haar coefficient has the noise's variance and is independent of every
other. So the coarse coefficients say whether a block is flat, and the finest diagonal ones, which a slope of
brightness does not touch, give the variance of its noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from noise_models.base import NoiseModelError

FloatArray = npt.NDArray[np.float64]
FloatPlanes = npt.NDArray[np.float32]
Window = tuple[int, int, int, int]
"""Top, bottom, left, right, in pixels of a plane."""

BLOCK: Final = 8
"""Height and width of a block [pixel]."""
LEVELS: Final = 3
"""Haar levels of a block."""
FLAT_DENOISED: Final = (0.1, 0.3, 1.0)
"""A denoised block is flat if its Haar energies, fine to coarse, lie below these times the noise's variance."""
_CLIPPED_SHARE: Final = 1e-3


class PlanesByWindow(Protocol):
    """An image that shows parts of itself as planes; every `denoise.images.Image` does."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        ...

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Return planes [top:bottom, left:right] (C, h, w) float32, 0 black and 1 white."""
        ...


def sample_windows(shape: tuple[int, int, int], *, most: int = 36, side: int = 256) -> list[Window]:
    """Spread windows evenly over an image.

    Parameters
    ----------
    shape : (int, int, int)
        Planes, rows, columns.
    most : int
        How many windows at most.
    side : int
        Their height and width; an image of fewer than ``most`` windows is covered by windows of about this side.

    Returns
    -------
    list of (top, bottom, left, right)
        Without overlap, in reading order; always the same for a shape.
    """
    per_side = max(1, int(most**0.5))
    spans = [_spans(length, side, per_side) for length in shape[1:]]
    return [(top, bottom, left, right) for top, bottom in spans[0] for left, right in spans[1]]


def _spans(length: int, side: int, most: int) -> list[tuple[int, int]]:
    """Spread up to ``most`` spans over ``length``."""
    count = min(most, max(1, round(length / side)))
    size = min(length // count, side if count == most else length)
    gap = (length - count * size) / count
    starts = [int((index + 0.5) * gap) + index * size for index in range(count)]
    return [(start, start + size) for start in starts]


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An array that shows itself by windows."""

    planes: FloatPlanes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.planes.shape[0], self.planes.shape[1], self.planes.shape[2]

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        return self.planes[:, top:bottom, left:right].astype(np.float32)


def as_image(image: FloatPlanes | PlanesByWindow) -> PlanesByWindow:
    """Wrap an array; leave an image as it is."""
    if not isinstance(image, np.ndarray):
        return image
    if image.ndim != 3:
        raise NoiseModelError(f"A blind noise estimate needs planes (C, H, W), but got shape {image.shape}.")
    return ArrayImage(image)


@dataclass(eq=False)
class Extremes:
    """Smallest and largest value so far, and how many pixels sit exactly on them: many if the file clips."""

    lowest: float = np.inf
    at_lowest: int = 0
    highest: float = -np.inf
    at_highest: int = 0
    pixels: int = 0
    steps: list[float] = field(default_factory=list)

    def see(self, part: FloatPlanes) -> None:
        """Take a window into account."""
        low, high = float(part.min()), float(part.max())
        if low < self.lowest:
            self.lowest, self.at_lowest = low, 0
        if high > self.highest:
            self.highest, self.at_highest = high, 0
        self.at_lowest += int(np.count_nonzero(part == self.lowest))
        self.at_highest += int(np.count_nonzero(part == self.highest))
        self.pixels += part.size
        if len(self.steps) < 4:
            values = np.unique(part[0, :64, :64])
            gaps = np.diff(values)
            self.steps.append(float(gaps[gaps > 1e-6].min()) if (gaps > 1e-6).any() else 0.0)

    def floor(self) -> float:
        """Return where darkness is clipped, or -inf."""
        return self.lowest if self.at_lowest > _CLIPPED_SHARE * self.pixels else -np.inf

    def ceiling(self) -> float:
        """Return where light is clipped, or inf."""
        return self.highest if self.at_highest > _CLIPPED_SHARE * self.pixels else np.inf


def haar_energies(planes: FloatPlanes, side: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split blocks into orthonormal Haar coefficients and return their mean squares.

    Parameters
    ----------
    planes : (C, h, w) float32 array
        h and w multiples of ``side``.
    side : int
        Height and width of a block: a multiple of 8.

    Returns
    -------
    mean : (C, h / side, w / side) float64 array
        Mean of each block.
    diagonal : (C, h / side, w / side) float64 array
        Variance of the finest diagonal coefficients by their mean size, less swayed by a lone edge than the mean
        square. White noise gives its variance, in each output.
    energy : (C, h / side, w / side, 3) float64 array
        Mean square of the other coefficients, from fine to coarse: horizontal and vertical of the finest level, then
        all three of the next two.

    Notes
    -----
    variance = mean(abs(d))**2 / (2 / pi + (1 - 2 / pi) / n), unbiased for n normal d                   (1)
    """
    smooth: npt.NDArray[Any] = planes
    energies: list[FloatArray] = []
    diagonal: FloatArray = np.empty(0)
    for level in range(LEVELS):
        upper, lower = smooth[:, 0::2], smooth[:, 1::2]
        total, change = upper + lower, upper - lower
        smooth = np.multiply(total[:, :, 0::2] + total[:, :, 1::2], 0.5, dtype=np.float32)
        across = total[:, :, 0::2] - total[:, :, 1::2]
        down = change[:, :, 0::2] + change[:, :, 1::2]
        cross = change[:, :, 0::2] - change[:, :, 1::2]
        size = side >> (level + 1)
        squares = [0.25 * block_mean(part * part, size) for part in (across, down, cross)]
        if level == 0:
            squares.pop()
            spread = 0.5 * block_mean(np.abs(cross), size)
            diagonal = spread**2 / (2 / np.pi + (1 - 2 / np.pi) / size**2)  # (1)
        energies.append(np.stack(squares).mean(0))
    size = side >> LEVELS
    mean = block_mean(smooth, size) / 2**LEVELS
    return mean, diagonal, np.stack(energies, -1)


def fold(planes: npt.NDArray[Any], side: int, join: np.ufunc) -> npt.NDArray[Any]:
    """Join the pixels of each block, a power of two on a side, by halves: (C, h / side, w / side)."""
    while side > 1:
        planes = join(planes[:, 0::2], planes[:, 1::2])
        planes = join(planes[:, :, 0::2], planes[:, :, 1::2])
        side //= 2
    return planes


def block_mean(planes: npt.NDArray[Any], side: int) -> FloatArray:
    """Return the mean of each block (C, h / side, w / side)."""
    return fold(planes, side, np.add).astype(np.float64) / side**2
