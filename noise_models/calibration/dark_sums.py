"""One pass over a stack of dark frames: what is kept of them, so that each is read once and forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.base import CalibrationError
from noise_models.calibration.frames import FrameStack

FloatArray = npt.NDArray[np.float64]

_SAMPLE_PIXELS: Final = 2**20
"""Most pixels of one frame that are kept for the shape of the noise."""
_SAMPLE_FRAMES: Final = 12
"""Most frames of which so many are kept; of a smaller sensor as many more as fill the same memory."""
_BLOCK_ROWS: Final = 128
_HOLD_BACK_FROM: Final = 4
"""A stack of so many frames or more lends its last one to the fidelity check."""


@dataclass(frozen=True, eq=False)
class DarkSums:
    """What is kept of the n dark frames of one ISO and exposure. Values are DN above ``offset_dn``."""

    iso: float
    """Sensitivity [ISO]."""
    exposure_s: float
    """Exposure time [s]."""
    frames: int
    """Number n of frames, without the one held back."""
    offset_dn: FloatArray
    """(2, 2) by position: a whole number near the mean [DN]."""
    mean_dn: npt.NDArray[np.float32]
    """(H, W) mean frame [DN above offset]."""
    row_means_dn: FloatArray
    """(n, H) mean of every row of every frame [DN above offset]."""
    column_means_dn: FloatArray
    """(n, W) mean of every column of every frame [DN above offset]."""
    position_means_dn: FloatArray
    """(n, 2, 2) mean of every frame by position [DN above offset]."""
    frame_means_dn: FloatArray
    """(n or n + 1,) mean of every frame, that of the one held back last [DN]."""
    sample_rows: npt.NDArray[np.intp]
    """(R,) rows of which every pixel is kept, in pairs so that every position is among them."""
    sample_dn: npt.NDArray[np.float32]
    """(m, R, W) those rows of the first m <= 12 frames [DN above offset]."""
    held_back_dn: npt.NDArray[np.float32] | None
    """(R, W) those rows of one frame that is not among the n; None where the stack is short."""
    held_back_row_means_dn: FloatArray | None
    """(H,) its row means [DN above offset]."""
    lowest_dn: float
    """Smallest value [DN]."""
    highest_dn: float
    """Largest value [DN]."""
    lowest_fraction: float
    """Share of all values that equal the smallest [1]: large where the converter cuts the noise off."""
    whole_numbers: bool
    """True where the values are a converter's whole numbers, so that quantisation adds 1/12 DN^2."""
    temperatures_c: tuple[float, ...]
    """Of the frames that state one [degrees C]."""

    @property
    def level_dn(self) -> FloatArray:
        """(2, 2) mean dark level by position [DN]."""
        return self.offset_dn + self.position_means_dn.mean(axis=0)


def positions(mosaic: npt.NDArray[np.generic]) -> list[npt.NDArray[np.generic]]:
    """Return the four views of a mosaic (H, W), one for each position of the 2x2 cell, in reading order."""
    return [mosaic[row::2, column::2] for row in (0, 1) for column in (0, 1)]


