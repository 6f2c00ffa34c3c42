"""Tags of a TIFF that say who, when, where and how: kept with a photograph, and as EXIF block in JPEG and PNG.

References
----------
.. [1] TIFF 6.0; OGC GeoTIFF 1.1 (19-008r4); GDAL, GTiff driver, for the tags 42112 and 42113.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import tifffile

from denoise.io.exif import EXIF_POINTER, Entries, Tag, ifd
from denoise.io.tiff_values import PARSE_ERRORS, quiet_tifffile

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, NODATA = 282, 283, 296, 42113
_ORIENTATION: Final = 274
_DESCRIPTION: Final = 270
RESOLUTION: Final = frozenset((X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT))
_IN_EXIF: Final = (_DESCRIPTION, 271, 272, _ORIENTATION, *sorted(RESOLUTION), 306, 315, 33432)
PLACE: Final = frozenset((33550, 33922, 34264, 34735))
"""Pixel scale, tie points or GCPs, transformation, keys: any of them says that the file has a place on Earth."""
_KEPT: Final = (*_IN_EXIF, *sorted(PLACE), 34736, 34737, 42112, NODATA, 50844)
_NUMBERS: Final = {3: "u2", 4: "u4", 5: "u4", 8: "i2", 9: "i4", 10: "i4", 11: "f4", 12: "f8", 16: "u8", 17: "i8"}
_BYTES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_GPS_POINTER: Final = 34853
_POINTERS: Final = (EXIF_POINTER, _GPS_POINTER)
_BOUND_TO_ITS_FILE: Final = frozenset((37500, 40965))
"""Maker note and interoperability: they point to places in the file that they come from."""
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
        value, kind = tag_bytes(tiff, page, code), int(tag.dtype)
        if not value:
            continue
        found.append((code, kind, int(tag.count), _little_endian(value, kind, tiff.byteorder)))
    return tuple(found)


def tag_bytes(tiff: tifffile.TiffFile, page: Any, code: int) -> bytes:
    """Return the value of a tag as it stands in the file; empty if it is missing or cut off."""
    tag = page.tags.get(code)
    if tag is None:
        return b""
    tiff.filehandle.seek(tag.valueoffset)
    value = tiff.filehandle.read(tag.valuebytecount)
    return value if len(value) == tag.valuebytecount else b""


def read_directories(tiff: tifffile.TiffFile, page: Any) -> dict[int, Entries]:
    """Return the directories of the exposure and of GPS that a page points to, by their pointer; no damaged one."""
    found: dict[int, Entries] = {}
    for pointer in _POINTERS:
        tag = page.tags.get(pointer)
        if tag is None or tiff.is_bigtiff:
            continue
        tiff.filehandle.seek(tag.offset + 8)  # its own value: tifffile follows the pointer
        try:
            (offset,) = struct.unpack(f"{tiff.byteorder}I", tiff.filehandle.read(4))
            if entries := _read_directory(tiff.filehandle, offset, tiff.byteorder):
                found[pointer] = entries
        except (struct.error, OSError, ValueError):
            continue
    return found


def _read_directory(file: Any, offset: int, order: str) -> Entries:
    file.seek(offset)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    table = file.read(12 * count)
    entries = []
    for record in range(0, len(table) - 11, 12):
        code, kind, length = struct.unpack(f"{order}HHI", table[record : record + 8])
        size = _BYTES.get(kind, 0) * length
        if not 0 < size <= _MOST_IN_EXIF or code in _BOUND_TO_ITS_FILE:
            continue
        value = table[record + 8 : record + 12][:size]
        if size > len(value):
            file.seek(struct.unpack(f"{order}I", value)[0])
            value = file.read(size)
        if len(value) == size:
            entries.append((code, kind, length, _little_endian(value, kind, order)))
    return sorted(entries)


def _little_endian(value: bytes, kind: int, order: str) -> bytes:
    if kind not in _NUMBERS:
        return value
    numbers = np.frombuffer(value, np.dtype(_NUMBERS[kind]).newbyteorder(order))  # type: ignore[arg-type]
    return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()


def tags_of_exif(exif: bytes) -> tuple[tuple[Tag, ...], dict[int, Entries]]:
    """Return those of the tags and directories above that an EXIF block holds; none of a damaged one."""
    try:
        with quiet_tifffile(), tifffile.TiffFile(io.BytesIO(exif)) as tiff:
            return read_tags(tiff, tiff.pages.first), read_directories(tiff, tiff.pages.first)
    except (*PARSE_ERRORS, OSError):
        return (), {}


def exif_of_tags(tags: Iterable[Tag], directories: Mapping[int, Entries]) -> bytes | None:
    """Return an EXIF block of the tags that have a place there, and of directories; None if there are none."""
    own = [tag for tag in tags if tag[0] in _IN_EXIF and len(tag[3]) <= _MOST_IN_EXIF]
    if not own and not directories:
        return None
    pointers = dict.fromkeys(directories, 0)
    first = _with_pointers(own, pointers)
    blocks, after = [], _HEAD + len(first)
    for pointer, entries in directories.items():
        pointers[pointer] = after
        blocks.append(ifd(after, entries))
        after += len(blocks[-1])
    return b"".join((b"II*\0", struct.pack("<I", _HEAD), _with_pointers(own, pointers), *blocks))


def _with_pointers(entries: list[Tag], pointers: Mapping[int, int]) -> bytes:
    pointing: list[Tag] = [(code, 4, 1, struct.pack("<I", place)) for code, place in pointers.items()]
    return ifd(_HEAD, sorted((*entries, *pointing)))
