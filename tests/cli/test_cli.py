"""The command line end to end, on small files: outputs, exit codes, one line an error, nothing half-written."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from denoise.batch import Runner
from denoise.images import Photo, PhotoMetadata, RawImage
from denoise.io import read, write
from denoise.jobs import Job
from denoise.simulate import simulate_raw
from noise_models.profile_shelf import load_profile

HERE = Path(__file__).parents[2]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small noisy DNG and a small noisy PNG."""
    folder = tmp_path_factory.mktemp("photos")
    ramp = np.add.outer(np.arange(128), np.arange(160)) * 0.8
    picture = np.stack([ramp, ramp[::-1], 255 - ramp], axis=2).clip(0, 255).astype(np.uint8)
    write(folder / "night.dng", simulate_raw(picture, load_profile("xiaomi-redmi-k30"), 1600)[0])
    noise = np.random.default_rng(1).normal(0, 20, picture.shape)
    cv2.imwrite(str(folder / "party.png"), (picture + noise).clip(0, 255).astype(np.uint8))
    return folder


def test_help_is_quick_and_does_not_load_torch() -> None:
    code = "import sys; from cli.main import app; assert not {'torch', 'rawpy', 'cv2', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
    begun = time.perf_counter()
    shown = subprocess.run([sys.executable, "-m", "cli.main", "--help"], capture_output=True, text=True, check=True,
                           cwd=HERE)  # fmt: skip
    seconds = time.perf_counter() - begun
    assert all(name in shown.stdout for name in ("run", "info", "models", "demo", "doctor", "train"))
    assert seconds < 5  # half a second on a quiet machine; other work may share this one


def test_denoising_does_not_load_what_only_training_needs() -> None:
    """A start costs a fifth of a run; each of these would add to it."""
    heavy = ("scipy.optimize", "scipy.stats", "accelerate", "kornia", "matplotlib", "xarray")
    code = f"import sys, denoise.batch, denoise.weights; print([name for name in {heavy} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE)
    assert loaded.stdout.strip() == "[]"


