"""Images in files: one reader and one writer for each format, by suffix.

To add a format: its file here, and its suffixes in `READERS` and `WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.io.dng import write_dng
from denoise.io.photo import PHOTO_SUFFIXES, read_photo, write_photo
from denoise.io.raw import RAW_SUFFIXES, read_raw
from denoise.io.render import write_preview, write_tiff

if TYPE_CHECKING:
    from denoise.images import Photo, RawImage

READERS: Final[dict[str, Callable[[Path], Any]]] = {
    **dict.fromkeys(RAW_SUFFIXES, read_raw),
    **dict.fromkeys(PHOTO_SUFFIXES, read_photo),
}
"""Reader by suffix in small letters."""

WRITERS: Final[dict[tuple[str, str], Callable[..., None]]] = {
    ("raw", ".dng"): write_dng,
    ("raw", ".tif"): write_tiff,
    ("raw", ".tiff"): write_tiff,
    ("raw", ".png"): write_preview,
    ("raw", ".jpg"): write_preview,
    ("raw", ".jpeg"): write_preview,
    **{("photo", suffix): write_photo for suffix in PHOTO_SUFFIXES},
}
"""Writer by kind of image and suffix."""


def read(path: str | Path) -> RawImage | Photo:
    """Read an image; the suffix says what it is.

    Raises
    ------
    FileFormatError
        If the file is missing, damaged, or not what its name says.
    UnsupportedInputError
        If it is of a kind that is not served.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder; an image file was expected.")
    if reader is None:
        if not path.exists():
            raise FileFormatError(f"Cannot read {path}: there is no such file. Check the path.")
        raise UnsupportedInputError(
            f"{path.name} has the suffix '{path.suffix}', which no reader serves. "
            f"RAW files, DNG and {', '.join(PHOTO_SUFFIXES)} are read."
        )
    return reader(path)


def write(path: str | Path, image: RawImage | Photo, **options: Any) -> None:
    """Write an image; its kind and the suffix choose the writer, which documents the ``options``.

    Raises
    ------
    UnsupportedInputError
        If no writer serves that kind of image under that suffix.
    FileFormatError
        If the file cannot be written, or does not agree with its source once it is read again.
    """
    path = Path(path)
    writer = WRITERS.get((image.kind, path.suffix.lower()))
    if writer is None:
        known = [suffix for kind, suffix in WRITERS if kind == image.kind]
        raise UnsupportedInputError(
            f"A {image.kind} image was to be written as '{path.name}', but only {', '.join(known)} are known for it."
        )
    writer(path, image, **options)
