"""The default network taught one camera's noise: exposures of that camera, and a comparison that may say no."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch

from denoise.card import ModelCard
from denoise.denoiser import Batch
from denoise.errors import RecipeError, UnsupportedInputError
from denoise.fidelity import FidelityReport
from denoise.io import write
from denoise.methods import DEFAULT_MODELS
from denoise.simulate import simulate_raw
from denoise.training.ab_comparison import CaseResult, SampleResult, compare_on_pairs, judge
from denoise.training.own_camera import cases_of, default_noise, fine_tuning, train_own_camera
from denoise.training.recipe import load_recipe
from denoise.training.sources.exposures import MOST_VARIANCE, Exposure, OneCamera, choose_cameras
from denoise.weights import load_model
from noise_models.base import NoiseModelError, SensorSettings
from noise_models.level import NoiseLevel
from noise_models.pnnp import PnnpNoise
from noise_models.pnnp_network import NoiseProxy
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark

SONY = load_profile("sony-a7s2")


def case(name: str, gain: float, error: float = 0.01) -> CaseResult:
    return CaseResult(name, 5, 30.0, 40.0, 40.0 + gain, gain, error)


def report(verdict: Literal["ok", "warn"]) -> FidelityReport:
    nan = math.nan
    return FidelityReport(verdict, ("Edges show.",) if verdict == "warn" else (), 1.0, (nan,) * 4, (), (nan, nan, nan),
                          (nan, nan), (nan,) * 4, (nan,) * 4, nan, nan, nan, nan, 0.0)  # fmt: skip


@pytest.mark.parametrize(
    ("gains", "default", "tuned", "worth", "words"),
    [
        ((0.3, 0.2), "ok", "ok", True, "+0.25 dB"),
        ((0.05, 0.05), "ok", "ok", False, "is not seen"),
        ((0.9, -0.3), "ok", "ok", False, "loses 0.30 dB at b"),
        ((0.5, 0.5), "ok", "warn", False, "what is not noise: Edges show."),
        ((0.5, 0.5), "warn", "warn", True, "+0.50 dB"),
    ],
)
def test_the_verdict(
    gains: tuple[float, float],
    default: Literal["ok", "warn"],
    tuned: Literal["ok", "warn"],
    worth: bool,
    words: str,
) -> None:
    cases = [case(name, gain) for name, gain in zip("ab", gains, strict=True)]
    found = judge(cases, SampleResult("night.dng", report(default), report(tuned)))
    assert found.worth is worth
    assert words in found.verdict
    assert found.verdict.startswith("worth it" if worth else "not worth it")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["worth"] is worth


def test_a_gain_within_its_error_is_none() -> None:
    assert not judge([case("a", 0.3, 0.2)]).worth
    assert judge([case("a", 0.3, 0.1)]).worth


def test_one_image_a_case_tells_nothing() -> None:
    found = judge([case("a", 0.3), replace(case("b", 0.3, math.nan), images=1)])
    assert found.worth is None
    assert found.verdict.startswith("cannot be told: +0.30 dB on its own noise, but b has 1 image")
    assert "standard error" not in found.verdict
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["worth"] is None


class Shrinks:
    """A model that keeps a part of what is not the mean."""

    card = ModelCard(id="shrinks.half", method="classical")

    def __init__(self, keeps: float) -> None:
        self.keeps = keeps

    def denoise(self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: object = None) -> torch.Tensor:
        del noise, generator
        mean = noisy.mean((2, 3), keepdim=True)
        return mean + self.keeps * (noisy - mean)

    def to(self, device: torch.device) -> Shrinks:
        del device
        return self


def test_gains_are_those_of_the_pairs() -> None:
    """Of a flat picture, keeping a tenth of the noise is 20 dB less, but for the noise's mean, which stays."""
    expected = -10 * math.log10(0.1**2 + 1 / 32**2)
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((1, 4, 32, 32), 0.5)
    batches = [Batch(clean + 0.05 * torch.randn(clean.shape, generator=generator), clean, None) for _ in range(6)]
    found = compare_on_pairs(Shrinks(1.0), Shrinks(0.1), batches, ("a", "b"))
    assert [result.case for result in found] == ["a", "b"]
    for result in found:
        assert result.images == 3
        assert result.default_db == pytest.approx(result.noisy_db, abs=1e-3)
        assert result.gain_db == pytest.approx(expected, abs=0.5)
        assert 0 < result.error_db < 0.5


