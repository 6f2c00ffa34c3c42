"""A cube as numpy stores it: values only, (rows, columns, bands) or (bands, rows, columns)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoise.cubes.cube import CubeMetadata, HyperspectralCube
from denoise.cubes.pixels import AXES, FilePixels, hold_if_small, write_binary
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.io.bands import band_axis, finish_cube, refuse_one_band, refuse_shape
from denoise.io.files import atomic_target, open_to_read


def read_npy(path: Path, *, variable: str = "", band_axis_asked: str = "auto") -> HyperspectralCube:
    """Read a cube of numpy; one larger than 256 MiB stays in its file.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not an array.
    UnsupportedInputError
        If the array is not three-dimensional, not of real numbers, or has one band.
    """
    if variable:
        raise UnsupportedInputError(f"{path.name} holds one array without a name, so --variable does not apply to it.")
    with open_to_read(path) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
        except ValueError as error:
            raise FileFormatError(
                f"{path} is not a numpy array ({error}). Check that the file is what it says."
            ) from error
        offset = stream.tell()
    refuse_shape(path, shape, dtype)
    expected = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    found = path.stat().st_size
    if found != expected:
        raise FileFormatError(
            f"{path} has {found} bytes, but its array {shape} of {dtype} needs {expected}. Copy it again."
        )
    axis = band_axis(shape, band_axis_asked, path.name)
    axes = AXES["bip" if axis == 2 else "bsq"]
    sizes = dict(zip(axes, shape, strict=True))
    refuse_one_band(path, (sizes[0], sizes[1], sizes[2]))
    in_file = tuple(reversed(axes)) if fortran else axes
    pixels = FilePixels(path, (sizes[0], sizes[1], sizes[2]), dtype, in_file, offset)
    entries = {"axes": axes, "dtype": dtype}
    cube = HyperspectralCube(hold_if_small(pixels), metadata=CubeMetadata(path, "npy", entries))
    return finish_cube(cube, path)


def write_npy(path: Path, cube: HyperspectralCube) -> None:
    """Write the values of a cube, with the axes of a numpy source, else (rows, columns, bands).

    Wavelengths and all else that a cube knows have no place in the format.

    Raises
    ------
    FileFormatError
        If the file cannot be written.
    """
    entries = cube.metadata.entries if cube.metadata.format == "npy" else {}
    axes = entries.get("axes", AXES["bip"])
    dtype = entries.get("dtype", cube.stored.dtype)
    shape = tuple(cube.shape[axis] for axis in axes)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with atomic_target(path) as target, target.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        write_binary(stream, cube.stored, dtype, axes, stream.tell())
