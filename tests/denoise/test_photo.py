"""Photographs keep their depth, alpha, profile and EXIF through files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import tifffile

from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import Photo, PhotoMetadata
from denoise.io import containers, iptc, tiff_tags
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


def test_colours_size_and_words_of_a_png_survive(tmp_path: Path) -> None:
    chunks = (
        (b"gAMA", struct.pack(">I", 45455)),
        (b"pHYs", struct.pack(">IIB", 2835, 2835, 1)),
        (b"tEXt", b"Author\0somebody"),
        (b"iTXt", b"Title\0\0\0\0\0a title"),
    )
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


TAGS = [(271, 2, 0, "Maker"), (272, 2, 0, "Model 1"), (274, 3, 1, 6), (306, 2, 0, "2026:05:01 10:00:00"),
        (315, 2, 0, b"Jos\xc3\xa9"), (33432, 2, 0, "(c) 2026")]  # fmt: skip


def stated(path: Path) -> dict[int, object]:
    with tifffile.TiffFile(path) as tiff:
        codes = (270, 271, 272, 274, 282, 283, 296, 306, 315, 33432)
        return {code: tiff.pages.first.tags.valueof(code) for code in codes}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_keeps_who_when_and_which_way_up(tmp_path: Path, order: Literal["<", ">"]) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(10, 20, 3)
    source, target = tmp_path / "a.tif", tmp_path / "b.tif"
    extra = [(*tag, True) for tag in TAGS]
    resolution = ((300, 1), (599, 2))
    tifffile.imwrite(source, pixels, byteorder=order, photometric="rgb", description="a view", metadata=None,
                     resolution=resolution, resolutionunit=3, extratags=extra)  # fmt: skip
    image = read_photo(source)
    write_photo(target, image)
    assert stated(target) == stated(source)
    assert stated(target)[274] == 6
    np.testing.assert_array_equal(read_photo(target).pixels, pixels)
    write_photo(tmp_path / "c.png", image)  # and over the EXIF block of another format back into a TIFF
    write_photo(tmp_path / "d.tif", read_photo(tmp_path / "c.png"))
    assert stated(tmp_path / "d.tif") == stated(source)


EXPOSURE = [(33434, 5, 1, struct.pack("<II", 1, 125)), (34855, 3, 1, struct.pack("<H", 3200)),
            (36867, 2, 20, b"2026:05:06 07:08:09\0"), (42036, 2, 9, b"50mm F/2\0")]  # fmt: skip
GPS = [(0, 1, 4, b"\2\3\0\0"), (1, 2, 2, b"N\0"), (2, 5, 3, struct.pack("<6I", 48, 1, 30, 1, 15, 1))]
CAPTION = b"\x1c\x02\x78\x00\x07at dusk"


def big_endian_exif() -> bytes:
    """Return an EXIF block as many cameras write it, big-endian, with a maker note that points nowhere we know."""
    own = [(33434, 5, 1, struct.pack(">II", 1, 125)), (34855, 3, 1, struct.pack(">H", 3200)),
           EXPOSURE[2], (37500, 7, 6, b"secret"), EXPOSURE[3]]  # fmt: skip
    gps = [GPS[0], GPS[1], (2, 5, 3, struct.pack(">6I", 48, 1, 30, 1, 15, 1))]

    def directory(start: int, entries: list[tuple[int, int, int, bytes]]) -> bytes:
        table, behind = struct.pack(">H", len(entries)), b""
        after = start + 2 + 12 * len(entries) + 4
        for code, kind, count, value in entries:
            place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(">I", after + len(behind))
            behind += value if len(value) > 4 else b""
            table += struct.pack(">HHI", code, kind, count) + place
        return table + bytes(4) + behind

    second = 8 + 2 + 3 * 12 + 4
    third = second + len(directory(second, own))
    first = [(274, 3, 1, struct.pack(">H", 6)), (34665, 4, 1, struct.pack(">I", second)),
             (34853, 4, 1, struct.pack(">I", third))]  # fmt: skip
    return b"MM\0*\0\0\0\x08" + directory(8, first) + directory(second, own) + directory(third, gps)


@pytest.mark.parametrize("way", [(".jpg", ".tif"), (".png", ".tif"), (".jpg", ".tif", ".jpg", ".tif")])
def test_exposure_place_and_caption_go_from_format_to_format(tmp_path: Path, way: tuple[str, ...]) -> None:
    pixels = np.full((16, 24, 3), 90, np.uint8)
    image = Photo(pixels, metadata=PhotoMetadata(exif=big_endian_exif(), iptc=CAPTION))
    for number, suffix in enumerate(way):
        write_photo(tmp_path / f"{number}{suffix}", image)
        image = read_photo(tmp_path / f"{number}{suffix}")
    assert image.metadata.exif is not None
    tags, directories = tiff_tags.tags_of_exif(image.metadata.exif)
    assert directories == {34665: EXPOSURE, 34853: GPS}
    assert (274, 3, 1, struct.pack("<H", 6)) in tags
    assert image.metadata.iptc == (None if ".png" in way else CAPTION)
    with tifffile.TiffFile(tmp_path / f"{len(way) - 1}.tif") as tiff:  # as another reader sees it
        page = tiff.pages.first
        assert page.tags.valueof(34665)["ExposureTime"] == (1, 125)
        assert page.tags.valueof(34853)["GPSLatitude"] == (48, 1, 30, 1, 15, 1)
        np.testing.assert_array_equal(page.asarray(), pixels)


def test_a_caption_larger_than_a_segment_of_jpeg_survives(tmp_path: Path) -> None:
    caption = b"\x1c\x02\x78" + bytes(range(256)) * 400
    write_photo(tmp_path / "a.jpg", Photo(np.zeros((8, 8, 3), np.uint8), metadata=PhotoMetadata(iptc=caption)))
    assert read_photo(tmp_path / "a.jpg").metadata.iptc == caption


@pytest.mark.parametrize("cut", [3, 8, 11, 13, 20])
def test_damaged_image_resources_hold_no_caption(cut: int) -> None:
    whole = iptc.resources_of_iptc(CAPTION)
    other = b"8BIM\x03\xed\x03abc\0\0\0\x03xyz\0"
    assert iptc.iptc_of_resources(other + whole) == CAPTION
    assert iptc.iptc_of_resources(whole[:cut]) is None
    assert iptc.iptc_of_resources(other) is None


def test_how_tifffile_laid_out_another_array_is_not_repeated(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 9), np.uint8), photometric="rgb", planarconfig="separate")
    assert "shape" in str(stated(tmp_path / "a.tif")[270])
    write_photo(tmp_path / "b.tif", read_photo(tmp_path / "a.tif"))
    assert stated(tmp_path / "b.tif")[270] is None


def test_a_tiff_of_a_jpeg_or_png_says_which_way_up_and_how_large(tmp_path: Path) -> None:
    chunks = ((b"pHYs", struct.pack(">IIB", 2835, 5670, 1)),)
    write_photo(
        tmp_path / "b.tif", Photo(np.zeros((4, 4, 3), np.uint8), metadata=PhotoMetadata(exif=EXIF, png_chunks=chunks))
    )
    found = stated(tmp_path / "b.tif")
    assert (found[274], found[282], found[283], found[296]) == (6, (567, 20), (567, 10), 3)
    damaged = PhotoMetadata(exif=b"II*\0\xff\xff\xff\x7f")
    write_photo(tmp_path / "c.tif", Photo(np.zeros((4, 4, 3), np.uint8), metadata=damaged))


@pytest.mark.parametrize("tag", [(274, 3, 1, 99), (282, 5, 1, (0, 0)), (296, 3, 1, 0), (33432, 2, 0, b"")])
def test_odd_tags_of_an_exif_block_do_not_stop_a_tiff(tmp_path: Path, tag: tuple[int, int, int, object]) -> None:
    code, kind, count, value = tag
    packed = value if isinstance(value, bytes) else struct.pack("<II", 0, 0) if kind == 5 else struct.pack("<H", value)
    whole = struct.pack("<II", 72, 1)
    tags = {282: (282, 5, 1, whole), 283: (283, 5, 1, whole), code: (code, kind, count, packed)}
    block = tiff_tags.exif_of_tags(tags.values(), {})
    write_photo(tmp_path / "a.tif", Photo(np.zeros((4, 4, 3), np.uint8), metadata=PhotoMetadata(exif=block)))
    assert stated(tmp_path / "a.tif")[282] == ((1, 1) if code == 282 else (72, 1))


def test_alpha_is_what_the_file_calls_alpha(tmp_path: Path) -> None:
    pixels = np.arange(320, dtype=np.uint16).reshape(8, 10, 4)
    for kind in ("assocalpha", "unassalpha"):
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind])
        image = read_photo(tmp_path / "a.tif")
        np.testing.assert_array_equal(image.alpha, pixels[..., 3])
        write_photo(tmp_path / "b.tif", image)
        with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
            assert tiff.pages.first.tags.valueof(338) == (1 if kind == "assocalpha" else 2,)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(UnsupportedInputError, match=r"4 samples, but its ExtraSamples does not say .*tiffset -s 338"):
        read_photo(tmp_path / "a.tif")
