"""Cubes in HDF5: NetCDF-4, MATLAB 7.3 and plain HDF5.

From such a source, a copy is written in which only the cube's values are new, so that every coordinate, group,
attribute and product layer stays as it was.

References
----------
.. [1] CF conventions 1.11: scale_factor, add_offset, _FillValue, coordinates.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.cube import CubeMetadata, HyperspectralCube
from denoise.cubes.pixels import hold_if_small, row_blocks
from denoise.errors import FileFormatError, UnsupportedInputError, UsageError, nearest
from denoise.io.bands import (
    band_axis,
    finish_cube,
    is_unit,
    refuse_one_band,
    refuse_shape,
    to_nanometres,
    widths_to_nanometres,
)
from denoise.io.extras import need
from denoise.io.files import atomic_target, open_to_read
from denoise.io.hdf5_pixels import Hdf5Pixels, Part, history_of, is_hdf5, number_of, open_hdf5, put_rows, text_of
from denoise.io.hdf5_place import read_place, write_place
from denoise.io.products import read_emit, read_layers, read_prisma

HDF5_SUFFIXES: Final = (".h5", ".hdf5", ".he5", ".nc", ".nc4")
_BAND_WORDS: Final = ("band", "wave", "spectral", "lambda", "channel")
_WAVELENGTH_NAMES: Final = ("wavelength", "wavelengths", "wavelength_nm", "wl", "lambda", "bands", "band")
_MAYBE_COUNTED: Final = ("bands", "band")
_FWHM_NAMES: Final = ("fwhm", "fwhm_nm")
_SCALE, _OFFSET, _NAMES = "band_scale_factor", "band_add_offset", "band_name"


def read_hdf5(path: Path, *, variable: str = "", band_axis_asked: str = "auto") -> HyperspectralCube:
    """Read a cube of an HDF5 or NetCDF-4 file; PRISMA and EMIT products by their layout.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not HDF5.
    UsageError
        If it holds several cubes and ``variable`` names none of them.
    UnsupportedInputError
        If it holds no cube, or h5py is missing.
    """
    if not is_hdf5(path):
        raise FileFormatError(_not_hdf5(path))
    with open_hdf5(path) as file:
        cube = None if variable else read_prisma(path, file) or read_emit(path, file) or read_layers(path, file)
        cube = cube or read_variable(path, file, variable, band_axis_asked)
    return finish_cube(cube, path)


def read_variable(
    path: Path, file: Any, variable: str, band_axis_asked: str, matlab: bool = False
) -> HyperspectralCube:
    """Describe a dataset of three axes; of a MATLAB file, whose axes stand in reverse."""
    datasets = dict(_datasets(file))
    name = _choose(path, datasets, variable)
    dataset = datasets[name]
    refuse_shape(path, dataset.shape, dataset.dtype)
    wavelengths, units = _list_of(datasets, dataset, _WAVELENGTH_NAMES)
    seen = tuple(reversed(dataset.shape)) if matlab else dataset.shape
    axis = _labelled_axis(dataset)
    if axis is None:
        axis = band_axis(seen, band_axis_asked, path.name, None if wavelengths is None else len(wavelengths))
        axis = 2 - axis if matlab else axis
    others = [number for number in range(3) if number != axis]
    rows, columns = reversed(others) if matlab else others
    axes = tuple({axis: 0, rows: 1, columns: 2}[number] for number in range(3))
    bands, height, width = (dataset.shape[number] for number in (axis, rows, columns))
    refuse_one_band(path, (bands, height, width))
    every = np.arange(bands)
    pixels = Hdf5Pixels(path, [Part(name, axes, every, every)], (bands, height, width), dataset.dtype)
    wavelengths = None if wavelengths is None or len(wavelengths) != bands else wavelengths
    widths, _ = _list_of(datasets, dataset, _FWHM_NAMES)
    good, _ = _list_of(datasets, dataset, ("good_wavelengths",))
    scales, offsets, names = (_a_band(file, name, bands) for name in (_SCALE, _OFFSET, _NAMES))
    return HyperspectralCube(
        hold_if_small(pixels),
        wavelengths_nm=None if wavelengths is None else to_nanometres(wavelengths, units),
        fwhm_nm=None if wavelengths is None or widths is None else widths_to_nanometres(widths, wavelengths, units),
        good_bands=None if good is None or len(good) != bands else good != 0,
        nodata=number_of(dataset, "_FillValue", "missing_value", "nodata"),
        quantity=text_of(dataset.attrs.get("standard_name", dataset.attrs.get("long_name", ""))),
        scale=np.asarray([number_of(dataset, "scale_factor") or 1.0] if scales is None else scales, np.float64),
        offset=np.asarray([number_of(dataset, "add_offset") or 0.0] if offsets is None else offsets, np.float64),
        band_names=() if names is None or matlab else tuple(text_of(name) for name in names),
        georeference=None if matlab else read_place(dataset, rows, columns),
        acquired=text_of(file.attrs.get("time_coverage_start", "")),
        metadata=CubeMetadata(path, "matlab73" if matlab else "hdf5", {"pixels": pixels}),
        history=history_of(file),
    )


def write_hdf5(path: Path, cube: HyperspectralCube) -> None:
    """Write a copy of an HDF5 source with the values of the cube; from another source, a NetCDF-4 file of its own.

    Raises
    ------
    FileFormatError
        If the source is gone or the file cannot be written.
    """
    pixels = cube.metadata.entries.get("pixels")
    if not isinstance(pixels, Hdf5Pixels):
        _write_new(path, cube)
        return
    if not pixels.path.is_file():
        raise FileFormatError(f"Cannot write {path}: its source {pixels.path} is no longer there to be copied.")
    h5py = need("h5py", "cubes", path)
    with atomic_target(path) as target:
        shutil.copyfile(pixels.path, target)
        with h5py.File(target, "r+") as file:
            for top, bottom in row_blocks(cube.stored):
                block = cube.stored.read(top, bottom, 0, cube.shape[2])
                for part in pixels.parts:
                    put_rows(file[part.dataset], part, block, slice(top, bottom))
            if cube.metadata.format == "hdf5":
                file.attrs["history"] = "\n".join(cube.history)


def _write_new(path: Path, cube: HyperspectralCube) -> None:
    """Write (wavelength, y, x) with the coordinates and attributes of CF."""
    h5py = need("h5py", "cubes", path)
    width = cube.shape[2]
    with atomic_target(path) as target, h5py.File(target, "w") as file:
        values = file.create_dataset("cube", cube.shape, cube.stored.dtype)
        for axis, (name, size) in enumerate(zip(("wavelength", "y", "x"), cube.shape, strict=True)):
            stated = axis == 0 and cube.wavelengths_nm is not None
            scale = file.create_dataset(name, data=cube.wavelengths_nm if stated else np.arange(size, dtype=np.float64))
            scale.attrs["units"] = "nm" if stated else "1"
            scale.make_scale(name)
            values.dims[axis].attach_scale(scale)
        for name, list_ in (("fwhm", cube.fwhm_nm), ("good_wavelengths", cube.good_bands)):
            if list_ is not None:
                file.create_dataset(name, data=np.asarray(list_, np.float64)).dims[0].attach_scale(file["wavelength"])
        for top, bottom in row_blocks(cube.stored):
            values[:, top:bottom] = cube.stored.read(top, bottom, 0, width)
        if cube.nodata is not None:
            values.attrs["_FillValue"] = np.asarray([cube.nodata], cube.stored.dtype)
        if np.ptp(cube.scale) == 0 and np.ptp(cube.offset) == 0:
            values.attrs.update(scale_factor=float(cube.scale[0]), add_offset=float(cube.offset[0]))
        else:  # CF has one pair of numbers for all bands
            for name, list_ in ((_SCALE, cube.scale), (_OFFSET, cube.offset)):
                each = file.create_dataset(name, data=np.broadcast_to(list_, cube.shape[:1]).astype(np.float64))
                each.dims[0].attach_scale(file["wavelength"])
        if cube.band_names:
            names = file.create_dataset(_NAMES, data=list(cube.band_names), dtype=h5py.string_dtype())
            names.dims[0].attach_scale(file["wavelength"])
        if cube.quantity:
            values.attrs["long_name"] = cube.quantity
        if cube.acquired:
            file.attrs["time_coverage_start"] = cube.acquired
        if cube.georeference is not None:
            write_place(file, values, cube.georeference)
        file.attrs["Conventions"] = "CF-1.11"
        file.attrs["history"] = "\n".join(cube.history)


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in group.items():
        if name.startswith("#"):
            continue
        if hasattr(item, "items"):
            yield from _datasets(item, f"{prefix}{name}/")
        elif item.dtype.kind in "iuf" and item.dtype.names is None:
            yield f"{prefix}{name}", item


def _choose(path: Path, datasets: dict[str, Any], variable: str) -> str:
    return choose_variable(path, {name: dataset.shape for name, dataset in datasets.items()}, variable)


def choose_variable(path: Path, shapes: dict[str, tuple[int, ...]], variable: str) -> str:
    """Return the name of the array that is the cube.

    Raises
    ------
    UsageError
        If a name is given that does not exist, or none is given and there are several of three axes.
    UnsupportedInputError
        If there is none of three axes.
    """
    wanted = variable.strip("/")
    if wanted:
        named = [name for name in shapes if name == wanted or name.rpartition("/")[2] == wanted]
        if not named:
            raise UsageError(f"{path.name} has no variable '{variable}'. {nearest(variable, shapes)}")
        return named[0]
    cubes = {name: shape for name, shape in shapes.items() if len(shape) == 3 and min(shape) > 1}
    if not cubes:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing numeric"
        raise UnsupportedInputError(f"{path.name} holds no cube: an array of three axes was expected, found {listed}.")
    if len(cubes) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in cubes.items())
        raise UsageError(f"{path.name} holds {len(cubes)} arrays of three axes: {listed}. Choose with --variable NAME.")
    return next(iter(cubes))


def _labelled_axis(dataset: Any) -> int | None:
    """Return the axis whose dimension is named as one of bands."""
    for axis, dimension in enumerate(dataset.dims):
        names = [dimension.label, *(scale.name.rpartition("/")[2] for scale in dimension.values())]
        if any(word in name.lower() for name in names for word in _BAND_WORDS):
            return axis
    return None


def _list_of(datasets: dict[str, Any], cube: Any, names: Sequence[str]) -> tuple[np.ndarray | None, str]:
    """Return a list with one value a band, and its unit: the first that is named so and long enough."""
    ranked = sorted(datasets.items(), key=lambda item: item[0].count("/"))
    for wanted in names:
        for name, dataset in ranked:
            length = int(np.prod(dataset.shape))
            plain = name.rpartition("/")[2].lower()
            if plain != wanted or length not in cube.shape or length != max(dataset.shape, default=0):
                continue
            units = text_of(dataset.attrs.get("units", ""))
            if plain not in _MAYBE_COUNTED or is_unit(units):
                return np.asarray(dataset[()], np.float64).ravel(), units
    return None, ""


def _a_band(file: Any, name: str, bands: int) -> np.ndarray | None:
    """Return a list with one value a band that stands at the top of the file."""
    found = file.get(name)
    return found[()] if getattr(found, "shape", None) == (bands,) else None


def _not_hdf5(path: Path) -> str:
    with open_to_read(path) as stream:
        classic = stream.read(3) == b"CDF"
    if classic:
        return f"{path.name} is a classic NetCDF-3 file. Convert it first: nccopy -k nc4 {path.name} new.nc"
    return f"{path} is not an HDF5 file. Check that the file is what its name says."
