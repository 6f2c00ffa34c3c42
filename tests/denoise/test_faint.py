"""Faint waves go, strong ones and edges stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoise.training.sources.faint import without_faint


def waves(amplitude: float, height: int = 45, width: int = 70) -> Tensor:
    """Grey (3, height, width) with waves four pixels long."""
    phase = torch.arange(width) * (torch.pi / 2) + 0.3
    return (0.5 + amplitude * torch.sin(phase)).expand(3, height, width).clone()


def test_nothing_is_too_faint_without_noise() -> None:
    picture = torch.rand(3, 41, 55, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(without_faint(picture, 0.0), picture, atol=2e-6)


@pytest.mark.parametrize(("amplitude", "stays"), [(0.002, 0.0), (0.2, 1.0)])
def test_faint_waves_go_and_strong_ones_stay(amplitude: float, stays: float) -> None:
    picture = waves(amplitude)
    left = (without_faint(picture, 0.01) - 0.5)[:, 10:-10, 10:-10]
    assert float(left.std() / (picture - 0.5)[:, 10:-10, 10:-10].std()) == pytest.approx(stays, abs=0.05)


def test_noise_is_taken_from_even_places_and_edges_stay_sharp() -> None:
    step = torch.full((3, 64, 64), 0.2)
    step[:, :, 32:] = 0.8
    noisy = step + 0.02 * torch.randn(step.shape, generator=torch.Generator().manual_seed(2))
    error = without_faint(noisy, 0.02) - step
    assert float(error[:, 8:-8, 4:20].std()) < 0.3 * 0.02
    assert float(error[:, 8:-8, 30:34].abs().max()) < 0.06


def test_a_picture_keeps_its_mean_colour() -> None:
    colour = torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    picture = colour * torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(without_faint(picture, 0.1).mean((1, 2)), picture.mean((1, 2)), atol=0.01)
