"""Noise2Score: its network scales as a score must, its loss has the score as its minimum, and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from denoise.card import ModelCard
from denoise.denoiser import Batch
from denoise.errors import DenoiseError, RecipeError, WeightsError
from denoise.methods.noise2score import PERTURBATION, Noise2Score
from denoise.networks.score import ScoreUNet, finest_spread
from denoise.training.optimiser import Muon
from denoise.training.sources.noisy_sources import FixedNoise, NoisyBatch, NoisyPatches, spoil
from noise_models.level import NoiseLevel

CARD = ModelCard(
    id="noise2score.tiny", method="noise2score", config={"channels": 3, "widths": [8, 16], "blocks": 1, "fold": 2},
    channels=(3,), multiple_of=8,
)  # fmt: skip


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_scaling_an_image_scales_its_score_inversely(generator: torch.Generator) -> None:
    torch.manual_seed(1)
    network = ScoreUNet(3, widths=(8, 16), blocks=1, fold=2)
    torch.nn.init.normal_(network.body.tail.weight, std=0.05)
    noisy = torch.randn(1, 3, 32, 48, generator=generator)
    assert network(noisy).shape == noisy.shape
    torch.testing.assert_close(network(4 * noisy), network(noisy) / 4, rtol=1e-3, atol=1e-4)


def test_the_finest_spread_of_white_noise_is_its_deviation(generator: torch.Generator) -> None:
    slope = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    noisy = slope + 0.1 * torch.randn(1, 1, 128, 128, generator=generator)
    assert float(finest_spread(noisy).mean()) == pytest.approx(0.1, rel=0.03)


class KnownScore(torch.nn.Module):
    """The score of white noise of variance ``variance`` around 0, times a factor."""

    def __init__(self, variance: float, factor: float = 1.0) -> None:
        super().__init__()
        self.variance, self.factor, self.amounts = variance, factor, []

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        self.amounts.append(noisy.var((1, 2, 3)) - self.variance)
        variance = noisy.var((1, 2, 3), keepdim=True) if self.variance is None else self.variance
        return -self.factor * noisy / variance


def test_the_loss_is_least_where_the_network_is_the_score(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pure noise around 0 with variance v, perturbed by a, the score is -z / (v + a^2)."""
    sigma, amount = 0.1, 0.07
    monkeypatch.setattr("denoise.methods.noise2score.PERTURBATION", (amount, amount))
    model = Noise2Score(CARD)
    batch = Batch(sigma * torch.randn(4, 3, 64, 64, generator=generator), None, None)
    losses = {}
    for factor in (0.0, 0.8, 1.0, 1.2):
        model.network = KnownScore(sigma**2 + amount**2, factor)  # type: ignore[assignment]
        losses[factor] = float(model.loss(batch, generator=torch.Generator().manual_seed(1))["total"])
    assert losses[0.0] == pytest.approx(1.0, abs=0.02)
    assert losses[1.0] == pytest.approx(sigma**2 / (sigma**2 + amount**2), rel=0.02)
    assert losses[1.0] < min(losses[0.8], losses[1.2])


