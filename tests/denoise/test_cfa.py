"""Mosaic to planes and back, for every phase and for odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from denoise import cfa
from denoise.errors import ShapeError

BAYER = [pattern for pattern in cfa.PATTERNS if pattern != cfa.MONO]


@pytest.mark.parametrize("pattern", BAYER)
def test_planes_hold_the_colours_in_order(pattern: str) -> None:
    letters = np.array(list(pattern)).reshape(2, 2)
    mosaic = np.tile(np.vectorize(ord)(letters), (3, 4)).astype(np.uint16)
    planes = cfa.pack(mosaic, pattern)
    assert ["".join(sorted({chr(value) for value in plane.ravel()})) for plane in planes] == ["R", "G", "G", "B"]


@pytest.mark.parametrize("pattern", BAYER)
def test_first_green_stands_on_the_red_row(pattern: str) -> None:
    red, green_of_red, green_of_blue, blue = cfa.positions(pattern)
    assert red[0] == green_of_red[0]
    assert green_of_blue[0] == blue[0]
    assert red[1] == green_of_blue[1]


@given(st.sampled_from(cfa.PATTERNS), st.integers(2, 9), st.integers(2, 9), st.integers(0, 99))
def test_unpack_undoes_pack(pattern: str, height: int, width: int, seed: int) -> None:
    mosaic = np.random.default_rng(seed).integers(0, 65536, (height, width)).astype(np.uint16)
    planes = cfa.pack(mosaic, pattern)
    assert planes.shape == cfa.plane_shape(pattern, height, width)
    np.testing.assert_array_equal(cfa.unpack(planes, pattern, height, width), mosaic)


@pytest.mark.parametrize("pattern", BAYER)
def test_an_odd_side_repeats_its_own_colour(pattern: str) -> None:
    mosaic = np.arange(5 * 7, dtype=np.uint16).reshape(5, 7)
    planes = cfa.pack(mosaic, pattern)
    for plane, (row, column) in zip(planes, cfa.positions(pattern), strict=True):
        assert set(plane.ravel()) <= set(mosaic[row::2, column::2].ravel())


def test_black_by_plane_follows_the_positions() -> None:
    black = np.array([[1, 2], [3, 4]])
    assert cfa.black_by_plane(black, "RGGB").tolist() == [1, 2, 3, 4]
    assert cfa.black_by_plane(black, "GBRG").tolist() == [3, 4, 1, 2]


def test_unknown_patterns_name_the_nearest() -> None:
    with pytest.raises(ShapeError, match="Did you mean 'RGGB'"):
        cfa.positions("RGBG")
    with pytest.raises(ShapeError, match="at least 2x2"):
        cfa.pack(np.zeros((1, 5), np.uint16), "RGGB")
    with pytest.raises(ShapeError, match="has 4 planes"):
        cfa.unpack(np.zeros((3, 2, 2), np.uint16), "RGGB")
