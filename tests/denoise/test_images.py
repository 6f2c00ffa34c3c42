"""Images show themselves in house units and take results back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise.errors import ShapeError
from denoise.images import Photo, RawImage, scale_to_16_bit


def raw(pattern: str = "GRBG", shape: tuple[int, int] = (7, 9), white: float = 16383) -> RawImage:
    mosaic = np.random.default_rng(1).integers(0, int(white) + 1, shape).astype(np.uint16)
    return RawImage(mosaic, pattern, np.array([[512.0, 510], [509, 513]]), white)


@pytest.mark.parametrize(("white", "scale"), [(1023, 64), (4095, 16), (16383, 4), (15871, 4), (65535, 1)])
def test_levels_grow_by_a_whole_number(white: float, scale: int) -> None:
    assert scale_to_16_bit(white) == scale


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR", "MONO"])
def test_a_raw_that_is_put_back_unchanged_is_the_same_mosaic_on_the_16_bit_scale(pattern: str) -> None:
    image = raw(pattern)
    back = image.with_tensor(image.to_tensor())
    np.testing.assert_array_equal(back.mosaic, image.mosaic * 4)
    np.testing.assert_array_equal(back.black_dn, image.black_dn * 4)
    assert back.white_dn == image.white_dn * 4
    torch.testing.assert_close(back.to_tensor(), image.to_tensor(), atol=1e-6, rtol=0)


def test_black_is_zero_and_white_is_one() -> None:
    image = raw()
    dark = RawImage(np.tile(image.black_dn, (2, 2)).astype(np.uint16), "GRBG", image.black_dn, 16383)
    assert np.abs(dark.to_tensor().numpy()).max() == 0
    bright = RawImage(np.full((4, 4), 16383, np.uint16), "GRBG", image.black_dn, 16383)
    assert np.abs(bright.to_tensor().numpy() - 1).max() < 1e-6


def test_values_below_black_stay_negative() -> None:
    image = RawImage(np.zeros((4, 4), np.uint16), "RGGB", np.full((2, 2), 512.0), 16383)
    assert image.to_tensor().max() < -0.03
    assert image.with_tensor(image.to_tensor()).mosaic.max() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_photo_that_is_put_back_unchanged_is_the_same(dtype: type, channels: int) -> None:
    values = np.random.default_rng(2).random((6, 5, channels))
    pixels = values.astype(dtype) if dtype is np.float32 else (values * np.iinfo(dtype).max).astype(dtype)
    alpha = pixels[..., 0].copy()
    photo = Photo(pixels, alpha)
    back = photo.with_tensor(photo.to_tensor())
    np.testing.assert_array_equal(back.pixels, pixels)
    assert back.alpha is alpha
    assert photo.shape == (channels, 6, 5)


def test_photos_round_and_stay_in_range() -> None:
    photo = Photo(np.zeros((1, 4, 1), np.uint8))
    back = photo.with_tensor(torch.tensor([[[-0.5, 0.4999 / 255, 0.5001 / 255, 1.5]]]))
    assert back.pixels.ravel().tolist() == [0, 0, 1, 255]


def test_impossible_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="uint16"):
        RawImage(np.zeros((4, 4), np.float32), "RGGB", np.zeros((2, 2)), 1023)  # pyright: ignore
    with pytest.raises(ShapeError, match="above black"):
        RawImage(np.zeros((4, 4), np.uint16), "RGGB", np.full((2, 2), 600.0), 600)
    with pytest.raises(ShapeError, match="photograph is"):
        Photo(np.zeros((4, 4), np.uint8))
    with pytest.raises(ShapeError, match="Alpha"):
        Photo(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8))
    with pytest.raises(ShapeError, match="Expected planes"):
        raw().canvas().put(0, np.zeros((4, 2, 2), np.float32))
