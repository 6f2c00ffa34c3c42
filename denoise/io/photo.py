"""Photographs: PNG, JPEG and TIFF, 8 and 16 bit, grey, RGB and RGBA, with their colour profile and EXIF.

OpenCV codes the pixels of PNG and JPEG, tifffile those of TIFF; what OpenCV drops (ICC profile, EXIF, XMP) is read
from and put back into the containers by `denoise.io.containers`, the tags of a TIFF by `denoise.io.tiff_tags`.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import Photo, PhotoMetadata
from denoise.io.containers import (
    insert_into_jpeg,
    insert_into_png,
    is_complete_jpeg,
    is_complete_png,
    jpeg_components,
    png_is_grey,
    read_jpeg_metadata,
    read_png_metadata,
)
from denoise.io.exif import Tag, append_ifds
from denoise.io.files import atomic_target, open_to_read
from denoise.io.iptc import iptc_of_resources
from denoise.io.tiff_tags import (
    NODATA,
    PLACE,
    RESOLUTION,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    exif_of_tags,
    read_directories,
    read_tags,
    tag_bytes,
    tags_of_exif,
)

_LOG = logging.getLogger(__name__)

PHOTO_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_TIFF_SUFFIXES: Final = (".tif", ".tiff")
_ICC_TAG, _XMP_TAG, _IPTC_TAG, _RESOURCES_TAG = 34675, 700, 33723, 34377
_MAGIC: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_JPEG_QUALITY: Final = 97
_ALPHA_KINDS: Final = {1: "assocalpha", 2: "unassalpha"}
_INCH, _CENTIMETRE = 2, 3
_RESOLUTION_UNITS: Final = (1, _INCH, _CENTIMETRE)
_RESOLUTION_TYPES: Final = ((X_RESOLUTION, 5), (Y_RESOLUTION, 5), (RESOLUTION_UNIT, 3))


@dataclass(frozen=True, eq=False)
class TiffMetadata(PhotoMetadata):
    """What a TIFF says beside its pixels."""

    tags: tuple[Tag, ...] = ()
    """Who, when and where, as `denoise.io.tiff_tags` keeps it."""
    alpha_kind: str = "unassalpha"
    """Whether colours are multiplied by alpha ("assocalpha") or not."""
    nodata: int | None = None
    """The value of pixels that hold nothing, where there are any."""
    missing: npt.NDArray[np.bool_] | None = None
    """(H, W): which pixels those are."""

    @property
    def placed(self) -> bool:
        """Whether the picture has a place on Earth."""
        return any(tag[0] in PLACE for tag in self.tags)


def read_photo(path: Path) -> Photo:
    """Read a photograph at its own depth.

    Raises
    ------
    FileFormatError
        If the file is missing, empty, damaged, or not a picture.
    UnsupportedInputError
        If it is a picture of a kind that is not served: CMYK, palette TIFF, several pages, other depths.
    """
    with open_to_read(path) as stream:
        content = stream.read()
    kind = next((name for magic, name in _MAGIC.items() if content.startswith(magic)), None)
    if kind is None:
        raise FileFormatError(
            f"{path} was given as a photograph, but its first bytes are not those of a PNG, JPEG or TIFF. "
            "Check that the file is what its name says."
        )
    return _read_tiff(path) if kind == "TIFF" else _read_with_opencv(path, content, kind)


def write_photo(path: Path, photo: Photo) -> None:
    """Write a photograph; the suffix chooses the format. JPEG takes 8 bits and no alpha; a place only TIFF can hold.

    Raises
    ------
    FileFormatError
        If the file cannot be written.
    UnsupportedInputError
        If the format cannot hold the depth or the alpha channel.
    """
    suffix = path.suffix.lower()
    if suffix in _TIFF_SUFFIXES:
        with atomic_target(path) as target:
            _write_tiff(target, photo)
        return
    if suffix not in PHOTO_SUFFIXES:
        raise UnsupportedInputError(
            f"A photograph was to be written as '{path.name}', but only {', '.join(PHOTO_SUFFIXES)} are known."
        )
    jpeg = suffix in (".jpg", ".jpeg")
    if (jpeg and photo.pixels.dtype != np.uint8) or photo.pixels.dtype == np.float32:
        raise UnsupportedInputError(
            f"{path.name} cannot hold {photo.pixels.dtype} values. Choose --format tiff"
            f"{' or png' if photo.pixels.dtype == np.uint16 else ''}."
        )
    if jpeg and photo.alpha is not None:
        raise UnsupportedInputError(f"{path.name} is a JPEG, which has no transparency. Choose --format png or tiff.")
    pixels = _to_opencv(photo)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
               cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444] if jpeg else [cv2.IMWRITE_PNG_COMPRESSION, 4]  # fmt: skip
    done, encoded = cv2.imencode(".jpg" if jpeg else ".png", pixels, options)
    if not done:
        raise FileFormatError(f"OpenCV could not encode {path.name} ({pixels.shape}, {pixels.dtype}).")
    if isinstance(photo.metadata, TiffMetadata) and photo.metadata.placed:
        _LOG.warning(
            "%s cannot hold the place on Earth that its source states, which is lost. Choose --format tiff to keep it.",
            path.name,
        )
    insert = insert_into_jpeg if jpeg else insert_into_png
    with atomic_target(path) as target:
        target.write_bytes(insert(encoded.tobytes(), photo.metadata))


def _read_with_opencv(path: Path, content: bytes, kind: str) -> Photo:
    if kind == "JPEG" and jpeg_components(content) == 4:
        raise UnsupportedInputError(f"{path.name} is a CMYK JPEG, which is not served. Convert it to RGB first.")
    complete = is_complete_png(content) if kind == "PNG" else is_complete_jpeg(content)
    if not complete:
        raise FileFormatError(f"{path} is a {kind} that ends too early. Copy it again from its source.")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise FileFormatError(f"{path} cannot be decoded as {kind}: {error.err}.") from error
    if pixels is None or pixels.size == 0:
        raise FileFormatError(f"{path} says it is a {kind}, but it cannot be decoded. Copy it again from its source.")
    if kind == "PNG" and png_is_grey(content) and pixels.ndim == 3:
        pixels = pixels[..., [0, -1]]  # OpenCV spells grey with alpha out as three equal channels
    metadata = (read_png_metadata if kind == "PNG" else read_jpeg_metadata)(content, path)
    return _from_channels(path, pixels[..., None] if pixels.ndim == 2 else _swap(pixels), metadata)


def _from_channels(path: Path, pixels: npt.NDArray[Any], metadata: PhotoMetadata) -> Photo:
    """Make a photograph of (H, W, C) grey, grey + alpha, RGB or RGBA."""
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise UnsupportedInputError(
            f"{path.name} holds {pixels.dtype} values, but 8 and 16 bit and 32-bit float are served. Convert it first."
        )
    channels = pixels.shape[2]
    alpha = np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None
    colour = pixels[..., :-1] if channels in (2, 4) else pixels
    return Photo(np.ascontiguousarray(colour), alpha, metadata=metadata)


def _swap(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Exchange OpenCV's blue-first order and red first; alpha stays last."""
    order = [1, 0] if pixels.shape[2] == 2 else [2, 1, 0, 3][: pixels.shape[2]]
    return pixels[..., order] if pixels.shape[2] > 2 else pixels


