"""What a trained model says of itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Training(BaseModel):
    """How the weights came to be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str = ""
    """Name of the recipe in ``denoise/recipes/``."""
    data: tuple[str, ...] = ()
    """Names of the manifests trained on."""
    validation: tuple[str, ...] = ()
    """Names of the manifests on which the checkpoint was chosen."""
    noise: str = ""
    """The noise it learned, in words."""
    seed: int | None = None
    """Of the weights and of everything drawn; None where it was not noted."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Values of the recipe that were replaced, by key."""
    steps: int = 0
    """Optimiser steps."""
    hours: float = 0.0
    """Wall time [h]."""
    machine: str = ""
    """Where it ran."""
    revision: str = ""
    """Git revision of the code."""


class ModelCard(BaseModel):
    """Everything a user, the engine and a licence reader need to know of a model.

    The same JSON stands in the header of the weights file, so that a lone file is complete.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    """``architecture.training``, kebab-case: "supervised-unet.virtual-cameras"."""
    method: str
    """Key of `denoise.methods.METHODS`."""
    summary: str = ""
    """One sentence: for what image and what noise it is made."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the network."""
    stands_on: str = ""
    """Id of the model whose network it uses; empty if it uses none."""
    channels: tuple[int, ...] = ()
    """Numbers of planes it serves; empty for any."""
    domain: Literal["raw", "photo", "cube", "any"] = "any"
    """The kind of image it serves."""
    multiple_of: int = 1
    """Tile sizes and origins are multiples of this, in pixels of a plane."""
    halo: Annotated[int | None, BeforeValidator(lambda value: None if value == "whole" else value)] = 0
    """Receptive radius in pixels of a plane; None (in a recipe "whole") if the whole image is seen."""
    stochastic: bool = False
    """Whether it draws random numbers."""
    precisions: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32",)
    """Precisions in which it was verified."""
    noise: Literal["required", "used", "ignored"] = "required"
    """What it does with a noise level."""
    careful_below: float = 0.0
    """Noise level, of white, below which a second pass, for twice the time, tells how much of the correction helps."""
    training: Training | None = None
    """None for a method without weights."""
    measured: dict[str, float] = Field(default_factory=dict)
    """"<dataset>/<case>/psnr_db" to value."""
    protocol: str = ""
    """How the values of ``measured`` were measured."""
    licence_weights: str = "Apache-2.0"
    """Licence of the weights."""
    licence_data: str = ""
    """Licence of the images that it learned from."""
    paper: str = ""
    """Where the method is described."""
    limits: tuple[str, ...] = ()
    """What it is not made for."""
    sha256: str = ""
    """Of the weights' tensors (names, shapes, dtypes and bytes); empty for a method without weights."""
