"""The training of a noise proxy by the one loop: stopped and gone on with, kept, used from the command line."""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner, Result

import denoise.proxy
from cli.main import app
from denoise.io import read
from denoise.proxy import train_proxy
from denoise.training.clock import Progress
from denoise.training.sources.exposures import choose_cameras
from denoise.training.sources.raw_pairs import CameraPairs
from noise_models.pnnp_losses import EmpiricalLaw
from noise_models.pnnp_network import NoiseProxy
from noise_models.pnnp_training import PixelNoise
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile

STEPS = 12


@pytest.fixture(scope="module")
def profile() -> CameraProfile:
    return load_profile("sony-a7s2")


@pytest.fixture(scope="module")
def noises(profile: CameraProfile) -> list[PixelNoise]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for iso in (400.0, 3200.0, 6400.0):
        sigma = profile.at(iso).read_sigma_dn
        values = sigma * torch.randn(20_000, generator=generator)
        found.append(PixelNoise(iso, profile.gain_mode(iso), EmpiricalLaw.of(values), sigma, 0, False))
    return found


def test_a_stopped_training_goes_on_as_if_never_stopped(
    profile: CameraProfile, noises: list[PixelNoise], tmp_path: Path
) -> None:
    whole = train_proxy(profile, noises, tmp_path / "whole", steps=STEPS)

    def stop(progress: Progress) -> None:
        if progress.step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="same command again"):
        train_proxy(profile, noises, tmp_path / "parts", steps=STEPS, progress=stop)
    assert list((tmp_path / "parts").rglob("checkpoint-*.pt"))
    steps: list[int] = []
    parts = train_proxy(profile, noises, tmp_path / "parts", steps=STEPS, progress=lambda now: steps.append(now.step))
    assert steps[0] == 6
    for name, tensor in whole.state_dict().items():
        # Two calls of one LAPACK solver may differ in the last digit, where the proxy begins.
        assert torch.allclose(tensor, parts.state_dict()[name], rtol=1e-3, atol=1e-5), name
    assert list(tmp_path.iterdir()) == []  # no checkpoint outlives its use


def test_checkpoints_of_other_frames_are_not_gone_on_with(
    profile: CameraProfile, noises: list[PixelNoise], tmp_path: Path
) -> None:
    stale = tmp_path / "training" / "0badf00d"
    stale.mkdir(parents=True)
    (stale / "checkpoint-00000003.pt").write_bytes(b"of another camera")
    train_proxy(profile, noises, tmp_path / "training", steps=1)
    assert not stale.exists()


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A camera calibrated with --proxy from files, its training cut short."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(2)
    lines = ["file,kind,exposure_s,iso"]
    for iso, sigma in ((400, 2.0), (800, 4.0)):
        for number in range(6):
            name = f"dark_{iso}_{number}.tif"
            noise = sigma * random.standard_normal((96, 96)) + 0.5 * random.standard_normal((96, 1))
            tifffile.imwrite(folder / name, np.rint(noise + 25).clip(0).astype(np.uint16))
            lines.append(f"{name},dark,0.01,{iso}")
    (folder / "frames.csv").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoise.proxy, "add_proxy", functools.partial(denoise.proxy.add_proxy, steps=STEPS))
        done = call("calibrate", "--frames", folder / "frames.csv", "--camera", "Any Camera", "--proxy",
                    "-o", folder / "camera.json", "--report", folder / "camera.html", "--json")  # fmt: skip
    return folder, done


def test_calibrate_trains_keeps_and_measures_a_proxy(calibrated: tuple[Path, Result]) -> None:
    folder, done = calibrated
    assert done.exit_code == 0, done.output
    profile = CameraProfile.load(folder / "camera.json")
    assert profile.proxy == "camera.pnnp.safetensors"
    assert isinstance(profile.load_proxy(), NoiseProxy)
    assert not (folder / "camera.proxy-training").exists()
    record = json.loads(done.stdout.strip().splitlines()[-1])
    rows = [(row["iso"], row["model"]) for row in record["fidelity"]]
    assert rows == [(iso, model) for iso in (400.0, 800.0) for model in ("gaussian", "eld", "pnnp")]
    # A few steps from a Gaussian start, on Gaussian noise.
    assert all(row["kl"] < 0.05 for row in record["fidelity"])
    page = (folder / "camera.html").read_text(encoding="utf-8")
    assert page.count("<td>pnnp</td>") == 2
    assert "correlation in a row" in page


def bayer(folder: Path) -> Path:
    """Return a Bayer camera with a proxy, beside that of the calibration."""
    base = load_profile("sony-a7s2")
    modes = [base.mode_points(mode) for mode in range(len(base.breaks_iso) + 1)]
    NoiseProxy.begin(modes).save(folder / "sony.pnnp.safetensors")
    return base.model_copy(update={"proxy": "sony.pnnp.safetensors"}).save(folder / "sony.json")


def test_simulate_and_training_recipes_take_the_proxys_noise(tmp_path: Path) -> None:
    path, photo = bayer(tmp_path), tmp_path / "photo.png"
    tifffile.imwrite(tmp_path / "photo.tif", np.full((64, 64, 3), 120, np.uint8))
    photo = tmp_path / "photo.tif"
    done = call("simulate", photo, "--profile", path, "--iso", 6400, "--noise", "pnnp", "-o", tmp_path / "noisy.dng")
    assert done.exit_code == 0, done.output
    assert "noise model pnnp" in done.output
    assert float(np.asarray(read(tmp_path / "noisy.dng").to_tensor()).std()) > 0.005
    cameras = choose_cameras("pnnp", CameraProfile.load(path))
    generator = torch.Generator().manual_seed(3)
    photographs = [torch.randint(0, 255, (3, 96, 96), generator=generator, dtype=torch.uint8)]
    batch = CameraPairs(photographs, [], patch=16, cameras=cameras).draw(4, generator=generator)
    assert batch.clean is not None
    assert batch.noisy.shape == (4, 4, 16, 16)
    assert bool(((batch.noisy - batch.clean).flatten(1).std(1) > 0).all())
    refused = call("simulate", photo, "--profile", "sony-a7s2", "--iso", 6400, "--noise", "pnnp",
                   "-o", tmp_path / "none.dng")  # fmt: skip
    assert refused.exit_code == 1
    assert "calibrate --proxy" in refused.output
    assert not (tmp_path / "none.dng").exists()
