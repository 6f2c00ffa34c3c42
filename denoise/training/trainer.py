"""From a recipe to weights with their card: the model is built, the loop trains it, validation chooses."""

from __future__ import annotations

import copy
import inspect
import math
import platform
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast

import numpy as np
import torch
from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from torch import Tensor, nn

from denoise.card import ModelCard, Training
from denoise.denoiser import Batch, Denoiser
from denoise.errors import RecipeError, nearest
from denoise.manifests import data_root, load_manifest
from denoise.methods import METHODS
from denoise.metrics import psnr_db
from denoise.networks.unet import grow, of_grey
from denoise.training.feed import on_device
from denoise.training.loop import Loop, LoopResult, Progress
from denoise.training.recipe import Recipe, load_recipe
from denoise.training.sources.camera_jpegs import CameraJpegs
from denoise.training.sources.clean_images import SCIKIT_IMAGE, load_clean, names_of
from denoise.training.sources.cube_images import CubeImages
from denoise.training.sources.noisy_sources import FixedNoise
from denoise.training.sources.patches import PhotoPatches, RawPatches
from denoise.training.sources.raw_pairs import CameraPairs
from denoise.weights import find_card, load_model, save_model


class PairSource(Protocol):
    """A source that holds images back, to choose weights by."""

    @property
    def cases(self) -> tuple[str, ...]:
        """What the batches of `validation` are, in turn."""
        ...

    def draw(self, batch: int, *, generator: torch.Generator) -> Batch:
        """Return ``batch`` examples."""
        ...

    def validation(self) -> Iterator[Batch]:
        """Yield the same batches of whole images, one each, at every call."""
        ...


SOURCES: Final[dict[str, Callable[..., Any]]] = {
    "camera-pairs": CameraPairs,
    "raw-patches": RawPatches,
    "photo-patches": PhotoPatches,
    "fixed-noise": FixedNoise,
    "camera-jpegs": CameraJpegs,
    "cube-images": CubeImages,
}
"""What makes pairs of photographs, by the word that a recipe uses."""
_MISFITS: Final = (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError)
"""What networks and sources raise where a recipe's values do not fit them."""


