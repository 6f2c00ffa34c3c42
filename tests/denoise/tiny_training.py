"""A training small enough for a test, on waves; run as a script it is one of several processes.

python tests/denoise/tiny_training.py FOLDER STEPS
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from denoise.card import ModelCard
from denoise.training.recipe import Recipe
from denoise.training.sources.patches import PhotoPatches
from denoise.training.trainer import Trainer

CARD = ModelCard(
    id="supervised-unet.tiny", method="supervised", channels=(1, 3), multiple_of=4,
    config={"channels": 3, "widths": [8, 16], "blocks": 1, "fold": 2}, halo=16,
)  # fmt: skip


def recipe(steps: int, **changes: object) -> Recipe:
    """Return a recipe of few and quick steps."""
    values = {"card": CARD, "source": "photo-patches", "data": ("photos",), "validation": ("val20",), "steps": steps,
              "batch": 4, "warm_up": 5, "precision": "float32", "tensorboard": False} | changes  # fmt: skip
    return Recipe.model_validate(values)


def photos(count: int = 3) -> list[torch.Tensor]:
    """Return pictures of waves, (3, 96, 96)."""
    rows = np.linspace(0, 6, 96)
    waves = [np.sin(rows[:, None] * (k + 1)) * np.cos(rows[None] * (k + 2)) for k in range(count)]
    return [torch.from_numpy(np.stack([w, -w, w**2]) * 100 + 128).clamp(0, 255).to(torch.uint8) for w in waves]


def source() -> PhotoPatches:
    """Return patches of the waves."""
    return PhotoPatches(photos(), photos(3), patch=32)


def train_both(folder: Path, steps: int) -> None:
    """Train with one pass a step, then with two."""
    for accumulate in (1, 2):
        chosen = recipe(steps, accumulate=accumulate)
        Trainer(chosen, source(), folder / str(accumulate), seed=1, device="cpu").run()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_both(Path(sys.argv[1]), int(sys.argv[2]))
