"""``denoise train`` from end to end on the pictures that scikit-image ships: listed, probed, stopped, gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from typer.testing import CliRunner, Result

from cli.main import app
from denoise.weights import load_model

HERE = Path(__file__).parents[2]
SMALL = ("--set", "card.config.widths=[8, 16]", "--set", "source_options.patch=32", "--set", "tensorboard=false",
         "--set", "validate_steps=5", "--device", "cpu")  # fmt: skip


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_the_recipes_are_listed() -> None:
    shown = call("--list")
    assert shown.exit_code == 0
    assert "supervised-raw" in shown.output
    assert "supervised-unet.photo" in shown.output


def test_a_dry_run_tells_sizes_memory_and_time_and_leaves_nothing(tmp_path: Path) -> None:
    shown = call("smoke", "-o", tmp_path / "run", "--dry-run", *SMALL)
    assert shown.exit_code == 0, shown.output
    for word in ("parameters", "MiB", "GiB", "60, ", "0:0"):
        assert word in shown.output
    assert not (tmp_path / "run").exists()


def test_a_call_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    assert call("smoke").exit_code == 2
    assert call("smoke", "-o", tmp_path, "--device", "abacus").exit_code == 2
    for wrong, hint in (("stepps=3", "Did you mean 'steps'"), ("card.summry=x", "Did you mean 'summary'"),
                        ("steps=-1", "'steps' is not valid"), ("steps", "KEY=VALUE"),
                        ("source_options.pach=3", "Did you mean 'patch'")):  # fmt: skip
        shown = call("smoke", "-o", tmp_path / "run", "--set", wrong)
        assert shown.exit_code == 1
        assert hint in shown.output
    assert "Did you mean 'smoke'" in call("smok", "-o", tmp_path / "run").output


def test_a_dry_run_looks_at_the_profile_and_its_noise(tmp_path: Path) -> None:
    for index in range(2):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((96, 96, 3), 90 + index, np.uint8))
    own = ("raw-fast", "--dry-run", "--data-folder", tmp_path, "--data-root", "none", "--set", "batch=2")
    for wrong, words in ((("nonsense",), "no profile 'nonsense'"),
                         (("sony-a7s2", "--noise", "nonsense"), "no noise model 'nonsense'"),
                         (("sony-a7s2", "--sample", tmp_path / "none.dng"), "none.dng does not exist")):  # fmt: skip
        shown = call(*own, "--profile", *wrong)
        assert shown.exit_code == 1
        assert words in shown.output
    shown = call(*own, "--profile", "sony-a7s2", "--set", "source_options.patch=32", "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    assert "supervised-unet.sony-a7s2" in shown.output


def test_a_folder_of_ones_own_needs_no_dataset(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), generator.integers(0, 256, (48, 48, 3), dtype=np.uint8))
    shown = call("supervised-photo", "-o", tmp_path / "run", "--data-folder", tmp_path, "--data-root", "none",
                 "--steps", 2, "--set", "batch=2", "--set", "start=", *SMALL)  # fmt: skip
    assert shown.exit_code == 0, shown.output
    card = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert card["training"]["data"] == ["a folder of the user's"]
    assert list(card["measured"]) == ["held-out/sigma15/psnr_db"]


def test_killed_and_gone_on_with_it_is_as_if_never_stopped(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert call("smoke", "-o", whole, "--steps", 12, *SMALL).exit_code == 0
    command = [sys.executable, "-m", "cli.main", "train", "smoke", "-o", str(halves), "--steps", "12", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    metrics = halves / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.is_file() and metrics.read_text().count("\n") >= 3) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    if process.returncode:  # it may have been done before the signal came
        assert process.returncode == 130, errors
        assert "Go on with the same command and --resume" in errors
        again = call("smoke", "-o", halves, "--steps", 12, *SMALL)
        assert again.exit_code == 1
        assert "holds a training already" in again.output
        assert call("smoke", "-o", halves, "--steps", 12, "--resume", *SMALL).exit_code == 0
    cards = [json.loads((folder / "weights.json").read_text()) for folder in (whole, halves)]
    assert cards[0]["sha256"] == cards[1]["sha256"]
    assert cards[0]["training"]["recipe"] == "smoke"
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if "total" in line]
    assert steps == list(range(1, 13))
    assert load_model(str(halves / "weights.safetensors")).card.id == "supervised-unet.smoke"


def test_images_from_two_places_are_refused(tmp_path: Path) -> None:
    for name, first in (("raw", "--profile"), ("noise2score", "--data-folder")):
        shown = call(name, "-o", tmp_path / "run", first, "sony-a7s2", "--noisy", tmp_path)
        assert shown.exit_code == 2
        assert f"--noisy and {first} were given" in shown.output
    shown = call("cbsn", "-o", tmp_path / "run", "--data-folder", tmp_path)
    assert shown.exit_code == 2
    assert "Give them as --noisy" in shown.output


def test_missing_data_is_told_with_an_option_that_this_command_has(tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(
        'name = "mine"\nsummary = "s"\nlicence = "l"\norigin = "o"\nsplit = "train"\nkind = "photo"\nholds = "clean"\n'
        'folder = "mine"\nfiles = "*.png"\nurl = "http://127.0.0.1:9/{file}"\n[sha256]\n"a.png" = "' + "0" * 64 + '"\n',
        "utf-8",
    )
    asked = ("smoke", "-o", tmp_path / "run", "--data-root", tmp_path, "--set", f"data=['{own}']")
    assert "Pass --download" in call(*asked).output
    assert "could not be downloaded" in call(*asked, "--download").output


def test_a_dry_run_finds_a_patch_that_does_not_fit(tmp_path: Path) -> None:
    shown = call("smoke", "--dry-run", *SMALL, "--set", "source_options.patch=33")
    assert shown.exit_code == 1
    assert "a multiple of 8" in shown.output
