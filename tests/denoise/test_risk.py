"""How much of a correction to take: Stein's estimate finds the share that leaves the least error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.card import ModelCard
from denoise.methods.supervised import SupervisedDenoiser
from denoise.risk import best_share, probe
from noise_models.level import NoiseLevel

SIDE = 256
CARD = ModelCard(
    id="supervised.tiny",
    method="supervised",
    summary="Small.",
    config={"channels": 4, "widths": [8, 16], "blocks": 1, "fold": 1},
    channels=(4,),
    domain="raw",
    multiple_of=2,
    halo=32,
    careful_below=0.002,
    licence_data="none",
    paper="none",
    limits=("For tests.",),
)


def chance(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("contrast", [0.0, 1.0, 2.0])
def test_the_share_of_a_shrinkage_is_the_one_that_wiener_would_take(contrast: float) -> None:
    clean = contrast * chance(1, 4, SIDE, SIDE, seed=2)
    noisy = clean + chance(1, 4, SIDE, SIDE, seed=3)
    kept = 0.1  # f(y) = 0.1 y takes too much wherever there is contrast
    removed, response = (1 - kept) * noisy, torch.full_like(noisy, kept)
    found = best_share(removed, response)
    least_error = 1 / ((1 - kept) * (1 + contrast**2))
    assert found.shape == (1, 1, SIDE, SIDE)
    assert float(found.mean()) == pytest.approx(min(1.0, least_error), rel=0.04)
    errors = [float(((noisy - share * removed) - clean).square().mean()) for share in (found, 0 * found, 0 * found + 1)]
    assert errors[0] <= min(errors[1:]) * 1.01


def test_the_share_is_local() -> None:
    clean = 3 * chance(1, 4, SIDE, SIDE, seed=2)
    clean[..., : SIDE // 2] = 0
    noisy = clean + chance(1, 4, SIDE, SIDE, seed=3)
    share = best_share(0.9 * noisy, torch.full_like(noisy, 0.1))
    assert float(share[..., : SIDE // 2 - 24].min()) > 0.85
    assert float(share[..., SIDE // 2 + 24 :].max()) < 0.25


@pytest.mark.parametrize("steps", [None, 4000.0, 400.0], ids=["float", "sigma of 8 steps", "sigma of a step"])
def test_the_signs_are_chance_to_the_noise(steps: float | None) -> None:
    noisy = 0.3 + chance(1, 4, SIDE, SIDE) / 500
    noisy = noisy if steps is None else (noisy * steps).round() / steps
    signs = probe(noisy)
    assert torch.equal(signs.square(), torch.ones_like(signs))
    bound = 5 / signs.numel() ** 0.5
    assert abs(float(signs.mean())) < bound
    assert abs(float((signs * (noisy - 0.3) * 500).mean())) < bound
    assert abs(float((signs[..., 1:] * signs[..., :-1]).mean())) < bound
    assert abs(float((signs[..., 1:, :] * signs[..., :-1, :]).mean())) < bound


def test_the_signs_of_a_tile_are_those_of_the_whole() -> None:
    noisy = 0.3 + chance(1, 4, 64, 64) / 500
    tile = probe(noisy[..., 16:, 24:])
    assert torch.equal(tile[..., 3:, 3:], probe(noisy)[..., 19:, 27:])


def test_a_network_that_errs_by_contrast_does_not_spoil_nearly_clean_images() -> None:
    torch.manual_seed(4)
    model = SupervisedDenoiser(CARD)
    model.network.tail.weight.data.mul_(0.02 / model.network.tail.weight.data.std())
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    clean = (0.4 + 0.2 * torch.sin(0.9 * rows) * torch.cos(0.7 * columns)).expand(1, 4, -1, -1)
    sigma = 0.001
    level = NoiseLevel(np.zeros(4), np.full(4, sigma**2), "given")
    noisy = clean + sigma * chance(1, 4, SIDE, SIDE)
    careful = error_in_sigma(model.denoise(noisy, level), clean, sigma)
    model.card, model.keeps_detail = CARD.model_copy(update={"careful_below": 0.0}), False
    careless = error_in_sigma(model.denoise(noisy, level), clean, sigma)
    assert careful < 1.02
    assert careless > 2


def error_in_sigma(image: Tensor, clean: Tensor, sigma: float) -> float:
    return float((image - clean).detach().square().mean().sqrt()) / sigma
