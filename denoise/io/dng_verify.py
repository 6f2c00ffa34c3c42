"""Opens a written DNG again and compares it with what was to be written, and with the photograph it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import rawpy
import tifffile

from denoise import cfa as cfa_layout
from denoise.errors import VerificationError
from denoise.images import RawImage
from denoise.io.dng_tags import color_matrices, neutral
from denoise.io.raw_tags import DngRaw, RawTags
from denoise.io.tag_reader import read_tags
from denoise.io.tiff_values import quiet_tifffile

BLOCK: Final = 16
"""Side of the blocks whose means are compared, in pixels of one colour plane."""
BLOCK_TOLERANCE: Final = 0.005
"""How far a block's mean may move, as a fraction of full scale, beside what noise explains."""
_BLOCKS_ALLOWED: Final = 0.01
"""Fraction of blocks that may move further: a hot pixel mended, a highlight in noise."""
_BAND: Final = 512


def verify_dng(path: Path, image: RawImage, source: RawImage | None = None, *, name: str = "") -> None:
    """Compare a written DNG with its image, and the image with its source.

    Parameters
    ----------
    path : Path
        The written file.
    image : RawImage
        What was to be written.
    source : RawImage, optional
        The photograph before denoising.
    name : str, optional
        What a message calls the file, if not by its own name.

    Raises
    ------
    VerificationError
        If pixels, pattern, size, levels, matrix, neutral, orientation or crop differ, or if the means of blocks moved.
    """
    name = name or path.name
    tags = read_tags(path)
    if tags.dng is None:
        raise _wrong(name, "is a DNG", "no raw IFD", "one")
    _compare_tags(name, image, tags, tags.dng)
    _compare_pixels(path, name, image)
    if source is not None:
        _compare_source(name, image, source)


def verify_completed(path: Path, checked: Path, image: RawImage, *, name: str) -> None:
    """Compare a DNG whose EXIF was completed with the checked file that it was made of: tags by value, pixels by byte.

    Raises
    ------
    VerificationError
        If the tags no longer agree with the image, or the packed pixels differ.
    """
    tags = read_tags(path)
    if tags.dng is None:
        raise _wrong(name, "completing its EXIF broke it", "no raw IFD", "one")
    _compare_tags(name, image, tags, tags.dng)
    with quiet_tifffile(), tifffile.TiffFile(path) as after, tifffile.TiffFile(checked) as before:
        pages = [tiff.pages[0].pages[0] for tiff in (after, before)]  # pyright: ignore[reportOptionalSubscript]
        same = pages[0].databytecounts == pages[1].databytecounts
        with path.open("rb") as left, checked.open("rb") as right:
            for places in zip(
                *(zip(page.dataoffsets, page.databytecounts, strict=True) for page in pages), strict=False
            ):
                contents = []
                for file, (offset, count) in zip((left, right), places, strict=True):
                    file.seek(offset)
                    contents.append(file.read(count))
                same = same and contents[0] == contents[1]
    if not same:
        raise _wrong(name, "completing its EXIF changed its pixels", "other bytes", "the same")


def _wrong(name: str, what: str, found: object, expected: object) -> VerificationError:
    return VerificationError(
        f"{name} was written and read again, but {what}: found {found}, expected {expected}. The file was "
        "removed; please report this with the camera's file."
    )


def _compare_tags(name: str, image: RawImage, tags: RawTags, dng: DngRaw) -> None:
    height, width = image.mosaic.shape
    if (dng.height, dng.width) != (height, width) or dng.active_area != (0, 0, height, width):
        raise _wrong(name, "its size differs", f"{dng.width}x{dng.height}", f"{width}x{height}")
    if dng.cfa != image.cfa:
        raise _wrong(name, "its colour filter pattern differs", dng.cfa, image.cfa)
    black = np.full((2, 2), image.black_dn[0, 0]) if image.cfa == "MONO" else image.black_dn
    if dng.black_dn is None or not np.allclose(dng.black_dn, black, rtol=0, atol=0.01):
        raise _wrong(name, "its black level differs", dng.black_dn, black)
    if dng.white_dn is None or abs(dng.white_dn - image.white_dn) > 0.5:
        raise _wrong(name, "its white level differs", dng.white_dn, image.white_dn)
    if (tags.orientation or 1) != image.metadata.orientation:
        raise _wrong(name, "its orientation differs", tags.orientation, image.metadata.orientation)
    crop = image.metadata.default_crop or (0, 0, width, height)
    if dng.default_crop != crop:
        raise _wrong(name, "its default crop differs", dng.default_crop, crop)
    if image.cfa == "MONO":
        return
    matrices, _ = color_matrices(image)
    same = len(tags.color_matrices) == len(matrices[:2]) and all(
        found.shape == (3, 3) and np.allclose(found, matrix, rtol=0, atol=1e-4)
        for found, matrix in zip(tags.color_matrices, matrices, strict=False)
    )
    if not same:
        raise _wrong(name, "its colour matrices differ", tags.color_matrices, matrices)
    if not np.allclose(tags.as_shot_neutral, neutral(image), rtol=1e-4):
        raise _wrong(name, "its as-shot neutral differs", tags.as_shot_neutral, neutral(image))


