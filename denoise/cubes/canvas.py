"""Where a denoised cube is put: back into the values, the type and the gaps of its source."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from denoise.cubes import pixels as cube_pixels
from denoise.cubes.pixels import ArrayPixels, Spool, Stored
from denoise.errors import ShapeError

if TYPE_CHECKING:
    from denoise.cubes.cube import HyperspectralCube

_LOG = logging.getLogger(__name__)


class CubeCanvas:
    """Fills a cube of the source's type, counting what rounding and the type's range change.

    What was not valid is put back as it was stored, and so is every value that the model left alone. No other value
    becomes the number that stands for missing ones.
    """

    def __init__(self, source: HyperspectralCube) -> None:
        self.source = source
        self.dtype = source.stored.dtype
        large = int(np.prod(source.shape, dtype=np.int64)) * self.dtype.itemsize > cube_pixels.HELD_BYTES
        self.target = Spool(source.shape, self.dtype) if large else ArrayPixels(np.empty(source.shape, self.dtype))
        self.clipped = self.rounded = self.restored = 0
        self.squared_error = 0.0

    def put(self, top: int, rows: npt.NDArray[np.float32]) -> None:
        """Store planes (bands, h, W) whose first row is ``top``, house units."""
        source = self.source
        bands, _, width = source.shape
        if rows.shape[0] != bands or rows.shape[2] != width:
            raise ShapeError(f"Expected planes of shape {source.shape}, but got {rows.shape}.")
        window = (top, top + rows.shape[1], 0, width)
        stored = source.stored.read(*window)
        valid = source.valid_in(stored, *window)
        changed = valid & (rows != source.to_house(stored))
        self.restored += int(valid.size - np.count_nonzero(valid))
        if changed.any():
            values = source.from_house(rows, np.float32 if self.dtype.itemsize < 4 else np.float64)
            stored[changed] = self._fit(values[changed])
        self.target.put(top, stored)

    def finish(self, note: str) -> HyperspectralCube:
        """Return the cube, with ``note`` and what storing it changed at the end of its history."""
        lines = [note] if note else []
        if self.rounded:
            error = np.sqrt(self.squared_error / self.rounded)
            lines.append(f"stored as {self.dtype}: rounding error {error:.2f} steps, {self.clipped} values clipped")
        elif self.clipped:
            lines.append(f"stored as {self.dtype}: {self.clipped} values clipped")
        if self.restored:
            lines.append(f"{self.restored} values without data, dead or in bad bands left as they were")
        if self.clipped:
            _LOG.warning("%d values lay outside what %s holds and were clipped.", self.clipped, self.dtype)
        return replace(self.source, stored=self.target, history=(*self.source.history, *lines))

    def _fit(self, values: npt.NDArray[Any]) -> Stored:
        """Turn values (n,) into the stored type."""
        integer = self.dtype.kind in "iu"
        if integer:
            whole = np.rint(values)
            self.squared_error += float(np.square(whole - values, dtype=np.float64).sum())
            self.rounded += values.size
            values = whole
        kind = np.iinfo(self.dtype) if integer else np.finfo(self.dtype)
        low, high = float(kind.min), float(kind.max)
        outside = (values < low) | (values > high)
        if outside.any():
            self.clipped += int(np.count_nonzero(outside))
        fitted = _clip_to_type(values, self.dtype, low, high)
        nodata = self.source.nodata
        if nodata is not None and np.isfinite(nodata) and low <= nodata <= high:
            fitted[fitted == self.dtype.type(nodata)] = _beside(self.dtype, nodata)
        return fitted


def _clip_to_type(values: npt.NDArray[Any], dtype: np.dtype[Any], low: float, high: float) -> Stored:
    """Convert without overflow: the largest 64-bit numbers are not representable as float64."""
    below, above = values <= low, values >= high
    fitted = np.where(below | above, 0, values).astype(dtype)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    fitted[below], fitted[above] = limits.min, limits.max
    return fitted


def _beside(dtype: np.dtype[Any], nodata: float) -> Any:
    """Return the neighbour, towards zero or up from it, of the number that stands for missing values."""
    if dtype.kind == "f":
        return np.nextafter(dtype.type(nodata), dtype.type(0 if nodata else 1))
    return dtype.type(int(nodata) + (1 if nodata <= 0 else -1))
