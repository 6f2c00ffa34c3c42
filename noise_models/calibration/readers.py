"""The default reader of frames: TIFF and PNG of 8 or 16 bit, and FITS. RAW files of cameras are read elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from noise_models.base import CalibrationError
from noise_models.calibration.frame import Frame, FrameInfo

TIFF_SUFFIXES: Final = (".tif", ".tiff")
PNG_SUFFIXES: Final = (".png",)
FITS_SUFFIXES: Final = (".fit", ".fits", ".fts", ".fit.gz", ".fits.gz", ".fts.gz")
IMAGE_SUFFIXES: Final = (*TIFF_SUFFIXES, *PNG_SUFFIXES, *FITS_SUFFIXES)
"""Suffixes, in lower case, that `ImageReader` reads."""

_LOSSY: Final = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".webp", ".avif", ".gif")


def is_image(path: Path) -> bool:
    """Return whether `ImageReader` reads files of this name."""
    return path.name.lower().endswith(IMAGE_SUFFIXES)


class ImageReader:
    """Reads frames that are plain pictures of one channel: TIFF and PNG of 8 or 16 bit, and FITS."""

    def __init__(self) -> None:
        self._last: tuple[Path, Frame] | None = None

    def describe(self, path: Path) -> FrameInfo:
        """Return what the file says; the pixels of a PNG are decoded for it.

        Raises
        ------
        CalibrationError
            As `read`.
        """
        name = path.name.lower()
        if name.endswith(FITS_SUFFIXES):
            return _fits(path, with_pixels=False)[1]
        if name.endswith(TIFF_SUFFIXES):
            try:
                with tifffile.TiffFile(path) as file:
                    page = file.pages[0]
                    return _plain_info(path, page.shape, np.dtype(page.dtype))  # pyright: ignore[reportAttributeAccessIssue]
            except (OSError, ValueError, tifffile.TiffFileError) as error:
                raise _unreadable(path, error) from error
        return self.read(path).info

    def read(self, path: Path) -> Frame:
        """Return the frame.

        Raises
        ------
        CalibrationError
            If the file is not there, damaged, lossy, in colour, or of a kind that is not read here; or if it is FITS
            and astropy is not installed.
        """
        name = path.name.lower()
        if name.endswith(FITS_SUFFIXES):
            mosaic, info = _fits(path, with_pixels=True)
            return Frame(mosaic, info)
        if name.endswith(_LOSSY):
            raise CalibrationError(
                f"{path} is a JPEG or another lossy picture: its values are no longer those of the sensor. "
                "Set the camera to RAW and shoot the frames again (denoise calibrate --plan says which)."
            )
        if not name.endswith((*TIFF_SUFFIXES, *PNG_SUFFIXES)):
            raise CalibrationError(
                f"{path} is of no kind that frames are read from. Give RAW or DNG files, 8 or 16-bit TIFF or PNG, "
                "FITS, or a table of them (--frames FILE.csv)."
            )
        mosaic = _read_tiff(path) if name.endswith(TIFF_SUFFIXES) else _read_png(path)
        return Frame(mosaic.astype(np.uint16), _plain_info(path, mosaic.shape, mosaic.dtype))


def _plain_info(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> FrameInfo:
    if len(shape) != 2 or dtype not in (np.uint8, np.uint16):
        raise CalibrationError(
            f"{path} is {dtype} of shape {shape}, but a frame has one channel of 8 or 16 bit. "
            "Give the mosaic as the sensor read it, not a rendered picture."
        )
    return FrameInfo(shape=(shape[0], shape[1]), white_dn=255.0 if dtype == np.uint8 else None)


def _unreadable(path: Path, error: Exception | str) -> CalibrationError:
    return CalibrationError(f"The frame {path} cannot be read: {error}. Check the path, or copy the file again.")


def _read_tiff(path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(tifffile.imread(path, key=0))
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise _unreadable(path, error) from error


def _read_png(path: Path) -> npt.NDArray[Any]:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise _unreadable(path, error.strerror or error) from error
    mosaic = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if mosaic is None:
        raise _unreadable(path, "it is no PNG file, or damaged")
    return mosaic


def _fits(path: Path, *, with_pixels: bool) -> tuple[npt.NDArray[Any], FrameInfo]:
    try:
        from astropy.io import fits
    except ImportError as error:
        raise CalibrationError(
            f"{path} is a FITS file, which needs astropy. Install it with: pip install 'denoise-toolkit[astro]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as opened:
                file: Any = opened
                unit = next((item for item in file if item.header.get("NAXIS") == 2), None)
                if unit is None:
                    raise CalibrationError(f"{path} holds no picture of two dimensions. Give one frame in each file.")
                header = {str(key): value for key, value in unit.header.items() if key}
                mosaic = np.asarray(unit.data) if with_pixels else np.empty((0, 0), np.uint16)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    if mosaic.dtype.kind in "iu" and mosaic.size and (mosaic.min() < 0 or mosaic.max() > 65535):
        mosaic = mosaic.astype(np.float32)
    mosaic = mosaic.astype(np.float32 if mosaic.dtype.kind == "f" else np.uint16)
    return mosaic, _fits_info(header)


def _fits_info(header: Mapping[str, Any]) -> FrameInfo:
    def figure(*names: str) -> float | None:
        found = (header.get(name) for name in names)
        return next((float(value) for value in found if isinstance(value, int | float)), None)

    return FrameInfo(
        shape=(int(header["NAXIS2"]), int(header["NAXIS1"])),
        exposure_s=figure("EXPTIME", "EXPOSURE"),
        temperature_c=figure("CCD-TEMP", "SENSTEMP", "DET-TEMP"),
        model=str(header.get("INSTRUME", header.get("CAM_ID", header.get("DETECTOR", "")))).strip(),
        serial=str(header.get("SERIALNO", header.get("CAM_SN", ""))).strip(),
        time=str(header.get("DATE-OBS", header.get("IMG_TS", ""))).strip(),
    )