def test_a_photograph_of_high_iso_whose_neighbours_share_noise_gets_the_model_made_for_it(tmp_path: Path) -> None:
    """And only where nobody said which model or noise: independent noise, or no ISO, goes to the default."""
    rows, columns = np.mgrid[:256, :256]
    scene = np.repeat((110 + 60 * np.sin(rows / 40) * np.cos(columns / 50))[..., None], 3, axis=2)
    noise = np.random.default_rng(3).normal(0, 12, scene.shape)
    blotchy = cv2.GaussianBlur(noise, (0, 0), 0.9) * 2.5
    for name, spoilt, iso in (("camera", blotchy, 3200), ("plain", noise, 3200), ("unknown", blotchy, 0)):
        exif = struct.pack("<2sHIHHHIII", b"II", 42, 8, 1, 34855, 3, 1, iso, 0) if iso else None
        pixels = np.clip(scene + spoilt, 0, 255).round().astype(np.uint8)
        write(tmp_path / f"{name}.png", Photo(pixels, metadata=PhotoMetadata(exif=exif)))
    result = call("run", *(tmp_path / f"{name}.png" for name in ("camera", "plain", "unknown")), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    records = {path.name.partition("_")[0]: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")}
    assert records["camera"]["model"]["id"] == "blind-unet.camera-jpegs"
    assert records["camera"]["noise"]["text"] == "not needed by the model"
    assert records["camera"]["fidelity"]["verdict"] == "not checked"
    assert records["plain"]["model"]["id"] == records["unknown"]["model"]["id"] == "supervised-unet.photo"
    for name in ("camera", "plain"):
        before, after = (
            np.asarray(cv2.imread(str(path))).astype(float) - scene
            for path in (tmp_path / f"{name}.png", tmp_path / "out" / f"{name}_dn.png")
        )
        assert after.std() < 0.5 * before.std()
    told = call(
        "run", tmp_path / "camera.png", "-o", tmp_path / "told.png", "--noise", "0,0.002", "--dry-run", "--json"
    )
    assert "supervised-unet.photo" in told.output
    assert "correlated" in call("info", tmp_path / "camera.png", "--blind").output


def test_photographs_without_anything_to_measure_come_back_as_they_are(tmp_path: Path) -> None:
    bright = np.full((64, 80, 3), 255, np.uint8)
    checks = np.repeat((255 * (np.indices((64, 80)).sum(0) % 2)).astype(np.uint8)[..., None], 3, axis=2)
    for name, pixels in (("even", bright // 2), ("bright", bright), ("checks", checks)):
        write(tmp_path / f"{name}.png", Photo(pixels))
    for model in ("auto", "noise2score"):
        result = call("run", *tmp_path.glob("*.png"), "-o", tmp_path / model, "--model", model)
        assert result.exit_code == 0, result.output
        assert "Taken for free of noise" in result.output
        for path in tmp_path.glob("*.png"):
            np.testing.assert_array_equal(read(tmp_path / model / f"{path.stem}_dn.png").pixels, read(path).pixels)


def test_the_noise_of_photons_in_a_photograph_is_seen(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256]
    scene = np.repeat((0.4 + 0.35 * np.sin(rows / 40) * np.cos(columns / 50))[..., None], 3, axis=2)
    noisy = 0.01 * np.random.default_rng(3).poisson(scene / 0.01)
    write(tmp_path / "a.png", Photo(np.clip(np.rint(255 * noisy), 0, 255).astype(np.uint8)))
    result = call("run", tmp_path / "a.png", "-o", tmp_path / "b.png", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "b.png.json").read_text())
    assert record["noise"]["shot"] == pytest.approx([0.01] * 3, rel=0.1)
    assert (read(tmp_path / "b.png").pixels / 255 - scene).std() < 0.02


def test_a_model_for_camera_jpegs_says_where_the_noise_is_another(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256]
    scene = np.repeat((110 + 60 * np.sin(rows / 40) * np.cos(columns / 50))[..., None], 3, axis=2)
    noise = np.random.default_rng(3).normal(0, 12, scene.shape)
    for name, spoilt in (("white", noise), ("blotchy", cv2.GaussianBlur(noise, (0, 0), 0.9) * 2.5)):
        write(tmp_path / f"{name}.png", Photo(np.clip(scene + spoilt, 0, 255).round().astype(np.uint8)))
        result = call("run", tmp_path / f"{name}.png", "-o", tmp_path / f"{name}_out.png", "--model", "camera-jpeg")
        assert result.exit_code == 0, result.output
        assert ("compare with --model auto" in result.output) == (name == "white")


@pytest.mark.parametrize("model", ["classical", "auto"])
def test_run_makes_a_dng_with_its_sidecar(folder: Path, tmp_path: Path, model: str) -> None:
    target = tmp_path / "clean.dng"
    result = call("run", folder / "night.dng", "-o", target, "--model", model)
    assert result.exit_code == 0, result.output
    before, after = read(folder / "night.dng"), read(target)
    assert isinstance(before, RawImage)
    assert isinstance(after, RawImage)
    assert after.mosaic.shape == before.mosaic.shape
    assert after.cfa == before.cfa
    assert after.white_dn == before.white_dn * 64
    assert float((after.to_tensor() - before.to_tensor()).std()) > 0.003
    record = json.loads((tmp_path / "clean.dng.json").read_text())
    assert record["noise"]["source"] == "DNG NoiseProfile"
    assert record["plan"]["tiles"]
    assert record["fidelity"]["verdict"] in ("ok", "warn")
    assert len(record["input_sha256"]) == 64


def test_strength_zero_returns_the_input_exactly(folder: Path, tmp_path: Path) -> None:
    assert call("run", folder / "night.dng", folder / "party.png", "-o", tmp_path, "--strength", 0).exit_code == 0
    before, after = read(folder / "night.dng"), read(tmp_path / "night_dn.dng")
    assert isinstance(before, RawImage)
    assert isinstance(after, RawImage)
    np.testing.assert_array_equal(after.mosaic, before.mosaic * 64)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "party_dn.png")), cv2.imread(str(folder / "party.png")))


