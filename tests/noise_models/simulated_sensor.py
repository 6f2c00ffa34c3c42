"""A sensor of known truth for the tests of calibration: frames in memory, drawn straight from the equations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from noise_models.calibration.frames import Frame, FrameFile, FrameInfo
from noise_models.tukey_lambda import quantile, sigma_per_scale


@dataclass(frozen=True)
class Truth:
    """What one ISO does."""

    gain: float
    """K [DN/e-]."""
    sigma: float
    """Of the read noise [DN]."""
    shape: float
    """Lambda [1]."""
    row: float
    """Of the row noise [DN]."""
    column: float = 0.0
    """Of the column noise [DN]."""


A7S2 = {
    100: Truth(0.0956, 1.0067, 0.1488, 0.1391),
    200: Truth(0.1913, 1.2926, 0.079, 0.2282),
    400: Truth(0.3825, 2.0596, 0.0223, 0.3621),
    800: Truth(0.765, 3.5476, -0.0082, 0.5724),
    1600: Truth(1.5301, 6.2993, -0.0441, 0.9888),
    3200: Truth(3.0602, 3.9194, -0.0349, 0.4454),
    6400: Truth(6.1203, 7.1164, -0.0752, 0.7219),
    12800: Truth(12.2406, 14.2459, -0.065, 1.275),
}
"""Sony A7S2 as PMN measured it; the conversion gain switches between ISO 1600 and 3200."""


@dataclass
class SimulatedSensor:
    """Reads frames that exist only as names: kind, ISO, exposure, light, number."""

    truth: dict[int, Truth]
    seed: int = 0
    shape: tuple[int, int] = (256, 256)
    black: float = 512.0
    white: float = 16383.0
    bit_depth: int = 14
    cfa: str = "RGGB"
    bias: np.ndarray = field(default_factory=lambda: np.array([[1.6, 1.7], [1.5, 1.8]]))
    dsnu: float = 0.2
    prnu: float = 0.005
    dark_current: float = 0.0
    leak: float = 0.0
    states_levels: bool = True
    clip_at: float = 0.0

    def __post_init__(self) -> None:
        self.generator = np.random.default_rng(self.seed)
        self.offsets = self.generator.normal(0, self.dsnu, self.shape)
        for row in (0, 1):
            for column in (0, 1):
                self.offsets[row::2, column::2] -= self.offsets[row::2, column::2].mean()
        self.response = 1 + self.generator.normal(0, self.prnu, self.shape)

    def describe(self, path: Path) -> FrameInfo:
        _, iso, exposure, _, _ = path.name.split("_")
        black = ((self.black, self.black), (self.black, self.black)) if self.states_levels else None
        white = self.white if self.states_levels else None
        return FrameInfo(
            self.shape, self.cfa, black, white, self.bit_depth, float(iso), float(exposure), make="Sim", model="Cam"
        )

    def read(self, path: Path) -> Frame:
        _, iso, exposure, light, _ = path.name.split("_")
        truth = self.truth[int(iso)]
        height, width = self.shape
        electrons = float(light) * self.response + self.dark_current * float(exposure) + self.leak
        signal = truth.gain * self.generator.poisson(np.maximum(electrons, 0))
        share = np.clip(self.generator.random(self.shape), 1e-12, 1 - 1e-12)
        signal = signal + truth.sigma / sigma_per_scale(truth.shape) * quantile(share, truth.shape)
        signal += truth.row * self.generator.standard_normal((height, 1))
        signal += truth.column * self.generator.standard_normal((1, width))
        signal += self.offsets + np.tile(self.bias, (height // 2, width // 2)) + self.black
        mosaic = np.clip(np.rint(signal), self.clip_at, self.white).astype(np.uint16)
        return Frame(mosaic, self.describe(path))

    def darks(self, count: int = 9, exposure: float = 0.01) -> list[FrameFile]:
        return [
            FrameFile(Path(f"dark_{iso}_{exposure}_0_{number:03d}"), "dark")
            for iso in self.truth
            for number in range(count)
        ]

    def flats(self, levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65), count: int = 2) -> list[FrameFile]:
        span = self.white - self.black
        return [
            FrameFile(Path(f"flat_{iso}_{level}_{level * span / truth.gain}_{number}"), "flat")
            for iso, truth in self.truth.items()
            for level in levels
            for number in range(count)
        ]
