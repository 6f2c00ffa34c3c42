"""What every reader of a cube asks of its bands: wavelengths in nanometres, values that exist, a scale of 0 to 1."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from denoise.cubes.cube import FloatArray, HyperspectralCube
from denoise.cubes.pixels import row_blocks
from denoise.errors import FileFormatError, UnsupportedInputError

_LOG = logging.getLogger(__name__)

_NM_PER_UNIT: Final[dict[str, float]] = {
    **dict.fromkeys(("nm", "nanometers", "nanometer", "nanometres", "nanometre"), 1.0),
    **dict.fromkeys(
        ("um", "µm", "μm", "micrometers", "micrometer", "micrometres", "micrometre", "microns", "micron"), 1e3
    ),
    **dict.fromkeys(("mm", "millimeters"), 1e6),
    **dict.fromkeys(("m", "meters"), 1e9),
    **dict.fromkeys(("angstroms", "angstrom", "å"), 0.1),
}
_WAVENUMBER: Final = ("wavenumber", "cm-1", "1/cm")
_MOST_MICROMETRES: Final = 100.0
_WHITE_SHARE: Final = 0.999
_STATED_RANGE: Final = (0.02, 2.0)
_REFLECTANCE_LIKE: Final = (0.05, 1.5)
_USUAL_FILLS: Final = (-9999.0, -32768.0)
_FILL_SHARE: Final = 0.001
_FLAT_SHARE: Final = 0.005
_SAME_SHARE: Final = 0.5
_BANDS_OF_A_SPECTRUM: Final = 10
_AXIS_NAMES: Final = {0: "first", 2: "last"}
_STATE_IT: Final = "If they are missing, state it ('data ignore value' in ENVI, nodata elsewhere)."


def to_nanometres(values: npt.ArrayLike, units: str) -> FloatArray:
    """Return wavelengths in nanometres; where the unit is not stated or not known, by their size."""
    wavelengths = np.asarray(values, np.float64)
    name = units.strip().lower()
    if name in _WAVENUMBER:
        return 1e7 / wavelengths
    return wavelengths * _factor(name, wavelengths)


def widths_to_nanometres(widths: npt.ArrayLike, values: npt.ArrayLike, units: str) -> FloatArray:
    """Return full widths at half maximum in nanometres, of bands with centres ``values`` in the same unit."""
    fwhm, wavelengths = np.asarray(widths, np.float64), np.asarray(values, np.float64)
    name = units.strip().lower()
    if name in _WAVENUMBER:
        return 1e7 * fwhm / wavelengths**2
    return fwhm * _factor(name, wavelengths)


def is_unit(units: str) -> bool:
    """Return whether a text is a known unit of wavelengths."""
    name = units.strip().lower()
    return name in _NM_PER_UNIT or name in _WAVENUMBER


def _factor(name: str, wavelengths: FloatArray) -> float:
    if name in _NM_PER_UNIT:
        return _NM_PER_UNIT[name]
    return 1e3 if np.nanmax(wavelengths) < _MOST_MICROMETRES else 1.0


def band_axis(shape: Sequence[int], asked: str, name: str, wavelengths: int | None = None) -> int:
    """Return which axis of an array without labels holds the bands.

    Parameters
    ----------
    shape : (3,) sequence of int
        Of the array.
    asked : str
        "first", "last", or "auto": the axis that is as long as the list of wavelengths; else the first or last one, if
        it is less than half as long as both others; else the first one, if the others are equally long and it is not
        (bands, rows, columns); else the last one (rows, columns, bands). Where that is a guess, a warning says so.
    name : str
        Of the file, for messages.
    wavelengths : int, optional
        How many the file lists.
    """
    if asked not in ("auto", "first", "last"):
        raise FileFormatError(f"Band axis '{asked}' was asked for, but it is auto, first or last.")
    if asked != "auto":
        return 0 if asked == "first" else 2
    fits = [axis for axis in (2, 0) if shape[axis] == wavelengths]
    if len(fits) == 1:
        return fits[0]
    first, middle, last = shape
    short = [axis for axis, others in ((0, (middle, last)), (2, (first, middle))) if 2 * shape[axis] < min(others)]
    square = [axis for axis, even in ((0, middle == last), (2, first == middle)) if even]
    axis = short[0] if short else 0 if square == [0] else 2
    if short or square == [2]:
        _LOG.info("%s: the %s axis of %s was taken for the bands.", name, _AXIS_NAMES[axis], tuple(shape))
        return axis
    _LOG.warning(
        "%s: the %s axis of %s was taken for the bands, but the shape does not tell it clearly. If it is the %s one, "
        "say --band-axis %s; if not, --band-axis %s says so without this warning.",
        name, _AXIS_NAMES[axis], tuple(shape), _AXIS_NAMES[2 - axis], _AXIS_NAMES[2 - axis], _AXIS_NAMES[axis],
    )  # fmt: skip
    return axis


def refuse_shape(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Refuse an array that is not a cube.

    Raises
    ------
    UnsupportedInputError
        If it has not three axes, or does not hold real numbers.
    FileFormatError
        If it holds nothing.
    """
    if dtype.kind == "c":
        raise UnsupportedInputError(
            f"{path.name} holds complex values, which are not served. Write magnitudes instead."
        )
    if len(shape) != 3 or dtype.kind not in "iuf":
        remedy = "Export it as TIFF and denoise it as a photograph." if len(shape) == 2 else "Convert it first."
        raise UnsupportedInputError(
            f"{path.name} was given as a cube, which has three axes of real numbers, but it holds {dtype} of shape "
            f"{tuple(shape)}. {remedy}"
        )
    if not all(shape):
        raise FileFormatError(f"{path} holds no values: its shape is {tuple(shape)}.")


