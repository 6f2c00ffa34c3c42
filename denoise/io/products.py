"""Cubes in HDF5 of a layout of their own: PRISMA and EMIT products, and what GDAL makes of bands in NetCDF-4.

References
----------
.. [1] ASI, PRISMA Products Specification Document, issue 2.3, 2020.
.. [2] EMIT L2A Reflectance product, user guide, LP DAAC, 2023.
.. [3] GDAL, netCDF raster driver.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.cube import CubeMetadata, Georeference, HyperspectralCube
from denoise.cubes.pixels import hold_if_small
from denoise.errors import FileFormatError
from denoise.io.bands import to_nanometres
from denoise.io.hdf5_pixels import Hdf5Pixels, Part, history_of, number_of, text_of
from denoise.io.hdf5_place import read_place

_SWATHS: Final = "HDFEOS/SWATHS"
_PRISMA_LEVELS: Final = ("PRS_L2D_HCO", "PRS_L2C_HCO", "PRS_L2B_HCO", "PRS_L1_HCO", "PRS_L1_HRC")
_PRISMA_AXES: Final = (1, 0, 2)
_PRISMA_STEPS: Final = 65535.0
_PRISMA_BAD: Final = "PIXEL_SAT_ERR_MATRIX"
_EMIT_AXES: Final = (1, 2, 0)
_LAYER_AXES: Final = (1, 2)
_EMIT_BANDS: Final = "sensor_band_parameters"


def read_prisma(path: Path, file: Any) -> HyperspectralCube | None:
    """Describe a PRISMA product; None for any other file.

    The two spectrometers become one cube in order of wavelength, without the bands that the product marks as unused.

    Raises
    ------
    FileFormatError
        If it is a PRISMA product that lacks something needed.
    """
    swaths = file.get(_SWATHS)
    level = next((name for name in _PRISMA_LEVELS if swaths is not None and name in swaths), None)
    if level is None:
        return None
    fields = f"{_SWATHS}/{level}/Data Fields"
    try:
        sides = [_prisma_side(file, fields, side, level) for side in ("Vnir", "Swir")]
    except KeyError as error:
        raise FileFormatError(
            f"{path.name} is a PRISMA product that lacks {error}. Copy it again from its source."
        ) from error
    wavelengths = np.concatenate([side["wavelengths"] for side in sides])
    order = np.argsort(wavelengths, kind="stable")
    place = np.argsort(order)
    parts, flags, begin = [], [], 0
    for side in sides:
        places = place[begin : begin + len(side["takes"])]
        begin += len(places)
        parts.append(Part(side["cube"], _PRISMA_AXES, side["takes"], places))
        if side["flags"] is not None:
            flags.append(Part(side["flags"], parts[-1].axes, side["takes"], places))
    first = file[parts[0].dataset]
    height, width = (first.shape[parts[0].axes.index(axis)] for axis in (1, 2))
    shape = (len(order), height, width)
    pixels = Hdf5Pixels(path, parts, shape, first.dtype)
    return HyperspectralCube(
        hold_if_small(pixels),
        wavelengths_nm=wavelengths[order],
        fwhm_nm=np.concatenate([side["fwhm"] for side in sides])[order],
        dead=Hdf5Pixels(path, flags, shape, np.dtype(np.uint8)) if len(flags) == len(sides) else None,
        quantity="reflectance" if "L2" in level and "L2B" not in level else "radiance",
        scale=np.concatenate([side["scale"] for side in sides])[order],
        offset=np.concatenate([side["offset"] for side in sides])[order],
        acquired=text_of(file.attrs.get("Product_StartTime", "")),
        georeference=_prisma_place(file, width, height),
        metadata=CubeMetadata(path, "hdf5", {"pixels": pixels}),
        history=history_of(file),
    )


def read_emit(path: Path, file: Any) -> HyperspectralCube | None:
    """Describe an EMIT L1B or L2A product, in sensor geometry; None for any other file."""
    name = next((key for key in ("reflectance", "radiance") if key in file), None)
    if name is None or _EMIT_BANDS not in file or "wavelengths" not in file[_EMIT_BANDS]:
        return None
    dataset, bands = file[name], file[_EMIT_BANDS]
    height, width, count = dataset.shape
    every = np.arange(count)
    pixels = Hdf5Pixels(path, [Part(name, _EMIT_AXES, every, every)], (count, height, width), dataset.dtype)
    good = bands.get("good_wavelengths")
    return HyperspectralCube(
        hold_if_small(pixels),
        wavelengths_nm=np.asarray(bands["wavelengths"][()], np.float64),
        fwhm_nm=np.asarray(bands["fwhm"][()], np.float64) if "fwhm" in bands else None,
        good_bands=None if good is None else np.asarray(good[()]) != 0,
        nodata=number_of(dataset, "_FillValue"),
        quantity=name,
        acquired=text_of(file.attrs.get("time_coverage_start", "")),
        metadata=CubeMetadata(path, "hdf5", {"pixels": pixels}),
        history=history_of(file),
    )


def read_layers(path: Path, file: Any) -> HyperspectralCube | None:
    """Describe the bands that GDAL writes as Band1, Band2, ..., each an image of its own; None for any other file."""
    count = 0
    while f"Band{count + 1}" in file:
        count += 1
    layers = [file[f"Band{number + 1}"] for number in range(count)]
    kinds = {(layer.shape, layer.dtype) for layer in layers}
    if count < 2 or len(kinds) != 1 or layers[0].ndim != 2 or layers[0].dtype.kind not in "iuf":
        return None
    first = layers[0]
    shape = (count, *first.shape)
    parts = [Part(f"Band{band + 1}", _LAYER_AXES, np.zeros(1, int), np.array([band])) for band in range(count)]
    pixels = Hdf5Pixels(path, parts, shape, first.dtype)
    centres = [number_of(layer, "wavelength", "WAVELENGTH") for layer in layers]
    known = np.array(centres, np.float64) if None not in centres else None
    units = text_of(first.attrs.get("wavelength_units", first.attrs.get("WAVELENGTH_UNITS", "")))
    return HyperspectralCube(
        hold_if_small(pixels),
        wavelengths_nm=None if known is None else to_nanometres(known, units),
        nodata=number_of(first, "_FillValue", "missing_value"),
        quantity=text_of(first.attrs.get("units", "")),
        scale=np.array([number_of(layer, "scale_factor") or 1.0 for layer in layers]),
        offset=np.array([number_of(layer, "add_offset") or 0.0 for layer in layers]),
        georeference=read_place(first, 0, 1),
        metadata=CubeMetadata(path, "hdf5", {"pixels": pixels}),
        history=history_of(file),
    )


def _prisma_side(file: Any, fields: str, side: str, level: str) -> dict[str, Any]:
    """Gather what the product says of one spectrometer."""
    cube = f"{fields}/{side.upper()}_Cube"
    flags = f"{fields}/{side.upper()}_{_PRISMA_BAD}"
    if cube not in file:
        raise KeyError(cube)
    used = np.flatnonzero(np.asarray(file.attrs.get(f"List_Cw_{side}_Flags", file.attrs[f"List_Cw_{side}"])) != 0)
    if "L1" in level:
        scale = 1.0 / float(file.attrs[f"ScaleFactor_{side}"])
        offset = -float(file.attrs[f"Offset_{side}"])
    else:
        low, high = (float(file.attrs[f"L2Scale{side}{end}"]) for end in ("Min", "Max"))
        scale, offset = (high - low) / _PRISMA_STEPS, low
    return {
        "cube": cube,
        "flags": flags if flags in file else None,
        "takes": used,
        "wavelengths": np.asarray(file.attrs[f"List_Cw_{side}"], np.float64)[used],
        "fwhm": np.asarray(file.attrs[f"List_Fwhm_{side}"], np.float64)[used],
        "scale": np.full(used.size, scale),
        "offset": np.full(used.size, offset),
    }


def _prisma_place(file: Any, width: int, height: int) -> Georeference | None:
    """Return where a geocoded product lies; None for one in sensor geometry."""
    names = ("Epsg_Code", "Product_ULcorner_easting", "Product_ULcorner_northing", "Product_LRcorner_easting",
             "Product_LRcorner_northing")  # fmt: skip
    if any(name not in file.attrs for name in names):
        return None
    code, left, top, right, bottom = (float(np.ravel(file.attrs[name])[0]) for name in names)
    step_x, step_y = (right - left) / max(width - 1, 1), (bottom - top) / max(height - 1, 1)
    return Georeference(f"EPSG:{int(code)}", (step_x, 0.0, left - step_x / 2, 0.0, step_y, top - step_y / 2))
