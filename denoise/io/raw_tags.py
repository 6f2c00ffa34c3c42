"""What a RAW file's tags say: rawpy decodes the pixels but hides most of the rest."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import tifffile

PROFILE_TAGS: Final = frozenset(
    {
        *(50709, 50723, 50724, 50727, 50731, 50732, 50734, 50735, 50736, 50739, 50740, 50741, 50879, 50931, 50932),
        *(50934, 50936, 50937, 50938, 50939, 50940, 50941, 50942, 50964, 50965, 50981, 50982, 51107, 51108, 51109),
        51110,
    }
)
"""Tags of the first IFD (camera, lens, colour profile) that hold for any DNG of the same exposure."""
RAW_TAGS: Final = frozenset({50718, 50733, 50737, 50738, 50780, 51008, 51009, 51022, 51125})
"""Tags of the raw IFD (opcode lists, scale, aliasing) that hold for any DNG of the same mosaic."""

PARSE_ERRORS: Final = (
    tifffile.TiffFileError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What tifffile may raise on a file that is not what it says."""

_COLOR_LETTERS: Final = {0: "R", 1: "G", 2: "B"}


@dataclass(eq=False)
class DngRaw:
    """The raw IFD of a DNG, as its tags describe it."""

    photometric: int = 32803
    """32803 mosaic, 34892 linear."""
    samples: int = 1
    """Samples per pixel."""
    bits: int = 16
    """Bits per sample."""
    is_float: bool = False
    """Whether samples are floating point."""
    compression: int = 1
    """TIFF compression code."""
    width: int = 0
    """Columns stored."""
    height: int = 0
    """Rows stored."""
    data_bytes: int = 0
    """Bytes of all strips or tiles."""
    tiled: bool = False
    """Whether the pixels stand in tiles."""
    cfa: str = ""
    """Letters of the 2x2 cell at the active area's corner; longer, or empty, if it is no such cell."""
    active_area: tuple[int, int, int, int] | None = None
    """Top, left, bottom, right."""
    black_dn: npt.NDArray[np.float64] | None = None
    """(2, 2) by position in the cell [DN]."""
    white_dn: float | None = None
    """Saturation [DN]."""
    default_crop: tuple[int, int, int, int] | None = None
    """Left, top, width, height within the active area."""
    noise_profile: tuple[float, ...] = ()
    """Shot and read of all planes, or of each in ``plane_colors`` order."""
    plane_colors: tuple[int, ...] = (0, 1, 2)
    """CFAPlaneColor."""


@dataclass(eq=False)
class RawTags:
    """The tags of a RAW file that the house cares about; what is not known stays empty."""

    make: str = ""
    model: str = ""
    unique_model: str = ""
    orientation: int | None = None
    iso: float | None = None
    exposure_s: float | None = None
    aperture: float | None = None
    focal_length_mm: float | None = None
    date_time: str = ""
    color_matrices: tuple[npt.NDArray[np.float64], ...] = ()
    illuminants: tuple[int, ...] = ()
    as_shot_neutral: tuple[float, ...] = ()
    white_xy: tuple[float, float] | None = None
    baseline_exposure: float = 0.0
    is_dng: bool = False
    dng: DngRaw | None = None
    dng_tags: dict[int, Any] = field(default_factory=dict)
    """Code: (TIFF type, count, value), as tifffile takes them."""
    data_end: int = 0
    """First byte behind the raw data, as far as the file says."""


@contextmanager
def quiet_tifffile() -> Iterator[None]:
    """Keep tifffile's log of oddities to itself: what matters becomes an error of ours."""
    logger = logging.getLogger("tifffile")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


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
                _read_profile(first, tags)
                raw = _raw_page(pages)
                if raw is not None:
                    tags.dng = _read_raw_ifd(raw.tags, first, tags)
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
        if _number(page.tags, 262) in (32803, 34892) and int(_number(page.tags, 254) or 0) in (0, 16)
    ]
    return max(
        candidates, key=lambda page: (_number(page.tags, 256) or 0) * (_number(page.tags, 257) or 0), default=None
    )


def _values(tags: Any, code: int) -> tuple[float, ...]:
    """Return a tag's numbers, fractions divided; empty if it is absent."""
    tag = tags.get(code)
    if tag is None:
        return ()
    value = tag.value
    if isinstance(value, bytes):
        return tuple(float(number) for number in value)
    if isinstance(value, str):
        return ()
    numbers = tuple(np.atleast_1d(np.asarray(value)).tolist())
    if int(tag.dtype) in (5, 10):
        return tuple(
            float(top) / float(bottom) if bottom else 0.0
            for top, bottom in zip(numbers[::2], numbers[1::2], strict=True)
        )
    return tuple(float(number) for number in numbers)


def _number(tags: Any, code: int) -> float | None:
    values = _values(tags, code)
    return values[0] if values else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).split("\x00")[0].strip() if value is not None else ""


def _tag_text(tags: Any, code: int) -> str:
    tag = tags.get(code)
    return _text(tag.value) if tag is not None else ""


