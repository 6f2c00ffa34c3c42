"""Finds the tags of a RAW file: in TIFF-like files, in Fujifilm's RAF, in Canon's CR3, in embedded JPEGs."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import tifffile

from denoise.io.dng_reader import read_profile, read_raw_ifd
from denoise.io.raw_tags import RawTags
from denoise.io.tiff_values import PARSE_ERRORS, exif_number, number, quiet_tifffile, tag_text, text, values


def read_tags(path: Path) -> RawTags:
    """Read what the container of a RAW file says; never raises on a file that makes no sense.

    Parameters
    ----------
    path : Path
        TIFF-like (DNG, ARW, NEF, CR2, PEF, ORF, RW2, ...), RAF (Fujifilm) or CR3 (Canon).

    Returns
    -------
    RawTags
        Empty where nothing could be read.
    """
    tags = RawTags()
    try:
        with path.open("rb") as file:
            start = file.read(16)
            if start[:2] in (b"II", b"MM"):
                _read_tiff(file, tags)
            elif start.startswith(b"FUJIFILMCCD-RAW"):
                _read_raf(file, tags)
            elif start[4:8] == b"ftyp":
                _read_cr3(file, path.stat().st_size, tags)
    except (*PARSE_ERRORS, OSError):
        logging.getLogger(__name__).debug("The tags of %s could not be read.", path, exc_info=True)
    return tags


def read_exif_iso(exif: bytes) -> float | None:
    """Return the ISO speed that an EXIF block (TIFF header first) states; None if it states none or is damaged."""
    found = RawTags()
    try:
        _read_tiff(io.BytesIO(exif), found)
    except (*PARSE_ERRORS, OSError):
        return None
    return found.iso


def read_jpeg_tags(jpeg: bytes, tags: RawTags) -> None:
    """Fill what is not known yet from the EXIF block of an embedded JPEG."""
    start = jpeg.find(b"Exif\x00\x00", 0, 65536)
    if jpeg[:2] != b"\xff\xd8" or start < 0:
        return
    found = RawTags()
    try:
        _read_tiff(io.BytesIO(jpeg[start + 6 : start + 6 + 65536]), found)
    except (*PARSE_ERRORS, OSError):
        return
    for name in ("make", "model", "orientation", "iso", "exposure_s", "aperture", "focal_length_mm", "date_time"):
        if not getattr(tags, name):
            setattr(tags, name, getattr(found, name))


def _read_tiff(file: BinaryIO, tags: RawTags) -> None:
    with quiet_tifffile():
        file.seek(0)
        with tifffile.TiffFile(file) as tiff:  # pyright: ignore[reportArgumentType]
            pages = list(_pages(tiff))
            first = pages[0].tags
            tags.is_dng = 50706 in first
            _read_exif(first, tags)
            if tags.is_dng:
                read_profile(first, tags)
                raw = _raw_page(pages)
                if raw is not None:
                    tags.dng = read_raw_ifd(raw.tags, first, tags)
            tags.data_end = max((_data_end(page.tags) for page in pages), default=0)


def _pages(tiff: tifffile.TiffFile) -> Iterator[Any]:
    for index, page in enumerate(tiff.pages):
        if index > 63:
            return
        yield page
        if getattr(page, "subifds", None):
            try:
                yield from page.pages  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            except PARSE_ERRORS:
                continue


def _raw_page(pages: list[Any]) -> Any | None:
    """Return the page of full resolution that holds sensor values, the largest if there are several."""
    candidates = [
        page
        for page in pages
        if number(page.tags, 262) in (32803, 34892) and int(number(page.tags, 254) or 0) in (0, 16)
    ]
    # 16 marks what a converter has enhanced from the sensor's values, which come with 0 beside it.
    candidates = [page for page in candidates if not number(page.tags, 254)] or candidates
    return max(candidates, key=lambda page: (number(page.tags, 256) or 0) * (number(page.tags, 257) or 0), default=None)


def _read_exif(first: Any, tags: RawTags) -> None:
    tags.make, tags.model = tag_text(first, 271), tag_text(first, 272)
    orientation = number(first, 274)
    tags.orientation = int(orientation) if orientation and 1 <= orientation <= 8 else None
    tags.date_time = tag_text(first, 36867) or tag_text(first, 306)
    tags.exposure_s = number(first, 33434) or None
    tags.aperture = number(first, 33437) or None
    tags.focal_length_mm = number(first, 37386) or None
    tags.iso = number(first, 34855) or number(first, 23) or None
    pointer = first.get(34665)
    exif = pointer.value if pointer is not None else None
    if not isinstance(exif, dict):
        return
    tags.iso = exif_number(exif.get("RecommendedExposureIndex")) if _iso_overflows(exif) else tags.iso
    tags.iso = tags.iso or exif_number(exif.get("ISOSpeedRatings", exif.get("PhotographicSensitivity")))
    tags.exposure_s = tags.exposure_s or exif_number(exif.get("ExposureTime"))
    tags.aperture = tags.aperture or exif_number(exif.get("FNumber"))
    tags.focal_length_mm = tags.focal_length_mm or exif_number(exif.get("FocalLength"))
    tags.date_time = text(exif.get("DateTimeOriginal")) or tags.date_time


def _iso_overflows(exif: dict[str, Any]) -> bool:
    """ISO speeds beyond 65535 do not fit their old tag, which then holds 65535."""
    return exif_number(exif.get("ISOSpeedRatings", exif.get("PhotographicSensitivity"))) == 65535.0


def _data_end(page: Any) -> int:
    end = 0
    for offset_code, count_code in ((273, 279), (324, 325)):
        offsets, counts = values(page, offset_code), values(page, count_code)
        for offset, count in zip(offsets, counts, strict=False):
            if offset < 0xFFFFFFFF and count < 0xFFFFFFFF:
                end = max(end, int(offset + count))
    return end


def _read_raf(file: BinaryIO, tags: RawTags) -> None:
    file.seek(84)
    jpeg_offset, jpeg_length, _, _, raw_offset, raw_length = struct.unpack(">6I", file.read(24))
    tags.data_end = raw_offset + raw_length
    file.seek(jpeg_offset)
    read_jpeg_tags(file.read(min(jpeg_length, 131072)), tags)


def _read_cr3(file: BinaryIO, size: int, tags: RawTags) -> None:
    offset = 0
    while offset + 16 <= size:
        file.seek(offset)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length < 8:
            break
        if kind == b"moov":
            file.seek(offset)
            block = file.read(min(length, 1 << 20))
            _read_canon_blocks(block, tags)
        offset += length
        tags.data_end = offset


def _read_canon_blocks(moov: bytes, tags: RawTags) -> None:
    """CMT1 holds the first IFD, CMT2 the EXIF IFD, each a TIFF of its own."""
    merged = RawTags()
    for name in (b"CMT1", b"CMT2"):
        at = moov.find(name)
        if at < 4:
            continue
        (length,) = struct.unpack(">I", moov[at - 4 : at])
        found = RawTags()
        _read_tiff(io.BytesIO(moov[at + 4 : at - 4 + length]), found)
        for key in ("make", "model", "orientation", "iso", "exposure_s", "aperture", "focal_length_mm", "date_time"):
            setattr(merged, key, getattr(merged, key) or getattr(found, key))
    for key, value in vars(merged).items():
        if key not in ("data_end", "dng_tags") and value:
            setattr(tags, key, value)
