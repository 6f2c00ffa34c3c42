"""Photographs become mosaics that a converter would turn back into the photograph."""

from __future__ import annotations

import pytest
import torch

from denoise import cfa
from denoise import unprocess as ours
from denoise.unprocess import CameraLook, mosaic_planes, turn_planes, unprocess


def process(camera: torch.Tensor, look: CameraLook) -> torch.Tensor:
    """The pipeline forwards, written independently: gains, matrix, gamma, tone."""
    gains = torch.tensor([look.red_gain, 1.0, look.blue_gain])[:, None, None] * look.rgb_gain
    balanced = (camera * gains).clamp(0, 1)
    linear = torch.einsum("ij,jhw->ihw", torch.linalg.inv(look.rgb_to_camera), balanced).clamp(0, 1)
    gamma = linear.pow(1 / 2.2)
    return 3 * gamma**2 - 2 * gamma**3


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_processing_undoes_unprocessing(generator: torch.Generator) -> None:
    for _ in range(5):
        look = CameraLook.draw(generator)
        photo = 0.15 + 0.5 * torch.rand(3, 8, 8, generator=generator)  # where nothing clips
        torch.testing.assert_close(process(unprocess(photo, look), look), photo, atol=2e-3, rtol=0)


def test_our_pipeline_forwards_is_the_one_written_apart(generator: torch.Generator) -> None:
    for _ in range(5):
        look = CameraLook.draw(generator)
        camera = torch.rand(3, 8, 8, generator=generator)
        torch.testing.assert_close(ours.process(camera, look), process(camera, look), atol=1e-5, rtol=0)


def test_white_stays_white_and_black_black(generator: torch.Generator) -> None:
    look = CameraLook.draw(generator)
    assert unprocess(torch.zeros(3, 2, 2), look).max() < 1e-6
    torch.testing.assert_close(look.rgb_to_camera.sum(1), torch.ones(3))
    white = unprocess(torch.ones(3, 2, 2), look)
    assert white.min() > 0.99


def test_planes_are_an_rggb_mosaic(generator: torch.Generator) -> None:
    camera = torch.rand(3, 6, 8, generator=generator)
    mosaic = cfa.unpack(mosaic_planes(camera).numpy(), "RGGB")
    assert mosaic[0, 0] == camera[0, 0, 0]
    assert mosaic[0, 1] == camera[1, 0, 1]
    assert mosaic[3, 2] == camera[1, 3, 2]
    assert mosaic[5, 7] == camera[2, 5, 7]


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_mosaic_is_a_mosaic_of_the_turned_picture(turn: int, generator: torch.Generator) -> None:
    camera = torch.rand(3, 8, 8, generator=generator)
    planes = turn_planes(mosaic_planes(camera), turn).numpy()
    turned = turn_planes(camera, turn).numpy()
    pattern = {0: "RGGB", 1: "GRBG", 2: "GBRG", 3: "BGGR"}[turn & 3]
    if turn & 4:
        pattern = {"GRBG": "GBRG", "GBRG": "GRBG"}.get(pattern, pattern)
    mosaic = cfa.unpack(planes, pattern)
    for plane, (row, column) in zip("RGGB", cfa.positions(pattern), strict=True):
        channel = "RGB".index(plane)
        assert (mosaic[row::2, column::2] == turned[channel, row::2, column::2]).all()
