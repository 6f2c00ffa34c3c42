"""Train on noisy images alone: the loop, its self-supervised judge, and the teacher before the student."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.card import ModelCard, Training
from denoise.denoiser import Denoiser
from denoise.errors import DenoiseError, RecipeError, ShapeError
from denoise.manifests import find_files, load_manifest
from denoise.methods.cbsn import STRIDE, SUBSAMPLE, ConditionalBlindSpotDenoiser
from denoise.noise_from_score import estimate_parameter, respond
from denoise.self_check import middle, noise_correlation, of_halves, self_check
from denoise.training.loop import Loop, LoopResult, Progress
from denoise.training.recipe import Recipe, load_recipe
from denoise.training.sources.camera_jpegs import CameraJpegs, draw_told
from denoise.training.sources.clean_images import load_clean
from denoise.training.sources.noisy_images import NoisyImage
from denoise.training.sources.noisy_sources import NoisyBatch, NoisyPatches, as_house_units
from denoise.training.trainer import make_learner, revision
from denoise.weights import load_model, save_model
from noise_models.level import NoiseLevel

METHODS: Final = ("noise2score", "cbsn", "cbsn-teacher")
"""What learns from noisy images alone."""
_LOG = logging.getLogger(__name__)
_JUDGED: Final = 16
_CHECKED: Final = 512
_TILE: Final = 256
_TAUGHT: Final = 1536
"""A student learns from this middle of each image: more takes longer to prepare than to learn from."""
_AROUND: Final = 33
_PLAUSIBLE: Final = 1.5
_LEAST_SIDE: Final = 32
"""Of an image [px]: its noise is measured in blocks of 16 x 16."""
_TEACHERS_STEPS: Final = 2 / 3
"""Of the student's."""
_TEACHERS_BATCH: Final = 1 / 2
"""Of the student's."""
_TEACHERS_MULTIPLE: Final = STRIDE * SUBSAMPLE
"""Sides of a teacher's patches are multiples of this."""


def fit_recipe(recipe: Recipe, images: Sequence[NoisyImage]) -> Recipe:
    """Return the recipe for images of another kind or number of planes than it was written for."""
    kind, planes = images[0].kind, len(images[0].planes)
    if recipe.card.config["channels"] == planes and recipe.card.domain in (kind, "any"):
        return recipe
    config = recipe.card.config | {"channels": planes}
    multiple = recipe.card.multiple_of
    if "fold" in config and kind == "raw":
        multiple //= config["fold"]
        config["fold"] = 1
    card = recipe.card.model_copy(
        update={"config": config, "channels": (planes,), "domain": kind, "multiple_of": max(multiple, 8)}
    )
    return recipe.model_copy(update={"card": card})


def find_noisy_sets(recipe: Recipe, root: Path) -> list[Path]:
    """Return the files of the described sets of noisy images that a recipe learns from.

    Raises
    ------
    ManifestError
        If one is not where it should be.
    """
    return [path for name in recipe.data if load_manifest(name).holds == "noisy" for path in find_files(name, root)]


def find_clean(recipe: Recipe, root: Path) -> tuple[list[Tensor], list[Tensor]] | None:
    """Load the clean photographs that a recipe simulates camera JPEGs of, to learn from and to judge by; None if none.

    Raises
    ------
    ManifestError
        If a set is not where it should be, or one that is tested on would be learned from.
    """
    sets = tuple(name for name in recipe.data if load_manifest(name).holds == "clean")
    return load_clean(recipe.model_copy(update={"data": sets}), root) if sets else None