def refuse_one_band(path: Path, shape: tuple[int, int, int]) -> None:
    """Refuse (bands, H, W) with a single band.

    Raises
    ------
    UnsupportedInputError
        If there is but one.
    """
    bands, height, width = shape
    if bands < 2:
        raise UnsupportedInputError(
            f"{path.name} holds one band of {width} x {height}, but a cube has at least two. "
            "Export it as TIFF and denoise it as a photograph."
        )


def finish_cube(cube: HyperspectralCube, path: Path) -> HyperspectralCube:
    """Check that a cube holds values, tell what is odd about its bands, and give it its white.

    Where the file states a reflectance, 1 is 1; otherwise white is the value below which 99.9 % of a sample lie. Pixels
    that hold one number in all of ten or more bands, as no spectrum does, are taken for missing where there are many.

    Raises
    ------
    FileFormatError
        If no value is valid, or every band is marked as bad.
    """
    if cube.good_bands is not None and not cube.good_bands.any():
        raise FileFormatError(f"{path.name} marks all {cube.shape[0]} bands as bad. Mend the list of bad bands.")
    _check_wavelengths(cube, path.name)
    counts = _count_valid(cube)
    if not counts.any():
        what = "not finite" if cube.nodata is None else f"the number for missing values ({cube.nodata:g}) or not finite"
        raise FileFormatError(
            f"{path.name} holds no value to denoise: all of {cube.shape[2]} x {cube.shape[1]} pixels in "
            f"{cube.shape[0]} bands are {what}. Check the file, and which number it states for missing values."
        )
    good = np.ones(cube.shape[0], bool) if cube.good_bands is None else cube.good_bands
    empty = np.flatnonzero((counts == 0) & good)
    if empty.size:
        _LOG.warning("%s: no value is valid in band %s, left as it is.", path.name, band_ranges(empty))
    cube = replace(cube, blank=_find_blank(cube, path.name))
    return replace(cube, white=_measure_white(cube))


def band_ranges(bands: npt.NDArray[Any]) -> str:
    """Return numbers of bands, counted from 1, as "3, 7-9"."""
    runs = np.split(bands, np.flatnonzero(np.diff(bands) != 1) + 1)
    return ", ".join(f"{run[0] + 1}" if len(run) == 1 else f"{run[0] + 1}-{run[-1] + 1}" for run in runs)


