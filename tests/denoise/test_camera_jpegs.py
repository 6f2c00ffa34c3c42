"""Simulated camera JPEGs: noise that is correlated as a camera's is, around the picture that the camera would make."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from denoise.methods.cbsn import STRONGEST
from denoise.self_check import noise_correlation
from denoise.training.sources.camera_jpegs import CameraJpegs, CameraSoftware, demosaic
from denoise.training.sources.noisy_sources import NoisyBatch
from denoise.unprocess import mosaic_planes
from noise_models.level import NoiseLevel


def flat_photo(side: int = 256) -> torch.Tensor:
    ramp = torch.linspace(60, 190, side).expand(side, side)
    return torch.stack((ramp, ramp.T, 0.5 * (ramp + ramp.T))).to(torch.uint8)


@pytest.mark.parametrize("colour", [0, 1, 2])
def test_demosaicing_gives_linear_ramps_back(colour: int) -> None:
    """The correction is a second difference: of a ramp in one colour, the others flat, nothing is off."""
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(20.0), indexing="ij")
    photo = torch.full((3, 16, 20), 0.4)
    photo[colour] = 0.01 * rows + 0.02 * columns
    torch.testing.assert_close(demosaic(mosaic_planes(photo))[:, 2:-2, 2:-2], photo[:, 2:-2, 2:-2])


def test_demosaicing_is_sharper_than_interpolation() -> None:
    """An edge that all colours share is told by the other colours: twice as near as bilinear, which has red at a
    quarter of the places only."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    grey = torch.sigmoid((rows + 0.7 * columns - 54) * 0.8).expand(3, -1, -1)
    planes = mosaic_planes(grey)
    red = functional.interpolate(planes[None, :1], scale_factor=2, mode="bilinear")[0, 0].roll((-1, -1), (0, 1))
    apart = (demosaic(planes)[0] - grey[0])[8:-8, 8:-8].square().mean()
    assert float(apart) < 0.25 * float((red - grey[0])[8:-8, 8:-8].square().mean())


def test_the_software_smooths_noise_and_colours_and_leaves_the_picture() -> None:
    generator = torch.Generator().manual_seed(2)
    grey = torch.full((64, 64, 3), 0.5)
    noisy = (grey + 0.05 * torch.randn(64, 64, 3, generator=generator)).numpy()
    for _ in range(6):
        result = torch.from_numpy(CameraSoftware.draw(generator)(noisy, grey.numpy())[1])
        torch.testing.assert_close(result, torch.full_like(result, 0.5), atol=1e-4, rtol=0)
    untouched = CameraSoftware(0.0, 0.0, 1.0, 0.0, 1.0)(noisy, grey.numpy())[0]
    blurred = CameraSoftware(2.0, 0.0, 1.0, 0.0, 1.0)(noisy, grey.numpy())[0]
    smoothed = CameraSoftware(0.0, 1.0, 1.0, 0.0, 1.0)(noisy, grey.numpy())[0]
    brightness, colour = ([plane.std() for plane in planes] for planes in apart(untouched, blurred, smoothed))
    assert colour[1] < 0.3 * colour[0]
    assert brightness[1] == pytest.approx(brightness[0], rel=0.02)
    assert brightness[2] < 0.4 * brightness[0]
    assert colour[2] == pytest.approx(colour[0], rel=0.02)


def apart(*pictures: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Brightness as cv2 weighs it, and red less brightness."""
    bright = [picture @ np.array([0.299, 0.587, 0.114]) for picture in pictures]
    return bright, [picture[..., 0] - each for picture, each in zip(pictures, bright, strict=True)]


def test_noise_is_correlated_and_of_many_strengths_around_the_clean_picture() -> None:
    source = CameraJpegs([flat_photo()], [flat_photo(128)], patch=96, white=0.0)
    batch = source.draw(24, generator=torch.Generator().manual_seed(4))
    assert batch.noisy.shape == batch.clean.shape == (24, 3, 96, 96)
    assert float((batch.noisy * 255 - (batch.noisy * 255).round()).abs().max()) < 1e-3  # 8 bit
    apart = batch.noisy - batch.clean
    assert float(apart.mean((2, 3)).abs().max()) < 2 / 255
    sigma = apart.std((1, 2, 3)) * 255
    assert float(sigma.min()) < 3
    assert float(sigma.max()) > 8
    noise = apart - apart.mean((2, 3), keepdim=True)
    along = (noise[..., 1:] * noise[..., :-1]).mean((1, 2, 3)) / noise.square().mean((1, 2, 3))
    assert float(along.median()) > 0.15
    strongest = int(sigma.argmax())
    assert noise_correlation(batch.noisy[strongest]).method != "noise2score"


def test_white_noise_and_the_validation_are_what_they_are_said_to_be() -> None:
    source = CameraJpegs([flat_photo()], [flat_photo(136)], patch=64, white=1.0)
    batch = source.draw(8, generator=torch.Generator().manual_seed(4))
    assert batch.clean.shape == (8, 3, 64, 64)
    first, again = (next(iter(source.validation())) for _ in range(2))
    assert torch.equal(first.noisy, again.noisy)
    assert first.noisy.shape[2:] == (96, 96)  # a multiple of 16, without the edge
    assert first.clean is not None
    assert float((first.noisy - first.clean).std()) > 0


def test_teachers_give_the_answer_but_under_white_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other; the one that needs a noise level is told what the batch says."""
    told = []

    class Teacher:
        def __init__(self, name: str) -> None:
            self.card = SimpleNamespace(noise="required" if name == "second" else "ignored")

        def denoise(self, noisy: torch.Tensor, noise: NoiseLevel | None) -> torch.Tensor:
            told.append(noise)
            return noisy * 0.5 if noise is None else noisy + 1

    def load(name: str, *, kind: str) -> Teacher:
        assert kind == "photo"
        return Teacher(name)

    monkeypatch.setattr("denoise.training.sources.camera_jpegs.load_model", load)

    def drawn(white: float) -> NoisyBatch:
        pairs = CameraJpegs([flat_photo()], [], patch=32, white=white, teachers=("first", "second"))
        return pairs.draw(4, generator=torch.Generator().manual_seed(5))

    batch = drawn(0.0)
    torch.testing.assert_close(batch.clean, batch.noisy * 0.5 + 1)
    assert told == [None, batch.noise]
    assert batch.noise is not None
    sigma = np.sqrt(batch.noise.read)
    assert sigma.shape == (4, 3)
    assert 0 < sigma.min() < sigma.max() < STRONGEST
    batch = drawn(1.0)
    assert batch.clean is not None
    assert float((batch.clean - batch.noisy).abs().max()) < 0.6
