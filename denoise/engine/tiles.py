"""Where tiles lie: how many, how large, how far they overlap, and which pixels each one answers for.

Per axis the number of tiles comes first and their size follows from it, so that little is computed twice. Every size
and origin is a multiple of what the network asks for, every tile of a run has the same shape, and context is read only
across the edges that we cut ourselves: at the border of the image there is nothing to read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from denoise.errors import ShapeError

if TYPE_CHECKING:
    from denoise.images import Image

SHORTEST_RAMP: Final = 8
"""Pixels over which two tiles fade into each other, at least, where the network has a halo."""
LONGEST_RAMP: Final = 32
"""And at most."""
SMALLEST_TILE: Final = 64
"""No tile is cut smaller than this."""


def round_up(size: int, multiple_of: int) -> int:
    """Return the least multiple of ``multiple_of`` that is not below ``size``."""
    return -(-size // multiple_of) * multiple_of


def overlap_of(multiple_of: int, halo: int) -> int:
    """Return by how many pixels neighbours overlap: two halos and a ramp, none for a network without a halo."""
    return round_up(2 * halo + SHORTEST_RAMP, multiple_of) if halo else 0


def smallest_tile(multiple_of: int, halo: int) -> int:
    """Return the side below which a tile would be mostly overlap."""
    return round_up(max(SMALLEST_TILE, 2 * overlap_of(multiple_of, halo), 2 * multiple_of), multiple_of)


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of a plane.

    Its weight is zero before ``begin``, rises to one at ``rise``, falls from ``fall`` on, and is zero from ``end`` on.
    """

    start: int
    """First pixel read; a multiple of ``multiple_of``."""
    stop: int
    """One past the last pixel read; past the image where that is padded."""
    begin: int
    """First pixel with a weight."""
    rise: int
    """First pixel with weight one."""
    fall: int
    """One past the last pixel with weight one."""
    end: int
    """One past the last pixel with a weight; never past the image."""


@dataclass(frozen=True)
class Tile:
    """One tile of a grid."""

    index: int
    """Place in the order of work: by rows, from the top left."""
    rows: Span
    """Along the height."""
    columns: Span
    """Along the width."""
    last_of_row: bool
    """Whether its row of tiles is done after it."""


@dataclass(frozen=True)
class Grid:
    """All tiles of an image."""

    rows: tuple[Span, ...]
    """From top to bottom."""
    columns: tuple[Span, ...]
    """From left to right."""
    tile: tuple[int, int]
    """Height and width of every tile."""
    shape: tuple[int, int]
    """Height and width of the image."""

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows), len(self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        last = len(self.columns) - 1
        for index, (rows, (number, columns)) in enumerate(itertools.product(self.rows, enumerate(self.columns))):
            yield Tile(index, rows, columns, number == last)

    @property
    def waste(self) -> float:
        """Pixels computed per pixel of the image."""
        return len(self) * self.tile[0] * self.tile[1] / (self.shape[0] * self.shape[1])


def lay_axis(length: int, multiple_of: int, halo: int, largest: int) -> tuple[Span, ...]:
    """Cover one axis with tiles of one size.

    Parameters
    ----------
    length : int
        Pixels of the image along the axis.
    multiple_of : int
        Sizes and origins are multiples of it.
    halo : int
        Pixels beside a cut that the network gets wrong.
    largest : int
        No tile is larger; at least `smallest_tile`, unless one tile holds the whole axis.

    Returns
    -------
    tuple of Span
        In order. The first starts at 0, the last stops at ``length`` rounded up to ``multiple_of``.

    Raises
    ------
    ShapeError
        If the axis is empty or the tile too small for its overlap.
    """
    if length < 1:
        raise ShapeError(f"An image needs at least one pixel along each side, but one side has {length}.")
    units = -(-length // multiple_of)
    largest_units = largest // multiple_of
    if units <= largest_units:
        return (Span(0, units * multiple_of, 0, 0, length, length),)
    shared = overlap_of(multiple_of, halo) // multiple_of
    if largest_units < max(shared + 1, 2):
        raise ShapeError(
            f"Tiles of {largest} pixels were asked for, but the model needs an overlap of {shared * multiple_of}: "
            f"give at least {smallest_tile(multiple_of, halo)}."
        )
    count = -(-(units - shared) // (largest_units - shared))
    tile = -(-(units - shared) // count) + shared
    starts = [multiple_of * (number * (units - tile) // (count - 1)) for number in range(count)]
    tile *= multiple_of
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    ramp = min(tile - max(gaps) - 2 * halo, min(gaps), LONGEST_RAMP) if halo else 0
    # Each cut lies in the middle of an overlap, at least a halo away from both edges.
    cuts = [(after + before + tile - ramp) // 2 for before, after in itertools.pairwise(starts)]
    begins, rises = [0, *cuts], [0, *(cut + ramp for cut in cuts)]
    falls, ends = [*cuts, length], [*(cut + ramp for cut in cuts), length]
    return tuple(
        Span(start, start + tile, *edges) for start, *edges in zip(starts, begins, rises, falls, ends, strict=True)
    )


def lay_tiles(shape: tuple[int, int], multiple_of: int, halo: int, largest: tuple[int, int]) -> Grid:
    """Cover an image with tiles of one shape.

    Parameters
    ----------
    shape : tuple of int
        Height and width of a plane.
    multiple_of, halo : int
        As on the model's card.
    largest : tuple of int
        Largest height and width of a tile; laying again with the ``tile`` of a grid gives the same grid.

    Returns
    -------
    Grid
        Whose weights sum to one at every pixel.
    """
    rows = lay_axis(shape[0], multiple_of, halo, largest[0])
    columns = lay_axis(shape[1], multiple_of, halo, largest[1])
    tile = (rows[0].stop - rows[0].start, columns[0].stop - columns[0].start)
    return Grid(rows, columns, tile, shape)


def read_tile(image: Image, tile: Tile, out: npt.NDArray[np.float32]) -> None:
    """Read a tile with its context into ``out`` (C, h, w) float32, house units.

    What lies past the right and lower border of the image is its mirror image. Planes are packed already, so that
    a mirrored plane is a mosaic mirrored by the period of its filters.
    """
    _, height, width = image.shape
    rows, columns = tile.rows, tile.columns
    planes = image.window(rows.start, min(rows.stop, height), columns.start, min(columns.stop, width))
    below, beside = rows.stop - rows.start - planes.shape[1], columns.stop - columns.start - planes.shape[2]
    if below or beside:
        planes = np.pad(planes, ((0, 0), (0, below), (0, beside)), mode="reflect")
    out[...] = planes