def _check_wavelengths(cube: HyperspectralCube, name: str) -> None:
    wavelengths = cube.wavelengths_nm
    if wavelengths is None:
        _LOG.warning("%s states no wavelengths; its bands are taken as neighbours in the order of the file.", name)
        return
    if not np.all(np.isfinite(wavelengths)) or wavelengths.min() <= 0:
        raise FileFormatError(
            f"{name} lists wavelengths that are not above 0 (the least is {np.nanmin(wavelengths):g} nm). "
            "Mend the list, or remove it."
        )
    steps = np.diff(wavelengths)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        up = np.median(np.sign(steps)) >= 0
        turn = int(np.flatnonzero(steps <= 0 if up else steps >= 0)[0])
        _LOG.warning(
            "%s: wavelengths are not in order (band %d at %.1f nm follows %.1f nm); check the list, or sort the bands. "
            "They are denoised in the order of the file.",
            name, turn + 2, wavelengths[turn + 1], wavelengths[turn],
        )  # fmt: skip


def _count_valid(cube: HyperspectralCube) -> npt.NDArray[np.int64]:
    """Return how many valid values each band has; of a large cube, in a sample unless that has none."""
    counts = np.zeros(cube.shape[0], np.int64)
    if cube.stored.held_bytes == 0:
        counts = cube.sample()[1].sum(axis=1)
        if counts.any():
            return counts
    for top, bottom in row_blocks(cube.stored):
        window = (top, bottom, 0, cube.shape[2])
        counts += cube.valid_in(cube.stored.read(*window), *window).sum(axis=(1, 2))
    return counts


def _measure_white(cube: HyperspectralCube) -> float:
    sample, valid = replace(cube, white=1.0).sample()
    values = sample[valid]
    if not values.size:
        return 1.0
    high = float(np.quantile(values, _WHITE_SHARE))
    stated = cube.quantity.lower().startswith("reflectance") and np.any(cube.scale != 1)
    like_reflectance = cube.stored.dtype.kind == "f" and _REFLECTANCE_LIKE[0] <= high <= _REFLECTANCE_LIKE[1]
    if (stated and _STATED_RANGE[0] <= high <= _STATED_RANGE[1]) or like_reflectance:
        return 1.0
    return high if high > 0 else max(float(np.abs(values).max()), 1.0)


def _find_blank(cube: HyperspectralCube, name: str) -> float | None:
    """Return the number by which missing pixels are known though no header states it; tell of all that look so."""
    stored, valid = replace(cube, white=1.0, scale=np.ones(1), offset=np.zeros(1)).sample()
    used = valid.any(axis=1)
    fill, count = _flat_number(stored[used], valid[used])
    masked = bool(count) and bool(used.all()) and cube.shape[0] >= _BANDS_OF_A_SPECTRUM
    known = (fill,) if masked else ()
    if cube.nodata is None:
        known = (*known, *_warn_of_usual_fills(stored, name, known))
    if masked or (count and fill not in known):
        pixels = stored.shape[1]
        _LOG.warning(
            "%s: %d of %d pixels looked at (%.1f %%) are %g in every band, as missing ones are, but the file does not "
            "say so. %s", name, count, pixels, 100 * count / pixels, fill,
            "They are taken for missing, and stay as they are." if masked else _STATE_IT,
        )  # fmt: skip
    return fill if masked else None


def _flat_number(values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """Return the number that many pixels (bands, n) hold in all bands, as no spectrum does, and how many; 0 if none."""
    pixels = values.shape[1]
    flat = values[0][(values == values[0]).all(axis=0) & valid.all(axis=0)]
    if len(values) < 2 or flat.size < _FLAT_SHARE * pixels:
        return 0.0, 0
    numbers, counts = np.unique(flat, return_counts=True)
    fill, count = float(numbers[counts.argmax()]), int(counts.max())
    many = max(_FLAT_SHARE * pixels, _SAME_SHARE * flat.size) <= count < pixels
    return (fill, count) if many else (0.0, 0)


def _warn_of_usual_fills(stored: npt.NDArray[np.float32], name: str, known: tuple[float, ...]) -> tuple[float, ...]:
    """Warn of numbers that often stand for missing values, but for those that are known; returns which."""
    told = []
    for fill in _USUAL_FILLS:
        share = float(np.mean(stored == fill))
        if share > _FILL_SHARE and fill not in known:
            told.append(fill)
            _LOG.warning(
                "%s: %.1f %% of its values are %g, which is often used for missing ones, but the file does not say so. "
                "%s", name, 100 * share, fill, _STATE_IT,
            )  # fmt: skip
    return tuple(told)