def sum_darks(stack: FrameStack) -> DarkSums:
    """Read a stack once and keep what calibration needs of it.

    Parameters
    ----------
    stack : FrameStack
        Two or more dark frames.

    Returns
    -------
    DarkSums
        Mean frame, row and column means of every frame, and some rows of some frames.

    Raises
    ------
    CalibrationError
        If the stack has fewer than two frames, or one cannot be used (see `FrameStack.read`).
    """
    if len(stack) < 2:
        raise CalibrationError(
            f"There is only one dark frame at ISO {stack.iso:g}, {stack.exposure_s:g} s ({stack.paths[0].name}), but "
            "noise shows only between frames: at least 2 are needed, 16 are better. Shoot more with the lens capped."
        )
    height, width = stack.info.shape
    if height < 16 or width < 16:
        raise CalibrationError(
            f"The frames measure {width}x{height} pixels, but at least 16x16 are needed. Give whole frames."
        )
    held = len(stack) - 1 if len(stack) >= _HOLD_BACK_FROM else len(stack)
    rows = _sample_rows(height, width)
    total = np.zeros((height, width), np.float32)
    offset = np.zeros((2, 2))
    row_means, column_means, position_means, frame_means, sample = [], [], [], [], []
    held_sample = held_rows = None
    lows, highs, fractions, whole = [], [], [], True
    for number, frame in enumerate(stack):
        mosaic = frame.mosaic
        if number == 0:
            offset = np.array([np.rint(part[::4, ::4].mean()) for part in positions(mosaic)]).reshape(2, 2)
        low, high = float(mosaic.min()), float(mosaic.max())
        lows.append(low)
        highs.append(high)
        fractions.append(np.count_nonzero(mosaic[rows] == low) / mosaic[rows].size)
        whole = whole and _is_whole(mosaic[rows])
        target = total if number < held else None
        row_mean, column_mean, position_mean = _add(mosaic, offset, target)
        frame_means.append(float((offset + position_mean).mean()))
        if number >= held:
            held_sample, held_rows = _above(mosaic[rows], offset), row_mean
            continue
        row_means.append(row_mean)
        column_means.append(column_mean)
        position_means.append(position_mean)
        if len(sample) < _SAMPLE_FRAMES * max(1, _SAMPLE_PIXELS // (len(rows) * width)):
            sample.append(_above(mosaic[rows], offset))
    total /= len(row_means)
    return DarkSums(
        iso=stack.iso,
        exposure_s=stack.exposure_s,
        frames=len(row_means),
        offset_dn=offset,
        mean_dn=total,
        row_means_dn=np.array(row_means),
        column_means_dn=np.array(column_means),
        position_means_dn=np.array(position_means),
        frame_means_dn=np.array(frame_means),
        sample_rows=rows,
        sample_dn=np.array(sample),
        held_back_dn=held_sample,
        held_back_row_means_dn=held_rows,
        lowest_dn=min(lows),
        highest_dn=max(highs),
        lowest_fraction=max(fractions),
        whole_numbers=whole,
        temperatures_c=stack.temperatures_c,
    )


def _sample_rows(height: int, width: int) -> npt.NDArray[np.intp]:
    pairs = min(height // 2, max(4, _SAMPLE_PIXELS // (2 * width)))
    tops = 2 * np.unique(np.linspace(0, height // 2 - 1, pairs).astype(np.intp))
    return np.stack([tops, tops + 1], axis=1).reshape(-1)


def _tile_offset(offset: FloatArray, rows: int, width: int) -> npt.NDArray[np.float32]:
    return np.tile(offset, ((rows + 1) // 2, (width + 1) // 2))[:rows, :width].astype(np.float32)


def _above(mosaic: npt.NDArray[np.generic], offset: FloatArray) -> npt.NDArray[np.float32]:
    return mosaic.astype(np.float32) - _tile_offset(offset, *mosaic.shape)


def _is_whole(values: npt.NDArray[np.generic]) -> bool:
    if values.dtype.kind in "iu":
        return True
    steps = values.astype(np.float64) - float(values.flat[0])
    return bool(np.abs(steps - np.rint(steps)).max() < 0.01)


def _add(
    mosaic: npt.NDArray[np.generic], offset: FloatArray, total: npt.NDArray[np.float32] | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Add a frame to ``total`` block by block; return its row, column and position means above the offset."""
    height, width = mosaic.shape
    rows, columns = np.empty((height, 2)), np.zeros(width)
    level = _tile_offset(offset, _BLOCK_ROWS, width)
    for top in range(0, height, _BLOCK_ROWS):
        block = mosaic[top : top + _BLOCK_ROWS].astype(np.float32)
        block -= level[: len(block)]
        rows[top : top + len(block), 0] = block[:, 0::2].mean(axis=1)
        rows[top : top + len(block), 1] = block[:, 1::2].mean(axis=1)
        columns += block.sum(axis=0)
        if total is not None:
            total[top : top + len(block)] += block
    row_means = rows @ np.array([(width + 1) // 2, width // 2]) / width
    return row_means, columns / height, np.array([rows[0::2].mean(axis=0), rows[1::2].mean(axis=0)])
