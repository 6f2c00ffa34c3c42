"""What every method promises, asked of each entry of `METHODS` and of each shipped model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise.denoiser import Denoiser
from denoise.errors import WeightsError
from denoise.methods import DEFAULT_MODELS, METHODS
from denoise.weights import list_models, load_model
from noise_models.level import NoiseLevel

MODELS = sorted(list_models())


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Denoiser:
    return load_model(request.param)


def noisy_planes(model: Denoiser, height: int, width: int, seed: int = 1) -> tuple[torch.Tensor, NoiseLevel]:
    """A smooth scene with an edge, spoilt; (1, C, H, W) and its level."""
    channels = model.card.channels[-1] if model.card.channels else 4
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    scene = 0.2 + 0.15 * np.sin(rows / 17) * np.cos(columns / 23) + 0.2 * (columns > width / 3)
    clean = torch.from_numpy(np.stack([scene * (1 - 0.1 * k) for k in range(channels)])).float()[None]
    level = NoiseLevel(np.full(channels, 2e-3), np.full(channels, 1e-4), "given")
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    sigma = (level.shot[0] * clean + level.read[0]).sqrt()
    return (clean + noise * sigma).float(), level


def test_every_default_exists() -> None:
    assert {method for method, _ in DEFAULT_MODELS} <= {*METHODS, "fast", "camera-jpeg"}
    for name in DEFAULT_MODELS.values():
        assert name in MODELS


def test_shape_and_type_stay_and_noise_falls(model: Denoiser) -> None:
    noisy, level = noisy_planes(model, 128, 144)
    with torch.inference_mode():
        denoised = model.denoise(noisy, level)
    assert denoised.shape == noisy.shape
    assert denoised.dtype == torch.float32
    flat = (slice(None), slice(None), slice(40, 60), slice(90, 110))
    assert denoised[flat].diff(dim=3).std() < 0.5 * noisy[flat].diff(dim=3).std()


def test_the_mean_is_kept(model: Denoiser) -> None:
    noisy, level = noisy_planes(model, 256, 256, seed=3)
    with torch.inference_mode():
        change = (model.denoise(noisy, level) - noisy).mean((2, 3))
    sigma = np.sqrt(level.variance(0.25)).max()
    assert float(change.abs().max()) < 0.01 * sigma


def test_negative_values_are_allowed(model: Denoiser) -> None:
    noisy, level = noisy_planes(model, 96, 96)
    with torch.inference_mode():
        denoised = model.denoise(noisy - 0.2, level)
    assert torch.isfinite(denoised).all()


def test_the_same_input_gives_the_same_output(model: Denoiser) -> None:
    noisy, level = noisy_planes(model, 96, 112)
    with torch.inference_mode():
        assert torch.equal(model.denoise(noisy, level), model.denoise(noisy, level))


def test_a_level_that_is_needed_is_asked_for(model: Denoiser) -> None:
    if model.card.noise != "required":
        pytest.skip("this model does not need a noise level")
    with pytest.raises(WeightsError, match="--noise"):
        model.denoise(torch.zeros(1, 4, 32, 32), None)


def test_the_halo_on_the_card_is_true(model: Denoiser) -> None:
    """Pixels farther than the halo from a cut are what they are in the whole image, to 1e-4."""
    card = model.card
    if card.halo is None:
        pytest.skip("this model sees the whole image")
    step = card.multiple_of
    cut = -(-(card.halo + 64) // step) * step
    side = cut + 64 + card.halo + step - (card.halo % step)
    noisy, level = noisy_planes(model, 96 // step * step + step, -(-side // step) * step)
    with torch.inference_mode():
        whole = model.denoise(noisy, level)
        right = model.denoise(noisy[..., 64 // step * step :], level)
    start = 64 // step * step + card.halo
    difference = (whole[..., start:] - right[..., card.halo :]).abs().max()
    assert float(difference) < 1e-4


def test_the_card_says_what_it_is(model: Denoiser) -> None:
    card = model.card
    assert card.summary
    assert card.paper
    assert card.limits
    assert card.licence_weights
    assert card.method in METHODS
