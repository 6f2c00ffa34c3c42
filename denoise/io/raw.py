"""RAW files of cameras, as mosaics: rawpy (LibRaw) decodes, the container's own tags say what LibRaw hides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rawpy

from denoise.cfa import PATTERNS
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import RawImage, RawMetadata
from denoise.io.raw_color import D65, as_shot_neutral, camera_matrix
from denoise.io.raw_refusals import RAW_ONLY, decoding, foveon, refuse_dng, refuse_no_file, refuse_unfilled
from denoise.io.raw_tags import DngRaw, RawTags
from denoise.io.tag_reader import read_jpeg_tags, read_tags
from noise_models.base import NoiseModelError, SensorSettings
from noise_models.level import NoiseLevel

RAW_SUFFIXES: Final[tuple[str, ...]] = (
    *(".3fr", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".drf", ".erf"),
    *(".fff", ".iiq", ".k25", ".kdc", ".mdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef"),
    *(".ptx", ".pxn", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".sti", ".x3f"),
)
"""Suffixes, in lower case, that are read as RAW files of a camera."""

_FLIP_TO_ORIENTATION: Final = {0: 1, 3: 3, 5: 8, 6: 6}


def read_raw(path: str | os.PathLike[str]) -> RawImage:
    """Read a camera's RAW file as a mosaic with the levels that give it meaning.

    Parameters
    ----------
    path : path
        A file of any kind that LibRaw decodes and that holds a Bayer mosaic or a monochrome sensor's values.

    Returns
    -------
    RawImage
        Mosaic (H, W) uint16 [DN] in sensor orientation without the masked margin; black level (2, 2) by position
        [DN]; white level [DN]; noise where a DNG's NoiseProfile says it.

    Raises
    ------
    UnsupportedInputError
        If the file is sound but holds no 2x2 mosaic: X-Trans, Foveon, linear, lossy, floating point, JPEG XL.
    FileFormatError
        If it is missing, empty, truncated, or not what its name says.
    """
    source = Path(path)
    refuse_no_file(source)
    tags = read_tags(source)
    if tags.dng is not None:
        refuse_dng(source, tags.dng)
    size = source.stat().st_size
    if tags.data_end > size:
        raise FileFormatError(
            f"{source} is truncated: its header speaks of {tags.data_end} bytes, but the file has {size}. "
            "Copy it again from the camera or the card."
        )
    with _opened(source) as raw:
        return _image(source, raw, tags)


def _image(source: Path, raw: rawpy.RawPy, tags: RawTags) -> RawImage:
    sizes = raw.sizes
    pixels = sizes.raw_height * sizes.raw_width
    if pixels == 0 or sizes.height * sizes.width == 0:
        raise FileFormatError(f"{source} holds no pixels. Copy it again from the camera or the card.")
    if pixels > 32 * source.stat().st_size:  # a quarter of a bit for each pixel: no camera compresses so well
        raise FileFormatError(
            f"{source} says that it holds {sizes.raw_width}x{sizes.raw_height} pixels, far more than its "
            f"{source.stat().st_size} bytes can. The file is damaged; copy it again from the camera or the card."
        )
    with decoding(source):
        raw.unpack()
        pattern = _pattern(source, raw)
        everything = raw.raw_image
    mosaic, cfa = _visible(source, raw, everything, pattern, tags.dng)
    black_dn = _black_by_position(raw, pattern, cfa, tags.dng)
    white_dn = float(tags.dng.white_dn if tags.dng and tags.dng.white_dn else raw.white_level)
    if not white_dn > black_dn.max():
        raise FileFormatError(
            f"{source} says that white is {white_dn:g} DN and black {black_dn.max():g} DN, but white must lie above "
            "black. The file is damaged, or its camera is not known to LibRaw."
        )
    refuse_unfilled(source, mosaic, black_dn)
    thumbnail = _thumbnail(raw)
    if thumbnail is not None:
        read_jpeg_tags(thumbnail, tags)
    iso, exposure_s = tags.iso or raw.other.iso_speed, tags.exposure_s or raw.other.shutter_speed
    return RawImage(
        mosaic=mosaic,
        cfa=cfa,
        black_dn=black_dn,
        white_dn=white_dn,
        settings=SensorSettings(float(iso), float(exposure_s)) if iso > 0 else None,
        noise=_noise(cfa, tags.dng),
        metadata=_metadata(source, raw, tags, mosaic.shape, thumbnail),
    )


@contextmanager
def _opened(source: Path) -> Iterator[rawpy.RawPy]:
    raw = rawpy.RawPy()
    try:
        with decoding(source):
            try:
                raw.open_file(str(source))
            except UnicodeError:
                raw.open_buffer(source.open("rb"))
        yield raw
    finally:
        raw.close()


def _pattern(source: Path, raw: rawpy.RawPy) -> npt.NDArray[np.uint8] | None:
    """Return LibRaw's colour index (2, 2) by position, None for a sensor without filters; refuse all else."""
    if raw.raw_type != rawpy.RawType.Flat:
        if source.suffix.lower() == ".x3f":
            raise UnsupportedInputError(foveon(source))
        raise UnsupportedInputError(
            f"{source} holds several colours per pixel (linear DNG, sRAW, mRAW or Foveon), which is not served yet. "
            f"{RAW_ONLY}: set the camera to full-size RAW."
        )
    if raw.num_colors == 1:
        return None
    pattern = raw.raw_pattern
    if raw.num_colors != 3 or raw.color_desc[:3] != b"RGB":
        raise UnsupportedInputError(
            f"{source} comes from a sensor with the filters {raw.color_desc.decode('ascii', 'replace')}, which is not "
            "served yet: only red, green and blue are. Render it to TIFF and denoise that as a photograph."
        )
    if pattern is None or pattern.shape != (2, 2):
        shape = "an X-Trans mosaic (6x6)" if pattern is not None and pattern.shape == (6, 6) else "no 2x2 mosaic"
        raise UnsupportedInputError(
            f"{source} has {shape}, which is not served yet: only Bayer and monochrome sensors are. Render it to a "
            "16-bit TIFF and denoise that as a photograph."
        )
    return pattern


