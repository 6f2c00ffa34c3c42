"""Mosaic (H, W) to planes (C, H/2, W/2) and back, for every phase of a Bayer sensor.

Planes stand in the order of the 2x2 cell turned to RGGB: red, green on the red rows, green on the blue rows, blue.
A network therefore sees the same layout whatever the camera's phase.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from denoise.errors import ShapeError, nearest

MONO: Final = "MONO"
"""The pattern name of a sensor without colour filters."""

# Position (row, column) within the 2x2 cell of each plane: red, green beside red, green beside blue, blue.
_POSITIONS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "RGGB": ((0, 0), (0, 1), (1, 0), (1, 1)),
    "GRBG": ((0, 1), (0, 0), (1, 1), (1, 0)),
    "GBRG": ((1, 0), (1, 1), (0, 0), (0, 1)),
    "BGGR": ((1, 1), (1, 0), (0, 1), (0, 0)),
    MONO: ((0, 0),),
}
PATTERNS: Final = tuple(_POSITIONS)


def positions(cfa: str) -> tuple[tuple[int, int], ...]:
    """Return the (row, column) within the cell of each plane, in the order red, green, green, blue.

    Raises
    ------
    ShapeError
        If the pattern is not one of `PATTERNS`.
    """
    try:
        return _POSITIONS[cfa]
    except KeyError:
        raise ShapeError(f"Colour filter pattern '{cfa}' is not known. {nearest(cfa, PATTERNS)}") from None


def period(cfa: str) -> int:
    """Return the period of the pattern in mosaic pixels: 2 for Bayer, 1 for mono."""
    return 1 if len(positions(cfa)) == 1 else 2


def plane_shape(cfa: str, height: int, width: int) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the planes of a mosaic; an odd side is rounded up to a whole cell."""
    step = period(cfa)
    return len(positions(cfa)), -(-height // step), -(-width // step)


def pack(mosaic: npt.NDArray[np.generic], cfa: str) -> npt.NDArray[np.generic]:
    """Turn a mosaic into planes.

    Parameters
    ----------
    mosaic : (H, W) array
        ``mosaic[0, 0]`` is the first letter of the pattern.
    cfa : str
        One of `PATTERNS`.

    Returns
    -------
    (C, ceil(H/2), ceil(W/2)) array
        Same dtype. The last row or column of an odd side repeats its neighbour of the same colour.
    """
    height, width = mosaic.shape
    step = period(cfa)
    if step == 1:
        return mosaic[None]
    if height < step or width < step:
        raise ShapeError(f"A Bayer mosaic needs at least 2x2 pixels, but got {width}x{height}.")
    planes = np.empty(plane_shape(cfa, height, width), mosaic.dtype)
    for plane, (row, column) in zip(planes, positions(cfa), strict=True):
        part = mosaic[row::step, column::step]
        plane[: part.shape[0], : part.shape[1]] = part
        if part.shape[0] < plane.shape[0]:
            plane[-1] = plane[-2] if plane.shape[0] > 1 else plane[-1]
        if part.shape[1] < plane.shape[1]:
            plane[:, -1] = plane[:, -2] if plane.shape[1] > 1 else plane[:, -1]
    return planes


def unpack(
    planes: npt.NDArray[np.generic], cfa: str, height: int | None = None, width: int | None = None
) -> npt.NDArray[np.generic]:
    """Turn planes (C, h, w) back into a mosaic (height, width), by default (2h, 2w); the inverse of `pack`."""
    step = period(cfa)
    if planes.shape[0] != len(positions(cfa)):
        raise ShapeError(f"Pattern {cfa} has {len(positions(cfa))} planes, but got an array of shape {planes.shape}.")
    size = (height or planes.shape[1] * step, width or planes.shape[2] * step)
    mosaic = np.empty(size, planes.dtype)
    for plane, (row, column) in zip(planes, positions(cfa), strict=True):
        part = mosaic[row::step, column::step]
        part[...] = plane[: part.shape[0], : part.shape[1]]
    return mosaic


def black_by_plane(black_dn: npt.ArrayLike, cfa: str) -> npt.NDArray[np.float64]:
    """Return black levels (2, 2) by position as (C,) by plane."""
    black = np.asarray(black_dn, np.float64)
    return np.array([black[position] for position in positions(cfa)])