class Constant(torch.nn.Module):
    """The same answer to the images of a batch, whatever they are."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return self.answer.repeat(len(noisy) // len(self.answer), 1, 1, 1)


def test_every_perturbation_has_its_opposite_beside_it(generator: torch.Generator) -> None:
    """What the score of the image itself would add by chance cancels: here the network answers the same to all."""
    model = Noise2Score(CARD)
    answer = torch.randn(4, 3, 16, 16, generator=generator)
    model.network = Constant(answer)  # type: ignore[assignment]
    batch = Batch(torch.zeros(4, 3, 16, 16), None, None)
    losses = [float(model.loss(batch, generator=torch.Generator().manual_seed(seed))["explained"]) for seed in range(3)]
    assert losses == pytest.approx([-float(answer.square().mean())] * 3, rel=1e-3)


@torch.no_grad()
def test_a_mirrored_image_has_the_mirrored_score(generator: torch.Generator) -> None:
    torch.manual_seed(1)
    model = Noise2Score(CARD)
    torch.nn.init.normal_(model.network.body.tail.weight, std=0.05)
    noisy = torch.rand(1, 3, 32, 48, generator=generator)
    network = model.network(noisy)
    torch.testing.assert_close(model.score(noisy.flip(3)).flip(3), model.score(noisy))
    assert float((network - model.network(noisy.flip(3)).flip(3)).abs().max()) > 0.01  # which the network's is not


def test_no_more_goes_than_there_is_noise(generator: torch.Generator) -> None:
    """A score that is wrong, as on screenshots and test charts, must not do more than the noise could have."""
    model = Noise2Score(CARD)
    model.score = lambda noisy: torch.full_like(noisy, 400.0)  # type: ignore[method-assign]  # a shift of 4 sigma
    level = NoiseLevel(np.zeros(3), np.full(3, 1e-4), "given")
    noisy = torch.rand(1, 3, 64, 64, generator=generator)
    removed = noisy - model.denoise(noisy, level)
    assert 0 < float(removed.square().mean()) < 2e-4


def test_the_added_noise_is_wide_and_hides_the_grid_of_counts(generator: torch.Generator) -> None:
    model = Noise2Score(CARD)
    for step, least in ((0.0, PERTURBATION[0]), (0.1, 0.06)):
        model.network = KnownScore(0.0)  # type: ignore[assignment]
        batch = NoisyBatch(torch.zeros(400, 3, 16, 16), None, None, torch.full((400,), step))
        model.loss(batch, generator=generator)
        amounts = model.network.amounts[0].sqrt()
        assert float(amounts.min()) == pytest.approx(least, rel=0.1)
        assert float(amounts.max()) == pytest.approx(PERTURBATION[1], rel=0.1)


def test_it_learns_to_denoise_from_noisy_images_alone(generator: torch.Generator) -> None:
    """Flat squares with noise of several strengths: after 60 steps most of the noise goes, at a level never told."""
    torch.manual_seed(3)
    model = Noise2Score(CARD)
    optimiser = Muon(model.parameters(), lr=0.02)

    def squares(count: int) -> torch.Tensor:
        return torch.rand(count, 3, 4, 4, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)

    for _ in range(60):
        clean = squares(8)
        sigma = 0.05 + 0.15 * torch.rand(8, 1, 1, 1, generator=generator)
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
        optimiser.zero_grad()
        model.loss(Batch(noisy, None, None), generator=generator)["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    clean = squares(16)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    with torch.no_grad():
        denoised = model.denoise(noisy, NoiseLevel(np.zeros(3), np.full(3, 0.01)))
    assert float((denoised - clean).square().mean()) < 0.75 * float((noisy - clean).square().mean())
    with pytest.raises(WeightsError, match="--noise"):
        model.denoise(noisy, None)


@pytest.mark.parametrize(
    ("family", "parameter", "variance"),
    [("gaussian", 0.1, 0.01), ("poisson", 0.02, 0.01), ("gamma", 50.0, 0.005), ("shot-and-read", 0.02, 0.02)],
)
def test_noise_keeps_the_mean_and_has_its_variance(
    family, parameter: float, variance: float, generator: torch.Generator
) -> None:
    clean = torch.full((1, 300, 300), 0.5)
    noise = spoil(clean, family, parameter, generator) - clean
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 * (variance / count) ** 0.5
    assert float(noise.var()) == pytest.approx(variance, rel=4 * (2.5 / count) ** 0.5)


def test_the_noise_of_an_image_is_drawn_once_and_never_again(generator: torch.Generator) -> None:
    """Two draws of the same place of a photograph show the same noise: the training never sees another version."""
    photo = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    source = FixedNoise([photo], [photo], patch=32, families=("gaussian",))
    versions = {tuple(sorted(source.draw(1, generator=generator).noisy.flatten().tolist())[1:3]) for _ in range(6)}
    dimmed = {round(low / high, 3) for low, high in versions}
    assert len(dimmed) == 1
    assert source.draw(2, generator=generator).clean is None
    twin = FixedNoise([photo], [photo], patch=32, families=("gaussian",), keep_clean=True).draw(2, generator=generator)
    assert twin.clean is not None
    assert float(twin.clean.std((1, 2, 3)).max()) == 0


def test_patches_keep_the_planes_of_a_mosaic_in_place(generator: torch.Generator) -> None:
    image = torch.stack([torch.full((24, 24), float(k)) for k in range(4)])
    patches = NoisyPatches([image], [0.0], patch=8, exchange=False)
    for _ in range(5):
        means = patches.draw(1, generator=generator).noisy[0].mean((1, 2)) * 3
        assert float(means[0]) == 0
        assert float(means[3]) == float(means.max())  # the greens change places where the mosaic is transposed
    with pytest.raises(RecipeError, match="smaller patch"):
        NoisyPatches([image], [0.0], patch=64)


class Oracle(torch.nn.Module):
    """The score around a known picture; of an image that was stabilised, as its means around and their noise tell."""

    def __init__(self, noisy: torch.Tensor, raw: Quotient) -> None:
        super().__init__()
        self.noisy, self.raw = noisy, raw

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if float((image - self.noisy).abs().mean()) < 0.01:
            return self.raw(image)
        even = around(image)
        return (even - image) / around((image - even).square())


def around(image: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(image, 13, 1, 6, count_include_pad=False)


@pytest.mark.parametrize(("family", "parameter"), [("gaussian", 0.08), ("poisson", 0.02), ("gamma", 60.0),
                                                   ("shot-and-read", 0.01)])  # fmt: skip
def test_family_and_parameter_come_from_the_image_alone(family, parameter: float, generator: torch.Generator) -> None:
    """With the score of noise around a known picture, the blind result is that picture."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing="ij")
    clean = (0.45 + 0.35 * torch.sin(rows / 15) * torch.cos(columns / 21)).expand(1, 3, -1, -1)
    noisy = spoil(clean, family, parameter, generator).clamp_min(1e-4)
    index = {"gaussian": 0, "poisson": 1, "gamma": 2}.get(family, -1)
    variance = (
        clean * parameter + parameter / 2
        if index < 0
        else (parameter**2 if index == 0 else parameter * clean if index == 1 else clean**2 / parameter)
    )
    model = Noise2Score(CARD)
    model.network = Oracle(noisy, Quotient(clean, variance))  # type: ignore[assignment]
    denoised, found, value = model.denoise_blind(noisy, generator=generator)
    assert found.family == family
    assert value == pytest.approx(parameter, rel=0.1)
    assert float((denoised - clean).square().mean()) < 0.1 * float((noisy - clean).square().mean())


def test_a_family_that_cannot_be_told_is_refused(generator: torch.Generator) -> None:
    model = Noise2Score(CARD)
    grey = torch.full((1, 3, 64, 64), 0.5)
    model.network = Quotient(grey, 0.01)  # type: ignore[assignment]
    with pytest.raises(DenoiseError, match="--noise"):
        model.denoise_blind(grey + 0.1 * torch.randn(grey.shape, generator=generator), generator=generator)


class Quotient(torch.nn.Module):
    """The score where the clean image is known for certain, to second order in the noise."""

    def __init__(self, clean: torch.Tensor, variance: torch.Tensor | float) -> None:
        super().__init__()
        self.clean, self.variance = clean, variance

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return (self.clean - noisy) / self.variance
