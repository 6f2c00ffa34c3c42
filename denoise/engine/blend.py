"""How tiles become one image: weights that sum to one, and a band that lets go of each row once it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from denoise.engine.tiles import Grid, Span, Tile

FloatPlanes = npt.NDArray[np.float32]
Segment = tuple[slice, slice, FloatPlanes | None, bool]

_STEPS: Final = 4096.0
_PUT_BYTES: Final = 4 << 20


def ramp(length: int) -> FloatPlanes:
    """Return weights that rise from 0 to 1 over ``length`` pixels.

    They are multiples of 2**-12, so that ``w``, ``1 - w`` and the product of two of them are exact in float32, and
    the weights of all tiles sum to one without any rounding.
    """
    rising = (np.arange(length, dtype=np.float64) + 0.5) / max(length, 1)
    return (np.rint(rising * _STEPS) / _STEPS).astype(np.float32)


def weights(span: Span) -> FloatPlanes:
    """Return the weight of each pixel from ``span.begin`` to ``span.end``."""
    ones = np.ones(span.fall - span.rise, np.float32)
    return np.concatenate([ramp(span.rise - span.begin), ones, 1.0 - ramp(span.end - span.fall)])


def _segments(span: Span, origin: int) -> Iterator[Segment]:
    """Yield (place in the band, place in the tile, weights or None, whether a tile was there before)."""
    for first, last, rising in (
        (span.begin, span.rise, True),
        (span.rise, span.fall, None),
        (span.fall, span.end, False),
    ):
        if last > first:
            weight = None if rising is None else ramp(last - first) if rising else 1.0 - ramp(last - first)
            band, tile = slice(first - origin, last - origin), slice(first - span.start, last - span.start)
            yield band, tile, weight, rising is True


def _laid_out_as(planes: FloatPlanes, shape: tuple[int, int, int]) -> FloatPlanes:
    """Return empty planes (C, H, W), in memory pixel by pixel where ``planes`` are, so that copies go straight."""
    channels, height, width = shape
    if planes.strides[0] < planes.strides[2]:
        return np.empty((height, width, channels), np.float32).transpose(2, 0, 1)
    return np.empty(shape, np.float32)


class Band:
    """One row of tiles, as wide as the image, in float32.

    Rows that no later tile touches are handed on at once, so that a full frame never stands in memory as float.

    Parameters
    ----------
    grid : Grid
        Whose tiles come in order.
    channels : int
        Number of planes.
    put : callable
        Takes the first row and finished planes (C, h, W), from top to bottom; it must not keep them.
    """

    def __init__(self, grid: Grid, channels: int, put: Callable[[int, FloatPlanes], None]) -> None:
        self.grid = grid
        self.put = put
        self.planes = np.empty((channels, self.height(grid), grid.shape[1]), np.float32)
        self._is_new = True
        self.begins = {span: after.begin for span, after in zip(grid.rows, grid.rows[1:], strict=False)}
        self.chunk = max(1, _PUT_BYTES // (4 * channels * grid.shape[1]))

    @staticmethod
    def height(grid: Grid) -> int:
        """Return the rows that the band holds."""
        return max(span.end - span.begin for span in grid.rows)

    @classmethod
    def bytes_for(cls, grid: Grid, channels: int) -> int:
        """Return what the band takes, with what a canvas needs while it stores rows."""
        row = 4 * channels * grid.shape[1]
        return cls.height(grid) * row + 4 * max(_PUT_BYTES, row)

    def add(self, tile: Tile, planes: FloatPlanes) -> None:
        """Add a denoised tile (C, h, w), weighted; hand on what is finished."""
        if self._is_new:
            self.planes, self._is_new = _laid_out_as(planes, self.planes.shape), False
        columns = list(_segments(tile.columns, 0))
        for band_rows, tile_rows, row_weight, row_seen in _segments(tile.rows, tile.rows.begin):
            for band_columns, tile_columns, column_weight, column_seen in columns:
                target = self.planes[:, band_rows, band_columns]
                part = planes[:, tile_rows, tile_columns]
                if row_weight is not None:
                    part = part * (
                        row_weight[:, None] if column_weight is None else np.outer(row_weight, column_weight)
                    )
                elif column_weight is not None:
                    part = part * column_weight
                if row_seen or column_seen:
                    target += part
                else:
                    target[...] = part
        if tile.last_of_row:
            self._hand_on(tile.rows)

    def _hand_on(self, rows: Span) -> None:
        begin = self.begins.get(rows, rows.end)
        done = begin - rows.begin
        for top in range(0, done, self.chunk):
            bottom = min(top + self.chunk, done)
            self.put(rows.begin + top, self.planes[:, top:bottom])
        left = rows.end - begin
        if left:
            self.planes[:, :left] = self.planes[:, done : done + left].copy()
