"""The contract of a noise model, and the settings of one exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class NoiseModelError(Exception):
    """Anything the sensor physics refuses to do, with the reason and the remedy in one line."""


class ProfileError(NoiseModelError):
    """A camera profile that is wrong, or asked outside what was measured."""


class CalibrationError(NoiseModelError):
    """Frames from which a sensor cannot be measured."""


@dataclass(frozen=True)
class SensorSettings:
    """How one exposure was taken."""

    iso: float
    """Sensitivity as the camera names it [ISO]."""
    exposure_s: float
    """Exposure time [s]."""
    temperature_c: float | None = None
    """Sensor temperature [degrees C], where known."""


class NoiseModel(Protocol):
    """How a sensor spoils light.

    Works in sensor geometry, before the mosaic is packed: one channel for a Bayer or a mono sensor, bands for a
    pushbroom. Input and output are DN above black, and negative where noise is.
    """

    def __call__(
        self, clean_dn: torch.Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator
    ) -> torch.Tensor:
        """Spoil ``clean_dn`` (B, C, H, W) float32 [DN] under ``settings`` (one each image); same shape and dtype."""
        ...
