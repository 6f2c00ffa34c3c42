"""What a training will need, measured by its first steps."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from denoise.training.loop import Loop, Progress
from denoise.training.recipe import Recipe
from denoise.training.trainer import PairSource, make_learner

_WARM_UP: Final = 2
_GIB: Final = 1 << 30


@dataclass(frozen=True)
class Probe:
    """What a training will need."""

    parameters: int
    """Numbers in the network."""
    weights_mib: float
    """Of the weights file [MiB]."""
    checkpoint_mib: float
    """Of one checkpoint [MiB]."""
    peak_gib: float
    """Most memory that the process held, images included [GiB]."""
    steps: int
    """Optimiser steps."""
    step_s: float
    """Median of the probed steps [s]."""
    hours: float
    """All steps, without validation [h]."""
    device: str
    """Where it was measured."""
    processes: int
    """That share each step."""


def probe(recipe: Recipe, source: PairSource, *, steps: int = 6, device: str = "auto") -> Probe | None:
    """Run a few steps of a training in a folder that is removed again.

    Parameters
    ----------
    recipe : Recipe
        What would be trained.
    source : PairSource
        Where its batches come from.
    steps : int
        Steps to time, after two that do not count.
    device : str
        "auto" or "cpu".

    Returns
    -------
    Probe or None
        None on all of several processes but the first, which counts for all.
    """
    learner = make_learner(recipe)
    count = sum(parameter.numel() for parameter in learner.parameters())
    paces: list[float] = []

    def note(now: Progress) -> None:
        paces.append(now.step_s)

    with tempfile.TemporaryDirectory() as folder:
        short = recipe.model_copy(update={"steps": _WARM_UP + steps, "tensorboard": False})
        loop = Loop(learner, source, short, Path(folder), device="cpu" if device == "cpu" else "auto")
        loop.run(note)
        if not loop.accelerator.is_main_process:
            return None
        size = max(path.stat().st_size for path in Path(folder).glob("checkpoint-*.pt"))
    step_s = float(np.median(paces[_WARM_UP:]))
    return Probe(
        parameters=count,
        weights_mib=2 * count / (1 << 20),
        checkpoint_mib=(size + 4 * count) / (1 << 20),  # and the best weights, which come with the first validation
        peak_gib=_peak_bytes(loop.accelerator.device.type) / _GIB,
        steps=recipe.steps,
        step_s=step_s,
        hours=recipe.steps * step_s / 3600,
        device=str(loop.accelerator.device),
        processes=loop.accelerator.num_processes,
    )


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    from denoise.engine.device import resident_bytes

    return resident_bytes()