def _to_opencv(photo: Photo) -> npt.NDArray[Any]:
    pixels = photo.pixels
    if photo.alpha is None:
        return np.ascontiguousarray(_swap(pixels)) if pixels.shape[2] == 3 else pixels[..., 0]
    colour = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(np.concatenate((_swap(colour), photo.alpha[..., None]), axis=2))


def _read_tiff(path: Path) -> Photo:
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            _check_tiff(path, tiff, page)
            pixels = page.asarray()
            planar = page.planarconfig == 2 and page.samplesperpixel > 1
            icc, xmp = (page.tags.valueof(tag) for tag in (_ICC_TAG, _XMP_TAG))
            iptc = tag_bytes(tiff, page, _IPTC_TAG) or iptc_of_resources(tag_bytes(tiff, page, _RESOURCES_TAG))
            tags, alpha = read_tags(tiff, page), alpha_kind(page)
            exif = exif_of_tags(tags, read_directories(tiff, page))
    except UnsupportedInputError:
        raise
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise FileFormatError(f"{path} is damaged or not a TIFF: {error}. Copy it again from its source.") from error
    if pixels.size == 0:
        raise FileFormatError(f"{path} holds no pixels. Copy it again from its source.")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif planar:
        pixels = pixels.transpose(1, 2, 0)
    nodata, missing = _missing(pixels[..., :-1] if alpha else pixels, tags)
    metadata = TiffMetadata(
        _as_bytes(icc), exif, _as_bytes(xmp), path, iptc=iptc,
        tags=tags, alpha_kind=alpha or "unassalpha", nodata=nodata, missing=missing,
    )  # fmt: skip
    return _from_channels(path, pixels, metadata)


def alpha_kind(page: Any) -> str:
    """Return how a page of a TIFF spells the alpha in its last sample; empty if that is none."""
    extra = tuple(page.extrasamples)
    return _ALPHA_KINDS.get(int(extra[-1]), "") if extra and page.samplesperpixel in (2, 4) else ""


def _missing(colour: npt.NDArray[Any], tags: tuple[Tag, ...]) -> tuple[int | None, npt.NDArray[np.bool_] | None]:
    """Return the stated number of pixels that hold nothing, and where they are; None if there are none."""
    text = next((tag[3] for tag in tags if tag[0] == NODATA), b"").rstrip(b"\0 ")
    try:
        stated = float(text)
    except ValueError:
        return None, None
    if colour.dtype.kind != "u" or not stated.is_integer():
        return None, None
    missing = (colour == int(stated)).all(axis=2)
    return (int(stated), missing) if 0 <= stated <= np.iinfo(colour.dtype).max else (None, None)


