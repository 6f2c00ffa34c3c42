"""Weights sum to one, exactly; a band gives back what it was given, row by row and once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise.engine.blend import Band, ramp, weights
from denoise.engine.tiles import lay_axis, lay_tiles, smallest_tile

SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400))


def test_a_ramp_and_its_mirror_sum_to_one_exactly() -> None:
    for length in range(1, 100):
        rising = ramp(length)
        assert rising.dtype == np.float32
        assert np.all(np.diff(rising) >= 0)
        assert np.all(rising + (np.float32(1) - rising) == 1)


@given(st.integers(1, 3000), st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 60), st.integers(0, 500))
def test_weights_sum_to_one_and_are_zero_within_the_halo(length: int, multiple_of: int, halo: int, more: int) -> None:
    total = np.zeros(length, np.float32)
    seen = np.zeros(length, int)
    for span in lay_axis(length, multiple_of, halo, smallest_tile(multiple_of, halo) + more):
        total[span.begin : span.end] += weights(span)
        seen[span.begin : span.end] += 1
    assert np.all(total == 1)
    assert seen.max() <= 2


@settings(deadline=None, max_examples=50)
@given(SHAPES, st.sampled_from([1, 4, 8]), st.integers(0, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_band_gives_back_the_image(
    shape: tuple[int, int], multiple_of: int, halo: int, channels: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    grid = lay_tiles(shape, multiple_of, halo, (smallest_tile(multiple_of, halo),) * 2)
    # Multiples of 2**-8: their products with weights are not rounded much, and sums come out to a few ulp.
    whole = np.pad(generator.integers(-50, 300, (channels, *shape)).astype(np.float32), ((0, 0), (0, 16), (0, 16)))
    result = np.full((channels, *shape), np.nan, np.float32)
    tops: list[int] = []

    def put(top: int, rows: npt.NDArray[np.float32]) -> None:
        tops.append(top)
        assert np.isnan(result[:, top : top + rows.shape[1]]).all()
        result[:, top : top + rows.shape[1]] = rows

    band = Band(grid, channels, put)
    for tile in grid:
        part = whole[:, tile.rows.start : tile.rows.stop, tile.columns.start : tile.columns.stop].copy()
        # What lies within the halo of a cut is spoilt, and must not be seen.
        if tile.rows.start > 0:
            part[:, :halo] = np.nan
        if tile.columns.start > 0:
            part[:, :, :halo] = np.nan
        if halo and tile.rows.stop < shape[0]:
            part[:, -halo:] = np.nan
        if halo and tile.columns.stop < shape[1]:
            part[:, :, -halo:] = np.nan
        band.add(tile, part)
    assert tops == sorted(tops)
    assert tops[0] == 0
    np.testing.assert_allclose(result, whole[:, : shape[0], : shape[1]], rtol=1e-6, atol=1e-4)


def test_the_band_is_one_row_of_tiles_high() -> None:
    grid = lay_tiles((4000, 6000), 8, 32, (512, 512))
    band = Band(grid, 4, lambda top, rows: None)
    assert band.planes.shape[1] <= grid.tile[0]
    assert band.planes.nbytes < Band.bytes_for(grid, 4)
