"""The values of a cube in datasets of an HDF5 file, and what is asked of such a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from denoise.cubes.pixels import Stored
from denoise.errors import FileFormatError
from denoise.io.extras import need
from denoise.io.files import open_to_read

_MAGIC: Final = b"\x89HDF\r\n\x1a\n"
_USER_BLOCKS: Final = (0, 512, 1024, 2048)


@dataclass(frozen=True, eq=False)
class Part:
    """A dataset that holds some bands of a cube."""

    dataset: str
    """Path within the file."""
    axes: tuple[int, ...]
    """Order of (bands, rows, columns) in the dataset; (1, 2) or (2, 1) for a dataset that is one band."""
    takes: np.ndarray
    """(n,) which bands of the dataset are used."""
    places: np.ndarray
    """(n,) which bands of the cube they are."""


class Hdf5Pixels:
    """Values in datasets of an HDF5 file, which is opened for each window."""

    def __init__(self, path: Path, parts: Sequence[Part], shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.parts = tuple(parts)
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")

    @property
    def held_bytes(self) -> int:
        """Nothing: the file is read anew."""
        return 0

    def read(self, top: int, bottom: int, left: int, right: int) -> Stored:
        """Return all bands of [top:bottom, left:right] as a new array (bands, h, w)."""
        h5py = need("h5py", "cubes", self.path)
        values = np.empty((self.shape[0], bottom - top, right - left), self.dtype)
        try:
            with h5py.File(self.path, "r") as file:
                for part in self.parts:
                    window = _selection(part.axes, slice(top, bottom), slice(left, right))
                    block = file[part.dataset][window].transpose(np.argsort(part.axes))
                    values[part.places] = block[part.takes] if block.ndim == 3 else block
        except (OSError, KeyError) as error:
            raise FileFormatError(f"{self.path} cannot be read ({error}). Copy it again from its source.") from error
        return values


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5, with a user block or without."""
    with open_to_read(path) as stream:
        for begin in _USER_BLOCKS:
            stream.seek(begin)
            if stream.read(8) == _MAGIC:
                return True
    return False


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file to read.

    Raises
    ------
    FileFormatError
        If it is damaged.
    """
    h5py = need("h5py", "cubes", path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise FileFormatError(f"{path} is damaged ({error}). Copy it again from its source.") from error


def put_rows(dataset: Any, part: Part, block: Stored, rows: slice) -> None:
    """Store ``block`` (bands of the cube, h, W) in the rows of a dataset; bands that are no part stay."""
    window = _selection(part.axes, rows, slice(None))
    order = np.argsort(part.axes)
    values = dataset[window].transpose(order)
    if values.ndim == 3:
        values[part.takes] = block[part.places]
    else:
        values = block[part.places[0]]
    dataset[window] = values.transpose(np.argsort(order))


def history_of(file: Any) -> tuple[str, ...]:
    """Return the lines of the attribute "history"."""
    return tuple(line for line in text_of(file.attrs.get("history", "")).splitlines() if line)


def text_of(value: Any) -> str:
    """Return an attribute as text."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def number_of(dataset: Any, *names: str) -> float | None:
    """Return the first of some attributes that states a number; text such as "none", or nothing, states none."""
    for name in names:
        try:
            return float(np.ravel(dataset.attrs[name])[0])
        except (KeyError, IndexError, TypeError, ValueError):
            continue
    return None


def _selection(axes: tuple[int, ...], rows: slice, columns: slice) -> tuple[slice, ...]:
    return tuple((slice(None), rows, columns)[axis] for axis in axes)
