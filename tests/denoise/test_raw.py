"""RAW files are read with the right pixels, pattern and levels, or refused in one line."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng_samples import BLACK, MATRIX, NEUTRAL, scene, write_sample

from denoise.cfa import PATTERNS, pack
from denoise.errors import DenoiseError, FileFormatError, UnsupportedInputError
from denoise.io.raw import read_raw

BAYER = [pattern for pattern in PATTERNS if pattern != "MONO"]


@pytest.mark.parametrize("cfa", BAYER)
@pytest.mark.parametrize("size", [(120, 160), (121, 163)])
def test_every_phase_and_odd_sizes(tmp_path: Path, cfa: str, size: tuple[int, int]) -> None:
    mosaic = scene(*size, cfa)
    image = read_raw(write_sample(tmp_path / "a.dng", mosaic, cfa=cfa))
    assert image.cfa == cfa
    np.testing.assert_array_equal(image.mosaic, mosaic)
    np.testing.assert_allclose(image.black_dn, BLACK)
    assert image.white_dn == 16383
    # The planes of a grey scene stand in the ratio of the neutral: red, green, green, blue.
    means = image.window(0, image.shape[1], 0, image.shape[2]).mean(axis=(1, 2))
    np.testing.assert_allclose(means / means[1], [0.45, 1, 1, 0.62], atol=0.02)


@pytest.mark.parametrize("corner", [(0, 0), (4, 6), (3, 6), (4, 5), (3, 5)])
def test_masked_margin_is_kept_out(tmp_path: Path, corner: tuple[int, int]) -> None:
    inner = scene(100, 140, "GRBG")
    top, left = corner
    everything = np.full((110, 160), 40, np.uint16)
    everything[top : top + 100, left : left + 140] = inner
    path = write_sample(
        tmp_path / "a.dng", everything, cfa="GRBG", margin=(top, left, top + 100, left + 140), crop=(2, 4, 130, 92)
    )
    image = read_raw(path)
    assert image.cfa == "GRBG"
    np.testing.assert_array_equal(image.mosaic, inner)
    np.testing.assert_allclose(image.black_dn, BLACK)
    assert image.metadata.default_crop == (2, 4, 130, 92)


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_bit_depths(tmp_path: Path, bits: int, white: int) -> None:
    mosaic = scene(64, 64, black=white / 16, white=white)
    image = read_raw(write_sample(tmp_path / "a.dng", mosaic, black=white / 16, white=white))
    assert image.white_dn == white, bits
    np.testing.assert_array_equal(image.mosaic, mosaic)


def test_monochrome(tmp_path: Path) -> None:
    mosaic = scene(90, 121, "MONO", black=200)
    path = write_sample(
        tmp_path / "a.dng", mosaic, cfa="MONO", black=200, matrix=None, neutral=None, noise=(1e-4, 1e-6)
    )
    image = read_raw(path)
    assert image.cfa == "MONO"
    assert image.shape == (1, 90, 121)
    np.testing.assert_array_equal(image.mosaic, mosaic)
    np.testing.assert_allclose(image.black_dn, 200)
    assert image.noise is not None
    assert image.noise.channels == 1


def test_dng_tags_that_rawpy_hides(tmp_path: Path) -> None:
    opcodes = struct.pack(">I", 0)
    path = write_sample(
        tmp_path / "a.dng",
        scene(64, 64),
        orientation=6,
        extra=(
            (50722, 10, 9, tuple(n for v in (MATRIX * 0.9).ravel() for n in (round(v * 10000), 10000))),
            (50779, 3, 1, 17),
            (50730, 10, 1, (-1, 2)),
            (51009, 7, len(opcodes), opcodes),
            (50936, 2, 0, "Camera Standard"),
        ),
    )
    metadata = read_raw(path).metadata
    np.testing.assert_allclose(metadata.color_matrices[0], MATRIX, atol=1e-4)
    np.testing.assert_allclose(metadata.color_matrices[1], MATRIX * 0.9, atol=1e-4)
    assert metadata.illuminants == (21, 17)
    assert metadata.as_shot_neutral == pytest.approx(NEUTRAL)
    assert metadata.baseline_exposure == -0.5
    assert metadata.orientation == 6
    assert (metadata.make, metadata.model) == ("Testmaker", "Model T")
    assert metadata.dng_tags[51009][2] == opcodes
    assert metadata.dng_tags[50936][2] == "Camera Standard"


@pytest.mark.parametrize("cfa", BAYER)
def test_noise_profile_in_plane_order(tmp_path: Path, cfa: str) -> None:
    pairs = (1e-3, 1e-6, 2e-3, 2e-6, 3e-3, 3e-6)
    noise = read_raw(write_sample(tmp_path / "a.dng", scene(64, 64, cfa), cfa=cfa, noise=pairs)).noise
    assert noise is not None
    np.testing.assert_allclose(noise.shot, [1e-3, 2e-3, 2e-3, 3e-3])
    np.testing.assert_allclose(noise.read, [1e-6, 2e-6, 2e-6, 3e-6])
    assert noise.source == "DNG NoiseProfile"


def test_noise_profile_of_one_pair_and_none(tmp_path: Path) -> None:
    noise = read_raw(write_sample(tmp_path / "a.dng", scene(64, 64), noise=(1e-3, 1e-6))).noise
    assert noise is not None
    assert noise.channels == 1
    assert read_raw(write_sample(tmp_path / "b.dng", scene(64, 64))).noise is None
    assert read_raw(write_sample(tmp_path / "c.dng", scene(64, 64), noise=(-1.0, 0.0))).noise is None


def test_no_matrix_stays_empty(tmp_path: Path) -> None:
    metadata = read_raw(write_sample(tmp_path / "a.dng", scene(64, 64), matrix=None, neutral=None)).metadata
    assert metadata.color_matrices == ()
    assert metadata.as_shot_neutral is None


def test_black_level_deltas(tmp_path: Path) -> None:
    deltas = (10, 64, tuple(n for i in range(64) for n in (i % 2, 1)))
    image = read_raw(write_sample(tmp_path / "a.dng", scene(64, 64), extra=((50716, *deltas),)))
    np.testing.assert_allclose(image.black_dn, np.add(BLACK, [[0, 0], [1, 1]]))


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("linear", {"shape": (64, 64, 3)}),
        ("floating", {"dtype": np.float32}),
        ("JPEG XL", {"code": 52546}),
        ("lossy", {"code": 34892}),
        ("X-Trans", {"pattern": (6, 6)}),
        ("4x4", {"pattern": (4, 4)}),
        ("R?GB", {"colors": bytes((0, 3, 1, 2))}),
    ],
)
def test_other_kinds_of_dng_are_refused(tmp_path: Path, word: str, options: dict) -> None:
    mosaic = scene(96, 96)
    extra: tuple = ()
    if "shape" in options:
        mosaic = np.repeat(mosaic[..., None], 3, axis=2)
    if "dtype" in options:
        mosaic = (mosaic / 16383).astype(options["dtype"])
    if "pattern" in options:
        rows, columns = options["pattern"]
        extra = (
            (33421, 3, 2, (rows, columns)),
            (33422, 1, rows * columns, bytes([0, 1, 1, 2] * (rows * columns // 4))),
        )
    if "colors" in options:
        extra = ((33422, 1, 4, options["colors"]),)
    path = write_sample(tmp_path / "a.dng", mosaic, extra=extra)
    if "code" in options:
        with tifffile.TiffFile(path, mode="r+b") as tiff:
            tiff.pages[0].tags[259].overwrite(options["code"])
    with pytest.raises(UnsupportedInputError, match=word.replace("?", r"\?")) as refusal:
        read_raw(path)
    assert "\n" not in str(refusal.value)
    assert "a.dng" in str(refusal.value)


def broken_files(folder: Path) -> dict[str, Path]:
    """Return files that are not what they say."""
    good = write_sample(folder / "good.dng", scene(200, 200)).read_bytes()
    files = {
        "missing": b"",
        "empty": b"",
        "one byte": b"I",
        "text": b"This is a letter, not a picture.\n" * 200,
        "zeros": bytes(50000),
        "truncated": good[: len(good) // 2],
        "header only": good[:400],
        "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(3000),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(3000),
    }
    for name, content in files.items():
        (folder / f"{name}.dng").write_bytes(content)
    (folder / "missing.dng").unlink()
    (folder / "folder.dng").mkdir()
    for name, (code, value) in {
        "wide": (256, 60000),
        "tall": (257, 60000),
        "small": (256, 90),
        "none": (256, 0),
    }.items():
        write_sample(folder / f"{name}.dng", scene(200, 200))
        with tifffile.TiffFile(folder / f"{name}.dng", mode="r+b") as tiff:
            tiff.pages[0].tags[code].overwrite(value)
    return {path.stem: path for path in folder.glob("*.dng") if path.stem != "good"} | {
        "missing": folder / "missing.dng"
    }


def test_broken_files_get_one_line(tmp_path: Path) -> None:
    files = broken_files(tmp_path)
    assert len(files) == 14
    for name, path in files.items():
        try:
            read_raw(path)
            message = ""
        except FileFormatError as refusal:
            message = str(refusal)
        assert message, name
        assert "\n" not in message, name
        assert path.name in message, name
        assert message.endswith("."), name


def test_a_picture_under_a_raw_name(tmp_path: Path) -> None:
    for suffix in ("dng", "arw", "cr2", "nef"):
        path = tmp_path / f"a.{suffix}"
        tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
        with pytest.raises(FileFormatError):
            read_raw(path)


def test_random_damage_never_leaks_another_error(tmp_path: Path) -> None:
    good = np.frombuffer(write_sample(tmp_path / "good.dng", scene(64, 64)).read_bytes(), np.uint8)
    generator = np.random.default_rng(3)
    path = tmp_path / "bad.dng"
    header = len(good) - 64 * 64 * 2
    for _ in range(150):
        bad = good.copy()
        places = generator.integers(0, max(header, 400), 4)
        bad[places] = generator.integers(0, 256, 4)
        path.write_bytes(bad.tobytes())
        try:
            read_raw(path)
        except DenoiseError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.data
def test_a_real_photograph(data_root: Path) -> None:
    image = read_raw(data_root / "raw" / "sony_a7r3_iso3200.ARW")
    assert image.cfa == "RGGB"
    assert image.mosaic.shape == (3464, 5184)
    np.testing.assert_allclose(image.black_dn, 512)
    assert image.white_dn == 16383
    assert image.settings is not None
    assert (image.settings.iso, image.settings.exposure_s) == (3200, pytest.approx(1 / 640))
    metadata = image.metadata
    assert (metadata.make, metadata.model) == ("SONY", "ILCE-7RM3")
    assert (metadata.aperture, metadata.focal_length_mm) == (6.3, 129)
    assert metadata.date_time == "2018:07:11 01:18:47"
    assert metadata.default_crop == (8, 8, 5168, 3448)
    assert metadata.as_shot_neutral == pytest.approx((1024 / 2528, 1, 1024 / 1564))
    assert metadata.thumbnail is not None
    planes = pack(image.mosaic, image.cfa)
    assert planes.shape == (4, 1732, 2592)


@pytest.mark.data
def test_a_real_photograph_cut_short(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "night.ARW"
    with (data_root / "raw" / "sony_a7r3_iso3200.ARW").open("rb") as file:
        path.write_bytes(file.read(9_000_000))
    with pytest.raises(FileFormatError, match="truncated"):
        read_raw(path)


@pytest.mark.data
def test_an_old_camera_with_a_name_beyond_ascii(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "-été \U0001f319.KDC"
    shutil.copy(data_root / "raw" / "RAW_KODAK_DC50_é.KDC", path)
    image = read_raw(path)
    assert image.cfa == "GRBG"
    assert image.mosaic.shape == (512, 768)
    assert image.metadata.make == "Eastman Kodak Company"
    # LibRaw's table does not hold it, but LibRaw renders it with a matrix all the same.
    assert image.metadata.color_matrices[0].shape == (3, 3)


@pytest.mark.data
def test_a_header_that_lies_prints_nothing_of_its_own(
    data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "night.ARW"
    shutil.copyfile(data_root / "raw" / "sony_a7r3_iso3200.ARW", path)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages[0].pages[0].tags[257].overwrite(6928)  # type: ignore[index]
    with pytest.raises(FileFormatError, match=r"night\.ARW"):
        read_raw(path)
    assert capfd.readouterr().err == ""
