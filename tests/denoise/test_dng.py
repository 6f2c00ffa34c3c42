"""What is written as DNG, read by others, is what was meant; what is wrong is never left behind."""

from __future__ import annotations

import errno
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import rawpy
import tifffile
from dng_samples import BLACK, MATRIX, scene, write_sample

from denoise.cfa import PATTERNS
from denoise.errors import FileFormatError, VerificationError
from denoise.images import RawImage, RawMetadata
from denoise.io import dng
from denoise.io.dng import write_dng
from denoise.io.dng_tags import unique_camera_model
from denoise.io.raw import read_raw
from denoise.io.render import write_preview, write_tiff
from denoise.io.thumbnail import thumbnail
from noise_models.base import SensorSettings
from noise_models.level import NoiseLevel

BAYER = [pattern for pattern in PATTERNS if pattern != "MONO"]


def needs(program: str) -> None:
    """Skip the test where a program is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def picture(height: int = 120, width: int = 160, cfa: str = "RGGB", **changes: object) -> RawImage:
    """Return an image as a camera's file would give it."""
    metadata = RawMetadata(
        make="Testmaker",
        model="Model T",
        color_matrices=(MATRIX,),
        illuminants=(21,),
        as_shot_neutral=(0.45, 1.0, 0.62),
        aperture=2.8,
        focal_length_mm=35.0,
        date_time="2026:01:02 03:04:05",
    )
    image = RawImage(
        mosaic=scene(height, width, cfa),
        cfa=cfa,
        black_dn=np.array(BLACK) if cfa != "MONO" else np.full((2, 2), 512.0),
        white_dn=16383.0,
        settings=SensorSettings(6400.0, 1 / 60),
        noise=NoiseLevel(np.array([1e-3]), np.array([1e-6])),
        metadata=metadata,
    )
    return replace(image, **changes)  # type: ignore[arg-type]


def on_16_bit_scale(image: RawImage) -> RawImage:
    """Return the same picture as the engine's canvas returns it."""
    canvas = image.canvas()
    canvas.put(0, image.window(0, image.shape[1], 0, image.shape[2]))
    return canvas.finish("nothing done")


@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
@pytest.mark.parametrize("cfa", PATTERNS)
@pytest.mark.parametrize("size", [(300, 520), (121, 163), (258, 257), (130, 40), (24, 26)])
def test_write_then_read_is_equal(
    tmp_path: Path, cfa: str, size: tuple[int, int], compression: dng.Compression
) -> None:
    image = picture(*size, cfa)
    write_dng(tmp_path / "a.dng", image, source=image, compression=compression, noise_reduction=0.8)
    back = read_raw(tmp_path / "a.dng")
    np.testing.assert_array_equal(back.mosaic, image.mosaic)
    assert back.cfa == cfa
    np.testing.assert_allclose(back.black_dn, image.black_dn)
    assert back.white_dn == image.white_dn
    assert back.settings == SensorSettings(6400.0, pytest.approx(1 / 60))  # type: ignore[arg-type]
    assert back.noise is not None
    np.testing.assert_allclose(back.noise.shot, 1e-3)
    metadata = back.metadata
    assert (metadata.make, metadata.model, metadata.date_time) == ("Testmaker", "Model T", "2026:01:02 03:04:05")
    assert (metadata.aperture, metadata.focal_length_mm) == (2.8, 35.0)
    assert metadata.thumbnail is not None
    if cfa != "MONO":
        np.testing.assert_allclose(metadata.color_matrices[0], MATRIX, atol=1e-4)
        assert metadata.as_shot_neutral == pytest.approx((0.45, 1.0, 0.62))
    assert [path.name for path in tmp_path.iterdir()] == ["a.dng"]


