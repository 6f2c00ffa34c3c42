"""DNG out: a mosaic with everything that a converter needs to render it as it renders the camera's own file."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import imagecodecs
import numpy as np
import tifffile

from denoise.errors import FileFormatError
from denoise.images import RawImage
from denoise.io.dng_tags import profile_tags, raw_tags
from denoise.io.dng_verify import verify_completed, verify_dng
from denoise.io.exif import ExifTool, append_exif_ifd, core_exif
from denoise.io.files import atomic_target
from denoise.io.thumbnail import thumbnail
from denoise.io.tiff_values import PARSE_ERRORS
from denoise.version import __version__

Compression = Literal["lossless-jpeg", "none"]

_TILE: Final = 256
_CFA, _LINEAR_RAW, _JPEG = 32803, 34892, 7
_LOGGER: Final = logging.getLogger(__name__)


def write_dng(
    path: str | os.PathLike[str],
    image: RawImage,
    *,
    source: RawImage | None = None,
    noise_reduction: float | None = None,
    compression: Compression = "lossless-jpeg",
    original: str | os.PathLike[str] | None = None,
    exiftool: ExifTool | None = None,
) -> None:
    """Write a mosaic as DNG, open it again and compare it; a wrong file is never left behind.

    The levels are written as they are. EXIF, XMP, lens and maker notes are copied from the original by exiftool; if it
    is not installed, the core of them is written and a warning is logged.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    image : RawImage
        Mosaic (H, W) uint16 [DN] in sensor orientation. Its ``noise`` is the noise that is left in it.
    source : RawImage, optional
        The photograph before denoising; the means of blocks are compared with it.
    noise_reduction : float, optional
        NoiseReductionApplied, 0 to 1: the strength.
    compression : str, optional
        "lossless-jpeg" (tiles) or "none" (strips).
    original : path, optional
        The camera's file; by default the one that the image was read from.
    exiftool : ExifTool, optional
        A running one, for many files. None starts one for this file.

    Raises
    ------
    VerificationError
        If the written file does not agree with the image or its source.
    FileFormatError
        If it cannot be written: no space, no permission, no folder.
    """
    if compression not in ("lossless-jpeg", "none"):
        raise FileFormatError(f"DNG compression '{compression}' is not known. Known: lossless-jpeg, none.")
    target = Path(path)
    camera_file = Path(original) if original is not None else image.metadata.source
    if camera_file is not None and not camera_file.is_file():
        camera_file = None
    with nullcontext(exiftool) if exiftool is not None else ExifTool() as tool, atomic_target(target) as temporary:
        if camera_file is not None:
            tool.start()  # Perl takes its time: let it, while the pixels are packed
        name = camera_file.name if camera_file is not None else ""
        write_structure(temporary, image, name, noise_reduction, compression)
        append_exif_ifd(temporary, core_exif(image))
        if camera_file is None:
            verify_dng(temporary, image, source, name=target.name)
            return
        completed = temporary.with_name(f"{temporary.stem}-complete.dng")
        try:
            # Another process copies the tags into a second file while LibRaw checks the pixels of the first.
            with ThreadPoolExecutor(1) as thread:
                copying = thread.submit(tool.copy, camera_file, temporary, completed)
                verify_dng(temporary, image, source, name=target.name)
            reason = copying.result()
            if not reason:
                verify_completed(completed, temporary, image, name=target.name)
                completed.replace(temporary)
        finally:
            completed.unlink(missing_ok=True)
        if reason:
            _LOGGER.warning(
                "%s holds only the core EXIF tags (camera, ISO, exposure, date), without lens and maker notes: %s.",
                target.name,
                reason,
            )


def write_structure(
    path: Path, image: RawImage, name: str, noise_reduction: float | None, compression: Compression
) -> None:
    """Write the thumbnail as first IFD and the mosaic as its SubIFD."""
    small = thumbnail(image)
    try:
        with tifffile.TiffWriter(path, byteorder="<", bigtiff=False) as tiff:
            tiff.write(
                small,
                photometric="ycbcr",
                compression="jpeg",
                compressionargs={"level": 88},
                rowsperstrip=small.shape[0],
                subfiletype=1,
                subifds=1,
                resolution=(300, 300),
                resolutionunit="inch",
                metadata=None,
                software=f"denoise {__version__}",
                extratags=_extratags(profile_tags(image, name)),
            )
            mono = image.cfa == "MONO"
            options: dict[str, Any] = {
                # tifffile wants three samples for LinearRaw: a mono plane is written as grey and renamed below.
                "photometric": "minisblack" if mono else _CFA,
                "subfiletype": 0,
                "resolution": (300, 300),
                "resolutionunit": "inch",
                "metadata": None,
                "software": False,
                "extratags": _extratags(raw_tags(image, noise_reduction)),
            }
            # LibRaw and dcraw break a tile's rows at the picture's width: no tile may be wider.
            tile = tuple(min(_TILE, side // 16 * 16) for side in image.mosaic.shape)
            if compression == "none" or min(tile) == 0:
                tiff.write(image.mosaic, rowsperstrip=64, **options)
            else:
                tiff.write(
                    _jpeg_tiles(image, *tile),
                    shape=image.mosaic.shape,
                    dtype=np.uint16,
                    tile=tile,
                    compression=_JPEG,
                    bitspersample=16,
                    **options,
                )
        if mono:
            with tifffile.TiffFile(path, mode="r+") as tiff:
                tiff.pages[0].pages[0].tags[262].overwrite(_LINEAR_RAW)  # pyright: ignore
    except PARSE_ERRORS as error:
        raise FileFormatError(f"Cannot write {path.name} as DNG: {error}. Please report this.") from error


def _extratags(tags: list[tuple[int, int, int, Any]]) -> list[tuple[int, int, int, Any, bool]]:
    return [(code, kind, count, value, True) for code, kind, count, value in tags]


def _jpeg_tiles(image: RawImage, tile_height: int, tile_width: int) -> Iterator[bytes]:
    """Yield the mosaic as lossless JPEG tiles in reading order, packed on two threads."""
    height, width = image.mosaic.shape
    corners = [(top, left) for top in range(0, height, tile_height) for left in range(0, width, tile_width)]

    def encode(corner: tuple[int, int]) -> bytes:
        part = image.mosaic[corner[0] : corner[0] + tile_height, corner[1] : corner[1] + tile_width]
        missing = tile_height - part.shape[0], tile_width - part.shape[1]
        if any(missing):
            part = np.pad(part, ((0, missing[0]), (0, missing[1])), mode="edge")
        tile = np.ascontiguousarray(part)
        return bytes(imagecodecs.jpeg8_encode(tile, lossless=True, predictor=1, bitspersample=16))

    with ThreadPoolExecutor(2) as threads:
        for start in range(0, len(corners), 64):
            yield from threads.map(encode, corners[start : start + 64])