def _compare_pixels(path: Path, name: str, image: RawImage) -> None:
    """Decode with LibRaw, which most converters stand on, and compare every pixel."""
    try:
        with rawpy.imread(str(path)) as raw:
            written = raw.raw_image_visible
            if written.shape != image.mosaic.shape:
                raise _wrong(name, "LibRaw sees another size", written.shape, image.mosaic.shape)
            for top in range(0, written.shape[0], _BAND):
                if not np.array_equal(written[top : top + _BAND], image.mosaic[top : top + _BAND]):
                    raise _wrong(name, "its pixels differ", "other values", f"those given, from row {top} on")
            pattern = None if raw.num_colors == 1 else raw.raw_pattern
            cfa = "MONO" if pattern is None else "".join("RGBG"[index] for index in pattern.ravel())
            if cfa != image.cfa:
                raise _wrong(name, "LibRaw sees another colour filter pattern", cfa, image.cfa)
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        raise _wrong(name, "LibRaw cannot decode it", error, "a mosaic") from error


def _compare_source(name: str, image: RawImage, source: RawImage) -> None:
    if image.mosaic.shape != source.mosaic.shape or image.cfa != source.cfa:
        raise _wrong(
            name,
            "it does not fit its source",
            f"{image.cfa} {image.mosaic.shape}",
            f"{source.cfa} {source.mosaic.shape}",
        )
    scale = image.white_dn / source.white_dn
    if not np.allclose(image.black_dn, source.black_dn * scale, rtol=0, atol=0.01 * scale):
        raise _wrong(name, "its levels are not the source's", image.black_dn, source.black_dn * scale)
    moved, allowed = [], []
    for index in range(image.shape[0]):
        before, after = _block_means(source, index), _block_means(image, index)
        moved.append(np.abs(after - before))
        allowed.append(BLOCK_TOLERANCE + 4 * _standard_error(source, index, np.maximum(before, after)))
    too_far = np.mean(np.concatenate([m.ravel() > a.ravel() for m, a in zip(moved, allowed, strict=True)]))
    if too_far > _BLOCKS_ALLOWED:
        largest = max(float(plane.max()) for plane in moved)
        raise _wrong(
            name,
            "its brightness differs from its source's",
            f"{100 * too_far:.1f} % of all blocks moved (at most by {100 * largest:.1f} % of full scale)",
            f"means of {BLOCK}x{BLOCK} blocks within {100 * BLOCK_TOLERANCE:.1f} % and what noise explains",
        )


def _block_means(image: RawImage, index: int) -> npt.NDArray[np.float32]:
    """Return the means of blocks of one plane, in house units; an incomplete block at the edge is left out."""
    step = cfa_layout.period(image.cfa)
    row, column = cfa_layout.positions(image.cfa)[index]
    plane = image.mosaic[row::step, column::step]
    height, width = max(1, plane.shape[0] // BLOCK), max(1, plane.shape[1] // BLOCK)
    whole = np.ascontiguousarray(plane[: height * BLOCK, : width * BLOCK])
    means = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    return (means - np.float32(image.black_by_plane[index])) / np.float32(image.range_by_plane[index])


def _standard_error(source: RawImage, index: int, means: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how far noise alone moves a block's mean; 0 where the noise is not known."""
    if source.noise is None:
        return np.zeros_like(means)
    level = source.noise.for_channels(source.shape[0])
    variance = level.shot[..., index] * np.maximum(means, 0) + level.read[..., index]
    return np.asarray(np.sqrt(variance) / BLOCK, np.float32)