def test_a_photo_keeps_its_format_and_loses_noise(folder: Path, tmp_path: Path) -> None:
    result = call("run", folder / "party.png", "-o", tmp_path, "--json", "--model", "classical")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["output"].endswith("party_dn.png")
    assert record["noise"]["source"] == "blind"
    before, after = (cv2.imread(str(path)).astype(float) for path in (folder / "party.png", tmp_path / "party_dn.png"))
    roughness = [np.abs(np.diff(image, axis=1)).mean() for image in (before, after)]
    assert roughness[1] < 0.6 * roughness[0]


@pytest.mark.parametrize("wish", ["tiff", "png", "jpeg"])
def test_other_formats_of_a_raw(folder: Path, tmp_path: Path, wish: str) -> None:
    arguments = ("run", folder / "night.dng", "-o", tmp_path, "--format", wish, "--model", "classical")
    result = call(*arguments, "--no-sidecar")
    assert result.exit_code == 0, result.output
    (made,) = tmp_path.iterdir()
    picture = cv2.imread(str(made), cv2.IMREAD_UNCHANGED)
    assert picture.shape[2] == 3
    assert picture.dtype == (np.uint16 if wish == "tiff" else np.uint8)


def test_a_dry_run_plans_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    result = call("run", folder, "-o", tmp_path, "--dry-run", "--json", "--noise", "1e-3,1e-5")
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["event"] for record in records] == ["planned", "planned"]
    assert all(record["plan"]["peak_gib"] > 0 for record in records)
    assert not list(tmp_path.iterdir())


def test_existing_outputs_are_refused_skipped_or_replaced(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "party_dn.png"
    target.write_bytes(b"precious")
    arguments = ("run", folder / "party.png", "-o", tmp_path, "--model", "classical")
    refused = call(*arguments)
    assert refused.exit_code == 2
    assert "already there" in refused.stderr
    assert call(*arguments, "--skip-existing").exit_code == 0
    assert target.read_bytes() == b"precious"
    assert call(*arguments, "--overwrite").exit_code == 0
    assert target.read_bytes() != b"precious"
    lost = call("run", folder / "lost.png", "-o", target, "--overwrite")
    assert lost.exit_code == 1
    assert "no such file" in lost.stderr


def test_an_input_is_never_overwritten(folder: Path) -> None:
    before = (folder / "party.png").read_bytes()
    for output in (folder / "party.png", folder):
        suffix = () if output.is_file() else ("--suffix", "")
        result = call("run", folder / "party.png", "-o", output, "--overwrite", *suffix)
        assert result.exit_code == 2
        assert "overwrite itself" in result.stderr
    assert (folder / "party.png").read_bytes() == before


BAD_INPUTS = {
    "empty.dng": (b"", 1),
    "text.arw": (b"this is a shopping list, not a photograph\n" * 50, 1),
    "renamed.dng": (cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1].tobytes(), 1),
    "text.png": (b"hello", 1),
    "letter.docx": (b"PK", 3),
}


@pytest.mark.parametrize("name", [*BAD_INPUTS, "missing.arw", "truncated.dng", "folder.dng"])
def test_a_bad_input_is_one_line_and_a_code(folder: Path, tmp_path: Path, name: str) -> None:
    path, code = tmp_path / name, 1
    if name in BAD_INPUTS:
        path.write_bytes(BAD_INPUTS[name][0])
        code = BAD_INPUTS[name][1]
    elif name == "truncated.dng":
        path.write_bytes((folder / "night.dng").read_bytes()[:-9000])
    elif name == "folder.dng":
        path.mkdir()
        code = 2
    output = tmp_path / "out"
    result = call("run", path, "-o", output, "--model", "classical")
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert name.split(".")[0] in result.stderr
    assert "Traceback" not in result.output
    assert not output.exists() or not list(output.iterdir())


