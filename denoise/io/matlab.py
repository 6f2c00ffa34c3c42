"""Cubes in MATLAB files: version 5 through scipy, version 7.3 (which is HDF5) through h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.cube import CubeMetadata, HyperspectralCube
from denoise.cubes.pixels import AXES, ArrayPixels
from denoise.errors import FileFormatError
from denoise.io.bands import band_axis, finish_cube, refuse_one_band, refuse_shape, to_nanometres, widths_to_nanometres
from denoise.io.files import atomic_target, open_to_read
from denoise.io.hdf5 import choose_variable, read_variable, write_hdf5
from denoise.io.hdf5_pixels import is_hdf5, open_hdf5

_WAVELENGTH_NAMES: Final = ("wavelength", "wavelengths", "wavelength_nm", "wavelengths_nm", "wl", "lambda")
_FWHM_NAMES: Final = ("fwhm", "fwhm_nm")
_OURS: Final = "denoise_history"


def read_matlab(path: Path, *, variable: str = "", band_axis_asked: str = "auto") -> HyperspectralCube:
    """Read a cube of a MATLAB file, in the class that it has in MATLAB; (rows, columns, bands) unless told otherwise.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not a MATLAB file.
    UsageError
        If it holds several cubes and ``variable`` names none of them.
    UnsupportedInputError
        If it holds no cube.
    """
    if is_hdf5(path):
        with open_hdf5(path) as file:
            return finish_cube(read_variable(path, file, variable, band_axis_asked, matlab=True), path)
    contents = _load(path)
    shapes = {name: value.shape for name, value in contents.items() if _is_numeric(value)}
    name = choose_variable(path, shapes, variable)
    array = contents[name]
    refuse_shape(path, array.shape, array.dtype)
    wavelengths = _list_of(contents, _WAVELENGTH_NAMES, array.shape)
    axis = band_axis(array.shape, band_axis_asked, path.name, None if wavelengths is None else len(wavelengths))
    axes = AXES["bip" if axis == 2 else "bsq"]
    cube = np.ascontiguousarray(array.transpose(np.argsort(axes)))
    refuse_one_band(path, cube.shape)
    centres = None if wavelengths is None or len(wavelengths) != len(cube) else to_nanometres(wavelengths, "")
    widths = _list_of(contents, _FWHM_NAMES, array.shape)
    history = contents.get(_OURS)
    entries = {"variable": name, "axes": axes, "dtype": array.dtype}
    return finish_cube(
        HyperspectralCube(
            ArrayPixels(cube),
            wavelengths_nm=centres,
            fwhm_nm=None if centres is None or widths is None else widths_to_nanometres(widths, centres, "nm"),
            metadata=CubeMetadata(path, "matlab", entries),
            history=tuple(str(line).strip() for line in history) if history is not None else (),
        ),
        path,
    )


def write_matlab(path: Path, cube: HyperspectralCube) -> None:
    """Write a cube as MATLAB file: beside everything else that a MATLAB source holds, in its version.

    Raises
    ------
    FileFormatError
        If the source is gone, or the file cannot be written.
    """
    from scipy.io import savemat

    if cube.metadata.format == "matlab73":
        write_hdf5(path, cube)
        return
    source = cube.metadata.source
    ours = cube.metadata.format == "matlab"
    entries = cube.metadata.entries if ours else {"variable": "cube", "axes": AXES["bip"]}
    contents = _load(source) if ours and source is not None else _bands_of(cube)
    whole = cube.stored.read(0, cube.shape[1], 0, cube.shape[2])
    contents[entries["variable"]] = whole.transpose(entries["axes"])
    if cube.history:
        contents[_OURS] = np.array(cube.history)
    with atomic_target(path) as target, target.open("wb") as stream:
        savemat(stream, contents, do_compression=True, long_field_names=True)


def _load(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    with open_to_read(path) as stream:
        try:
            contents = loadmat(stream, mat_dtype=True)
        except Exception as error:
            raise FileFormatError(
                f"{path} cannot be read as a MATLAB file ({error}). Check that the file is what its name says."
            ) from error
    return {name: value for name, value in contents.items() if not name.startswith("__")}


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iufc"


def _list_of(contents: dict[str, Any], names: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a list with one value a band, by its name."""
    for name, value in contents.items():
        if (
            name.lower() in names
            and _is_numeric(value)
            and value.size in (shape[0], shape[2])
            and value.dtype.kind != "c"
        ):
            return np.asarray(value, np.float64).ravel()
    return None


def _bands_of(cube: HyperspectralCube) -> dict[str, Any]:
    lists = {"wavelength_nm": cube.wavelengths_nm, "fwhm_nm": cube.fwhm_nm}
    return {name: values for name, values in lists.items() if values is not None}
