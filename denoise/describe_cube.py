"""What a cube is, in words for ``denoise info``."""

from __future__ import annotations

from typing import Any

import numpy as np

from denoise.cube import HyperspectralCube
from denoise.cube_pixels import row_blocks
from denoise.io.bands import band_ranges


def describe_cube(cube: HyperspectralCube) -> dict[str, Any]:
    """Return the facts of a cube by name; every value is looked at once."""
    bands, height, width = cube.shape
    low, high, valid = _survey(cube)
    facts = {
        "kind": f"hyperspectral cube, {cube.metadata.format or 'in memory'}",
        "size": f"{width} x {height}",
        "bands": bands,
        "values": _values(cube),
        "wavelengths": _wavelengths(cube),
        "bad bands": _listed(None if cube.good_bands is None else ~cube.good_bands),
        "nodata value": "not stated" if cube.nodata is None else f"{cube.nodata:g}",
        "without data": f"{100 * (1 - valid.sum() / (bands * height * width)):.2f} %",
        "bands without data": _listed(valid == 0),
        "stored range": f"{low:g} to {high:g}",
        "quantity": cube.quantity or "not stated",
        "scale": _scale(cube),
        "georeference": _place(cube),
        "acquired": cube.acquired or "not stated",
    }
    if cube.history:
        facts["history"] = "; ".join(cube.history)
    return facts


def _survey(cube: HyperspectralCube) -> tuple[float, float, np.ndarray]:
    """Return the least and largest stored value of all that are valid, and the valid values by band."""
    low, high, counts = np.inf, -np.inf, np.zeros(cube.shape[0], np.int64)
    for top, bottom in row_blocks(cube.stored):
        window = (top, bottom, 0, cube.shape[2])
        stored = cube.stored.read(*window)
        exists = cube.valid_in(stored, *window)
        counts += exists.sum(axis=(1, 2))
        values = stored[exists]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high, counts


def _values(cube: HyperspectralCube) -> str:
    entries = cube.metadata.entries
    parts = [str(cube.stored.dtype)]
    if "interleave" in entries:
        parts.append(entries["interleave"].upper())
    if "big_endian" in entries and cube.stored.dtype.itemsize > 1:
        parts.append("big endian" if entries["big_endian"] else "little endian")
    return ", ".join(parts)


def _wavelengths(cube: HyperspectralCube) -> str:
    wavelengths = cube.wavelengths_nm
    if wavelengths is None:
        return "not stated"
    steps = np.diff(wavelengths)
    ordered = "" if np.all(steps > 0) else ", descending" if np.all(steps < 0) else ", not in order"
    return f"{wavelengths.min():.1f} to {wavelengths.max():.1f} nm, steps of {np.median(np.abs(steps)):.1f} nm{ordered}"


def _listed(chosen: np.ndarray | None) -> str:
    if chosen is None:
        return "not stated"
    numbers = np.flatnonzero(chosen)
    return f"{band_ranges(numbers)} ({numbers.size})" if numbers.size else "none"


def _scale(cube: HyperspectralCube) -> str:
    scale, offset = np.unique(cube.scale), np.unique(cube.offset)
    text = f"{scale[0]:g}" if scale.size == 1 else f"{scale[0]:g} to {scale[-1]:g} by band"
    text += (
        f", offset {offset[0]:g}" if offset.size == 1 and offset[0] else ", offset by band" if offset.size > 1 else ""
    )
    return f"{text}; {cube.white:g} is 1 for the models"


def _place(cube: HyperspectralCube) -> str:
    place = cube.georeference
    if place is None:
        return "not stated"
    name = place.crs.split('"')[1] if '"' in place.crs else place.crs or "no reference system"
    if place.transform is None:
        return name
    a, _, c, _, e, f = place.transform
    return f"{name}, corner {c:.10g}, {f:.10g}, pixel {abs(a):.6g} x {abs(e):.6g}"