def test_any_values_survive(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    mosaic = generator.integers(0, 65536, (300, 300)).astype(np.uint16)
    mosaic[::2] = np.where(generator.random((150, 300)) < 0.5, 0, 65535)
    image = picture(300, 300, mosaic=mosaic, white_dn=65535.0)
    write_dng(tmp_path / "a.dng", image)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.dng").mosaic, mosaic)


@pytest.mark.parametrize("cfa", BAYER)
def test_it_renders_as_the_source_does(tmp_path: Path, cfa: str) -> None:
    everything = np.pad(scene(320, 420, cfa), ((6, 3), (8, 4)), constant_values=500)
    path = write_sample(tmp_path / "source.dng", everything, cfa=cfa, margin=(6, 8, 326, 428), crop=(4, 6, 400, 300))
    source = read_raw(path)
    write_dng(tmp_path / "a.dng", on_16_bit_scale(source), source=source)
    for options in ({"gamma": (1, 1), "no_auto_bright": True}, {}):
        before, after = (_rendered_blocks(name, **options) for name in (path, tmp_path / "a.dng"))
        assert np.abs(before - after).max() < 0.001
    assert read_raw(tmp_path / "a.dng").metadata.default_crop == (4, 6, 400, 300)


def _rendered_blocks(path: Path, **options: object) -> np.ndarray:
    with rawpy.imread(str(path)) as raw:
        picture = raw.postprocess(output_bps=16, use_camera_wb=True, **options)  # type: ignore[arg-type]
    height, width = (side // 16 for side in picture.shape[:2])
    blocks = picture[: height * 16, : width * 16].reshape(height, 16, width, 16, 3)
    return blocks.mean(axis=(1, 3)) / 65535


def test_levels_orientation_and_profile_are_carried(tmp_path: Path) -> None:
    curve = (11, 4, (0.0, 0.0, 1.0, 1.0))
    path = write_sample(
        tmp_path / "source.dng",
        scene(64, 96),
        orientation=8,
        noise=(1e-3, 1e-6, 2e-3, 2e-6, 3e-3, 3e-6),
        extra=((50940, *curve), (50936, 2, 0, "Camera Standard"), (51009, 7, 4, bytes(4)), (50730, 10, 1, (1, 4))),
    )
    source = read_raw(path)
    assert source.noise is not None
    left = replace(on_16_bit_scale(source), noise=source.noise.left(0.5), history=("supervised, strength 0.5",))
    write_dng(tmp_path / "a.dng", left, source=source, noise_reduction=0.5)
    back = read_raw(tmp_path / "a.dng")
    assert back.metadata.orientation == 8
    assert back.metadata.baseline_exposure == 0.25
    assert back.metadata.dng_tags[50940][2] == curve[2]
    assert back.metadata.dng_tags[50936][2] == "Camera Standard"
    assert back.metadata.dng_tags[51009][2] == bytes(4)
    np.testing.assert_allclose(back.black_dn, 4 * np.array(BLACK))
    assert back.white_dn == 4 * 16383
    assert back.noise is not None
    np.testing.assert_allclose(back.noise.shot, np.array([1e-3, 2e-3, 2e-3, 3e-3]) / 4)
    with tifffile.TiffFile(tmp_path / "a.dng") as tiff:
        first, raw = tiff.pages[0], tiff.pages[0].pages[0]  # type: ignore[index]
        assert tuple(first.tags[50706].value) == (1, 4, 0, 0)
        assert first.tags[254].value == 1
        assert b"supervised, strength 0.5" in bytes(first.tags[700].value)
        assert first.tags[50827].value.rstrip(b"\x00") == b"source.dng"
        assert raw.tags[50935].value == (1, 2)
        assert raw.tags[258].value == 16


def test_two_matrices(tmp_path: Path) -> None:
    metadata = replace(picture().metadata, color_matrices=(MATRIX, MATRIX * 0.9), illuminants=(17, 21))
    write_dng(tmp_path / "a.dng", picture(metadata=metadata))
    back = read_raw(tmp_path / "a.dng").metadata
    assert back.illuminants == (17, 21)
    np.testing.assert_allclose(back.color_matrices[1], MATRIX * 0.9, atol=1e-4)


def test_a_camera_without_colours_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = replace(picture().metadata, color_matrices=(), illuminants=(), as_shot_neutral=None)
    write_dng(tmp_path / "a.dng", picture(metadata=metadata))
    assert "Testmaker Model T" in caplog.text
    assert read_raw(tmp_path / "a.dng").metadata.as_shot_neutral == pytest.approx((1, 1, 1), abs=1e-3)


def test_names_of_cameras() -> None:
    def named(make: str, model: str) -> str:
        return unique_camera_model(picture(metadata=RawMetadata(make=make, model=model)))

    assert named("SONY", "ILCE-7RM3") == "Sony ILCE-7RM3"
    assert named("NIKON CORPORATION", "NIKON D850") == "Nikon D850"
    assert named("Canon", "Canon EOS R5") == "Canon EOS R5"
    assert named("FUJIFILM", "X-A1") == "Fujifilm X-A1"
    assert named("", "") == "Unknown camera"


def _jpeg(height: int, width: int) -> bytes:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = (20, 40, 220)  # red in OpenCV's order, top left
    return cv2.imencode(".jpg", picture)[1].tobytes()


def test_the_thumbnail_is_the_cameras_own() -> None:
    image = picture(120, 160, metadata=replace(picture().metadata, thumbnail=_jpeg(1200, 1600)))
    small = thumbnail(image)
    assert small.shape == (768, 1024, 3)
    assert small[100, 100, 0] > 180
    assert small[600, 900].max() < 30
    assert thumbnail(image, 250).shape == (188, 250, 3)


@pytest.mark.parametrize(("orientation", "corner"), [(6, (0, -1)), (8, (-1, 0))])
def test_an_upright_preview_is_turned_back(orientation: int, corner: tuple[int, int]) -> None:
    upright = cv2.imdecode(np.frombuffer(_jpeg(160, 120), np.uint8), cv2.IMREAD_COLOR)
    # Shown by a viewer: the sensor's picture turned clockwise (6) or counter-clockwise (8).
    turn = cv2.ROTATE_90_COUNTERCLOCKWISE if orientation == 6 else cv2.ROTATE_90_CLOCKWISE
    expected = cv2.rotate(upright, turn)[..., ::-1]
    metadata = replace(picture().metadata, orientation=orientation, thumbnail=_jpeg(160, 120))
    small = thumbnail(picture(metadata=metadata))
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < 3, corner


@pytest.mark.parametrize("cfa", ["GBRG", "MONO"])
def test_a_rendered_thumbnail_is_neutral_and_not_crude(cfa: str) -> None:
    small = thumbnail(picture(240, 320, cfa)).astype(float)
    assert small.shape == (120, 160, 3) if cfa != "MONO" else (240, 320, 3)
    np.testing.assert_allclose(small.mean(axis=(0, 1)) / small.mean(), 1, atol=0.03)  # a grey scene stays grey
    assert 60 < small.mean() < 200


def test_a_broken_preview_is_rendered_anew() -> None:
    metadata = replace(picture().metadata, thumbnail=b"\xff\xd8\xff broken")
    assert thumbnail(picture(metadata=metadata)).shape == (60, 80, 3)


def test_wrong_pixels_are_never_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiles_of_another(image: RawImage, *tile: int):
        yield from original(replace(image, mosaic=image.mosaic ^ np.uint16(1)), *tile)

    original = dng._jpeg_tiles
    monkeypatch.setattr(dng, "_jpeg_tiles", tiles_of_another)
    with pytest.raises(VerificationError, match="pixels differ"):
        write_dng(tmp_path / "a.dng", picture())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("brightness", {"mosaic": (scene(120, 160) * 0.9).astype(np.uint16)}),
        ("levels", {"black_dn": np.array(BLACK) + 20}),
        ("does not fit", {"cfa": "BGGR"}),
    ],
)
def test_an_image_that_is_not_its_source(tmp_path: Path, word: str, changes: dict) -> None:
    with pytest.raises(VerificationError, match=word):
        write_dng(tmp_path / "a.dng", picture(**changes), source=picture())
    assert list(tmp_path.iterdir()) == []


