"""Images in files: one reader and one writer for each format, by suffix.

To add a format: its file here, and its suffixes in `READERS` and `WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from denoise.errors import FileFormatError, UnsupportedInputError, UsageError
from denoise.io.dng import write_dng
from denoise.io.envi import ENVI_DATA_SUFFIXES, find_header, read_envi
from denoise.io.envi_writer import write_envi
from denoise.io.geotiff import read_tiff, write_geotiff
from denoise.io.hdf5 import HDF5_SUFFIXES, read_hdf5, write_hdf5
from denoise.io.matlab import read_matlab, write_matlab
from denoise.io.npy import read_npy, write_npy
from denoise.io.photo import PHOTO_SUFFIXES, read_photo, write_photo
from denoise.io.raw import RAW_SUFFIXES, read_raw
from denoise.io.render import write_preview, write_tiff

if TYPE_CHECKING:
    from denoise.cubes.cube import HyperspectralCube
    from denoise.images import Photo, RawImage

ENVI_SUFFIXES: Final = (".hdr", *ENVI_DATA_SUFFIXES)

WITH_CHOICE: Final[dict[str, Callable[..., Any]]] = {
    **dict.fromkeys(HDF5_SUFFIXES, read_hdf5),
    ".mat": read_matlab,
    ".npy": read_npy,
}
"""Readers of files that may hold several arrays, or arrays whose axes have no names."""

READERS: Final[dict[str, Callable[[Path], Any]]] = {
    **dict.fromkeys(RAW_SUFFIXES, read_raw),
    **dict.fromkeys(PHOTO_SUFFIXES, read_photo),
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    **dict.fromkeys(ENVI_SUFFIXES, read_envi),
    **WITH_CHOICE,
}
"""Reader by suffix in small letters."""

WRITERS: Final[dict[tuple[str, str], Callable[..., None]]] = {
    ("raw", ".dng"): write_dng,
    ("raw", ".tif"): write_tiff,
    ("raw", ".tiff"): write_tiff,
    ("raw", ".png"): write_preview,
    ("raw", ".jpg"): write_preview,
    ("raw", ".jpeg"): write_preview,
    **{("photo", suffix): write_photo for suffix in PHOTO_SUFFIXES},
    **{("cube", suffix): write_envi for suffix in ENVI_SUFFIXES},
    **{("cube", suffix): write_hdf5 for suffix in HDF5_SUFFIXES},
    ("cube", ".tif"): write_geotiff,
    ("cube", ".tiff"): write_geotiff,
    ("cube", ".mat"): write_matlab,
    ("cube", ".npy"): write_npy,
}
"""Writer by kind of image and suffix."""


def reader_of(path: Path) -> Callable[..., Any] | None:
    """Return the reader of a file by its suffix, None if there is none; a ".raw" beside an ENVI header is a cube."""
    suffix = path.suffix.lower()
    if suffix in (".raw", "", ".bin") and find_header(path) is not None:
        return read_envi
    return READERS.get(suffix)


def read(path: str | Path, *, variable: str = "", band_axis: str = "auto") -> RawImage | Photo | HyperspectralCube:
    """Read an image; the suffix says what it is.

    Parameters
    ----------
    path : path
        The file; of an ENVI cube its header or its data.
    variable : str
        Which array of a MATLAB, HDF5 or NetCDF file; needed where there are several of three axes.
    band_axis : str
        "first", "last" or "auto": which axis of an array without names holds the bands (.npy, .mat, .h5).

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not what its name says.
    UnsupportedInputError
        If it is of a kind that is not served.
    UsageError
        If a choice is missing, or does not apply.
    """
    path = Path(path)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; an image file was expected.")
    reader = reader_of(path)
    if reader is None:
        if not path.exists():
            raise FileFormatError(f"Cannot read {path}: there is no such file. Check the path.")
        raise UnsupportedInputError(
            f"{path.name} has the suffix '{path.suffix}', which no reader serves. RAW files, DNG, "
            f"{', '.join(dict.fromkeys((*PHOTO_SUFFIXES, '.hdr', *WITH_CHOICE)))} are read."
        )
    if reader in WITH_CHOICE.values():
        return reader(path, variable=variable, band_axis_asked=band_axis)
    if variable:
        raise UsageError(f"--variable {variable} was given, but {path.name} holds one image. Leave it out.")
    return reader(path)


def write(path: str | Path, image: RawImage | Photo | HyperspectralCube, **options: Any) -> None:
    """Write an image; its kind and the suffix choose the writer, which documents the ``options``.

    Raises
    ------
    UnsupportedInputError
        If no writer serves that kind of image under that suffix.
    FileFormatError
        If the file cannot be written, or does not agree with its source once it is read again.
    """
    path = Path(path)
    writer_of(path, image.kind)(path, image, **options)


def writer_of(path: Path, kind: str) -> Callable[..., None]:
    """Return the writer of a kind of image by the suffix.

    Raises
    ------
    UnsupportedInputError
        If there is none.
    """
    writer = WRITERS.get((kind, path.suffix.lower()))
    if writer is None:
        known = [suffix for other, suffix in WRITERS if other == kind]
        raise UnsupportedInputError(
            f"A {kind} image was to be written as '{path.name}', but only {', '.join(known)} are known for it."
        )
    return writer
