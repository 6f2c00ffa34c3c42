"""Where the stored values of a cube lie: in memory, in a file that is read by windows, or in a spool on disk."""

from __future__ import annotations

import tempfile
import weakref
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from denoise.errors import FileFormatError, ShapeError

Interleave = Literal["bsq", "bil", "bip"]
Stored = npt.NDArray[Any]

AXES: Final[dict[Interleave, tuple[int, ...]]] = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}
"""Order of (bands, rows, columns) in a file, slowest first."""

HELD_BYTES: Final = 256 << 20
"""A cube up to this size is held in memory; a larger one stays in its file, its result in a spool."""
_PIECE_BYTES: Final = 8 << 20


class Pixels(Protocol):
    """Stored values by windows."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """In the byte order of this machine."""
        ...

    @property
    def held_bytes(self) -> int:
        """Memory that they hold."""
        ...

    def read(self, top: int, bottom: int, left: int, right: int) -> Stored:
        """Return all bands of [top:bottom, left:right] as a new array (bands, h, w)."""
        ...


class ArrayPixels:
    """Values in memory, (bands, H, W)."""

    def __init__(self, array: Stored) -> None:
        if array.ndim != 3 or array.dtype.kind not in "iuf":
            raise ShapeError(
                f"A cube is an array (bands, H, W) of whole or real numbers, but got {array.dtype} of shape "
                f"{array.shape}."
            )
        self.array = array.astype(array.dtype.newbyteorder("="), copy=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows, columns."""
        bands, height, width = self.array.shape
        return bands, height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the array."""
        return self.array.dtype

    @property
    def held_bytes(self) -> int:
        """Memory of the array."""
        return self.array.nbytes

    def read(self, top: int, bottom: int, left: int, right: int) -> Stored:
        """Return all bands of [top:bottom, left:right] as a new array (bands, h, w)."""
        return self.array[:, top:bottom, left:right].copy()

    def put(self, top: int, rows: Stored) -> None:
        """Store rows (bands, h, W) whose first is ``top``."""
        self.array[:, top : top + rows.shape[1]] = rows


class FilePixels:
    """Values of a plain binary file, its axes (bands, rows, columns) in the order ``axes``, slowest first.

    Each window is read anew, piece by piece. It is not mapped: the system may keep a file in pages of 2 MiB, and a row
    of every band would then bring one of them each into the memory of this process.
    """

    def __init__(
        self,
        file: Path | IO[bytes],
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        axes: tuple[int, ...] = AXES["bsq"],
        offset_bytes: int = 0,
    ) -> None:
        self.file = file
        self.shape = shape
        self.file_dtype = dtype
        self.axes = axes
        self.offset_bytes = offset_bytes

    @property
    def dtype(self) -> np.dtype[Any]:
        """In the byte order of this machine."""
        return self.file_dtype.newbyteorder("=")

    @property
    def held_bytes(self) -> int:
        """Nothing: each window is let go."""
        return 0

    def read(self, top: int, bottom: int, left: int, right: int) -> Stored:
        """Return all bands of [top:bottom, left:right] as a new array (bands, h, w).

        Raises
        ------
        FileFormatError
            If the file ends before that.
        """
        values = np.empty((self.shape[0], bottom - top, right - left), self.dtype)
        step = max(1, _PIECE_BYTES // (self.shape[0] * (right - left) * self.file_dtype.itemsize))
        with self._opened() as stream:
            for first in range(top, bottom, step):
                last = min(first + step, bottom)
                piece = self._read_piece(stream, ((0, self.shape[0]), (first, last), (left, right)))
                values[:, first - top : last - top] = piece.transpose(np.argsort(self.axes))
        return values

    def _opened(self) -> AbstractContextManager[IO[bytes]]:
        return self.file.open("rb", buffering=0) if isinstance(self.file, Path) else nullcontext(self.file)

    def _read_piece(self, stream: IO[bytes], spans: tuple[tuple[int, int], ...]) -> Stored:
        """Return spans of (bands, rows, columns) as an array in the order of the file."""
        lengths = [self.shape[axis] for axis in self.axes]
        (slow, slow_end), (middle, middle_end), (fast, fast_end) = (spans[axis] for axis in self.axes)
        piece = np.empty((slow_end - slow, middle_end - middle, fast_end - fast), self.file_dtype)
        runs = piece.reshape(len(piece), 1, -1) if (fast, fast_end) == (0, lengths[2]) else piece
        for place, index in enumerate(range(slow, slow_end)):
            for number, run in enumerate(runs[place]):
                start = (index * lengths[1] + middle + number) * lengths[2] + fast
                stream.seek(self.offset_bytes + start * self.file_dtype.itemsize)
                if stream.readinto(run.view(np.uint8)) != run.nbytes:  # type: ignore[attr-defined]
                    raise FileFormatError(
                        f"Values of a cube {self.shape} were to be read from {getattr(stream, 'name', 'a file')}, but "
                        "it ends too early. It changed while it was read: copy it again."
                    )
        return piece


class Spool(FilePixels):
    """Values in a nameless file of the temporary folder, line by line; the system removes it with its last reader."""

    def __init__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        stream = tempfile.TemporaryFile(prefix="denoise-cube-")  # noqa: SIM115  closed below
        super().__init__(stream, shape, dtype.newbyteorder("="), AXES["bil"])
        self.stream = stream
        weakref.finalize(self, stream.close)

    def put(self, top: int, rows: Stored) -> None:
        """Store rows (bands, h, W) whose first is ``top``."""
        bands, _, width = self.shape
        self.stream.seek(top * bands * width * self.file_dtype.itemsize)
        self.stream.write(np.ascontiguousarray(rows.transpose(1, 0, 2), self.file_dtype).data)
        self.stream.flush()


def hold_if_small(pixels: Pixels) -> Pixels:
    """Return the pixels in memory if they are not too many."""
    if np.prod(pixels.shape, dtype=np.int64) * pixels.dtype.itemsize > HELD_BYTES:
        return pixels
    return ArrayPixels(pixels.read(0, pixels.shape[1], 0, pixels.shape[2]))


def row_blocks(pixels: Pixels, most_bytes: int = 16 << 20) -> list[tuple[int, int]]:
    """Return (top, bottom) of blocks of whole rows, none larger than ``most_bytes`` unless one row is."""
    bands, height, width = pixels.shape
    rows = max(1, most_bytes // (bands * width * pixels.dtype.itemsize))
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def write_binary(
    stream: IO[bytes], pixels: Pixels, dtype: np.dtype[Any], axes: tuple[int, ...], offset_bytes: int = 0
) -> None:
    """Write pixels as a plain binary file, block of rows by block of rows.

    Parameters
    ----------
    stream : binary file
        Open for writing.
    pixels : Pixels
        (bands, H, W).
    dtype : numpy.dtype
        With the byte order of the file.
    axes : tuple of int
        One of `AXES`.
    offset_bytes : int
        Where the first value goes.
    """
    bands, height, width = pixels.shape
    for top, bottom in row_blocks(pixels):
        block = pixels.read(top, bottom, 0, width).astype(dtype, copy=False)
        if axes != AXES["bsq"]:
            stream.seek(offset_bytes + top * bands * width * dtype.itemsize)
            stream.write(np.ascontiguousarray(block.transpose(axes)).data)
            continue
        for band in range(bands):
            stream.seek(offset_bytes + (band * height + top) * width * dtype.itemsize)
            stream.write(np.ascontiguousarray(block[band]).data)