def test_denoising_a_noisy_picture_passes(tmp_path: Path) -> None:
    noise = NoiseLevel(np.array([0.02]), np.array([0.01]))
    generator = np.random.default_rng(4)
    clean = picture(400, 400)
    span = clean.white_dn - 600
    signal = (clean.mosaic - 512.0) / span
    noisy = np.clip(clean.mosaic + span * generator.normal(0, np.sqrt(noise.variance(signal))), 0, 16383)
    source = replace(clean, mosaic=np.rint(noisy).astype(np.uint16), noise=noise, black_dn=np.full((2, 2), 512.0))
    write_dng(tmp_path / "a.dng", replace(clean, black_dn=np.full((2, 2), 512.0)), source=source)


def test_a_file_that_was_there_is_kept_on_failure(tmp_path: Path) -> None:
    (tmp_path / "a.dng").write_bytes(b"precious")
    with pytest.raises(VerificationError):
        write_dng(tmp_path / "a.dng", picture(cfa="BGGR"), source=picture())
    assert (tmp_path / "a.dng").read_bytes() == b"precious"


def test_no_space_and_no_folder_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileFormatError, match="does not exist"):
        write_dng(tmp_path / "nowhere" / "a.dng", picture())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(FileFormatError, match="no space left") as refusal:
        write_dng(tmp_path / "a.dng", picture())
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cfa", PATTERNS)
@pytest.mark.parametrize("compression", ["lossless-jpeg", "none"])
def test_dcraw_sees_the_same_pixels(tmp_path: Path, cfa: str, compression: dng.Compression) -> None:
    needs("dcraw")
    image = picture(300, 420, cfa)
    write_dng(tmp_path / "a.dng", image, compression=compression)
    arguments = ["dcraw", "-D", "-4", "-t", "0", "-c", str(tmp_path / "a.dng")]
    written = subprocess.run(arguments, check=True, capture_output=True).stdout
    magic, size, top, pixels = written.split(b"\n", 3)
    assert (magic, size, top) == (b"P5", b"420 300", b"65535")
    np.testing.assert_array_equal(np.frombuffer(pixels, ">u2").reshape(300, 420), image.mosaic)


