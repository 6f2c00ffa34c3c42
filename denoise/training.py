"""One loop that trains every learner, and can be stopped and gone on with.

A recipe (TOML) says what; the loop keeps an exponential moving average of the weights, chooses by validation alone,
writes a checkpoint every few minutes and, at the end, the weights with their card.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from denoise.card import ModelCard, Training
from denoise.datasets import BatchSource, PhotoPatches, RawPatches, load_photos
from denoise.denoiser import Denoiser, Learner
from denoise.errors import RecipeError, nearest
from denoise.io.files import atomic_target
from denoise.manifests import find_files
from denoise.methods import METHODS
from denoise.metrics import psnr_db
from denoise.optimiser import Muon
from denoise.weights import save_model

_LOG = logging.getLogger(__name__)


class Recipe(BaseModel):
    """A training that reproduces a published card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: ModelCard
    """What the trained model will say of itself, but for what training finds out."""
    source: Literal["raw-patches", "photo-patches"]
    """How clean photographs become pairs."""
    source_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source."""
    data: tuple[str, ...]
    """Manifests to train on."""
    validation: tuple[str, ...]
    """Manifests to choose the checkpoint on."""
    steps: int = Field(gt=0)
    """Optimiser steps."""
    batch: int = Field(16, gt=0)
    """Patches a step."""
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
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's body."""
    validate_minutes: float = Field(10.0, gt=0)
    """Between validations, each of which writes a checkpoint."""


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes."""
    return Path(__file__).resolve().parent / "recipes"


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or path; ``overrides`` replace its top-level keys.

    Raises
    ------
    RecipeError
        If there is none of that name, or a key is unknown or a value out of range.
    """
    shipped = {path.stem: path for path in recipes_folder().glob("*.toml")}
    path = Path(name) if name.endswith(".toml") else shipped.get(name)
    if path is None or not path.is_file():
        raise RecipeError(f"Recipe '{name}' was not found. {nearest(name, shipped)}")
    try:
        return Recipe.model_validate({**tomllib.loads(path.read_text("utf-8")), **(overrides or {})})
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        hint = nearest(key, Recipe.model_fields) if first["type"] == "extra_forbidden" else ""
        raise RecipeError(f"{path.name}: '{key}' is not valid: {first['msg']}. {hint}".strip()) from error


def make_source(recipe: Recipe, root: Path) -> BatchSource:
    """Load the photographs of a recipe from the data root."""
    photos = load_photos([file for name in recipe.data for file in find_files(name, root)])
    held_out = load_photos([file for name in recipe.validation for file in find_files(name, root)])
    kind = {"raw-patches": RawPatches, "photo-patches": PhotoPatches}[recipe.source]
    return kind(photos, held_out, **recipe.source_options)


class Trainer:
    """A recipe under way in a folder.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    source : BatchSource
        Where batches come from.
    folder : Path
        Receives ``checkpoint.pt``, ``metrics.jsonl`` and the weights with their card.
    seed : int
        Of the weights and of everything drawn.
    """

    def __init__(self, recipe: Recipe, source: BatchSource, folder: Path, *, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.recipe, self.source, self.folder = recipe, source, folder
        self.model = _learner(recipe)
        self.average = _learner(recipe)
        self.average.load_state_dict(self.model.state_dict())
        kind = Muon if recipe.optimiser == "muon" else torch.optim.AdamW
        self.optimiser = kind(self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Any] = {"psnr_db": -math.inf, "step": 0}
        folder.mkdir(parents=True, exist_ok=True)

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        recipe = self.recipe
        if step < recipe.warm_up:
            return recipe.learning_rate * (step + 1) / recipe.warm_up
        steady = recipe.steady * recipe.steps
        if step < steady:
            return recipe.learning_rate
        progress = min(1.0, (step - steady) / max(1.0, recipe.steps - steady))
        return recipe.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))

    def run(self, progress: Callable[[int, int, float], None] | None = None) -> ModelCard:
        """Train to the last step and write the weights of the best validation; returns their card.

        Raises
        ------
        RecipeError
            If the loss stops being a number.
        """
        last = started = time.monotonic()
        before = self.seconds
        while self.step < self.recipe.steps:
            loss = self._one_step()
            now = time.monotonic()
            self.seconds = before + now - started
            if self.step % 50 == 0:
                self._log({"step": self.step, "total": loss, "seconds": round(self.seconds, 1)})
                if progress:
                    progress(self.step, self.recipe.steps, loss)
            if now - last > 60 * self.recipe.validate_minutes or self.step == self.recipe.steps:
                self._validate()
                self.save_checkpoint()
                last = time.monotonic()
        return self.save_weights()

    def _one_step(self) -> float:
        recipe = self.recipe
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        batch = self.source.draw(recipe.batch, generator=self.generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            losses = cast(Learner, self.model).loss(batch, generator=self.generator)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(recipe.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        loss = float(losses["total"].detach())
        if not math.isfinite(loss):
            raise RecipeError(f"The loss became {loss} at step {self.step}. Lower learning_rate and train again.")
        return loss

    @torch.no_grad()
    def _validate(self) -> None:
        """Measure the average weights on the held-out images and keep them if they are the best so far."""
        denoiser = cast(Denoiser, self.average)
        scores, noisy_scores = [], []
        for batch in self.source.validation():
            assert batch.clean is not None
            with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
                denoised = denoiser.denoise(batch.noisy, batch.noise)
            scores.append(psnr_db(denoised.numpy(), batch.clean.numpy()))
            noisy_scores.append(psnr_db(batch.noisy.numpy(), batch.clean.numpy()))
        score = float(np.mean(scores))
        self._log({"step": self.step, "validation_psnr_db": score, "noisy_psnr_db": float(np.mean(noisy_scores))})
        _LOG.info("step %d: %.3f dB on validation", self.step, score)
        if score > self.best["psnr_db"]:
            weights = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
            self.best = {"psnr_db": score, "step": self.step, "weights": weights}

    def save_checkpoint(self) -> None:
        """Write everything that going on needs, atomically."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "best": self.best,
        }
        with atomic_target(self.folder / "checkpoint.pt") as target:
            torch.save(state, target)

    def load_checkpoint(self) -> None:
        """Go on from the folder's checkpoint; draws, weights and averages continue as if never stopped.

        Raises
        ------
        RecipeError
            If there is no checkpoint.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            raise RecipeError(f"--resume was asked, but {self.folder} holds no checkpoint. Train without --resume.")
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]

    def save_weights(self) -> ModelCard:
        """Write the best weights and their card; returns the card."""
        recipe = self.recipe
        training = Training(
            recipe=recipe.card.id,
            data=recipe.data,
            validation=recipe.validation,
            noise=recipe.card.training.noise if recipe.card.training else "",
            steps=self.best["step"],
            hours=round(self.seconds / 3600, 2),
            machine=f"{platform.machine()}, {torch.get_num_threads()} threads",
            revision=_revision(),
        )
        names = "+".join(recipe.validation)
        measured = {**recipe.card.measured, f"{names}/validation/psnr_db": round(self.best["psnr_db"], 3)}
        card = recipe.card.model_copy(update={"training": training, "measured": measured})
        return save_model(self.folder / "weights.safetensors", card, self.best["weights"])

    def _log(self, record: dict[str, Any]) -> None:
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def _learner(recipe: Recipe) -> nn.Module:
    if recipe.card.method not in METHODS:
        raise RecipeError(f"Method '{recipe.card.method}' is not known. {nearest(recipe.card.method, METHODS)}")
    model: nn.Module = METHODS[recipe.card.method].build(recipe.card)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _revision() -> str:
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