def train_on_noisy(
    recipe: Recipe,
    images: Sequence[NoisyImage],
    output: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    device: Literal["auto", "cpu"] = "auto",
    data: tuple[str, ...] = ("a folder of the user's",),
    clean: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
    progress: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> ModelCard:
    """Train a model on noisy images alone and write it.

    The weights kept are those with the least loss on fixed patches, of images held back where there are ten or more.
    Each time the loss is looked at, ``metrics.jsonl`` receives the figures of `denoise.self_check` too.
    A student's teacher is trained first, unless its weights are there, with half the student's batch, two thirds of its
    steps and its patch, rounded down to a multiple of ten. A student may see simulated camera JPEGs as
    well, which are made of clean photographs: then it is not of noisy images alone, and its card says so.

    Parameters
    ----------
    recipe : Recipe
        Of the method "noise2score", "cbsn" or "cbsn-teacher". ``source_options``: ``patch``, and for a student
        ``teacher``, a recipe or a weights file, ``turns``, over how many turns its results are averaged, 1 or 8,
        ``second_teacher``, a model for colour photographs that its results pass as well, told how strong the noise is,
        ``simulated``, the share of simulated camera JPEGs, and ``teachers`` of these, as of `CameraJpegs`.
    images : sequence of NoisyImage
        All of one kind.
    output : Path
        The ``.safetensors`` file; checkpoints go to a folder of its name with ``.training``.
    seed, resume, device, progress
        As of `denoise.training.loop.Loop`.
    data : tuple of str
        What the card says that it learned from.
    clean : (sequence, sequence) of (3, H, W) uint8 tensor, optional
        Photographs to simulate camera JPEGs of, to learn from and to judge by.
    say : callable, optional
        Called with a line for people: what comes next, and the figures without truth of each look at the loss.

    Raises
    ------
    RecipeError
        If no image is as large as a patch; if there is a training there already, or none to go on with; if camera JPEGs
        are to be simulated of nothing; or if a second teacher is to see other images than colour photographs.
    """
    say = say or _LOG.info
    recipe, images = _fitted(recipe, images, clean)
    folder = output.with_suffix(".training")
    results = None
    if recipe.card.method == "cbsn":
        teacher = _teacher(
            recipe, images, output, seed=seed, resume=resume, device=device, data=data, progress=progress, say=say
        )
        turns = int(recipe.source_options.get("turns", 1))
        say(f"the teacher denoises {count_of(images)}, and the student comes, for {recipe.steps} steps")
        images = [dataclasses.replace(image, planes=middle(image.planes, _TAUGHT)) for image in images]
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            results = [_taught(teacher, as_house_units(image.planes), turns).half() for image in images]
    source, held_out = _sources(recipe, images, results, clean)
    torch.manual_seed(seed)
    loop = Loop(make_learner(recipe), source, recipe, folder, seed=seed, device=device)
    loop.score = _Judge(loop, held_out, max(reversed(images), key=_checked_side), say)
    if resume:
        loop.load_checkpoint()
    result = loop.run(_without_score(progress))
    card = _card(recipe, output, data, result)
    return save_model(output, card, result.weights) if loop.accelerator.is_main_process else card


def trainings(
    recipe: Recipe, images: Sequence[NoisyImage], clean: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None
) -> list[tuple[Recipe, _Source]]:
    """Return what `train_on_noisy` would train, one after another, to be probed: recipes and sources of patches.

    The source of a student takes the images themselves for what its teacher makes of them.

    Raises
    ------
    RecipeError
        As `train_on_noisy`.
    """
    recipe, images = _fitted(recipe, images, clean)
    if recipe.card.method != "cbsn":
        return [(recipe, _sources(recipe, images, None, clean)[0])]
    name, results = _teachers_name(recipe), [as_house_units(image.planes).half() for image in images]
    first = [] if name.endswith(".safetensors") else trainings(_for_student(load_recipe(name), recipe), images)
    return [*first, (recipe, _sources(recipe, images, results, clean)[0])]


def _fitted(
    recipe: Recipe, images: Sequence[NoisyImage], clean: tuple[Sequence[Tensor], Sequence[Tensor]] | None
) -> tuple[Recipe, Sequence[NoisyImage]]:
    """Return the recipe for these images, and those that are as large as its patches; refuse what cannot be trained."""
    images = _large_enough(recipe, images)
    recipe = fit_recipe(recipe, images)
    share = _simulated_share(recipe)
    if share and (clean is None or len(images[0].planes) != 3):
        raise RecipeError(
            f"source_options.simulated = {share:g} was asked for, but that takes colour images and clean photographs. "
            "Choose the recipe cbsn for your own noisy images, or run this one without --noisy."
        )
    if "second_teacher" in recipe.source_options and len(images[0].planes) != 3:
        raise RecipeError(
            f"source_options.second_teacher was asked for, a model of colour photographs, but the images have "
            f"{len(images[0].planes)} planes. Choose the recipe cbsn for them."
        )
    return recipe, images


def teach(teacher: nn.Module, noisy: Tensor, *, turns: int = 1) -> Tensor:
    """Return a teacher's result for a whole image (C, H, W), tile by tile with the margin that it sees.

    Parameters
    ----------
    teacher : ConditionalBlindSpotDenoiser
        Its seeing state denoises; the image is normalised as a whole.
    noisy : (C, H, W) tensor
        House units.
    turns : int
        1, or 8 to average the results of all turns and mirrors.
    """
    assert isinstance(teacher, ConditionalBlindSpotDenoiser)
    reach, network = teacher.network.reach, teacher.network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    mean = noisy.mean((1, 2), keepdim=True)
    deviation = noisy.std((1, 2), correction=0, keepdim=True).clamp_min(1 / 256)
    total = torch.zeros_like(noisy)
    for turn in range(turns):
        seen = _turned((noisy - mean) / deviation, turn)
        padded = functional.pad(seen[None], (reach,) * 4, mode="reflect")
        result = torch.empty_like(seen)
        for top in range(0, seen.shape[1], _TILE):
            for left in range(0, seen.shape[2], _TILE):
                part = padded[..., top : top + _TILE + 2 * reach, left : left + _TILE + 2 * reach]
                with torch.inference_mode():
                    done = network(part, blind=False)[0, :, reach:-reach, reach:-reach].float()
                result[:, top : top + _TILE, left : left + _TILE] = done
        total += _turned(result, turn, back=True)
    return total / turns * deviation + mean


def within_noise(noisy: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    """Give back what was removed beyond what noise explains.

    Parameters
    ----------
    noisy, denoised : (C, H, W) tensor
        House units.
    sigma : float
        Standard deviation of the noise [house units].

    Returns
    -------
    (C, H, W) tensor
        noisy - min(1, 1.5 sigma / r) (noisy - denoised), r the root mean square that was removed in the 33 x 33 around.
    """
    removed = noisy - denoised
    energy = removed.square().mean(0)[None, None]
    around = functional.avg_pool2d(energy, _AROUND, 1, _AROUND // 2, count_include_pad=False)[0, 0].sqrt()
    return noisy - (_PLAUSIBLE * sigma / around.clamp_min(1e-6)).clamp_max(1.0) * removed


def _taught(teacher: nn.Module, noisy: Tensor, turns: int) -> Tensor:
    """Return a teacher's result, held to the noise that the image shows: of texture it may take too much."""
    found, denoised = noise_correlation(noisy), teach(teacher, noisy, turns=turns)
    return within_noise(noisy, denoised, found.sigma) if found.along else denoised


def _turned(planes: Tensor, turn: int, *, back: bool = False) -> Tensor:
    """Mirror and transpose (C, H, W) in one of eight ways, or undo it."""
    mirrored = [axis for axis, bit in ((2, 1), (1, 2)) if turn & bit]
    if back:
        return (planes.transpose(1, 2) if turn & 4 else planes).flip(mirrored)
    planes = planes.flip(mirrored)
    return planes.transpose(1, 2) if turn & 4 else planes


def _teacher(recipe: Recipe, images: Sequence[NoisyImage], output: Path, **options: Any) -> nn.Module:
    """Load the teacher of a student, or train it beside the student."""
    name = _teachers_name(recipe)
    path = Path(name) if name.endswith(".safetensors") else output.with_name(f"{output.stem}-teacher.safetensors")
    if not path.is_file() and not name.endswith(".safetensors"):
        folder = path.with_suffix(".training")
        options["resume"] = options["resume"] and folder.is_dir()
        chosen = _for_student(load_recipe(name), recipe)
        options["say"](f"the teacher comes first, for {chosen.steps} steps")
        train_on_noisy(chosen, images, path, **options)
    return cast(nn.Module, load_model(str(path)))


def _teachers_name(recipe: Recipe) -> str:
    """Return the name of a student's teacher: of a recipe, or of a weights file."""
    return str(recipe.source_options.get("teacher", "cbsn-teacher"))


def _for_student(teacher: Recipe, student: Recipe) -> Recipe:
    """Return a teacher's recipe for a student's steps, of which the ramp keeps its share, its patches and its batch."""
    steps = max(1, round(_TEACHERS_STEPS * student.steps))
    config = dict(teacher.card.config)
    config["ramp_steps"] = max(1, round(config["ramp_steps"] * steps / teacher.steps))
    patch = max(1, _patch(student) // _TEACHERS_MULTIPLE) * _TEACHERS_MULTIPLE
    changes = {
        "steps": steps,
        "batch": max(1, round(_TEACHERS_BATCH * student.batch)),
        "source_options": teacher.source_options | {"patch": patch},
        "card": teacher.card.model_copy(update={"config": config}),
    }
    return teacher.model_copy(update=changes)


def _patch(recipe: Recipe) -> int:
    return int(recipe.source_options.get("patch", 128))


def _large_enough(recipe: Recipe, images: Sequence[NoisyImage]) -> list[NoisyImage]:
    """Leave out the images smaller than a recipe's patches, with a warning that names them.

    Raises
    ------
    RecipeError
        If none is left.
    """
    least = max(_patch(recipe), _LEAST_SIDE)
    small = [image for image in images if min(image.planes.shape[1:]) < least]
    if len(small) == len(images):
        NoisyPatches([image.planes for image in images], [image.step for image in images], patch=least)  # refuses
    for image in small:
        height, width = image.planes.shape[1:]
        _LOG.warning(
            "%s is left out: it has %dx%d pixels, and patches need %d a side.", image.name, width, height, least
        )
    return [image for image in images if min(image.planes.shape[1:]) >= least]


def count_of(images: Sequence[NoisyImage]) -> str:
    """Return how many images there are, in words."""
    return f"{len(images)} image{'' if len(images) == 1 else 's'}"


def _sources(
    recipe: Recipe, images: Sequence[NoisyImage], results: list[Tensor] | None,
    clean: tuple[Sequence[Tensor], Sequence[Tensor]] | None,
) -> tuple[_Source, _Source]:  # fmt: skip
    """Return patches to learn from and patches to judge by: of other images, where there are ten."""
    patch = _patch(recipe)
    exchange = images[0].kind == "photo"
    held = range(9, len(images), 10)
    groups = [[n for n in range(len(images)) if n not in held], list(held) or list(range(len(images)))]
    learned, judged = (
        NoisyPatches(
            [images[n].planes for n in group], [images[n].step for n in group],
            None if results is None else [results[n] for n in group], patch=patch, exchange=exchange,
        )
        for group in groups
    )  # fmt: skip
    if name := recipe.source_options.get("second_teacher"):
        second = load_model(str(name), kind="photo")
        learned, judged = (_PassedOn(source, second) for source in (learned, judged))
    share = _simulated_share(recipe)
    if clean is None or not share:
        return learned, judged
    teachers = recipe.source_options.get("teachers", ())
    simulated, held_back = (CameraJpegs(photos, (), patch=patch, teachers=teachers) for photos in clean)
    return _Both(learned, simulated, share), _Both(judged, held_back, share)


def _simulated_share(recipe: Recipe) -> float:
    return float(recipe.source_options.get("simulated", 0.0))


def _noise_in_words(recipe: Recipe) -> str:
    if share := _simulated_share(recipe):
        return f"the images' own, and simulated camera JPEGs in {100 * share:g} % of the examples"
    return "the images' own; no clean image was seen"


@dataclass(frozen=True, eq=False)
class _PassedOn:
    """Noisy patches whose teacher's result a second one passes, which takes the fine noise that was left."""

    real: NoisyPatches
    second: Denoiser

    def draw(self, batch: int, *, generator: torch.Generator) -> NoisyBatch:
        found = self.real.draw(batch, generator=generator)
        told = draw_told(batch, generator)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            clean = self.second.denoise(cast(Tensor, found.clean), told)
        return dataclasses.replace(found, clean=clean.clone(), noise=told)


@dataclass(frozen=True, eq=False)
class _Both:
    """Examples of two sources, each of one or the other by chance."""

    real: NoisyPatches | _PassedOn
    simulated: CameraJpegs
    share: float
    """Of the simulated ones."""

    def draw(self, batch: int, *, generator: torch.Generator) -> NoisyBatch:
        count = int((torch.rand(batch, generator=generator) < self.share).sum())
        wanted = ((self.real, batch - count), (self.simulated, count))
        parts = [source.draw(examples, generator=generator) for source, examples in wanted if examples]
        noisy, clean, step = (torch.cat([getattr(part, name) for part in parts]) for name in ("noisy", "clean", "step"))
        return NoisyBatch(noisy, clean, _told([part.noise for part in parts]), step)


def _told(levels: Sequence[NoiseLevel | None]) -> NoiseLevel | None:
    """Join what pictures of several sources are told; None if one is told nothing."""
    known = [level for level in levels if level is not None]
    if len(known) < len(levels):
        return None
    shot, read = (np.concatenate([getattr(level, name) for level in known]) for name in ("shot", "read"))
    return NoiseLevel(shot, read, known[0].source)


_Source = NoisyPatches | _PassedOn | _Both


class _Judge:
    """Scores by the loss on the same patches with the same chance, and tells what can be seen without truth."""

    def __init__(self, loop: Loop, source: _Source, shown: NoisyImage, say: Callable[[str], None]) -> None:
        self.loop, self.say = loop, say
        self.batch = source.draw(_JUDGED, generator=torch.Generator().manual_seed(1))
        self.crop = as_house_units(middle(shown.planes, _CHECKED))

    def __call__(self, model: nn.Module) -> float:
        """Return minus the loss of the averaged weights."""
        device = next(model.parameters()).device
        batch = dataclasses.replace(
            self.batch,
            noisy=self.batch.noisy.to(device),
            clean=None if self.batch.clean is None else self.batch.clean.to(device),
        )
        loss = model.loss(batch, generator=torch.Generator(device).manual_seed(2))  # pyright: ignore[reportCallIssue]
        try:
            self._tell(self._check(model, self.crop.to(device)))
        except DenoiseError as error:  # of a figure for people, no training ends
            self.say(f"step {self.loop.step}: no self-check, the training goes on: {error}")
        return -float(loss["total"])

    def _check(self, model: nn.Module, noisy: Tensor) -> dict[str, float]:
        """Return the figures of `self_check`, and the noise level that they were measured at, if one was needed."""
        denoiser = cast(Denoiser, model)
        step = max(denoiser.card.multiple_of, 1)
        height, width = (size // step * step for size in noisy.shape[1:])
        noisy = noisy[:, :height, :width]
        if min(height, width) < _LEAST_SIDE:
            raise ShapeError(f"The largest image is too small for it, {_LEAST_SIDE} pixels a side are needed.")
        level, sigma = None, None
        if denoiser.card.noise == "required":
            chance = torch.Generator(noisy.device).manual_seed(3)
            sigma = estimate_parameter(respond(model.score, noisy[None], generator=chance), "gaussian")  # pyright: ignore
            level = NoiseLevel(np.zeros(1), np.array([sigma**2]), "estimated")
        found = self_check(
            noisy,
            denoiser.denoise(noisy[None], level)[0].float(),
            denoise=lambda half: denoiser.denoise(half, of_halves(level)).float(),
            halves_multiple=math.lcm(16, step),
        )
        figures = found.to_dict() | {"estimated_sigma": sigma}
        return {name: round(value, 5) for name, value in figures.items() if value is not None}

    def _tell(self, figures: dict[str, float]) -> None:
        with (self.loop.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": self.loop.step, **figures}) + "\n")
        said = ", ".join(
            f"{words} {255 * figures[name] if 'sigma' in name else figures[name]:.2f}"
            for name, words in _IN_WORDS.items()
            if name in figures
        )
        self.say(f"step {self.loop.step}: self-check on one image: {said}")


_IN_WORDS: Final = {
    "estimated_sigma": "estimated sigma of 255",
    "removed_sigma": "removed sigma of 255",
    "whiteness": "autocorrelation of what was removed",
    "excess": "beyond that of the noise (0 or less is good)",
    "edges": "of the picture's edges (0 or less is good)",
    "disagreement": "two halves differ by (1 untouched, near 0 is good)",
}
"""Figures of the self-check as people are told them."""


def _checked_side(image: NoisyImage) -> int:
    return min(_CHECKED, *image.planes.shape[1:])


def _without_score(progress: Callable[[Progress], None] | None) -> Callable[[Progress], None] | None:
    """Hide the score from the progress: it is no PSNR."""
    if progress is None:
        return None
    return lambda now: progress(dataclasses.replace(now, score=math.nan))


def _card(recipe: Recipe, output: Path, data: tuple[str, ...], result: LoopResult) -> ModelCard:
    """Return the recipe's card with what the training found out; a user's own model is named after its file."""
    own = data == ("a folder of the user's",)
    name = re.sub(r"[^a-z0-9]+", "-", output.stem.lower()).strip("-")
    identity = f"{recipe.card.method}.{name}" if own else recipe.card.id
    training = Training(
        recipe=recipe.name, data=data, validation=recipe.validation if _simulated_share(recipe) else (),
        noise=_noise_in_words(recipe), steps=result.steps,
        hours=round(result.seconds / 3600, 2), machine=f"{platform.machine()}, {torch.get_num_threads()} threads",
        revision=revision(),
    )  # fmt: skip
    licence = "the user's own images" if own else recipe.card.licence_data
    return recipe.card.model_copy(update={"id": identity, "training": training, "licence_data": licence})
