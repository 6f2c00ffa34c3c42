"""Tags of a TIFF that say who, when and where: kept with a photograph, and as EXIF block in JPEG and PNG.

References
----------
.. [1] TIFF 6.0; OGC GeoTIFF 1.1 (19-008r4); GDAL, GTiff driver, for the tags 42112 and 42113.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import tifffile

from denoise.io.exif import ifd
from denoise.io.tiff_values import PARSE_ERRORS, quiet_tifffile

Tag = tuple[int, int, int, bytes]
"""Code, TIFF type, count, and the value, little endian."""

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, NODATA = 282, 283, 296, 42113
_ORIENTATION: Final = 274
_DESCRIPTION: Final = 270
RESOLUTION: Final = frozenset((X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT))
_IN_EXIF: Final = (_DESCRIPTION, 271, 272, _ORIENTATION, *sorted(RESOLUTION), 306, 315, 33432)
PLACE: Final = frozenset((33550, 33922, 34264, 34735))
"""Pixel scale, tie points or GCPs, transformation, keys: any of them says that the file has a place on Earth."""
_KEPT: Final = (*_IN_EXIF, *sorted(PLACE), 34736, 34737, 42112, NODATA, 50844)
_NUMBERS: Final = {3: "u2", 4: "u4", 5: "u4", 8: "i2", 9: "i4", 10: "i4", 11: "f4", 12: "f8", 16: "u8", 17: "i8"}
_HEAD: Final = 8
_MOST_IN_EXIF: Final = 8192  # bytes of one value: JPEG has 64 KiB for all


def read_tags(tiff: tifffile.TiffFile, page: Any) -> tuple[Tag, ...]:
    """Return the tags of a page that a denoised picture keeps: no damaged one, no description of how pixels lie."""
    laid_out = page.is_shaped or page.is_imagej or page.is_ome
    found = []
    for code in _KEPT:
        tag = page.tags.get(code)
        if tag is None or (code == _DESCRIPTION and laid_out):
            continue
        tiff.filehandle.seek(tag.valueoffset)
        value, kind = tiff.filehandle.read(tag.valuebytecount), int(tag.dtype)
        if not value or len(value) < tag.valuebytecount:
            continue
        if kind in _NUMBERS:
            numbers = np.frombuffer(value, np.dtype(_NUMBERS[kind]).newbyteorder(tiff.byteorder))
            value = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
        found.append((code, kind, int(tag.count), value))
    return tuple(found)


def tags_of_exif(exif: bytes) -> tuple[Tag, ...]:
    """Return those of the tags above that an EXIF block holds; none of a damaged one."""
    try:
        with quiet_tifffile(), tifffile.TiffFile(io.BytesIO(exif)) as tiff:
            return read_tags(tiff, tiff.pages.first)
    except (*PARSE_ERRORS, OSError):
        return ()


def exif_of_tags(tags: Iterable[Tag]) -> bytes | None:
    """Return an EXIF block of the tags that have a place there; None if there are none."""
    entries = sorted(tag for tag in tags if tag[0] in _IN_EXIF and len(tag[3]) <= _MOST_IN_EXIF)
    if not entries:
        return None
    return b"II*\0" + struct.pack("<I", _HEAD) + ifd(_HEAD, entries)
