"""Photographs: PNG, JPEG and TIFF, 8 and 16 bit, grey, RGB and RGBA, with their colour profile and EXIF.

OpenCV codes the pixels of PNG and JPEG, tifffile those of TIFF; what OpenCV drops (ICC profile, EXIF, XMP) is read
from and put back into the containers by `denoise.io.containers`.
"""

from __future__ import annotations

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
from denoise.io.files import atomic_target, open_to_read

PHOTO_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_TIFF_SUFFIXES: Final = (".tif", ".tiff")
_ICC_TAG, _XMP_TAG = 34675, 700
_MAGIC: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_JPEG_QUALITY: Final = 97


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
    """Write a photograph; the suffix chooses the format. JPEG takes 8 bits and no alpha.

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
    metadata = PhotoMetadata(icc_profile=_as_bytes(icc), xmp=_as_bytes(xmp), source=path)
    return _from_channels(path, pixels, metadata)


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


def _write_tiff(target: Path, photo: Photo) -> None:
    grey = photo.pixels.shape[2] == 1
    parts = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha[..., None]]
    pixels = np.concatenate(parts, axis=2) if len(parts) > 1 else photo.pixels
    extra: list[tuple[int, int, int, bytes, bool]] = []
    if photo.metadata.icc_profile:
        extra.append((_ICC_TAG, 7, len(photo.metadata.icc_profile), photo.metadata.icc_profile, True))
    if photo.metadata.xmp:
        extra.append((_XMP_TAG, 1, len(photo.metadata.xmp), photo.metadata.xmp, True))
    tifffile.imwrite(
        target,
        pixels[..., 0] if pixels.shape[2] == 1 else pixels,
        photometric="minisblack" if grey else "rgb",
        extrasamples=["unassalpha"] if photo.alpha is not None else None,
        planarconfig="contig" if pixels.shape[2] > 1 else None,
        compression="zlib",
        predictor=True,
        extratags=extra,
        metadata=None,
        software="denoise-toolkit",
    )


def _as_bytes(value: object) -> bytes | None:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value.encode() if isinstance(value, str) else None