def test_the_cases_span_the_camera_and_show_something() -> None:
    camera = choose_cameras("eld", SONY)
    assert isinstance(camera, OneCamera)
    cases = cases_of(camera)
    isos = [iso for iso, _ in cases]
    assert (isos[0], isos[-1]) == SONY.iso_range
    assert len(set(isos)) == 4
    assert cases[-1] == (25600.0, 8.0)
    for iso, ratio in cases:
        level = Exposure(SONY, SensorSettings(iso, 0.01), camera.noise, ratio).level
        assert (level.variance(1.0) <= MOST_VARIANCE * 1.05).all()


def test_dark_frames_are_a_camera_of_the_isos_that_they_have(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    for number, iso in enumerate((800.0, 800.0, 3200.0)):
        image, _ = simulate_raw(np.zeros((128, 128, 3), np.uint8), SONY, iso)
        dark = simulate_dark(SONY, iso, image.mosaic.shape, generator=generator)
        write(tmp_path / f"dark{number}.dng", replace(image, mosaic=dark))
    camera = choose_cameras("dark-frames", SONY, str(tmp_path))
    assert isinstance(camera, OneCamera)
    assert camera.isos == (800.0, 3200.0)
    drawn = [camera.draw(generator) for _ in range(12)]
    assert {exposure.settings.iso for exposure in drawn} == {800.0, 3200.0}
    exposure = Exposure(SONY, SensorSettings(3200.0, 0.01), camera.noise)
    noisy = exposure.shoot(torch.zeros(4, 48, 48), generator)
    assert float(noisy.var()) == pytest.approx(float(exposure.level.read[0]), rel=0.15)


def test_a_camera_with_a_proxy_is_drawn_by_it(tmp_path: Path) -> None:
    proxy = NoiseProxy.begin([SONY.mode_points(mode) for mode in range(len(SONY.breaks_iso) + 1)])
    proxy.save(tmp_path / "camera.pnnp.safetensors")
    path = SONY.model_copy(update={"proxy": "camera.pnnp.safetensors"}).save(tmp_path / "camera.json")
    profile = CameraProfile.load(path)
    assert default_noise(profile) == "pnnp"
    camera = choose_cameras("pnnp", profile)
    exposure = camera.draw(torch.Generator().manual_seed(1))
    assert isinstance(exposure.noise, PnnpNoise)
    noisy = exposure.shoot(torch.zeros(4, 64, 64), torch.Generator().manual_seed(2))
    ratio = float(noisy.var() / exposure.level.read[0])
    assert 0.5 < ratio < 2  # it begins as Gaussian noise of the calibrated size, and strays from it in training


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(RecipeError, match="without dark frames"):
        choose_cameras("dark-frames", SONY)
    with pytest.raises(RecipeError, match="with dark frames"):
        choose_cameras("eld", SONY, "darks")
    with pytest.raises(NoiseModelError, match="Did you mean 'eld'"):
        choose_cameras("els", SONY)
    with pytest.raises(RecipeError, match="Choose the recipe 'raw'"):
        fine_tuning(load_recipe("supervised-photo"), SONY, "eld")
    assert default_noise(SONY) == "eld"


def test_a_camera_is_taught_and_compared(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(11):  # of which two are held out
        small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC))
    changes = {"steps": 2, "batch": 2, "validation": [], "data_folder": str(folder), "source_options.patch": 16,
               "tensorboard": False, "precision": "float32"}  # fmt: skip
    recipe = fine_tuning(load_recipe("raw", changes), SONY, "eld")
    assert recipe.start == DEFAULT_MODELS["supervised", "raw"]
    sample = tmp_path / "night.dng"
    scene = cv2.resize(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8), (256, 256))
    write(sample, simulate_raw(scene.astype(np.uint8), SONY, 6400)[0])
    camera = choose_cameras("eld", SONY)
    assert isinstance(camera, OneCamera)
    card, result = train_own_camera(recipe, camera, tmp_path / "run", tmp_path, sample=sample, device="cpu")
    assert card.id == "supervised-unet.sony-a7s2"
    assert all(abs(one.gain_db) < 1 for one in result.cases)  # two steps change little
    assert result.cases[-1].default_db > result.cases[-1].noisy_db + 3
    assert result.sample is not None
    assert result.sample.file == "night.dng"
    assert json.loads((tmp_path / "run" / "comparison.json").read_text())["verdict"] == result.verdict
    assert load_model(str(tmp_path / "run" / "weights.safetensors")).card == card
    assert card.measured["sony-a7s2/iso25600-x8/psnr_db"] == result.cases[-1].tuned_db
    assert result.worth or result.verdict in card.limits[0]
    with pytest.raises(UnsupportedInputError, match="no RAW"):
        train_own_camera(recipe, camera, tmp_path / "run", tmp_path, sample=folder / "00.png")
