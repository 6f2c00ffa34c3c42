"""What a cube is, in words for ``denoise info``."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch

from denoise.cubes.cube import HyperspectralCube
from denoise.cubes.pixels import row_blocks
from denoise.cubes.spectral import BandQuality, band_quality
from denoise.io.bands import band_ranges

_MOST_VALUES: Final = 2 << 20
_LISTED: Final = 5
_LOW_SNR: Final = 10.0


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
        **_quality(cube, valid > 0),
    }
    if cube.history:
        facts["history"] = "; ".join(cube.history)
    return facts


def _quality(cube: HyperspectralCube, measured: np.ndarray) -> dict[str, str]:
    """Return what the cube shows of its noise, measured on its middle, without the bands that are bad or empty."""
    bands = np.flatnonzero(measured)
    if bands.size < 2:
        return {}
    _, height, width = cube.shape
    side = max(1, math.isqrt(_MOST_VALUES // cube.shape[0]))
    rows = min(height, max(side, _MOST_VALUES // (cube.shape[0] * min(width, side))))
    columns = min(width, max(side, _MOST_VALUES // (cube.shape[0] * rows)))
    top, left = (height - rows) // 2, (width - columns) // 2
    planes = torch.from_numpy(cube.window(top, top + rows, left, left + columns)[bands])
    quality = band_quality(planes)
    return {
        "measured on": "all of it" if (rows, columns) == (height, width) else f"{columns} x {rows} in the middle",
        "spectra": f"{quality.rank} make up the signal",
        "SNR": _ranking(cube, quality, bands),
        "stripes": _stripes(quality, bands),
        "stuck detector elements": _stuck(quality, bands, left),
        "bands cut off": _listed_of(bands[quality.flaws.clipped.numpy()]),
    }


def _ranking(cube: HyperspectralCube, quality: BandQuality, bands: np.ndarray) -> str:
    snr = quality.snr.numpy()
    named = [f"{_band_name(cube, bands[index])} {snr[index]:.0f}" for index in quality.best_first]
    low = bands[snr < _LOW_SNR]
    text = (
        f"median {np.median(snr):.0f}; best {', '.join(named[:_LISTED])}; worst {', '.join(named[: -_LISTED - 1 : -1])}"
    )
    return f"{text}; below {_LOW_SNR:.0f}: {_listed_of(low)}"


def _stripes(quality: BandQuality, bands: np.ndarray) -> str:
    share = quality.striped.numpy()
    if not share.any():
        return "none"
    worst = [index for index in np.argsort(-share, kind="stable")[:_LISTED] if share[index]]
    listed = ", ".join(f"{bands[index] + 1} ({100 * share[index]:.0f} %)" for index in worst)
    return f"in {np.count_nonzero(share)} bands columns have offsets of their own; most in {listed}"


def _stuck(quality: BandQuality, bands: np.ndarray, left: int) -> str:
    places = np.argwhere(quality.flaws.stuck.numpy())
    if not len(places):
        return "none"
    listed = ", ".join(f"band {bands[band] + 1} column {left + column + 1}" for band, column in places[:_LISTED])
    return f"{len(places)} ({listed}{', ...' if len(places) > _LISTED else ''})"


def _band_name(cube: HyperspectralCube, band: int) -> str:
    return f"{band + 1}" if cube.wavelengths_nm is None else f"{band + 1} ({cube.wavelengths_nm[band]:.0f} nm)"


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
    return _listed_of(np.flatnonzero(chosen))


def _listed_of(numbers: np.ndarray) -> str:
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
