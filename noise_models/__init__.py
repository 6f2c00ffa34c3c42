"""How a sensor spoils light: noise models, camera profiles, calibration. Imports nothing else of this house.

`NOISE_MODELS` lists the noise models; each is imported when it is asked for, so that importing this package is light.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from noise_models.base import NoiseModelError
from noise_models.names import nearest

__all__ = ["NOISE_MODELS", "NoiseModelTable"]


class NoiseModelTable(Mapping[str, type[Any]]):
    """Noise models by name; a class is imported on first use.

    Raises
    ------
    NoiseModelError
        If a name is not known; the message names the nearest.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> type[Any]:
        """Return the class of the noise model."""
        if name not in self._places:
            raise NoiseModelError(f"There is no noise model '{name}'. {nearest(name, self._places)}")
        module, _, word = self._places[name].partition(":")
        return getattr(importlib.import_module(module), word)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a noise model of this name."""
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)


NOISE_MODELS: Final = NoiseModelTable(
    {
        "eld": "noise_models.eld:EldNoise",
        "pnnp": "noise_models.pnnp:PnnpNoise",
        "dark-frames": "noise_models.dark_frames:DarkFrameNoise",
        "virtual": "noise_models.virtual:VirtualCameraNoise",
        "poisson-gaussian": "noise_models.poisson_gaussian:PoissonGaussianNoise",
        "pushbroom": "noise_models.pushbroom:PushbroomNoise",
    }
)