def test_other_files_of_the_same_call_still_run(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"no")
    result = call(
        "run", bad, folder / "party.png", tmp_path / "none.arw", "-o", tmp_path / "out", "--model", "classical"
    )
    assert result.exit_code == 1
    assert "2 of 3 files failed" in result.stderr
    assert (tmp_path / "out" / "party_dn.png").is_file()


def test_an_error_that_nobody_foresaw_is_one_file_that_failed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes((folder / "party.png").read_bytes())
    arguments = ("run", bad, folder / "party.png", "-o", tmp_path / "out", "--model", "classical")
    sound = Runner.run

    def broken_by(error: BaseException) -> Callable[..., dict[str, Any]]:
        def run(runner: Runner, job: Job, progress: Any = None) -> dict[str, Any]:
            if job.source == bad:
                raise error
            return sound(runner, job, progress)

        return run

    monkeypatch.setattr(Runner, "run", broken_by(ArithmeticError("a matrix\nis singular")))
    assert isinstance(call(*arguments, "--traceback").exception, ArithmeticError)
    result = call(*arguments)
    assert result.exit_code == 1
    line = f"{bad}: An unexpected error, ArithmeticError: a matrix is singular (--traceback shows where)\n"
    assert f"error: {line}" in result.stderr
    assert f"1 of 2 files failed:\n  {line}" in result.stderr
    assert (tmp_path / "out" / "party_dn.png").is_file()
    monkeypatch.setattr(Runner, "run", broken_by(KeyboardInterrupt()))
    assert call(*arguments, "--overwrite").exit_code == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "q.tif", "--format", "png"), "the name ends in '.tif', the format in '.png'"),
        (("-o", "q.bmp"), "'.bmp' is not written. Name a folder, or one of .dng, .tif"),
    ],
)
def test_an_output_of_another_format_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("run", folder / "party.png", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_output_may_spell_its_format_otherwise(folder: Path, tmp_path: Path) -> None:
    options = ("--format", "tiff", "--strength", 0)
    assert call("run", folder / "party.png", "-o", tmp_path / "q.tiff", *options).exit_code == 0
    assert (tmp_path / "q.tiff").is_file()


def test_an_empty_name_is_no_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    result = call("run", "", "--dry-run")
    assert result.exit_code == 2
    assert "empty name" in result.stderr
    for name in ("", "."):
        shown = call("info", name)
        assert shown.exit_code == 1
        assert "is a folder" in shown.stderr


def test_an_export_asks_for_its_folder_first(tmp_path: Path) -> None:
    result = call("models", "export", "classical", "-o", tmp_path / "none" / "a.onnx")
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


def test_folders_globs_lists_and_trees(folder: Path, tmp_path: Path) -> None:
    deep = tmp_path / "in" / "a"
    deep.mkdir(parents=True)
    for place in (deep, deep.parent):
        (place / "party.png").write_bytes((folder / "party.png").read_bytes())
    clash = call("run", tmp_path / "in", "-o", tmp_path / "out", "--strength", 0)
    assert clash.exit_code == 2
    assert "--keep-tree" in clash.stderr
    assert call("run", tmp_path / "in", "-o", tmp_path / "out", "--strength", 0, "--keep-tree").exit_code == 0
    assert (tmp_path / "out" / "a" / "party_dn.png").is_file()
    listing = tmp_path / "list.txt"
    listing.write_text(f"{deep / '*.png'}\n")
    assert call("run", f"@{listing}", "--strength", 0).exit_code == 0
    assert (deep / "party_dn.png").is_file()
    again = call("run", deep, "--strength", 0, "--skip-existing", "--json")
    assert [json.loads(line)["event"] for line in again.stdout.splitlines()] == ["skipped"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "supervized"), 4, "Did you mean 'supervised'"),
        (("--model", "none.safetensors"), 4, "no such file"),
        (("--noise", "much"), 2, "SHOT,READ was expected"),
        (("--noise", "-1,0"), 2, "not negative"),
        (("--format", "gif"), 2, "not known"),
        (("--max-memory", "plenty"), 2, "size such as"),
        (("--max-memory", "0"), 2, "less than one byte"),
        (("--max-memory", "1MiB"), 5, "GiB"),
        (("--tile", "abc"), 2, "auto or a number of pixels"),
        (("--device", "tpu"), 2, "cuda:NUMBER"),
        (("--precision", "int8"), 2, "Known: auto, bfloat16"),
        (("--compression", "zip"), 2, "Known: lossless-jpeg"),
        (("--band-axis", "up"), 2, "Known: auto, first"),
        (("--device", "cuda:7"), 1, "cuda"),
        (("--strength", "2"), 2, ""),
        (("--overwrite", "--skip-existing"), 2, "different things"),
    ],
)
def test_a_wrong_wish_is_answered(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = call("run", folder / "night.dng", "-o", tmp_path, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/mountinfo").exists(), reason="needs a read-only place")
def test_an_output_folder_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder was meant")
    result = call("run", folder / "party.png", "-o", blocked / "out", "--strength", 0)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if not os.access(locked, os.W_OK):
        assert call("run", folder / "party.png", "-o", locked, "--strength", 0).exit_code == 1
    locked.chmod(stat.S_IRWXU)


def test_no_space_left_is_one_line(folder: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists() or os.geteuid() != 0:
        pytest.skip("needs root to mount a tiny file system")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        result = call("run", folder / "night.dng", "-o", small, "--model", "classical")
        assert result.exit_code == 1
        assert "no space left" in result.stderr
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


def test_models_can_be_listed_described_and_verified() -> None:
    listed = call("models", "list")
    assert listed.exit_code == 0
    assert "classical" in listed.stdout
    assert json.loads(call("models", "list", "--json").stdout)["classical"]["method"] == "classical"
    assert json.loads(call("models", "info", "classical").stdout)["id"] == "classical"
    assert call("models", "verify").exit_code == 0
    unknown = call("models", "info", "clasical")
    assert unknown.exit_code == 4
    assert "Did you mean 'classical'" in unknown.stderr


def test_info_and_doctor_tell_what_there_is(folder: Path) -> None:
    facts = json.loads(call("info", folder / "night.dng", "--json", "--blind").stdout)
    assert facts["kind"] == "RAW, Bayer RGGB"
    assert facts["size"] == "160 x 128"
    assert "DNG NoiseProfile" in facts["noise in the file"]
    assert "blind" in facts["noise estimated"]
    assert "photograph, RGB" in call("info", folder / "party.png").stdout
    assert call("info", folder / "none.png").exit_code == 1
    assert "torch" in call("doctor").stdout


def test_the_demo_improves_its_picture(tmp_path: Path) -> None:
    result = call("demo", "-o", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    assert "simulated" in result.stderr
    numbers = [float(part.split()[1]) for part in result.stderr.rsplit("clean one: ", 1)[1].split(", ")[:2]]
    assert numbers[1] > numbers[0] + 3
    assert {"noisy.dng", "denoised.dng", "before_after.png"} <= {path.name for path in (tmp_path / "demo").iterdir()}
    assert call("demo", "-o", tmp_path / "demo").exit_code == 2


def test_simulate_and_run_with_the_profile(folder: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy.dng"
    made = call("simulate", folder / "party.png", "--profile", "sony-a7s2", "--iso", 12800, "--ratio", 10, "-o", noisy)
    assert made.exit_code == 0, made.output
    image = read(noisy)
    assert isinstance(image, RawImage)
    assert image.settings is not None
    assert image.settings.iso == 12800
    arguments = ("run", noisy, "--profile", "auto", "--model", "classical", "--json")
    record = json.loads(call(*arguments, "-o", tmp_path / "a.dng").stdout)
    assert record["noise"]["source"] == "profile sony-a7s2"
    assert record["noise"]["shot"][0] == pytest.approx(12.2406 / 15871, rel=1e-3)
    assert call("simulate", folder / "party.png", "--profile", "sony-a7s2", "--iso", 1e6).exit_code == 1
    unknown = call("run", noisy, "--profile", "sony-a7s3", "-o", tmp_path / "b.dng")
    assert unknown.exit_code == 1
    assert "sony-a7s2" in unknown.stderr
