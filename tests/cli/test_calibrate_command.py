"""``denoise calibrate`` as a user calls it: files in, profile and page out, and what bad frames get."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from cli.main import app
from denoise.images import RawImage, RawMetadata
from denoise.io.dng import append_exif_ifd, core_exif, write_structure
from denoise.io.raw import read_raw
from noise_models.base import SensorSettings
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark, simulate_flat

ISO, SHAPE = 800.0, (128, 192)
CAMERA = load_profile("sony-a7s2")
SPAN_E = (CAMERA.white_dn - CAMERA.black_dn[0][0]) / CAMERA.gain_dn_per_e(ISO)
LEVELS = (0.05, 0.12, 0.2, 0.3, 0.45, 0.6)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_frame(path: Path, mosaic: np.ndarray, exposure_s: float, model: str = "A7S2") -> None:
    """Write a mosaic as the DNG that the camera would have written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = RawMetadata(
        make="Sony", model=model, color_matrices=(np.eye(3),), illuminants=(21,), as_shot_neutral=(1.0, 1.0, 1.0)
    )
    settings = SensorSettings(ISO, exposure_s)
    black = np.asarray(CAMERA.black_dn)
    image = RawImage(mosaic, CAMERA.cfa, black, CAMERA.white_dn, settings=settings, metadata=metadata)
    write_structure(path, image, "", None, "none")
    append_exif_ifd(path, core_exif(image))


