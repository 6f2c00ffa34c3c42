"""Denoising from the sensor's physics: RAW photographs, ordinary photographs and hyperspectral cubes.

The door to the library; each name is loaded when it is first used::

    image = denoise.read("night.ARW")
    model = denoise.load_model("auto")
    noise = denoise.choose_noise(image, "auto", model, denoise.Engine())
    result = denoise.Engine().denoise(image, model, noise=noise)
    denoise.write("night.dng", result)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from denoise.version import __version__

if TYPE_CHECKING:
    from denoise.engine import Engine, Plan
    from denoise.evaluation.evaluate import evaluate
    from denoise.fidelity import check_fidelity
    from denoise.io import read, write
    from denoise.noise_source import choose_noise
    from denoise.training.trainer import train
    from denoise.weights import list_models, load_model
    from noise_models.level import NoiseLevel

_HOMES: Final = {
    "Engine": "denoise.engine",
    "NoiseLevel": "noise_models.level",
    "Plan": "denoise.engine",
    "check_fidelity": "denoise.fidelity",
    "choose_noise": "denoise.noise_source",
    "evaluate": "denoise.evaluation.evaluate",
    "list_models": "denoise.weights",
    "load_model": "denoise.weights",
    "read": "denoise.io",
    "train": "denoise.training.trainer",
    "write": "denoise.io",
}

__all__ = [
    "Engine",
    "NoiseLevel",
    "Plan",
    "__version__",
    "check_fidelity",
    "choose_noise",
    "evaluate",
    "list_models",
    "load_model",
    "read",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    """Load a name of the door when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'denoise' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
