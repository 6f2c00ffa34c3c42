"""Values that are missing in a cube, filled so that a model meets nothing odd; they are restored once it is done."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FloatPlanes = npt.NDArray[np.float32]
BoolPlanes = npt.NDArray[np.bool_]

REACH: Final = 8
"""How far a pixel without any valid band looks for one that has some [pixel]."""


def fill_gaps(
    planes: FloatPlanes,
    valid: BoolPlanes,
    positions: npt.NDArray[np.float64],
    spectra: FloatPlanes,
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Fill what is not valid, in place.

    Along the spectrum first, pixel by pixel, so that the result does not depend on where a window was cut. A pixel
    without any valid band takes the spectrum of the nearest pixel within `REACH`, else one of ``spectra``, chosen by
    its place: one value all over would pass for a detector that sticks and for an image without noise.

    Parameters
    ----------
    planes : (bands, H, W) float32
        What is not valid may be anything, NaN as well.
    valid : (bands, H, W) bool
        What is to be kept.
    positions : (bands,)
        Places of the bands along the spectrum, such as wavelengths; in any order.
    spectra : (bands, n) float32
        Measured ones.
    corner : (int, int)
        Row and column of the window in the cube.
    """
    count = valid.sum(axis=0)
    partly = (count > 0) & (count < len(planes))
    if partly.any():
        rows, columns = np.nonzero(partly)
        planes[:, rows, columns] = _along_spectrum(planes[:, rows, columns], valid[:, rows, columns], positions)
    empty = count == 0
    if empty.any():
        rows, columns = np.nonzero(empty)
        planes[:, empty] = spectra[:, _shuffled(rows + corner[0], columns + corner[1]) % spectra.shape[1]]
        if not empty.all():
            _from_neighbours(planes, empty)


def _along_spectrum(spectra: FloatPlanes, valid: BoolPlanes, positions: npt.NDArray[np.float64]) -> FloatPlanes:
    """Return (bands, n) with straight lines between the valid bands of each spectrum, and level ends."""
    order = np.argsort(positions, kind="stable")
    spectra, valid, places = spectra[order], valid[order], positions[order]
    bands = np.arange(len(places))[:, None]
    before = np.maximum.accumulate(np.where(valid, bands, -1), axis=0)
    after = np.minimum.accumulate(np.where(valid, bands, len(places))[::-1], axis=0)[::-1]
    low = np.where(before < 0, after, before)
    high = np.where(after == len(places), low, after)
    gap = places[high] - places[low]
    share = np.where(gap > 0, (places[:, None] - places[low]) / np.where(gap > 0, gap, 1.0), 0.0)
    clean = np.where(valid, spectra, 0.0)
    lower, upper = np.take_along_axis(clean, low, 0), np.take_along_axis(clean, high, 0)
    filled = np.where(valid, spectra, lower + share * (upper - lower))
    result = np.empty_like(spectra)
    result[order] = filled
    return result


def _shuffled(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a number for each place, as if drawn by chance."""
    mixed = (rows.astype(np.uint64) << np.uint64(32) | columns.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(33)).astype(np.int64)


def _from_neighbours(planes: FloatPlanes, empty: npt.NDArray[np.bool_]) -> None:
    """Give empty pixels near a full one its spectrum."""
    from scipy.ndimage import distance_transform_edt

    distance, (rows, columns) = distance_transform_edt(empty, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    near = empty & (distance <= REACH)
    planes[:, near] = planes[:, rows[near], columns[near]]
