"""The default RAW network taught the noise of one camera: which recipe, which exposures, which cases to judge by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, cast

from torch import nn

from denoise.card import ModelCard, Training
from denoise.denoiser import Denoiser
from denoise.errors import RecipeError
from denoise.io.files import atomic_target
from denoise.methods import DEFAULT_MODELS
from denoise.training.ab_comparison import Comparison, compare_on_pairs, compare_on_sample, judge, read_sample
from denoise.training.loop import Progress
from denoise.training.recipe import Recipe
from denoise.training.sources.clean_images import load_clean
from denoise.training.sources.exposures import MOST_VARIANCE, Exposure, OneCamera, longest_ratio
from denoise.training.trainer import Trainer, build_source, source_class
from denoise.weights import find_card, load_model, save_model
from noise_models.base import SensorSettings
from noise_models.profile import CameraProfile

FINE_TUNING: Final = {
    "steps": 6000,
    "learning_rate": 0.002,
    "steady": 0.2,
    "warm_up": 100,
    "validate_steps": 500,
}
"""What differs from the training of the default network, unless the user sets it; within an hour on two cores."""
_EXPOSURE_S: Final = 1 / 30
_ISOS: Final = 4
_TOO_SHORT: Final = 8.0


def default_noise(profile: CameraProfile) -> str:
    """Return the noise model that knows most of a camera: its proxy, if it has one, else its calibrated components."""
    return "pnnp" if profile.proxy is not None else "eld"


def fine_tuning(recipe: Recipe, profile: CameraProfile, noise: str) -> Recipe:
    """Return the recipe that goes on from the default RAW network on one camera's noise.

    Parameters
    ----------
    recipe : Recipe
        Of pairs by cameras; its data, patches and ratios are kept.
    profile : CameraProfile
        The camera.
    noise : str
        Key of `noise_models.NOISE_MODELS`, as the card will say it.

    Raises
    ------
    RecipeError
        If the recipe's source does not expose by cameras.
    """
    if recipe.source != "camera-pairs":
        raise RecipeError(
            f"--profile was given, but the recipe '{recipe.name}' has the source '{recipe.source}', which knows no "
            "cameras. Choose the recipe 'raw'."
        )
    source_class(recipe)
    begun = find_card(DEFAULT_MODELS["supervised", "raw"])
    card = begun.model_copy(
        update={
            "id": f"{begun.id.partition('.')[0]}.{profile.id}",
            "summary": f"Bayer RAW of the {profile.make} {profile.model}: {begun.id}, gone on with on its own noise.",
            "measured": {},
            "protocol": "",
            "limits": (f"Made for the {profile.make} {profile.model} alone.", *begun.limits),
            "training": Training(noise=f"{noise}, profile {profile.id}"),
            "sha256": "",
        }
    )
    options = {
        name: value for name, value in recipe.source_options.items() if name not in ("noise", "profile", "darks")
    }
    return recipe.model_copy(update={"card": card, "start": begun.id, "source_options": options})


def cases_of(camera: OneCamera) -> tuple[tuple[float, float], ...]:
    """Return ISO and ratio of the exposures that a camera's network is judged by: well exposed, and eight times short.

    Four ISOs over all that is known, and the highest once more, too short by 8 or as far as it shows anything at all.
    """
    known = sorted(camera.isos) or [point.iso for point in camera.profile.points]
    places = sorted({round(place * (len(known) - 1) / (_ISOS - 1)) for place in range(_ISOS)})
    isos = [known[place] for place in places]
    exposure = Exposure(camera.profile, SensorSettings(isos[-1], _EXPOSURE_S), camera.noise)
    ratio = min(_TOO_SHORT, longest_ratio(exposure.unit_level, MOST_VARIANCE))
    short = [(isos[-1], round(ratio, 1))] if ratio > 1.2 else []
    return (*((iso, 1.0) for iso in isos), *short)


def train_own_camera(
    recipe: Recipe,
    camera: OneCamera,
    folder: Path,
    root: Path,
    *,
    sample: Path | None = None,
    seed: int = 0,
    resume: bool = False,
    device: Literal["auto", "cpu"] = "auto",
    progress: Callable[[Progress], None] | None = None,
) -> tuple[ModelCard, Comparison]:
    """Train by `fine_tuning`'s recipe, and compare the result with the default network on what neither saw.

    Parameters
    ----------
    recipe : Recipe
        As `fine_tuning` returns it.
    camera : OneCamera
        Whose noise it learns.
    folder : Path
        Receives the weights, their card and ``comparison.json``.
    root : Path
        Data root.
    sample : Path, optional
        A noisy RAW of the camera, to compare on as well.
    seed, resume, device, progress
        As of `Trainer`.

    Returns
    -------
    (ModelCard, Comparison)
        The card holds the figures of the comparison and its verdict.

    Raises
    ------
    RecipeError
        If fewer than two images are held out.
    """
    if sample is not None:
        read_sample(sample, camera.profile)  # what is wrong with it is said now and not in an hour
    clean, held_out = load_clean(recipe, root)
    if len(held_out) < 2:
        raise RecipeError(
            "One image was held out, but two are needed: one to choose the weights by, another to compare them on. "
            "Give more images."
        )
    options = {"cameras": camera, "judge": camera, "cases": cases_of(camera)}
    source, unseen = (build_source(recipe, clean, held_out[part::2], **options) for part in (0, 1))
    trainer = Trainer(recipe, source, folder, seed=seed, device=device)
    if resume:
        trainer.resume()
    trainer.run(progress)
    default, tuned = load_model(str(recipe.start)), load_model(str(folder / "weights.safetensors"))
    cases = compare_on_pairs(default, tuned, unseen.validation(), unseen.cases)
    result = judge(cases, None if sample is None else compare_on_sample(default, tuned, sample, camera.profile))
    return _write(folder, tuned, result, camera.profile, write=trainer.is_first), result


def _write(folder: Path, tuned: Denoiser, result: Comparison, profile: CameraProfile, *, write: bool) -> ModelCard:
    """Write the comparison, and the weights again with the figures on their card; returns the card."""
    measured = {}
    for case in result.cases:
        measured[f"{profile.id}/{case.case}/psnr_db"] = case.tuned_db
        measured[f"{profile.id}/{case.case}/default_psnr_db"] = case.default_db
    protocol = (
        f"Photographs held out of training and of the choice of weights, under the noise of {profile.id}, brightened "
        "by the ratio; PSNR of packed mosaics cut to 0..1. default_psnr_db is that of the network it began from."
    )
    card = tuned.card
    limits = card.limits if result.worth else (f"Compared with the default network: {result.verdict}", *card.limits)
    card = card.model_copy(update={"measured": measured, "protocol": protocol, "limits": limits})
    if not write:
        return card
    with atomic_target(folder / "comparison.json") as target:
        target.write_text(json.dumps(result.to_dict(), indent=2) + "\n", "utf-8")
    return save_model(folder / "weights.safetensors", card, cast(nn.Module, tuned).state_dict())
