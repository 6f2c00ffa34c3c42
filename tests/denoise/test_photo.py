"""Photographs keep their depth, alpha, profile and EXIF through files."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import Photo, PhotoMetadata
from denoise.io import containers
from denoise.io.photo import read_photo, write_photo

EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # Orientation 6
PROFILE = bytes(range(256)) * 700


def photo(channels: int, dtype: type, alpha: bool = False) -> Photo:
    generator = np.random.default_rng(3)
    top = np.iinfo(dtype).max
    pixels = generator.integers(0, top + 1, (23, 37, channels)).astype(dtype)
    opacity = generator.integers(0, top + 1, (23, 37)).astype(dtype) if alpha else None
    return Photo(pixels, opacity, metadata=PhotoMetadata(exif=EXIF, xmp=b"<x:xmpmeta/>"))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [False, True])
def test_lossless_formats_return_the_same_pixels(
    tmp_path: Path, suffix: str, dtype: type, channels: int, alpha: bool
) -> None:
    image = photo(channels, dtype, alpha)
    path = tmp_path / f"picture{suffix}"
    write_photo(path, image)
    back = read_photo(path)
    np.testing.assert_array_equal(back.pixels if back.pixels.shape[2] == channels else back.pixels[..., :1],
                                  image.pixels)  # fmt: skip
    assert back.pixels.dtype == dtype
    if alpha:
        np.testing.assert_array_equal(back.alpha, image.alpha)
    assert back.metadata.xmp == image.metadata.xmp
    if suffix == ".png":
        assert back.metadata.exif == EXIF


def test_jpeg_is_near_and_keeps_exif_profile_and_orientation(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)[..., None].repeat(3, 2)
    image = Photo(ramp, metadata=PhotoMetadata(icc_profile=PROFILE, exif=EXIF, xmp=b"<x/>"))
    path = tmp_path / "picture.jpg"
    write_photo(path, image)
    back = read_photo(path)
    assert back.pixels.shape == ramp.shape  # EXIF orientation turns nothing: the tag travels with the pixels
    assert np.abs(back.pixels.astype(int) - ramp).max() <= 3
    assert back.metadata.icc_profile == PROFILE  # more than one segment long
    assert back.metadata.exif == EXIF
    assert back.metadata.xmp == b"<x/>"


def test_a_grey_png_with_alpha_is_read_as_grey(tmp_path: Path) -> None:
    path = tmp_path / "grey-alpha.png"
    import imagecodecs

    pixels = np.random.default_rng(5).integers(0, 256, (9, 8, 2)).astype(np.uint8)
    path.write_bytes(imagecodecs.png_encode(pixels))
    back = read_photo(path)
    np.testing.assert_array_equal(back.pixels[..., 0], pixels[..., 0])
    np.testing.assert_array_equal(back.alpha, pixels[..., 1])


def test_colour_chunks_of_a_png_survive(tmp_path: Path) -> None:
    chunks = ((b"gAMA", struct.pack(">I", 45455)), (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)))
    path = tmp_path / "picture.png"
    write_photo(path, Photo(np.zeros((4, 4, 3), np.uint8), metadata=PhotoMetadata(png_chunks=chunks)))
    assert read_photo(path).metadata.png_chunks == chunks


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.png", b"", "is empty"),
        ("text.jpg", b"not a picture at all", "first bytes"),
        ("short.png", cv2.imencode(".png", np.zeros((50, 50), np.uint8))[1].tobytes()[:60], "ends too early"),
        (
            "short.jpg",
            cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))[1].tobytes()[
                :900
            ],
            "ends too early",
        ),
        ("damaged.tif", b"II*\0\xff\xff\xff\x7f", "damaged or not a TIFF"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_photo(path)


def test_a_truncated_jpeg_with_a_thumbnail_is_seen(tmp_path: Path) -> None:
    thumbnail = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()
    picture = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (90, 90)).astype(np.uint8))[1].tobytes()
    whole = containers.insert_into_jpeg(picture, PhotoMetadata(exif=EXIF + thumbnail))
    path = tmp_path / "short.jpg"
    path.write_bytes(whole)
    assert read_photo(path).pixels.shape == (90, 90, 1)
    path.write_bytes(whole[:-400])
    with pytest.raises(FileFormatError, match="ends too early"):
        read_photo(path)


def test_missing_files_and_kinds_that_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_photo(tmp_path / "none.png")
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(UnsupportedInputError, match="3 pages"):
        read_photo(stack)
    cmyk = tmp_path / "cmyk.tif"
    tifffile.imwrite(cmyk, np.zeros((8, 8, 4), np.uint8), photometric="separated")
    with pytest.raises(UnsupportedInputError, match="SEPARATED"):
        read_photo(cmyk)


def test_a_format_that_cannot_hold_the_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInputError, match="uint16"):
        write_photo(tmp_path / "deep.jpg", photo(3, np.uint16))
    with pytest.raises(UnsupportedInputError, match="transparency"):
        write_photo(tmp_path / "clear.jpg", photo(3, np.uint8, alpha=True))
    assert not list(tmp_path.iterdir())