def _visible(
    source: Path,
    raw: rawpy.RawPy,
    everything: npt.NDArray[np.uint16] | None,
    pattern: npt.NDArray[np.uint8] | None,
    dng: DngRaw | None,
) -> tuple[npt.NDArray[np.uint16], str]:
    """Return a copy of the mosaic without the masked margin, and the pattern at its corner."""
    sizes = raw.sizes
    if everything is None or everything.dtype != np.uint16 or everything.ndim != 2:
        raise UnsupportedInputError(f"{source} holds no 16-bit mosaic, which is not served yet. {RAW_ONLY}.")
    cfa = "MONO" if pattern is None else "".join("RGBG"[index] for row in pattern for index in row)
    top, left, height, width = sizes.top_margin, sizes.left_margin, sizes.height, sizes.width
    if dng is not None and dng.cfa in PATTERNS and everything.shape == (dng.height, dng.width):
        cfa = dng.cfa
        area = dng.active_area or (0, 0, dng.height, dng.width)
        top, left, height, width = area[0], area[1], area[2] - area[0], area[3] - area[1]
    mosaic = np.array(everything[top : top + height, left : left + width], order="C")
    if cfa not in PATTERNS:
        raise UnsupportedInputError(f"{source} has the colour filter pattern {cfa}, which is not served yet.")
    if mosaic.shape != (height, width) or min(height, width) < 2:
        raise UnsupportedInputError(
            f"{source} holds {everything.shape[1]}x{everything.shape[0]} values for a picture of {width}x{height} "
            "(a rotated or interlaced sensor), which is not served yet. Render it to TIFF first."
        )
    return mosaic, cfa


def _black_by_position(
    raw: rawpy.RawPy, pattern: npt.NDArray[np.uint8] | None, cfa: str, dng: DngRaw | None
) -> npt.NDArray[np.float64]:
    """Return the black level (2, 2): a DNG says it by position, LibRaw by colour (red, green, blue, second green)."""
    if dng is not None:
        return np.zeros((2, 2)) if dng.black_dn is None else dng.black_dn.copy()
    levels = np.asarray(raw.black_level_per_channel, np.float64)
    return np.full((2, 2), levels[0]) if pattern is None or cfa == "MONO" else levels[pattern]


def _noise(cfa: str, dng: DngRaw | None) -> NoiseLevel | None:
    """Return a NoiseProfile in the house's plane order: red, both greens, blue."""
    if dng is None or len(dng.noise_profile) < 2 or len(dng.noise_profile) % 2:
        return None
    pairs = np.asarray(dng.noise_profile, np.float64).reshape(-1, 2)
    if len(pairs) > 1 and cfa == "MONO":
        pairs = pairs[:1]
    elif len(pairs) > 1:
        places = {color: place for place, color in enumerate(dng.plane_colors)}
        order = [places.get(color, -1) for color in (0, 1, 1, 2)]
        if min(order) < 0 or max(order) >= len(pairs):
            return None
        pairs = pairs[order]
    try:
        level = NoiseLevel(pairs[:, 0], np.maximum(pairs[:, 1], 0.0), source="DNG NoiseProfile")
    except NoiseModelError:
        return None
    return level if level.shot.any() or level.read.any() else None


