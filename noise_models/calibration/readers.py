"""The default reader of frames: TIFF and PNG of 8 or 16 bit, and FITS. RAW files of cameras are read elsewhere."""

from __future__ import annotations

import re
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

_EXPOSURES: Final = (
    "EXPTIME", "EXPOSURE", "XPOSURE", "EXP_TIME", "TEXPOSE", "EXPOS", "INTTIME", "INT_TIME", "ITIME", "IMG_EXP",
)  # fmt: skip
_PATTERNS: Final = ("RGGB", "GRBG", "GBRG", "BGGR")
_LOSSY: Final = (".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".webp", ".avif", ".gif")


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
                header = {
                    str(card.keyword): (card.value, str(card.comment)) for card in unit.header.cards if card.keyword
                }
                mosaic = np.asarray(unit.data) if with_pixels else np.empty((0, 0), np.uint16)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    if mosaic.dtype.kind in "iu" and mosaic.size and (mosaic.min() < 0 or mosaic.max() > 65535):
        mosaic = mosaic.astype(np.float32)
    mosaic = mosaic.astype(np.float32 if mosaic.dtype.kind == "f" else np.uint16)
    return mosaic, _fits_info(header)


def _fits_info(header: Mapping[str, tuple[Any, str]]) -> FrameInfo:
    """Read what observatories and cameras write under many names; units stand in the comments."""

    def number(name: str) -> float | None:
        value = header.get(name, (None, ""))[0]
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def first(*names: str) -> float | None:
        return next((value for value in map(number, names) if value is not None), None)

    def text(*names: str) -> str:
        return next((str(header[name][0]).strip() for name in names if name in header), "")

    exposure = next((name for name in _EXPOSURES if number(name) is not None), "")
    pattern = text("BAYERPAT", "COLORTYP").upper()
    shifted = first("XBAYROFF") or first("YBAYROFF") or text("ROWORDER").upper() == "BOTTOM-UP"
    return FrameInfo(
        shape=(int(header["NAXIS2"][0]), int(header["NAXIS1"][0])),
        cfa=pattern if pattern in _PATTERNS and not shifted else "MONO",
        iso=first("ISOSPEED", "ISO") or _gain_setting(number("GAIN"), header.get("GAIN", (None, ""))[1]),
        exposure_s=(number(exposure) or 0.0) * _seconds(header[exposure][1]) if exposure else None,
        temperature_c=first("CCD-TEMP", "SENSTEMP", "DET-TEMP"),
        model=text("INSTRUME", "CAM_ID", "DETECTOR"),
        serial=text("SERIALNO", "CAM_SN"),
        time=text("DATE-OBS", "IMG_TS"),
    )


def _seconds(comment: str) -> float:
    """Return the unit of a time that its comment names [s]; seconds where it names none."""
    for unit, pattern in ((1e-9, "ns|nano"), (1e-6, "us|µs|micro"), (1e-3, "ms|milli")):
        if re.search(rf"(?<![a-z])({pattern})(?![a-z])|(?<![a-z])({pattern})(?=s|-?sec)", comment.lower()):
            return unit
    return 1.0


def _gain_setting(value: float | None, comment: str) -> float | None:
    """Return the sensitivity that an astronomical camera was set to; electrons for each DN are not one."""
    if value is None or value < 0 or value != int(value) or re.search(r"e-?\s*/|elec", comment.lower()):
        return None
    return max(value, 1.0)
