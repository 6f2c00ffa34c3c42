"""Cube diffusion: what every method promises, the three stages, chance and its seed, what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from made_cubes import Held
from torch import Tensor

from denoise.card import ModelCard
from denoise.cubes.cube import HyperspectralCube
from denoise.cubes.eigen_images import EigenImages
from denoise.cubes.first_estimate import BandTrust, FirstEstimate, combine
from denoise.cubes.pixels import ArrayPixels
from denoise.denoiser import Batch, Denoiser, Whole
from denoise.engine.engine import Engine
from denoise.errors import WeightsError
from denoise.methods import METHODS
from denoise.methods.cube_diffusion import CubeBatch, CubeDiffusion
from denoise.training.optimiser import Muon
from denoise.weights import load_model, save_model
from noise_models.level import NoiseLevel

SIGMA = 0.05
CONFIG: dict[str, Any] = {
    "latent": 4, "widths": [8, 12], "blocks": 1, "inner": [12, 16], "inner_blocks": 1, "condition": 8, "length": 12,
    "stage": "diffusion",
}  # fmt: skip


def images_of(cube: Tensor, rest: Tensor, unit: float = SIGMA) -> EigenImages:
    """Every band as an image of its own, its mean left out."""
    images = (cube - cube.mean((2, 3), keepdim=True)) / unit
    spectra = unit * torch.eye(cube.shape[1]).expand(len(cube), -1, -1)
    return EigenImages(images, rest / unit, torch.ones_like(cube[:, :1]), torch.full(cube.shape[:2], 20.0), spectra)


class Blur:
    """A first estimate that loses edges: means of 3 x 3."""

    def first_estimate(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
        cube = torch.nn.functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)
        sigma = torch.full(noisy.shape[:2], SIGMA)
        return FirstEstimate(
            cube, noisy - cube, torch.ones_like(noisy, dtype=torch.bool), sigma, images_of(cube, noisy - cube)
        )

    def to(self, device: torch.device) -> Blur:
        return self


def model(stage: str = "diffusion", **more: Any) -> CubeDiffusion:
    torch.manual_seed(0)
    card = ModelCard(id="cube-diffusion.tiny", method="cube-diffusion", config={**CONFIG, "stage": stage, **more})
    built = METHODS["cube-diffusion"].build(card)
    built.foundation = Blur()
    return built


def cubes(count: int = 1, bands: int = 10, height: int = 24, width: int = 28) -> Tensor:
    """Two materials with a straight edge between them, smooth spectra."""
    generator = torch.Generator().manual_seed(5)
    wave = torch.linspace(0, 3, bands)[:, None, None]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    scenes = []
    for slope in torch.rand(count, generator=generator) - 0.5:
        left = columns + slope * rows < width / 2
        scenes.append(0.4 + 0.2 * torch.where(left, torch.sin(wave), torch.cos(2 * wave)))
    return torch.stack(scenes)


def noisy_of(clean: Tensor, seed: int = 1) -> Tensor:
    return clean + SIGMA * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def batch(count: int = 4, seed: int = 1) -> CubeBatch:
    clean = cubes(count, bands=8, height=24, width=24)
    noisy = noisy_of(clean, seed)
    first = Blur().first_estimate(noisy, None)
    assert first.eigen is not None
    missed = (clean - first.cube) / SIGMA
    return CubeBatch(first.eigen.images + first.eigen.rest, first.eigen.images + missed, None, first.eigen)


def train(learner: CubeDiffusion, steps: int = 20) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    optimiser = Muon(learner.parameters(), lr=0.02, weight_decay=0.0)
    values = []
    for step in range(steps):
        losses = learner.loss(batch(seed=step), generator=generator)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        values.append(losses["total"].item())
    return values


@pytest.fixture(scope="module")
def trained() -> CubeDiffusion:
    learner = model()
    train(learner)
    return learner.eval()


def test_it_is_a_denoiser() -> None:
    assert isinstance(model(), Denoiser)


@pytest.mark.parametrize("stage", ["autoencoder", "diffusion"])
def test_the_loss_falls_in_twenty_steps(stage: str) -> None:
    values = train(model(stage))
    assert sum(values[-5:]) < 0.9 * sum(values[:5])


@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("bands", [3, 10])
def test_shape_and_type_stay_whatever_the_sides(trained: CubeDiffusion, samples: int, bands: int) -> None:
    noisy = noisy_of(cubes(2, bands, 21, 30)) - 0.4
    assert noisy.min() < 0
    with torch.inference_mode():
        denoised = trained.with_samples(samples).denoise(noisy, None)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == torch.float32
    assert torch.isfinite(denoised).all()


def test_a_factor_goes_through(trained: CubeDiffusion) -> None:
    noisy = noisy_of(cubes())

    class Scaled(Blur):
        def first_estimate(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
            first = super().first_estimate(noisy, noise)
            eigen = images_of(first.cube, first.rest, 0.01 * SIGMA)
            return FirstEstimate(first.cube, first.rest, first.valid, 0.01 * first.sigma, eigen)

    with torch.inference_mode():
        expected = trained.with_samples(0).denoise(noisy, None)
        trained.foundation = Scaled()
        scaled = trained.denoise(0.01 * noisy, None)
    trained.foundation = Blur()
    torch.testing.assert_close(100 * scaled, expected, rtol=1e-3, atol=1e-4)


def test_without_training_it_is_the_first_estimate_and_what_was_measured() -> None:
    noisy = noisy_of(cubes())
    with torch.inference_mode():
        denoised = model().eval().denoise(noisy, None)
    first = Blur().first_estimate(noisy, None)
    torch.testing.assert_close(denoised, combine(first.cube, first))


def test_same_seed_same_cube_other_seed_other_cube(trained: CubeDiffusion) -> None:
    noisy = noisy_of(cubes())
    trained.with_samples(2)

    def drawn(seed: int | None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            return trained.denoise(noisy, None, generator=generator)

    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert torch.equal(drawn(None), drawn(None))
    assert trained.card.stochastic
    assert not trained.with_samples(0).card.stochastic
    assert torch.equal(drawn(3), drawn(None))


def test_uncertainty_is_the_spread_of_its_draws(trained: CubeDiffusion) -> None:
    noisy = noisy_of(cubes())
    generator = torch.Generator().manual_seed(7)
    with torch.inference_mode():
        draws = torch.stack([trained.with_samples(1).denoise(noisy, None, generator=generator) for _ in range(4)])
        mean, deviation = trained.uncertainty(noisy, None, 4, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(mean, draws.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(deviation, draws.std(0), rtol=1e-2, atol=1e-5)
    assert deviation.max() > 0
    with pytest.raises(WeightsError, match="at least 2"):
        trained.uncertainty(noisy, None, 1)


def test_a_tile_is_what_it_is_in_the_whole_away_from_the_cut(trained: CubeDiffusion) -> None:
    """Of the one-step mean, where scene and noise are alike everywhere: what is measured of the whole is the same."""
    column = torch.arange(208)
    scene = 0.3 + 0.1 * torch.sin(2 * torch.pi * column / 16) * torch.linspace(1, 2, 4)[:, None, None]
    noisy = noisy_of(scene.expand(1, 4, 16, 208)[..., :16]).repeat(1, 1, 1, 13)
    trained.with_samples(0)
    with torch.inference_mode():
        whole, right = trained.denoise(noisy, None), trained.denoise(noisy[..., 64:], None)
    assert (whole[..., 64 + 64 :] - right[..., 64:]).abs().max() < 1e-5


class KnowingBlur(Blur):
    """A first estimate that subtracts the mean of the whole cube, where it was surveyed."""

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> FoundBlur:
        _, height, width = whole.shape
        return FoundBlur(whole.window(0, height, 0, width).mean((1, 2)))


class FoundBlur:
    def __init__(self, mean: Tensor) -> None:
        self.mean = mean
        self.trust = BandTrust(torch.zeros(1, len(mean), 1, 1), torch.full((1, len(mean), 1, 1), 0.25))
        self.places: list[tuple[int, int]] = []

    def first_estimate(self, noisy: Tensor, places: Sequence[tuple[int, int]]) -> FirstEstimate:
        self.places += places
        first = Blur().first_estimate(noisy, None)
        return FirstEstimate(first.cube - self.mean[:, None, None], first.rest, first.valid, first.sigma, first.eigen)


def test_tiles_are_refined_from_estimates_that_go_by_one_survey(trained: CubeDiffusion) -> None:
    noisy = cubes()
    whole = Held(noisy[0], noisy.numel())
    assert trained.survey(whole, None) is None  # nothing to ask
    assert model("autoencoder").survey(whole, None) is None
    built = model()
    built.foundation = KnowingBlur()
    survey = built.survey(whole, None)
    assert survey is not None
    assert isinstance(survey.found, FoundBlur)
    with torch.inference_mode():
        denoised = survey.denoise(noisy, None, [(5, 7)])
        alone = built.denoise(noisy, None)
    assert survey.found.places == [(5, 7)]
    first = survey.found.first_estimate(noisy, [])
    assert torch.equal(denoised, built._refined(noisy, first, 0, None, survey.found.trust)[0])
    assert not torch.equal(denoised, alone)


def test_weights_come_back_bit_by_bit(trained: CubeDiffusion, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    save_model(tmp_path / "weights.safetensors", trained.card, trained.state_dict())
    stored = {name: tensor.float() for name, tensor in load_file(tmp_path / "weights.safetensors").items()}
    again = model().eval()
    again.load_state_dict(stored)
    same = model().eval()
    same.load_state_dict({name: tensor.half().float() for name, tensor in trained.state_dict().items()})
    noisy = noisy_of(cubes())
    with torch.inference_mode():
        assert torch.equal(again.denoise(noisy, None), same.denoise(noisy, None))


def test_the_autoencoder_stage_reconstructs() -> None:
    learner = model("autoencoder")
    train(learner, 60)
    clean = cubes(1, 9, 21, 23)
    with torch.inference_mode():
        again = learner.eval().denoise(clean, None)
    assert again.shape == clean.shape
    assert (again - clean).square().mean() < 0.3 * (clean - clean.mean((2, 3), keepdim=True)).square().mean()


def test_immiscible_noise_is_an_option() -> None:
    generator = torch.Generator().manual_seed(0)
    assert model(immiscible=True).loss(batch(), generator=generator)["total"].isfinite()


def test_what_is_missing_is_said() -> None:
    generator = torch.Generator()
    clean = cubes()
    with pytest.raises(WeightsError, match="the batch has none"):
        model().loss(Batch(clean, None, None), generator=generator)
    with pytest.raises(WeightsError, match="cube-images"):
        model().loss(Batch(clean, clean, None), generator=generator)
    alone = model()
    alone.foundation = None
    with pytest.raises(WeightsError, match="load_model"):
        alone.denoise(clean, None)


def test_from_a_file_it_stands_on_the_subspace_method_and_runs_in_the_engine(
    trained: CubeDiffusion, tmp_path: Path
) -> None:
    card = trained.card.model_copy(
        update={"stands_on": "subspace", "domain": "cube", "halo": None, "noise": "used", "multiple_of": 8}
    )
    save_model(tmp_path / "weights.safetensors", card, trained.state_dict())
    loaded = load_model(str(tmp_path / "weights.safetensors"))
    assert isinstance(loaded, CubeDiffusion)
    clean = cubes(1, 12, 32, 36)[0]
    cube = HyperspectralCube(ArrayPixels(noisy_of(clean).numpy()))

    def run(seed: int) -> Tensor:
        return Engine(device="cpu", precision="float32", seed=seed).denoise(cube, loaded).to_tensor()

    mean = run(1)
    assert (mean - clean).square().mean() < 0.3 * SIGMA**2
    assert torch.equal(mean, run(2))
    loaded.with_samples(1)
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
