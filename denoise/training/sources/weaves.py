"""Regular textures laid over photographs: cloth, fences, shutters, roof tiles, of which free photographs hold few."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_PERIODS = (2.5, 16.0)  # pixels


def lay_weave(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Darken parts of (3, H, W), 1 = white, by stripes or by a weave of two, bent as cloth is; same shape out.

    Period, direction, sharpness, contrast, bend and place are drawn. Harmonics beyond what pixels resolve are left out.
    """
    size = photo.shape[1:]
    period = _PERIODS[0] * (_PERIODS[1] / _PERIODS[0]) ** _uniform(0, 1, generator)
    angle = _uniform(0, math.pi, generator)
    wave = _stripes(size, period, angle, generator)
    if torch.rand((), generator=generator) < 0.4:
        across = angle + math.pi / 2 + _uniform(-0.2, 0.2, generator)
        wave = wave * _stripes(size, period * _uniform(0.8, 1.25, generator), across, generator)
    place = torch.sigmoid(8 * (_soft_field(size, generator) + _uniform(-0.5, 1.0, generator)))
    depth = _uniform(0.05, 0.6, generator) * place * (1 + wave) / 2
    tint = 1 + 0.2 * torch.randn(3, 1, 1, generator=generator)
    return (photo * (1 - tint * depth)).clamp(0, 1)


def _stripes(size: torch.Size, period: float, angle: float, generator: torch.Generator) -> Tensor:
    """Return a wave (H, W) between -1 and 1, its phase bent by up to a few periods."""
    rows, columns = (torch.arange(length, dtype=torch.float32) for length in size)
    along = math.cos(angle) * columns + math.sin(angle) * rows[:, None]
    bend = _uniform(0, 4, generator) * _soft_field(size, generator)
    wave = torch.sin(2 * math.pi * along / period + bend + _uniform(0, 2 * math.pi, generator))
    sharpness = _uniform(0, 3, generator) * min(1.0, max(0.0, (period - 3) / 6))
    return wave if sharpness < 0.1 else torch.tanh(sharpness * wave) / math.tanh(sharpness)


def _soft_field(size: torch.Size, generator: torch.Generator) -> Tensor:
    """Return a smooth random field (H, W) of about unit variance."""
    coarse = torch.randn(1, 1, 4, 4, generator=generator)
    return functional.interpolate(coarse, size=tuple(size), mode="bicubic", align_corners=True)[0, 0]


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