def train(
    name: str,
    folder: Path | str,
    *,
    changes: dict[str, Any] | None = None,
    root: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ModelCard:
    """Train a model by a recipe.

    Parameters
    ----------
    name : str
        Of a shipped recipe, or the path of a ``.toml`` file.
    folder : path
        Receives checkpoints, ``metrics.jsonl`` and the weights with their card.
    changes : dict, optional
        New values of the recipe by key; a dot leads into a table.
    root : Path, optional
        Data root; else ``DENOISE_DATA``, else ``data``.
    seed : int
        Of the weights and of everything drawn.
    resume : bool
        Whether to go on from the folder's newest checkpoint.
    progress : callable, optional
        Called after every step.

    Raises
    ------
    RecipeError
        If the recipe is not valid, or the folder holds another training and ``resume`` is false.
    ManifestError
        If a dataset is not where it should be.
    KeyboardInterrupt
        After SIGINT or SIGTERM, once the checkpoint is written.
    """
    recipe = load_recipe(name, changes)
    trainer = Trainer(recipe, make_source(recipe, data_root(root)), Path(folder), seed=seed)
    if resume:
        trainer.resume()
    return trainer.run(progress)


def source_class(recipe: Recipe) -> Callable[..., Any]:
    """Return what makes the pairs of a recipe, its options checked by name, type and range.

    Raises
    ------
    RecipeError
        If the source or one of its options is not known, or an option has a value that cannot be.
    """
    if recipe.source not in SOURCES:
        raise RecipeError(f"Source '{recipe.source}' is not known. {nearest(recipe.source, SOURCES)}")
    kind = SOURCES[recipe.source]
    options = [name for name, each in inspect.signature(kind).parameters.items() if each.kind is each.KEYWORD_ONLY]
    for name in recipe.source_options:
        if name not in options:
            raise RecipeError(f"source_options: '{recipe.source}' has no option '{name}'. {nearest(name, options)}")
    _options(recipe, kind)
    return kind


def build_source(recipe: Recipe, clean: Sequence[Tensor], held_out: Sequence[Tensor], **more: Any) -> PairSource:
    """Make the source of a recipe of loaded images; ``more`` are options that a recipe cannot hold.

    Raises
    ------
    RecipeError
        If the source or one of its options is not known, or does not fit the images.
    """
    kind = source_class(recipe)
    try:
        return kind(clean, held_out, **{**_options(recipe, kind), **more})
    except _MISFITS as error:
        raise RecipeError(
            f"source_options {recipe.source_options} were given, but the source '{recipe.source}' cannot be made with "
            f"them: {_first_line(error)}. Correct them."
        ) from error


def _options(recipe: Recipe, kind: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a recipe's source in the types that the source names; all numbers are 0 or greater."""
    hints = typing.get_type_hints(cast(Any, kind).__init__)
    options = {}
    for name, value in recipe.source_options.items():
        try:
            options[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise RecipeError(
                f"source_options.{name} = {value!r} was given, but it is not valid for the source '{recipe.source}': "
                f"{error.errors()[0]['msg']}."
            ) from error
        except PydanticSchemaGenerationError as error:
            raise RecipeError(f"source_options.{name} was given, but a recipe cannot hold it. Leave it out.") from error
        least = 1 if hints[name] is int and name != "seed" else 0
        parts = options[name] if isinstance(options[name], list | tuple) else (options[name],)
        if any(isinstance(part, int | float) and not least <= part < math.inf for part in parts):
            raise RecipeError(f"source_options.{name} = {value!r} was given, but it must be {least} or greater.")
    return options


def make_source(recipe: Recipe, root: Path) -> PairSource:
    """Load the clean images of a recipe, and make the source of its pairs of them.

    Parameters
    ----------
    recipe : Recipe
        Names the source, its options and the data.
    root : Path
        Data root.

    Raises
    ------
    RecipeError
        If the source or one of its options is not known, or the data is not of its kind.
    ManifestError
        If a dataset is not where it should be.
    """
    kind = source_class(recipe)
    clean, held_out = load_clean(recipe, root)
    if kind is not CubeImages and any(len(image) > 3 for image in clean):
        raise RecipeError(
            f"data {', '.join(recipe.data)} holds cubes, but the source '{recipe.source}' learns from pictures. "
            "Choose source = 'cube-images'."
        )
    if clean[0].is_floating_point() and kind is not CameraPairs:
        raise RecipeError(
            f"data_folder {recipe.data_folder} holds RAW files, but the source '{recipe.source}' learns from "
            "photographs. Choose source = 'camera-pairs', or a folder of photographs."
        )
    return build_source(recipe, clean, held_out)


class Trainer:
    """A recipe under way in a folder.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    source : PairSource
        Where batches come from.
    folder : Path
        Receives checkpoints, ``metrics.jsonl`` and the weights with their card.
    seed : int
        Of the weights and of everything drawn.
    device : str
        "auto" or "cpu".

    Raises
    ------
    RecipeError
        If the method is not known, or the weights to start from or the source's batches do not fit.
    """

    def __init__(
        self, recipe: Recipe, source: PairSource, folder: Path, *, seed: int = 0,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)
        self.recipe, self.source, self.folder, self.seed = recipe, source, folder, seed
        learner = make_learner(recipe)
        try_batch(recipe, learner, source)
        self.loop = Loop(learner, source, recipe, folder, seed=seed, score=self.validation_psnr_db, device=device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes, and that speaks to people."""
        return self.loop.accelerator.is_main_process

    @property
    def model(self) -> nn.Module:
        """The learner."""
        return self.loop.learner

    def resume(self) -> None:
        """Go on from the folder's newest checkpoint."""
        self.loop.load_checkpoint()

    def run(self, progress: Callable[[Progress], None] | None = None) -> ModelCard:
        """Train to the last step and write the weights of the best validation; returns their card.

        Of several processes the first measures and writes; the others return the recipe's card.
        """
        result, accelerator = self.loop.run(progress), self.loop.accelerator
        card = self.recipe.card
        if self.is_first:
            card = save_model(self.folder / "weights.safetensors", self._card(result), result.weights)
        accelerator.wait_for_everyone()
        return card

    def validation_psnr_db(self, model: nn.Module) -> float:
        """Return the mean PSNR over the images held back [dB]."""
        return float(np.mean([value for values in self.psnr_by_case(model).values() for value in values]))

    def psnr_by_case(self, model: nn.Module) -> dict[str, list[float]]:
        """Return the PSNR of every image held back, by case [dB]."""
        device, cases = self.loop.accelerator.device, self.source.cases
        found: dict[str, list[float]] = {case: [] for case in cases}
        for number, batch in enumerate(self._held_back()):
            moved = on_device(batch, device)
            chance = torch.Generator(device).manual_seed(0)
            denoised = cast(Denoiser, model).denoise(moved.noisy, moved.noise, generator=chance)
            assert batch.clean is not None
            found[cases[number % len(cases)]].append(psnr_db(denoised.float().cpu(), batch.clean))
        return found

    def _held_back(self) -> Iterator[Batch]:
        """Yield the source's validation, made in full precision whatever the model runs in."""
        batches = self.source.validation()
        while True:
            with torch.autocast(self.loop.accelerator.device.type, enabled=False):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @torch.no_grad()
    def _measure(self, result: LoopResult) -> dict[str, list[float]]:
        """Measure the weights that are kept."""
        average = self.loop.average.eval()
        average.load_state_dict(result.weights)
        with self.loop.accelerator.autocast():
            return self.psnr_by_case(average)

    def _card(self, result: LoopResult) -> ModelCard:
        recipe = self.recipe
        training = Training(
            recipe=recipe.name,
            data=names_of(recipe.data) if recipe.data_folder is None else ("a folder of the user's",),
            validation=names_of(recipe.validation),
            noise=recipe.card.training.noise if recipe.card.training else "",
            seed=self.seed,
            changes={name: value for name, value in recipe.changes.items() if name not in _NOTED},
            steps=result.steps,
            hours=round(result.seconds / 3600, 2),
            machine=f"{platform.machine()}, {torch.get_num_threads()} threads",
            revision=revision(),
        )
        names = "+".join(training.validation) or "held-out"
        measured = dict(recipe.card.measured)
        for case, values in self._measure(result).items():
            if values:
                measured[f"{names}/{case}/psnr_db"] = round(float(np.mean(values)), 3)
        update = {"training": training, "measured": measured, "licence_data": _licence(recipe)}
        return recipe.card.model_copy(update=update)


_NOTED: Final = ("steps", "data", "data_folder", "validation")
"""Values of a recipe that a card states anyway; where a user's folder lies is nobody's business."""


def _licence(recipe: Recipe) -> str:
    """Return the licence of what was learned from: the recipe's, unless other data took the place of its own."""
    if recipe.data_folder is not None:
        own = "the user's own images"
    elif "data" in recipe.changes:
        described = [load_manifest(name) for name in recipe.data if name not in SCIKIT_IMAGE]
        own = "; ".join(f"{manifest.name}: {manifest.licence}" for manifest in described) or recipe.card.licence_data
    else:
        return recipe.card.licence_data
    return f"{find_card(recipe.start).licence_data}; {own}" if recipe.start else own


def make_learner(recipe: Recipe) -> nn.Module:
    """Build the model of a recipe, with the weights that it starts from.

    Raises
    ------
    RecipeError
        If the method is not known, or its network cannot be built by the card's config, or the weights do not fit.
    """
    if recipe.card.method not in METHODS:
        raise RecipeError(f"Method '{recipe.card.method}' is not known. {nearest(recipe.card.method, METHODS)}")
    foundation = load_model(recipe.card.stands_on) if recipe.card.stands_on else None
    try:
        model: Any = METHODS[recipe.card.method].denoiser(recipe.card, foundation)
    except _MISFITS as error:
        raise RecipeError(
            f"card.config {recipe.card.config} was given, but the network of '{recipe.card.method}' cannot be built by "
            f"it: {_first_line(error)}. {_nearest_argument(recipe, error)}".strip()
        ) from error
    if recipe.start:
        begun: Any = load_model(recipe.start)
        weights = begun.state_dict()
        if [card.config.get("channels") for card in (begun.card, recipe.card)] == [3, 1]:
            weights = of_grey(weights, begun.card.config.get("fold", 1))
        try:
            model.load_state_dict(grow(model, weights))
        except RuntimeError as error:
            raise RecipeError(
                f"start = '{recipe.start}' was asked, but its weights do not fit the network of the card ({error}). "
                "Give the card the same config, or greater widths, or leave start out."
            ) from error
    if all(parameter.ndim <= 4 for parameter in model.parameters()):
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def try_batch(recipe: Recipe, learner: nn.Module, source: PairSource) -> None:
    """See whether a learner takes a batch of the source, before anything is written; neither changes by it.

    Raises
    ------
    RecipeError
        If it does not.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            cast(Any, copy.deepcopy(learner)).loss(source.draw(1, generator=generator), generator=generator)
    except _MISFITS as error:
        raise RecipeError(
            f"source_options {recipe.source_options} and card.config {recipe.card.config} were given, but the network "
            f"does not take what the source draws: {_first_line(error)}. Choose a patch that is a multiple of "
            f"{recipe.card.multiple_of}, and the channels of the images."
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}, {text[0].rstrip('.')}" if text else type(error).__name__


def _nearest_argument(recipe: Recipe, error: Exception) -> str:
    """Return the nearest argument of a network, where the error is that it has none of that name."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if found is None:
        return "Correct it."
    network = vars(sys.modules[METHODS[recipe.card.method].build.__module__]).get(found[1], nn.Module)
    return nearest(found[2], list(inspect.signature(network).parameters))


def revision() -> str:
    """Return the git revision of the code, empty where it is not known."""
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