def _exif_number(value: Any) -> float | None:
    if isinstance(value, tuple):
        if len(value) == 2:
            return float(value[0]) / float(value[1]) if value[1] else None
        value = value[0] if value else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _read_exif(first: Any, tags: RawTags) -> None:
    tags.make, tags.model = _tag_text(first, 271), _tag_text(first, 272)
    orientation = _number(first, 274)
    tags.orientation = int(orientation) if orientation and 1 <= orientation <= 8 else None
    tags.date_time = _tag_text(first, 36867) or _tag_text(first, 306)
    tags.exposure_s = _number(first, 33434) or None
    tags.aperture = _number(first, 33437) or None
    tags.focal_length_mm = _number(first, 37386) or None
    tags.iso = _number(first, 34855) or _number(first, 23) or None
    pointer = first.get(34665)
    exif = pointer.value if pointer is not None else None
    if not isinstance(exif, dict):
        return
    tags.iso = _exif_number(exif.get("RecommendedExposureIndex")) if _iso_overflows(exif) else tags.iso
    tags.iso = tags.iso or _exif_number(exif.get("ISOSpeedRatings", exif.get("PhotographicSensitivity")))
    tags.exposure_s = tags.exposure_s or _exif_number(exif.get("ExposureTime"))
    tags.aperture = tags.aperture or _exif_number(exif.get("FNumber"))
    tags.focal_length_mm = tags.focal_length_mm or _exif_number(exif.get("FocalLength"))
    tags.date_time = _text(exif.get("DateTimeOriginal")) or tags.date_time


def _iso_overflows(exif: dict[str, Any]) -> bool:
    """ISO speeds beyond 65535 do not fit their old tag, which then holds 65535."""
    return _exif_number(exif.get("ISOSpeedRatings", exif.get("PhotographicSensitivity"))) == 65535.0


def _matrix(tags: Any, code: int) -> npt.NDArray[np.float64] | None:
    values = np.asarray(_values(tags, code), np.float64)
    if values.size not in (3, 9) or not np.isfinite(values).all() or not values.any():
        return None
    return values.reshape(-1, 3)


def _read_profile(first: Any, tags: RawTags) -> None:
    tags.unique_model = _tag_text(first, 50708)
    pairs = [(_matrix(first, 50721), _number(first, 50778)), (_matrix(first, 50722), _number(first, 50779))]
    known = [(matrix, int(light or 0)) for matrix, light in pairs if matrix is not None]
    tags.color_matrices = tuple(matrix for matrix, _ in known)
    tags.illuminants = tuple(light for _, light in known)
    tags.as_shot_neutral = _values(first, 50728)
    white = _values(first, 50729)
    tags.white_xy = (white[0], white[1]) if len(white) == 2 else None
    tags.baseline_exposure = _number(first, 50730) or 0.0
    _keep(first, PROFILE_TAGS, tags)


def _keep(page_tags: Any, codes: frozenset[int], tags: RawTags) -> None:
    for code in codes:
        tag = page_tags.get(code)
        if tag is not None:
            tags.dng_tags[code] = (int(tag.dtype), int(tag.count), tag.value)


def _read_raw_ifd(raw: Any, first: Any, tags: RawTags) -> DngRaw:
    counts = _values(raw, 279) or _values(raw, 325)
    found = DngRaw(
        photometric=int(_number(raw, 262) or 0),
        samples=int(_number(raw, 277) or 1),
        bits=int(_number(raw, 258) or 16),
        is_float=(_number(raw, 339) or 1) == 3,
        compression=int(_number(raw, 259) or 1),
        width=int(_number(raw, 256) or 0),
        height=int(_number(raw, 257) or 0),
        data_bytes=int(sum(counts)),
        tiled=raw.get(324) is not None,
    )
    if found.photometric == 32803:
        repeat = tuple(int(side) for side in _values(raw, 33421)) or (2, 2)
        colors = [int(color) for color in _values(raw, 33422)]
        letters = "".join(_COLOR_LETTERS.get(color, "?") for color in colors)
        found.cfa = letters if repeat == (2, 2) and len(letters) == 4 else f"{repeat[0]}x{repeat[-1]}:{letters}"
        found.plane_colors = tuple(int(color) for color in _values(raw, 50710)) or (0, 1, 2)
    elif found.samples == 1:
        found.cfa = "MONO"
    area = tuple(int(side) for side in _values(raw, 50829))
    if len(area) == 4 and 0 <= area[0] < area[2] <= found.height and 0 <= area[1] < area[3] <= found.width:
        found.active_area = (area[0], area[1], area[2], area[3])
    found.black_dn = _black_level(raw)
    found.white_dn = _number(raw, 50717)
    origin, size = _values(raw, 50719), _values(raw, 50720)
    if len(size) == 2:
        left, top = origin if len(origin) == 2 else (0.0, 0.0)
        found.default_crop = (round(left), round(top), round(size[0]), round(size[1]))
    found.noise_profile = _values(raw, 51041) or _values(first, 51041)
    _keep(raw, RAW_TAGS, tags)
    return found


def _black_level(raw: Any) -> npt.NDArray[np.float64] | None:
    """Return the black level (2, 2) by position, with the mean of what rows and columns add to it."""
    values = np.asarray(_values(raw, 50714), np.float64)
    if not values.size:
        return None
    repeat = [int(side) for side in _values(raw, 50713)] or [1, 1]
    rows, columns = repeat[0], repeat[-1]
    if rows not in (1, 2) or columns not in (1, 2):
        return np.full((2, 2), values.mean())
    cell = values[: rows * columns].reshape(rows, columns) if values.size >= rows * columns else values[:1, None]
    black = np.tile(cell, (2 // cell.shape[0], 2 // cell.shape[1]))
    for code, axis in ((50715, 0), (50716, 1)):  # deltas by column (H), by row (V)
        delta = np.asarray(_values(raw, code), np.float64)
        if delta.size >= 2:
            pair = np.array([delta[0::2].mean(), delta[1::2].mean()])
            black = black + (pair[None, :] if axis == 0 else pair[:, None])
    return black


def _data_end(page: Any) -> int:
    end = 0
    for offset_code, count_code in ((273, 279), (324, 325)):
        offsets, counts = _values(page, offset_code), _values(page, count_code)
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
