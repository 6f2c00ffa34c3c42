"""What every format promises, asked of each entry of `READERS` and `WRITERS`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denoise.cubes.cube import HyperspectralCube
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import Photo, RawImage
from denoise.io import ENVI_SUFFIXES, READERS, WRITERS, read, write
from denoise.simulate import simulate_raw
from noise_models.profile_shelf import load_profile

Pictures = dict[str, RawImage | Photo | HyperspectralCube]


@pytest.fixture(scope="module")
def images() -> Pictures:
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    cube = np.random.default_rng(1).integers(1, 4000, (7, 24, 30)).astype(np.int16)
    return {
        "raw": simulate_raw(picture, load_profile("xiaomi-redmi-k30"), 1600)[0],
        "photo": Photo(picture),
        "cube": HyperspectralCube(cube, wavelengths_nm=np.linspace(900, 1700, 7), nodata=0),
    }


@pytest.mark.parametrize(("kind", "suffix"), sorted(WRITERS))
def test_what_is_written_can_be_read(kind: str, suffix: str, images: Pictures, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    write(path, images[kind])
    back = read(path)
    if isinstance(back, RawImage):
        source = images[kind]
        assert isinstance(source, RawImage)
        np.testing.assert_array_equal(back.mosaic, source.mosaic)
        assert back.cfa == source.cfa
    elif isinstance(back, HyperspectralCube):
        source = images[kind]
        assert isinstance(source, HyperspectralCube)
        np.testing.assert_array_equal(back.stored.read(0, 24, 0, 30), source.stored.read(0, 24, 0, 30))
        assert back.stored.dtype == np.int16
        if suffix != ".npy":
            np.testing.assert_allclose(back.wavelengths_nm, source.wavelengths_nm, rtol=1e-9)
    elif kind == "photo" and suffix not in (".jpg", ".jpeg"):
        source = images[kind]
        assert isinstance(source, Photo)
        np.testing.assert_array_equal(back.pixels, source.pixels)
    names = {other.name for other in tmp_path.iterdir()}
    if kind == "cube" and suffix in ENVI_SUFFIXES:
        assert names == {"picture.hdr", "picture.img" if suffix == ".hdr" else path.name}
    else:
        assert names == {path.name}


@pytest.mark.parametrize(("kind", "suffix"), sorted(WRITERS))
def test_a_truncated_file_is_named(kind: str, suffix: str, images: Pictures, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    write(path, images[kind])
    content = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(FileFormatError, match="picture"):
            read(path)


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_what_is_empty_missing_or_another_kind_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture{suffix}"
    with pytest.raises(FileFormatError, match=r"no such file|does not exist"):
        read(path)
    path.touch()
    with pytest.raises(FileFormatError, match="empty"):
        read(path)
    path.write_text("a text that is no picture at all " * 20)
    with pytest.raises(FileFormatError, match="picture"):
        read(path)


def test_an_unknown_suffix_says_what_is_read(tmp_path: Path, images: Pictures) -> None:
    path = tmp_path / "picture.webp"
    path.write_bytes(b"RIFF")
    with pytest.raises(UnsupportedInputError, match="no reader serves"):
        read(path)
    with pytest.raises(UnsupportedInputError, match=r"only \.png"):
        write(path, images["photo"])