def _thumbnail(raw: rawpy.RawPy) -> bytes | None:
    """Return the embedded preview as a JPEG, as it is stored."""
    try:
        thumbnail = raw.extract_thumb()
    except (rawpy.LibRawError, rawpy.NotSupportedError, ValueError, MemoryError):
        return None
    content: Any = thumbnail.data
    if thumbnail.format == rawpy.ThumbFormat.JPEG:
        return bytes(content)
    if thumbnail.format == rawpy.ThumbFormat.BITMAP and content.dtype == np.uint8:
        import cv2

        good, jpeg = cv2.imencode(".jpg", content[..., ::-1] if content.ndim == 3 else content)
        return jpeg.tobytes() if good else None
    return None


def _metadata(
    source: Path, raw: rawpy.RawPy, tags: RawTags, shape: tuple[int, ...], thumbnail: bytes | None
) -> RawMetadata:
    sizes, other = raw.sizes, raw.other
    matrices, illuminants = tags.color_matrices, tags.illuminants
    dng_tags = dict(tags.dng_tags)
    if not tags.is_dng:
        matrices = camera_matrix(raw)
        illuminants = (D65,) * len(matrices)
        if sizes.pixel_aspect not in (0.0, 1.0):
            dng_tags[50718] = (5, 2, _default_scale(sizes.pixel_aspect))
    if 51008 in dng_tags and not _keeps_opcode_list_1(dng_tags[51008][2], tags.dng):
        del dng_tags[51008]
    orientation = tags.orientation or _FLIP_TO_ORIENTATION.get(sizes.flip, 1)
    date_time = tags.date_time
    if not date_time and other.timestamp is not None and other.timestamp.year > 1970:
        date_time = other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
    return RawMetadata(
        make=tags.make,
        model=tags.model,
        unique_model=tags.unique_model,
        orientation=orientation,
        color_matrices=matrices,
        illuminants=illuminants,
        as_shot_neutral=as_shot_neutral(raw, tags),
        baseline_exposure=tags.baseline_exposure,
        default_crop=_default_crop(raw, tags, shape),
        aperture=tags.aperture or other.aperture or None,
        focal_length_mm=tags.focal_length_mm or other.focal_length or None,
        date_time=date_time,
        source=source,
        thumbnail=thumbnail,
        dng_tags=dng_tags,
    )


def _default_scale(pixel_aspect: float) -> tuple[int, int, int, int]:
    scale = round(pixel_aspect * 10000)
    return (1, 1, scale, 10000) if scale < 10000 else (10000, scale, 1, 1)


def _keeps_opcode_list_1(opcodes: Any, dng: DngRaw | None) -> bool:
    """List 1 speaks of values and places before margin and scale change: only a list of bad pixels stays true."""
    at_corner = dng is None or dng.active_area is None or dng.active_area[:2] == (0, 0)
    if not at_corner or not isinstance(opcodes, bytes) or len(opcodes) < 4:
        return False
    count, at = int.from_bytes(opcodes[:4], "big"), 4
    for _ in range(min(count, 64)):
        if int.from_bytes(opcodes[at : at + 4], "big") != 5:  # FixBadPixelsList
            return False
        at += 16 + int.from_bytes(opcodes[at + 12 : at + 16], "big")
    return 0 < count <= 64


def _default_crop(raw: rawpy.RawPy, tags: RawTags, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Return left, top, width, height within the mosaic, None if it is all of it or makes no sense."""
    sizes = raw.sizes
    crop = tags.dng.default_crop if tags.dng is not None else None
    if crop is None and not tags.is_dng:
        left, top = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
        crop = (left, top, sizes.crop_width, sizes.crop_height)
    if crop is None:
        return None
    left, top, width, height = crop
    fits = left >= 0 and top >= 0 and left + width <= shape[1] and top + height <= shape[0]
    enough = 2 * width > shape[1] and 2 * height > shape[0]
    return crop if fits and enough and (width, height) != (shape[1], shape[0]) else None
