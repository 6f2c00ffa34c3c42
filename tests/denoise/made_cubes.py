"""Cubes whose truth is known: few smooth spectra, maps with edges."""

from __future__ import annotations

import numpy as np
import torch


class Held:
    """A cube in memory, shown as if it were not; counts what is read at a time."""

    def __init__(self, planes: torch.Tensor, most_values: int) -> None:
        self.planes = planes
        self.shape: tuple[int, int, int] = (planes.shape[0], planes.shape[1], planes.shape[2])
        self.most_values = most_values
        self.largest = 0

    def window(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
        part = self.planes[:, top:bottom, left:right].clone()
        self.largest = max(self.largest, part.numel())
        return part


def made_cube(bands: int = 60, height: int = 64, width: int = 72, rank: int = 4, seed: int = 0) -> torch.Tensor:
    """Return a clean cube (bands, H, W) in 0..1, of exactly this rank."""
    rng = np.random.default_rng(seed)
    place = np.linspace(0, 1, bands)
    centres, widths = np.linspace(0.1, 0.9, rank), rng.uniform(0.15, 0.4, rank)
    spectra = np.exp(-(((place[:, None] - centres) / widths) ** 2)) + 0.2
    rows, columns = np.mgrid[:height, :width]
    maps = []
    for _ in range(rank):
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(10, 25)
        blob = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
        wave = 0.3 + 0.2 * np.sin(rows / rng.uniform(6, 15) + rng.uniform(0, 6)) * np.cos(columns / rng.uniform(6, 15))
        maps.append(wave + 0.8 * blob)
    cube = np.einsum("br,rhw->bhw", spectra, np.stack(maps))
    return torch.from_numpy((cube / cube.max()).astype(np.float32))