def test_exiftool_finds_nothing_wrong(tmp_path: Path) -> None:
    needs("exiftool")
    write_dng(tmp_path / "a.dng", picture())
    write_dng(tmp_path / "b.dng", picture(cfa="MONO", mosaic=scene(120, 160, "MONO"), black_dn=np.full((2, 2), 512.0)))
    for name in ("a.dng", "b.dng"):
        arguments = ["exiftool", "-validate", "-warning", "-error", "-a", "-s3", str(tmp_path / name)]
        answer = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        assert answer.strip() == "OK", answer


@pytest.mark.slow
@pytest.mark.parametrize("cfa", ["GRBG", "MONO"])
def test_rawtherapee_opens_it(tmp_path: Path, cfa: str) -> None:
    needs("rawtherapee-cli")
    write_dng(tmp_path / "a.dng", picture(520, 640, cfa))
    arguments = ["rawtherapee-cli", "-o", str(tmp_path / "a.tif"), "-b8", "-t", "-Y", "-c", str(tmp_path / "a.dng")]
    subprocess.run(arguments, check=True, capture_output=True, timeout=200)
    rendered = tifffile.imread(tmp_path / "a.tif")
    assert abs(rendered.shape[0] - 520) <= 16
    assert 40 < rendered.mean() < 220


def test_linear_tiff(tmp_path: Path) -> None:
    image = picture(200, 320, metadata=replace(picture().metadata, orientation=6))
    write_tiff(tmp_path / "a.tif", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page = tiff.pages[0]
        pixels = page.asarray()
        assert pixels.dtype == np.uint16
        assert pixels.shape == (320, 200, 3)
        assert page.tags[274].value == 1  # type: ignore[union-attr]
        assert page.tags[34675].value[36:40] == b"acsp"  # type: ignore[union-attr]
        assert page.tags[34665].value["ISOSpeedRatings"] == 6400  # type: ignore[union-attr]
    # The scene is grey under its own light: linear values are the house's, whatever the colour.
    house = np.rot90(image.window(0, image.shape[1], 0, image.shape[2])[1], -1)
    np.testing.assert_allclose(pixels[4:-4:2, 4:-4:2].mean(axis=(0, 1)) / 65535, house[2:-2, 2:-2].mean(), rtol=0.05)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("cfa", ["BGGR", "MONO"])
def test_preview(tmp_path: Path, suffix: str, cfa: str) -> None:
    write_preview(tmp_path / f"a{suffix}", picture(200, 320, cfa))
    pixels = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.shape == (200, 320, 3)
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)) / pixels.mean(), 1, atol=0.04)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["sony_a7r3_iso3200.ARW", "RAW_KODAK_DC50_é.KDC"])
def test_real_photographs_render_alike(data_root: Path, tmp_path: Path, name: str) -> None:
    path = data_root / "raw" / name
    source = read_raw(path)
    write_dng(tmp_path / "a.dng", on_16_bit_scale(source), source=source)
    options = {"half_size": True, "gamma": (1, 1), "no_auto_bright": True}
    before, after = _rendered_blocks(path, **options), _rendered_blocks(tmp_path / "a.dng", **options)
    assert np.abs(before - after).max() < 0.005
