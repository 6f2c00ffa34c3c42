"""Tiles cover every pixel, lie where the network wants them, and read the image as one would expect."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise.engine.tiles import lay_axis, lay_tiles, overlap_of, read_tile, smallest_tile
from denoise.errors import ShapeError
from denoise.images import Photo

AXES = st.tuples(st.integers(1, 5000), st.sampled_from([1, 2, 4, 8, 16, 20]), st.integers(0, 100), st.integers(0, 900))


@given(AXES)
def test_spans_cover_the_axis_and_are_aligned(axis: tuple[int, int, int, int]) -> None:
    length, multiple_of, halo, more = axis
    largest = smallest_tile(multiple_of, halo) + more
    spans = lay_axis(length, multiple_of, halo, largest)
    assert spans[0].start == 0
    assert 0 <= spans[-1].stop - length < multiple_of
    sizes = {span.stop - span.start for span in spans}
    assert len(sizes) == 1
    assert max(sizes) <= largest
    for span in spans:
        assert span.start % multiple_of == 0
        assert span.stop % multiple_of == 0
        assert span.start <= span.begin <= span.rise <= span.fall <= span.end <= min(span.stop, length)
    for before, after in itertools.pairwise(spans):
        assert (before.fall, before.end) == (after.begin, after.rise)
        assert before.stop - before.end >= halo
        assert after.begin - after.start >= halo
        assert before.stop - after.start >= overlap_of(multiple_of, halo)
    assert (spans[0].begin, spans[0].rise, spans[-1].fall, spans[-1].end) == (0, 0, length, length)


@given(AXES)
def test_laying_again_with_the_tile_found_changes_nothing(axis: tuple[int, int, int, int]) -> None:
    length, multiple_of, halo, more = axis
    spans = lay_axis(length, multiple_of, halo, smallest_tile(multiple_of, halo) + more)
    assert lay_axis(length, multiple_of, halo, spans[0].stop) == spans


def test_the_number_of_tiles_comes_first() -> None:
    """24 MP: 512-pixel tiles would compute 1.5 times the image, fitted ones 1.2 times."""
    grid = lay_tiles((2008, 3008), 8, 16, (512, 512))
    assert grid.counts == (5, 7)
    assert grid.tile == (440, 464)
    assert grid.waste < 1.2


def test_tiles_come_in_rows() -> None:
    grid = lay_tiles((300, 500), 4, 8, (128, 256))
    tiles = list(grid)
    assert [tile.index for tile in tiles] == list(range(len(grid)))
    assert sum(tile.last_of_row for tile in tiles) == grid.counts[0]
    assert tiles[0].rows.start == tiles[0].columns.start == 0


def test_a_tile_that_is_all_overlap_is_refused() -> None:
    with pytest.raises(ShapeError, match="give at least 144"):
        lay_axis(1000, 8, 32, 72)
    with pytest.raises(ShapeError, match="at least one pixel"):
        lay_axis(0, 1, 0, 64)


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 4, 8, 16]), st.integers(0, 2**32 - 1))
def test_the_border_is_mirrored(height: int, width: int, multiple_of: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).random((height, width, 3), np.float32)
    padded_height, padded_width = -(-height // multiple_of) * multiple_of, -(-width // multiple_of) * multiple_of
    whole = np.pad(
        pixels.transpose(2, 0, 1), ((0, 0), (0, padded_height - height), (0, padded_width - width)), mode="reflect"
    )
    grid = lay_tiles((height, width), multiple_of, 1, (smallest_tile(multiple_of, 1),) * 2)
    for tile in grid:
        read = np.empty((3, *grid.tile), np.float32)
        read_tile(Photo(pixels), tile, read)
        expected = whole[:, tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop]
        np.testing.assert_array_equal(read, expected)
