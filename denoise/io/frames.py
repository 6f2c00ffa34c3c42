"""Frames for calibration: RAW files of cameras through LibRaw, plain pictures and FITS as `noise_models` reads them."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import rawpy

from denoise.images import RawImage
from denoise.io.raw import RAW_SUFFIXES, read_raw
from denoise.io.tag_reader import read_tags
from noise_models.base import CalibrationError
from noise_models.calibration.frame import Frame, FrameInfo
from noise_models.calibration.readers import IMAGE_SUFFIXES, ImageReader

FRAME_SUFFIXES: tuple[str, ...] = (*RAW_SUFFIXES, *IMAGE_SUFFIXES)
"""Suffixes, in lower case, that are read as frames."""
_LOSSY: Final = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".webp", ".avif")


def find_frames(places: Iterable[str], what: str) -> list[Path]:
    """Return the frames in folders, globs, or named one by one.

    Parameters
    ----------
    places : iterable of str
        Folders (not the folders in them), glob patterns, or files.
    what : str
        Names them in an error: "dark frames".

    Returns
    -------
    list of path
        Sorted, each once.

    Raises
    ------
    CalibrationError
        If a place holds no file that frames are read from.
    """
    found: set[Path] = set()
    for place in places:
        folder = Path(place)
        if folder.is_dir():
            inside = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
        elif folder.is_file():
            inside = [folder]
        else:
            inside = [Path(name) for name in glob.glob(place) if Path(name).is_file()]  # noqa: PTH207
        good = [path for path in inside if path.name.lower().endswith(FRAME_SUFFIXES)]
        if not good:
            lossy = sum(path.suffix.lower() in _LOSSY for path in inside)
            why = (
                f"only {lossy} JPEG or other lossy pictures, whose values are no longer those of the sensor"
                if lossy
                else f"{len(inside)} files, none of a kind that frames are read from"
                if inside
                else "no file"
            )
            raise CalibrationError(
                f"{place} was given for {what}, but holds {why}. "
                "Give RAW or DNG files, 8 or 16-bit TIFF or PNG, or FITS; denoise calibrate --plan says which."
            )
        found.update(good)
    return sorted(found)


def is_raw(path: Path) -> bool:
    """Return whether the file's name is that of a camera's RAW file."""
    return path.suffix.lower() in RAW_SUFFIXES


def read_frame(path: Path) -> Frame:
    """Read one frame of a sensor.

    Parameters
    ----------
    path : path
        RAW or DNG; TIFF or PNG of 8 or 16 bit; FITS.

    Returns
    -------
    Frame
        Mosaic (H, W) [DN] and what the file says of it.

    Raises
    ------
    FileFormatError
        If a RAW file is missing, damaged, or holds no mosaic.
    CalibrationError
        If another file cannot be used as a frame.
    """
    if not is_raw(path):
        return ImageReader().read(path)
    image = read_raw(path)
    return Frame(image.mosaic, _info(image))


def _info(image: RawImage) -> FrameInfo:
    black = image.black_dn
    settings = image.settings
    height, width = image.mosaic.shape
    return FrameInfo(
        shape=(height, width),
        cfa=image.cfa,
        black_dn=((float(black[0, 0]), float(black[0, 1])), (float(black[1, 0]), float(black[1, 1]))),
        white_dn=image.white_dn,
        bit_depth=min(16, max(8, int(np.ceil(np.log2(image.white_dn + 1))))),
        iso=settings.iso if settings else None,
        exposure_s=settings.exposure_s if settings else None,
        temperature_c=settings.temperature_c if settings else None,
        make=image.metadata.make,
        model=image.metadata.model,
        time=image.metadata.date_time,
    )


class CameraFrameReader:
    """Reads frames of any kind; describes a RAW file by its tags once one of the same camera and size was decoded."""

    def __init__(self) -> None:
        self._images = ImageReader()
        self._known: dict[tuple[object, ...], FrameInfo] = {}

    def describe(self, path: Path) -> FrameInfo:
        """Return what the file says.

        Raises
        ------
        FileFormatError, CalibrationError
            As `read_frame`.
        """
        if not is_raw(path):
            return self._images.describe(path)
        try:
            tags = read_tags(path)
            with rawpy.RawPy() as raw:
                raw.open_file(str(path))
                sizes, other = raw.sizes, raw.other
                key = (tags.make, tags.model, sizes.raw_height, sizes.raw_width, sizes.height, sizes.width)
                iso, exposure_s = tags.iso or other.iso_speed, tags.exposure_s or other.shutter_speed
        except (OSError, UnicodeError, rawpy.LibRawError):
            return read_frame(path).info  # says what is wrong with the file
        if key not in self._known:
            self._known[key] = read_frame(path).info
        return replace(
            self._known[key],
            iso=float(iso) if iso and iso > 0 else None,
            exposure_s=float(exposure_s) if exposure_s and exposure_s > 0 else None,
            time=tags.date_time,
        )

    def read(self, path: Path) -> Frame:
        """Return the frame; see `read_frame`."""
        return self._images.read(path) if not is_raw(path) else read_frame(path)
