"""How the training loop trains, whatever it trains."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LoopSettings(BaseModel):
    """Of one training; a recipe holds them too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    """Optimiser steps."""
    batch: int = Field(16, gt=0)
    """Examples a step, over all processes."""
    accumulate: int = Field(1, gt=0)
    """Forward-backward passes a step, over all processes, each with its share of the batch: less memory, same step."""
    optimiser: Literal["muon", "adamw"] = "muon"
    """How steps are made of gradients."""
    weight_decay: float = Field(0.3, ge=0)
    """Decoupled."""
    learning_rate: float = Field(0.005, gt=0)
    """Constant for ``steady`` of the steps, then a half cosine down to a hundredth."""
    steady: float = Field(0.6, ge=0, le=1)
    """Fraction of the steps at the full learning rate."""
    warm_up: int = Field(100, ge=0)
    """Steps of linear warm-up."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the moving average of the weights."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Of the network's body."""
    validate_steps: int | None = Field(None, gt=0)
    """Steps between validations; None: `validate_minutes` decides, and a resumed run may choose other weights."""
    validate_minutes: float = Field(10.0, gt=0)
    """Between validations."""
    checkpoint_minutes: float = Field(10.0, gt=0)
    """Between checkpoints; there is one at every validation too."""
    keep: int = Field(2, gt=0)
    """Checkpoints kept."""
    tensorboard: bool = False
    """Whether to write events for TensorBoard beside ``metrics.jsonl``."""

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        steady = self.steady * self.steps
        if step < steady:
            return self.learning_rate
        progress = min(1.0, (step - steady) / max(1.0, self.steps - steady))
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
