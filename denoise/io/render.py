"""A mosaic, demosaiced by LibRaw: as linear 16-bit TIFF to work on, or as PNG or JPEG to look at."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import rawpy
import tifffile

from denoise.errors import FileFormatError
from denoise.images import RawImage
from denoise.io.dng import write_structure
from denoise.io.dng_tags import xmp_packet
from denoise.io.exif import ExifTool, append_exif_ifd, core_exif
from denoise.io.files import atomic_target, write_error
from denoise.io.icc import linear_srgb_profile
from denoise.version import __version__

_LOGGER: Final = logging.getLogger(__name__)


def write_tiff(
    path: str | os.PathLike[str],
    image: RawImage,
    *,
    original: str | os.PathLike[str] | None = None,
    exiftool: ExifTool | None = None,
) -> None:
    """Write a RAW image as linear 16-bit RGB TIFF with sRGB's primaries and a profile that says so.

    Demosaiced by LibRaw with the as-shot white balance, without any brightening, turned upright.

    Parameters
    ----------
    path : path
        Replaced if it exists.
    image : RawImage
        Mosaic (H, W) uint16 [DN].
    original : path, optional
        The camera's file, whose EXIF is copied; by default the one that the image was read from.
    exiftool : ExifTool, optional
        A running one, for many files. None starts one for this file.

    Raises
    ------
    FileFormatError
        If it cannot be rendered or written.
    """
    target = Path(path)
    camera_file = Path(original) if original is not None else image.metadata.source
    if camera_file is not None and not camera_file.is_file():
        camera_file = None
    metadata = image.metadata
    tags: list[tuple[int, int, int, Any, bool]] = [
        (code, 2, 0, text.encode("ascii", "replace").decode(), True)
        for code, text in ((271, metadata.make), (272, metadata.model), (306, metadata.date_time))
        if text
    ]
    if image.history:
        packet = xmp_packet(image.history)
        tags.append((700, 1, len(packet), packet, True))
    with nullcontext(exiftool) if exiftool is not None else ExifTool() as tool, atomic_target(target) as temporary:
        if camera_file is not None:
            tool.start()
        pixels = render(image, linear=True)
        tifffile.imwrite(
            temporary,
            pixels,
            byteorder="<",
            bigtiff=pixels.nbytes > 4_000_000_000,
            photometric="rgb",
            rowsperstrip=64,
            iccprofile=linear_srgb_profile(),
            software=f"denoise {__version__}",
            metadata=None,
            extratags=[(274, 3, 1, 1, True), *tags],
        )
        if pixels.nbytes <= 4_000_000_000:
            append_exif_ifd(temporary, core_exif(image))
        reason = tool.copy(camera_file, temporary) if camera_file is not None else ""
        if reason:
            _LOGGER.warning("%s holds only the core EXIF tags: %s.", target.name, reason)


def write_preview(
    path: str | os.PathLike[str], image: RawImage, *, quality: int = 92, auto_bright: bool = False
) -> None:
    """Write a RAW image as an 8-bit sRGB picture to look at, upright.

    Parameters
    ----------
    path : path
        Ends in .png, .jpg or .jpeg. Replaced if it exists.
    image : RawImage
        Mosaic (H, W) uint16 [DN].
    quality : int, optional
        Of a JPEG, 0 to 100.
    auto_bright : bool, optional
        Brighten until a hundredth of the pixels is white, as LibRaw does by default; else 1 is the sensor's white.

    Raises
    ------
    FileFormatError
        If it cannot be rendered or written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise FileFormatError(f"A preview is a PNG or JPEG, but {target.name} was asked for. Use .png or .jpg.")
    with atomic_target(target) as temporary:
        picture = render(image, linear=False, auto_bright=auto_bright)
        options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix != ".png" else [cv2.IMWRITE_PNG_COMPRESSION, 4]
        good, encoded = cv2.imencode(suffix, picture[..., ::-1], options)
        if not good:
            raise FileFormatError(f"Cannot write {target}: OpenCV could not encode the picture.")
        temporary.write_bytes(encoded.data)


def render(image: RawImage, *, linear: bool, auto_bright: bool = False) -> npt.NDArray[Any]:
    """Demosaic with LibRaw under the as-shot white balance, in sRGB's primaries, upright.

    Parameters
    ----------
    image : RawImage
        Mosaic (H, W) uint16 [DN].
    linear : bool
        True: 16 bit, proportional to light. False: 8 bit with sRGB's curve.
    auto_bright : bool, optional
        Brighten until a hundredth of the pixels is white.

    Returns
    -------
    (h, w, 3) uint16 or uint8
        The default crop is not applied.

    Raises
    ------
    FileFormatError
        If LibRaw cannot render it, or there is no space for the intermediate file.
    """
    bare = replace(image, metadata=replace(image.metadata, thumbnail=None, default_crop=None, dng_tags={}))
    try:
        with tempfile.TemporaryDirectory(prefix="denoise-") as folder:
            intermediate = Path(folder) / "mosaic.dng"
            write_structure(intermediate, bare, "", None, "none")
            with rawpy.imread(str(intermediate)) as raw:
                pixels = raw.postprocess(
                    gamma=(1, 1) if linear else (2.4, 12.92),
                    no_auto_bright=not auto_bright,
                    output_bps=16 if linear else 8,
                    use_camera_wb=image.cfa != "MONO",
                    output_color=rawpy.ColorSpace.sRGB,  # pyright: ignore[reportArgumentType]
                    bright=2.0**image.metadata.baseline_exposure,
                )
    except rawpy.LibRawError as error:
        raise FileFormatError(f"LibRaw cannot render the image: {error}. Write a DNG instead.") from error
    except OSError as error:
        raise write_error(Path(tempfile.gettempdir()), error) from error
    return (
        np.repeat(pixels.reshape(*pixels.shape[:2], -1), 3, axis=2)
        if pixels.size == pixels.shape[0] * pixels.shape[1]
        else pixels
    )
