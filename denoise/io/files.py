"""Writing a file whole or not at all: a temporary name in the same folder, then one rename."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from denoise.errors import FileFormatError

_REASONS: Final[dict[int, str]] = {
    errno.ENOSPC: "there is no space left on the device. Free some space or choose another folder.",
    errno.EDQUOT: "the disk quota is used up. Free some space or choose another folder.",
    errno.EACCES: "permission is denied. Choose a folder that you may write to.",
    errno.EPERM: "permission is denied. Choose a folder that you may write to.",
    errno.EROFS: "the file system is read-only. Choose a folder that you may write to.",
    errno.ENAMETOOLONG: "the name is too long for the file system. Choose a shorter one.",
    errno.EFBIG: "the file would be larger than the file system allows. Choose another folder.",
}


def write_error(path: Path, error: OSError) -> FileFormatError:
    """Turn an error of the operating system while writing ``path`` into one line with the remedy."""
    reason = _REASONS.get(error.errno or 0, f"the system says: {error.strerror or error}.")
    return FileFormatError(f"Cannot write {path}: {reason}")


@contextmanager
def atomic_target(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it at the end, or remove it when something goes wrong.

    A reader of ``path`` therefore sees the old file or the whole new one, never a half-written one.

    Parameters
    ----------
    path : path
        Where the file shall stand. A file already there is replaced: whether it may be is for the caller to ask.

    Yields
    ------
    Path
        A name that does not exist yet, in the same folder and with the same suffix.

    Raises
    ------
    FileFormatError
        If the folder is missing or may not be written, or the disk is full; errors of the operating system that
        arise while the caller writes are turned into one line as well.
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise FileFormatError(f"Cannot write {target}: {folder} {found}. Create the folder or choose another one.")
    if target.is_dir():
        raise FileFormatError(f"Cannot write {target}: there is a folder of that name. Choose another file name.")
    temporary = folder / f".denoise-{secrets.token_hex(6)}{target.suffix}"
    try:
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(target, error) from error


@contextmanager
def open_to_read(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is there and not empty.

    Raises
    ------
    FileFormatError
        If it is missing, empty, or may not be read.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error.strerror)
        raise FileFormatError(f"Cannot read {path}: {reason}. Check the path.") from error
    with stream:
        if path.stat().st_size == 0:
            raise FileFormatError(f"{path} is empty (0 bytes). Copy it again from its source.")
        yield stream


def make_folder(path: Path) -> None:
    """Make a folder for results, with those above it, if it is not there yet.

    Raises
    ------
    FileFormatError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
