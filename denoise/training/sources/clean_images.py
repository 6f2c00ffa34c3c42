"""Where clean images come from: described datasets, a folder of the user's own, or what scikit-image ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from denoise.errors import ManifestError, RecipeError
from denoise.images import RawImage
from denoise.io import RAW_SUFFIXES, read
from denoise.manifests import find_files, how_to_get, load_manifest
from denoise.overlap import PICTURES, refuse_overlap, warn_of_folder, warn_of_validation
from denoise.training.recipe import Recipe
from denoise.training.sources.crops import load_photos
from denoise.training.sources.cube_scenes import load_cubes

SCIKIT_IMAGE: Final = {
    "scikit-image": (
        "astronaut.png", "motorcycle_left.png", "ihc.png", "retina.jpg", "hubble_deep_field.jpg",
    ),
    "scikit-image-held-out": ("coffee.png", "chelsea.png", "rocket.jpg"),
}  # fmt: skip
"""Pictures within the package scikit-image, by the name that a recipe uses; they come with it."""


def load_clean(recipe: Recipe, root: Path) -> tuple[list[Tensor], list[Tensor]]:
    """Load what a recipe learns from, and what it is judged by.

    Parameters
    ----------
    recipe : Recipe
        Its ``data_folder``, or else ``data``, and ``validation``; where that is empty, one image in ten of the data is
        held back, of few images one in five, of five or less one.
    root : Path
        Data root.

    Returns
    -------
    (list, list) of (3, H, W) tensor
        Photographs as uint8 sRGB, clean RAW files as float16 linear camera RGB; cubes (bands, H, W) as float32.

    Raises
    ------
    ManifestError
        If a dataset is not where it should be, or one that is tested on would be learned from.
    RecipeError
        If there is nothing to learn from.
    """
    judged = [name for name in recipe.validation if name not in SCIKIT_IMAGE]
    if recipe.data_folder is None:
        if not recipe.data:
            raise RecipeError("data = [] was given, but a training needs images. Name a dataset, or a data_folder.")
        refuse_overlap([name for name in recipe.data if name not in SCIKIT_IMAGE], judged, root)
        clean = [photo for name in recipe.data for photo in _load_set(name, root)]
    else:
        folder = Path(recipe.data_folder)
        clean = load_folder(folder)
        warn_of_folder(folder, _clean_files(folder), root, judged)
    warn_of_validation(judged, root)
    held_out = [photo for name in recipe.validation for photo in _load_set(name, root)]
    if held_out:
        return clean, held_out
    if len(clean) < 2:
        raise RecipeError(
            f"{len(clean)} clean image was found and validation names none, but at least one must be held back. "
            "Give more images, or a dataset in validation."
        )
    step = 10 if len(clean) > 10 else 5 if len(clean) > 5 else len(clean)
    return [photo for index, photo in enumerate(clean) if index % step], clean[::step]


def names_of(sets: Sequence[str]) -> tuple[str, ...]:
    """Return the names of sets as their manifests say them, where a recipe may name the file of one."""
    return tuple(name if name in SCIKIT_IMAGE else load_manifest(name).name for name in sets)


def load_folder(folder: Path) -> list[Tensor]:
    """Load a user's own clean images: RAW files of long or base-ISO exposures, or else photographs.

    Raises
    ------
    RecipeError
        If there is neither.
    FileFormatError
        If a file is not what its suffix says.
    """
    files = _clean_files(folder)
    if not files:
        raise RecipeError(
            f"data_folder {folder} was given, but it holds no RAW file and no picture. "
            "Put RAW files of base ISO, or photographs of high quality, into it."
        )
    return [load_light(path) for path in files] if files[0].suffix.lower() in RAW_SUFFIXES else load_photos(files)


def load_light(path: Path) -> Tensor:
    """Read a clean RAW file as linear camera RGB (3, H, W) float16, half the size of its planes.

    Each cell of four filters gives one colour pixel, and each four of those one: what noise and what defects the clean
    exposure has are four times less in power, and the colours lie at one place.

    Raises
    ------
    RecipeError
        If it is not a Bayer RAW.
    """
    image = read(path)
    if not isinstance(image, RawImage) or image.shape[0] != 4:
        raise RecipeError(f"{path} was given as a clean RAW file, but it is no Bayer RAW. Remove it.")
    planes = image.to_tensor().clamp_(0, 1)
    light = torch.stack((planes[0], (planes[1] + planes[2]) / 2, planes[3]))
    return functional.avg_pool2d(light[None], 2)[0].to(torch.float16)


def _clean_files(folder: Path) -> list[Path]:
    """Return the RAW files of a folder, or else its pictures."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    raws = [path for path in files if path.suffix.lower() in RAW_SUFFIXES]
    return raws or [path for path in files if path.suffix.lower() in PICTURES]


def _load_set(name: str, root: Path) -> Sequence[Tensor]:
    if name in SCIKIT_IMAGE:
        return load_photos(_files_of_scikit_image(name))
    manifest = load_manifest(name)
    files = find_files(name, root)
    if manifest.kind == "raw":
        return [load_light(path) for path in files]
    if manifest.kind == "cube" and manifest.holds == "clean":
        return load_cubes(files)
    if manifest.kind != "photo" or manifest.holds != "clean":
        raise ManifestError(
            f"Training on '{name}' was asked for, but it holds {manifest.holds} images of kind {manifest.kind}, and "
            f"clean photographs or RAW files are needed. {how_to_get(load_manifest('photos'))}"
        )
    return load_photos(files)


def _files_of_scikit_image(name: str) -> list[Path]:
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    files = [folder / file for file in SCIKIT_IMAGE[name] if (folder / file).is_file()]
    if not files:
        raise ManifestError(
            f"The pictures '{name}' of scikit-image were asked for, but this version of it ships none of them. "
            "Run: pip install -U scikit-image"
        )
    return files
