"""Recipes: trainings written down as TOML, one for each published card, and those that lead there."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, ValidationError

from denoise.card import ModelCard, Training
from denoise.errors import RecipeError, nearest
from denoise.training.settings import LoopSettings


class Recipe(LoopSettings):
    """A training that reproduces a published card."""

    card: ModelCard
    """What the trained model will say of itself, but for what training finds out."""
    source: str
    """How clean photographs become pairs: a key of `denoise.training.trainer.SOURCES`."""
    source_options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source."""
    data: tuple[str, ...]
    """Manifests to train on."""
    data_folder: str | None = None
    """Folder of the user's own clean RAW files, or else photographs, to train on instead of ``data``."""
    validation: tuple[str, ...]
    """Manifests to choose the checkpoint on; empty: one image in ten of the data is held back for it."""
    start: str | None = None
    """Id or file of weights to begin with, instead of random ones."""
    tensorboard: bool = True
    """Whether to write events for TensorBoard, where it is installed."""

    _name: str = PrivateAttr("")
    _changes: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its file; the card's id where it came from none."""
        return self._name or self.card.id

    @property
    def changes(self) -> dict[str, Any]:
        """The values that `load_recipe` replaced, by key."""
        return self._changes


def recipes_folder() -> Path:
    """Return the folder of the shipped recipes."""
    return Path(__file__).resolve().parents[1] / "recipes"


def list_recipes() -> dict[str, Path]:
    """Return the shipped recipes by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.toml"))}


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or path.

    Parameters
    ----------
    name : str
        Of a shipped recipe, or the path of a ``.toml`` file.
    overrides : dict, optional
        New values by key; a dot leads into a table: ``{"steps": 100, "source_options.patch": 32}``.

    Raises
    ------
    RecipeError
        If there is none of that name, or a key is unknown or a value out of range.
    """
    shipped = list_recipes()
    path = Path(name) if name.endswith(".toml") else shipped.get(name)
    if path is None or not path.is_file():
        raise RecipeError(f"Recipe '{name}' was not found. {nearest(name, shipped)}")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is not TOML: {error}.") from error
    for key, value in (overrides or {}).items():
        _put(values, key, value)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_first_problem(error, path.name)) from error
    recipe._name, recipe._changes = path.stem, dict(overrides or {})
    return recipe


def parse_override(text: str) -> tuple[str, Any]:
    """Turn ``key=value`` into both; the value as TOML writes it, or else a plain word.

    Raises
    ------
    RecipeError
        If there is no "=".
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set '{text}' was given, but KEY=VALUE was expected, such as steps=1000.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for name in tables:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {key} was given, but '{name}' is a value and not a table. Set '{name}' itself.")
    values[last] = value


def _first_problem(error: ValidationError, file: str) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    hint = ""
    if first["type"] == "extra_forbidden":
        fields = {"card": ModelCard.model_fields, "training": Training.model_fields}
        known = fields.get(place[-2] if len(place) > 1 else "", Recipe.model_fields)
        hint = nearest(place[-1], known)
    return f"{file}: '{'.'.join(place)}' is not valid: {first['msg']}. {hint}".strip()