def write_flats(folder: Path, levels: tuple[float, ...], generator: torch.Generator) -> None:
    for level in levels:
        for number in range(2):
            mosaic = simulate_flat(CAMERA, ISO, level * SPAN_E, SHAPE, generator=generator)
            write_frame(folder / f"{level}_{number}.dng", mosaic, level)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with darks and flats of a Sony A7S2 at ISO 800, and a shot of 3 % grey by the same camera."""
    folder = tmp_path_factory.mktemp("frames")
    generator = torch.Generator().manual_seed(3)
    for number in range(9):
        mosaic = simulate_dark(CAMERA, ISO, SHAPE, generator=generator)
        write_frame(folder / "darks" / f"{number}.dng", mosaic, 1 / 60)
    write_flats(folder / "flats", LEVELS, generator)
    ramp = np.linspace(0.01, 0.05, SHAPE[1], dtype=np.float32) * SPAN_E * np.ones(SHAPE, np.float32)
    write_frame(folder / "shot.dng", simulate_flat(CAMERA, ISO, ramp, SHAPE, generator=generator), 1 / 60)
    return folder


@pytest.fixture(scope="module")
def calibrated(frames: Path) -> tuple[Path, Path, Result]:
    target, page = frames / "out" / "camera.json", frames / "out" / "camera.html"
    result = call("calibrate", "--darks", frames / "darks", "--flats", frames / "flats", "-o", target, "--report", page)
    return target, page, result


def test_darks_and_flats_give_profile_and_page(calibrated: tuple[Path, Path, Result]) -> None:
    pytest.importorskip("matplotlib", reason="the page needs the extra [report]")
    target, page, result = calibrated
    assert result.exit_code == 0, result.output
    assert "verdict: go" in result.output
    profile = CameraProfile.load(target)
    assert (profile.make, profile.model, profile.provenance.dark_frames) == ("Sony", "A7S2", 9)
    point, truth = profile.at(ISO), CAMERA.at(ISO)
    assert point.gain_dn_per_e == pytest.approx(truth.gain_dn_per_e, rel=0.02)
    assert point.read_sigma_dn == pytest.approx(truth.read_sigma_dn, rel=0.02)
    assert profile.load_fixed_pattern() is not None
    assert page.read_text().rstrip().endswith("</html>")


def test_the_profile_serves_the_run(frames: Path, calibrated: tuple[Path, Path, Result], tmp_path: Path) -> None:
    target, clean = calibrated[0], tmp_path / "clean.dng"
    result = call("run", frames / "shot.dng", "-o", clean, "--profile", target, "--model", "classical")
    assert result.exit_code == 0, result.output
    assert "profile sony-a7s2" in result.output
    record = json.loads((tmp_path / "clean.dng.json").read_text())
    truth = CAMERA.noise_level(ISO)
    assert np.mean(record["noise"]["shot"]) == pytest.approx(float(truth.shot[0]), rel=0.02)
    before, after = read_raw(frames / "shot.dng"), read_raw(clean)
    rough = [np.std(np.diff(image.to_tensor().numpy(), axis=2)) for image in (before, after)]
    assert rough[1] < 0.6 * rough[0]


def test_a_profile_in_the_users_folder_serves_its_camera_unasked(
    frames: Path, calibrated: tuple[Path, Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISE_PROFILES", str(calibrated[0].parent))
    run = ("run", frames / "shot.dng", "--dry-run", "--model", "classical", "-o", tmp_path / "clean.dng")
    for wish, words in (((), "profile sony-a7s2"), (("--profile", "none"), "blind"), (("--noise", "blind"), "blind")):
        result = call(*run, *wish)
        assert result.exit_code == 0, result.output
        assert words in result.output
    # Another ISO, another size, or another camera is not this one; a shipped profile is used only on demand.
    profile = json.loads(calibrated[0].read_text())
    for change in ({"points": [{**profile["points"][0], "iso": 3200}]}, {"model": "A7M4"}, {"schema_version": 99}):
        (tmp_path / "shelf").mkdir(exist_ok=True)
        (tmp_path / "shelf" / "camera.json").write_text(json.dumps({**profile, "fixed_pattern": None, **change}))
        monkeypatch.setenv("DENOISE_PROFILES", str(tmp_path / "shelf"))
        result = call(*run)
        assert result.exit_code == 0, result.output
        assert "blind" in result.output
    (tmp_path / "shelf" / "camera.json").unlink()
    assert "profile sony-a7s2" in call(*run, "--profile", "auto").output


def test_json_and_a_profile_that_exists(frames: Path, calibrated: tuple[Path, Path, Result], tmp_path: Path) -> None:
    taken = call("calibrate", "--darks", frames / "darks", "-o", calibrated[0])
    assert taken.exit_code == 2
    assert "exists already" in taken.output
    result = call("calibrate", "--darks", frames / "darks", "-o", tmp_path / "dark.json", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["verdict"] == "go"
    assert CameraProfile.load(tmp_path / "dark.json").points[0].gain_dn_per_e is None


def only(folder: Path, names: list[str], target: Path) -> Path:
    target.mkdir()
    for name in names:
        shutil.copy(folder / name, target / name)
    return target


def jpegs(frames: Path, place: Path) -> list[object]:
    (place / "d").mkdir()
    for name in "ab":
        cv2.imwrite(str(place / "d" / f"{name}.jpg"), np.zeros((64, 64), np.uint8))
    return ["--darks", place / "d"]


def one_dark(frames: Path, place: Path) -> list[object]:
    return ["--darks", only(frames / "darks", ["0.dng"], place / "d")]


def mixed_sizes(frames: Path, place: Path) -> list[object]:
    folder = only(frames / "darks", ["0.dng", "1.dng"], place / "d")
    write_frame(folder / "small.dng", read_raw(folder / "0.dng").mosaic[:64].copy(), 1 / 60)
    return ["--darks", folder]


def mixed_cameras(frames: Path, place: Path) -> list[object]:
    folder = only(frames / "darks", ["0.dng", "1.dng"], place / "d")
    write_frame(folder / "other.dng", read_raw(folder / "0.dng").mosaic, 1 / 60, model="A7M4")
    return ["--darks", folder]


def lit_darks(frames: Path, place: Path) -> list[object]:
    return ["--darks", frames / "flats"]


def saturated_flats(frames: Path, place: Path) -> list[object]:
    write_flats(place / "f", (1.5, 2.0, 2.5), torch.Generator().manual_seed(1))
    return ["--darks", frames / "darks", "--flats", place / "f"]


def constant(frames: Path, place: Path) -> list[object]:
    for number in range(2):
        write_frame(place / "d" / f"{number}.dng", np.full(SHAPE, 512, np.uint16), 1 / 60)
    return ["--darks", place / "d"]


def not_finite(frames: Path, place: Path) -> list[object]:
    fits = pytest.importorskip("astropy.io.fits", reason="FITS needs the extra [astro]")
    (place / "d").mkdir()
    values = np.random.default_rng(0).normal(100, 3, (2, 64, 64)).astype(np.float32)
    values[1, 3, 3] = np.nan
    for number, frame in enumerate(values):
        fits.PrimaryHDU(frame).writeto(place / "d" / f"{number}.fits")
    return ["--darks", place / "d"]


def damaged(frames: Path, place: Path) -> list[object]:
    folder = only(frames / "darks", ["0.dng", "1.dng"], place / "d")
    whole = (folder / "1.dng").read_bytes()
    (folder / "1.dng").write_bytes(whole[: len(whole) // 2])
    return ["--darks", folder]


def no_folder(frames: Path, place: Path) -> list[object]:
    return ["--darks", place / "nowhere"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (jpegs, "lossy"),
        (one_dark, "only one dark frame"),
        (mixed_sizes, "size"),
        (mixed_cameras, "camera"),
        (lit_darks, "hold light"),
        (saturated_flats, "saturated"),
        (constant, "same value"),
        (not_finite, "not finite"),
        (damaged, "1.dng"),
        (no_folder, "no file"),
    ],
)
def test_bad_frames_get_one_line_and_no_profile(frames: Path, tmp_path: Path, make: Any, words: str) -> None:
    target, page = tmp_path / "camera.json", tmp_path / "camera.html"
    result = call("calibrate", *make(frames, tmp_path), "-o", target, "--report", page, "--quiet")
    assert result.exit_code == 1, result.output
    lines = result.output.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert not target.exists()
    assert not page.exists()


@pytest.mark.parametrize("lowest_dn", [509, 511, 513, 515])
def test_clipped_darks_are_a_no_go(frames: Path, tmp_path: Path, lowest_dn: int) -> None:
    for number in range(5):
        mosaic = np.maximum(read_raw(frames / "darks" / f"{number}.dng").mosaic, lowest_dn)
        write_frame(tmp_path / "d" / f"{number}.dng", mosaic, 1 / 60)
    result = call("calibrate", "--darks", tmp_path / "d", "-o", tmp_path / "camera.json")
    assert result.exit_code == 1
    assert "cut off" in result.output
    assert result.output.strip().splitlines()[-1].startswith("error: no-go: no profile was written")
    assert not (tmp_path / "camera.json").exists()


def test_a_place_that_cannot_be_written_to(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = call("calibrate", "--darks", frames / "darks", "-o", tmp_path / "file" / "camera.json", "--quiet")
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    page = tmp_path / "file" / "camera.html"
    result = call("calibrate", "--darks", frames / "darks", "-o", tmp_path / "c.json", "--report", page, "--quiet")
    assert result.exit_code == 1
    assert "report" in result.output
    assert "cannot be written" in result.output
    assert not (tmp_path / "c.json").exists()


def test_no_room_for_temporary_files(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    result = call("calibrate", "--darks", frames / "darks", "-o", tmp_path / "camera.json", "--quiet")
    assert result.exit_code == 1
    assert "TMPDIR" in result.output
    assert not (tmp_path / "camera.json").exists()


def test_nothing_to_measure_and_a_region_not_understood() -> None:
    assert call("calibrate").exit_code == 2
    result = call("calibrate", "--darks", "d", "--region", "left")
    assert result.exit_code == 1
    assert "--region" in result.output
    assert "denoise calibrate --darks" in call("calibrate", "--plan", "Sony A7S II").output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 99}, "schema 99"),
        ({"white_dn": 100.0}, "white_dn 100 must be above"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"points": []}, "points"),
    ],
)
def test_a_profile_that_is_wrong_stops_the_run(
    frames: Path, calibrated: tuple[Path, Path, Result], tmp_path: Path, change: dict[str, object], words: str
) -> None:
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(json.loads(calibrated[0].read_text()) | change))
    result = call("run", frames / "shot.dng", "-o", tmp_path / "clean.dng", "--profile", edited, "--model", "classical")
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "clean.dng").exists()
