"""``denoise train noise2score --noisy``: from a folder of noisy pictures to a model that ``denoise run`` takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from denoise.images import Photo
from denoise.io import read, write
from denoise.simulate import simulate_raw
from noise_models.profile_shelf import load_profile

SMALL = ("card.config.widths=[8,16]", "card.config.blocks=1", "source_options.patch=32", "batch=2", "warm_up=2",
         "precision=float32", "tensorboard=false", "ema=0.5")  # fmt: skip


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "noisy"
    folder.mkdir()
    rows, columns = np.mgrid[:128, :160].astype(np.float32)
    scene = np.stack([110 + 40 * np.sin(rows / 20) + 30 * (columns > 80)] * 3, 2)
    for seed in range(2):
        noise = np.random.default_rng(seed).normal(0, 20, scene.shape)
        write(folder / f"{seed}.png", Photo((scene + noise).clip(0, 255).astype(np.uint8)))
    return folder


def test_a_folder_of_noisy_pictures_becomes_a_model(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    changes = [word for change in SMALL for word in ("--set", change)]
    result = call("train", "noise2score", "--noisy", folder, "-o", model, "--steps", 3, *changes)
    assert result.exit_code == 0, result.output
    assert "independent, which noise2score needs" in result.output
    assert "noise2score.mine" in result.output
    assert "step 3: self-check on one image" in result.output or "step 3: no self-check" in result.output
    result = call("train", "noise2score", "--noisy", folder, "-o", model, "--steps", 3, *changes)
    assert result.exit_code == 2
    assert f"{model} is there already" in result.output
    result = call("run", folder / "0.png", "-o", tmp_path / "out.png", "--model", model, "-q")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.png").shape == (3, 128, 160)


def test_raw_files_train_a_model_of_their_four_planes(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :320].astype(np.float32)
    picture = np.stack([110 + 40 * np.sin(rows / 20) + 30 * (columns > 80)] * 3, 2).astype(np.uint8)
    shot = tmp_path / "shot.dng"
    write(shot, simulate_raw(picture, load_profile("xiaomi-redmi-k30"), 3200)[0])
    model = tmp_path / "mine.safetensors"
    changes = [word for change in SMALL for word in ("--set", change)]
    result = call("train", "noise2score", "--noisy", tmp_path, "-o", model, "--steps", 2, *changes)
    assert result.exit_code == 0, result.output
    result = call("run", shot, "-o", tmp_path / "out.dng", "--model", model, "-q")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out.dng").shape == (4, 128, 160)


def test_it_warns_where_the_method_does_not_fit_and_stops_where_it_cannot(folder: Path, tmp_path: Path) -> None:
    changes = [word for change in SMALL if "blocks" not in change for word in ("--set", change)]
    result = call("train", "cbsn", "--noisy", folder, "--dry-run", "--steps", 30, *changes)
    assert result.exit_code == 0, result.output
    assert "warning: noise2score would fit these images" in result.output
    assert [line.split()[1] for line in result.output.splitlines() if line.startswith(("recipe", "steps"))] == [
        "cbsn-teacher:", "20,", "cbsn:", "30,",
    ]  # fmt: skip
    result = call("train", "noise2score", "--noisy", folder, "--dry-run", "--set", "source_options.patch=256")
    assert result.exit_code == 1
    assert "the largest has 128" in result.output
    result = call("train", "noise2score", "--noisy", folder, "-o", tmp_path / "mine.pt")
    assert result.exit_code == 2
    assert "mine.safetensors, or the name of a folder" in result.output
    (folder / "1.png").unlink()
    assert "1 image: noise" in call("train", "noise2score", "--noisy", folder, "--dry-run", *changes).output
    result = call("train", "raw", "--noisy", folder, "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 1
    assert "Choose noise2score or cbsn" in result.output
    (tmp_path / "empty").mkdir()
    result = call("train", "noise2score", "--noisy", tmp_path / "empty", "-o", tmp_path / "x.safetensors")
    assert result.exit_code == 1
    assert "holds no picture" in result.output
