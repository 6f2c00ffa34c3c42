"""What is refused in place of a RAW file, and the one line that says why and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import rawpy

from denoise.cfa import PATTERNS
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.io.libraw_messages import libraw_messages_caught
from denoise.io.raw_tags import DngRaw

RAW_ONLY: Final = "Give the camera's RAW file with its colour filter mosaic"
_KNOWN_STARTS: Final = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"BM", "a BMP picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"RIFF", "a RIFF (WebP, AVI, WAV) file"),
)


def refuse_no_file(source: Path) -> None:
    """Refuse what is missing, a folder, not readable or empty."""
    if source.is_dir():
        raise FileFormatError(f"{source} is a folder, but a RAW file was expected. Give the files in it.")
    try:
        size = source.stat().st_size
        with source.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        raise FileFormatError(f"{source} does not exist. Check the path.") from None
    except OSError as error:
        raise FileFormatError(f"{source} cannot be read: {error.strerror or error}. Check its permissions.") from error
    if size == 0:
        raise FileFormatError(f"{source} is empty (0 bytes). Copy it again from the camera or the card.")


def refuse_dng(source: Path, dng: DngRaw) -> None:
    """Refuse the kinds of DNG that hold no plain mosaic, before any pixel is decoded."""
    kind = ""
    if dng.compression in (52546, 50002):
        kind = "is compressed with JPEG XL"
    elif dng.compression == 34892 or (dng.compression == 7 and dng.bits == 8 and dng.photometric == 34892):
        kind = "is a lossy DNG (JPEG of 8 bit), without the sensor's own values"
    elif dng.is_float:
        kind = "holds floating-point samples (HDR merge)"
    elif dng.photometric == 34892 and dng.samples != 1:
        kind = "is a linear DNG (already demosaiced, as ProRAW, sRAW and panorama merges are)"
    elif dng.photometric == 32803 and dng.samples != 1:
        kind = f"holds a mosaic of {dng.samples} samples per pixel"
    elif dng.photometric == 32803 and dng.cfa.startswith("6x6"):
        kind = "has an X-Trans mosaic (6x6)"
    elif dng.photometric == 32803 and dng.cfa not in PATTERNS:
        kind = f"has the colour filter pattern {dng.cfa}, not red, green and blue in a 2x2 cell"
    if kind:
        raise UnsupportedInputError(
            f"{source} {kind}, which is not served yet. {RAW_ONLY}, or an uncompressed or losslessly compressed "
            "mosaic DNG, or render it to TIFF and denoise that as a photograph."
        )
    if dng.width * dng.height == 0:
        raise FileFormatError(f"{source} holds no pixels ({dng.width}x{dng.height}). Copy it again from the camera.")
    expected = dng.width * dng.height * dng.samples * dng.bits // 8
    too_few = dng.data_bytes < expected if dng.compression == 1 else 8 * dng.data_bytes * 2 < dng.width * dng.height
    too_many = dng.compression == 1 and not dng.tiled and dng.data_bytes > 1.5 * expected + 4096
    if too_few or too_many:
        raise FileFormatError(
            f"{source} says that it holds {dng.width}x{dng.height} pixels of {dng.bits} bit, but its pixel data are "
            f"{dng.data_bytes} bytes. The header or the file is damaged; copy it again from the camera or the card."
        )


def refuse_unfilled(source: Path, mosaic: npt.NDArray[np.uint16], black_dn: npt.NDArray[np.float64]) -> None:
    """A decoder that runs out of data may leave the rest at 0, which a sensor with a black level never says."""
    rows = max(16, mosaic.shape[0] // 64)
    if black_dn.min() >= 16 and not mosaic[-rows:].any() and mosaic.any():
        raise FileFormatError(
            f"{source} ends before its picture does: the last rows hold no values. The file is truncated or its header "
            "is wrong; copy it again from the camera or the card."
        )


@contextmanager
def decoding(source: Path) -> Iterator[None]:
    """Turn LibRaw's errors into one line that says what to do."""
    try:
        with libraw_messages_caught():
            yield
    except (rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError, rawpy.NotSupportedError) as error:
        with source.open("rb") as file:
            start = file.read(16)
        known = next((name for magic, name in _KNOWN_STARTS if start.startswith(magic)), "")
        if start.startswith(b"FOVb"):
            raise UnsupportedInputError(foveon(source)) from error
        if known:
            raise FileFormatError(f"{source} is {known}, not a RAW file. Give it its right suffix.") from error
        raise FileFormatError(
            f"{source} is not a RAW file that LibRaw {'.'.join(map(str, rawpy.libraw_version))} knows. Check that it "
            "comes straight from a camera, or convert it to a losslessly compressed DNG first."
        ) from error
    except (rawpy.LibRawIOError, rawpy.LibRawDataError, rawpy.LibRawTooBigError, rawpy.LibRawBadCropError) as error:
        raise FileFormatError(
            f"{source} is damaged, truncated or no RAW file: LibRaw says '{_words(error)}'. Copy it again from the "
            "camera or the card."
        ) from error
    except (rawpy.LibRawUnsufficientMemoryError, MemoryError) as error:
        raise FileFormatError(
            f"{source} needs more memory to decode than there is. If it is not a huge picture, its header is damaged."
        ) from error
    except rawpy.LibRawError as error:
        raise FileFormatError(f"{source} cannot be decoded: LibRaw says '{_words(error)}'.") from error


def _words(error: Exception) -> str:
    text = error.args[0] if error.args else error
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def foveon(source: Path) -> str:
    """Return what to say of a sensor with three layers."""
    return (
        f"{source} comes from a Foveon sensor (three layers, no mosaic), which is not served yet. Render it to a "
        "16-bit TIFF in the camera's converter and denoise that as a photograph."
    )