def _put_back_missing(colour: npt.NDArray[Any], metadata: TiffMetadata) -> npt.NDArray[Any]:
    """Return colours with the missing pixels as they were, and no other one that looks like them."""
    nodata, missing = metadata.nodata, metadata.missing
    if nodata is None or missing is None or missing.shape != colour.shape[:2] or colour.dtype.kind != "u":
        return colour
    result = colour.copy()
    result[(colour == nodata).all(axis=2)] = nodata + 1 if nodata < np.iinfo(colour.dtype).max else nodata - 1
    result[missing] = nodata
    return result


def _check_tiff(path: Path, tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse what a photograph is not."""
    pages = [other for other in tiff.pages if not getattr(other, "is_reduced", False)]
    if len(pages) > 1:
        raise UnsupportedInputError(
            f"{path.name} has {len(pages)} pages, but a photograph has one. Split it into single pages."
        )
    if int(page.photometric) not in (1, 2) or page.samplesperpixel > 4 or page.imagedepth > 1:
        name = getattr(page.photometric, "name", page.photometric)
        raise UnsupportedInputError(
            f"{path.name} is a TIFF of kind {name} with {page.samplesperpixel} samples, but grey (black is zero), RGB "
            "and RGBA are served. Convert it first."
        )
    if page.samplesperpixel in (2, 4) and not alpha_kind(page):
        raise UnsupportedInputError(
            f"{path.name} has {page.samplesperpixel} samples, but its ExtraSamples does not say that the last one is "
            f"alpha. State it (tiffset -s 338 1 2 {path.name}), or save the picture without it."
        )


def _write_tiff(target: Path, photo: Photo) -> None:
    metadata = photo.metadata
    in_exif, directories = tags_of_exif(metadata.exif) if metadata.exif else ((), {})
    ours = metadata if isinstance(metadata, TiffMetadata) else TiffMetadata(tags=_with_density(in_exif, metadata))
    colour = _put_back_missing(photo.pixels, ours)
    grey = colour.shape[2] == 1
    pixels = colour if photo.alpha is None else np.concatenate((colour, photo.alpha[..., None]), axis=2)
    extra = [(*tag, True) for tag in ours.tags if tag[0] not in RESOLUTION]
    if metadata.icc_profile:
        extra.append((_ICC_TAG, 7, len(metadata.icc_profile), metadata.icc_profile, True))
    if metadata.xmp:
        extra.append((_XMP_TAG, 1, len(metadata.xmp), metadata.xmp, True))
    if metadata.iptc:
        extra.append((_IPTC_TAG, 7, len(metadata.iptc), metadata.iptc, True))
    resolution, unit = _resolution(ours.tags)
    tifffile.imwrite(
        target,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        byteorder="<",
        photometric="minisblack" if grey else "rgb",
        extrasamples=[ours.alpha_kind] if photo.alpha is not None else None,
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        compression="zlib",
        predictor=True,
        resolution=resolution,
        resolutionunit=unit,
        extratags=extra,
        metadata=None,
        software="denoise-toolkit",
    )
    with target.open("rb") as file:
        classic = file.read(4) == b"II*\0"
    if directories and classic:
        append_ifds(target, directories)


def _with_density(tags: tuple[Tag, ...], metadata: PhotoMetadata) -> tuple[Tag, ...]:
    """Return tags with the resolution that a PNG states beside its EXIF."""
    density = dict(metadata.png_chunks).get(b"pHYs", b"")
    if len(density) != 9 or density[8] != 1 or any(tag[0] == X_RESOLUTION for tag in tags):
        return tags
    across, down = struct.unpack(">II", density[:8])  # pixels a metre
    return (
        *(tag for tag in tags if tag[0] not in RESOLUTION),
        (X_RESOLUTION, 5, 1, struct.pack("<II", across, 100)),
        (Y_RESOLUTION, 5, 1, struct.pack("<II", down, 100)),
        (RESOLUTION_UNIT, 3, 1, struct.pack("<H", _CENTIMETRE)),
    )


def _resolution(tags: tuple[Tag, ...]) -> tuple[tuple[tuple[int, int], tuple[int, int]] | None, int | None]:
    """Return the resolution across and down as fractions, and its unit; None where it is not stated."""
    stated = {code: value for code, kind, _, value in tags if (code, kind) in _RESOLUTION_TYPES}
    if not {X_RESOLUTION, Y_RESOLUTION} <= stated.keys():
        return None, None
    across, down = (struct.unpack("<II", stated[code][:8]) for code in (X_RESOLUTION, Y_RESOLUTION))
    if not (all(across) and all(down)):
        return None, None
    unit = int.from_bytes(stated.get(RESOLUTION_UNIT, b"")[:2], "little")
    return (across, down), unit if unit in _RESOLUTION_UNITS else _INCH


def _as_bytes(value: object) -> bytes | None:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value.encode() if isinstance(value, str) else None
