"""A user's own noisy images: read into memory, and looked at for which method fits."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoise.errors import FileFormatError, RecipeError, ShapeError
from denoise.images import Photo, RawImage
from denoise.io import READERS, read
from denoise.self_check import NoiseCorrelation, middle, noise_correlation
from denoise.training.sources.noisy_sources import as_house_units

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class NoisyImage:
    """A noisy file in memory."""

    name: str
    """Of the file."""
    kind: str
    """"raw" or "photo"."""
    planes: Tensor
    """(C, H, W): uint8 of an 8-bit picture, else float16 house units."""
    step: float
    """Distance between neighbouring values [house units]."""


def find_noisy(folder: Path) -> list[Path]:
    """Return the pictures and RAW files of a folder, in order of name.

    Raises
    ------
    RecipeError
        If the folder does not exist, or there is none.
    """
    if not folder.is_dir():
        found = "it is a file" if folder.exists() else "it does not exist"
        raise RecipeError(f"--noisy {folder} was given, but {found}. Give a folder of noisy pictures or RAW files.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in READERS)
    if not files:
        raise RecipeError(f"--noisy {folder} was given, but it holds no picture and no RAW file. Check the folder.")
    return files


def read_noisy(files: Sequence[Path]) -> list[NoisyImage]:
    """Read noisy files into memory; RAW mosaics as packed planes.

    A file that cannot be read is left out, with a warning that names it.

    Raises
    ------
    RecipeError
        If none can be read, they are not all of one kind, or have different numbers of planes.
    """
    images = []
    for path in files:
        try:
            image = read(path)
        except FileFormatError as error:
            _LOG.warning("%s is left out: %s", path.name, error)
            continue
        if not isinstance(image, RawImage | Photo):
            raise RecipeError(f"{path.name} is a {image.kind}; photographs or RAW files were expected. Take it out.")
        if isinstance(image, Photo) and image.pixels.dtype == np.uint8:
            planes = torch.from_numpy(np.ascontiguousarray(image.pixels.transpose(2, 0, 1)))
        else:
            planes = image.to_tensor().half()
        levels = image.white if isinstance(image, Photo) else image.white_dn - float(image.black_dn.mean())
        images.append(NoisyImage(path.name, image.kind, planes, 1 / levels))
    if not images:
        raise RecipeError(
            f"Noisy images were to be read, but none of {len(files)} files can be. Check the files, or give others."
        )
    kinds = {(image.kind, len(image.planes)): image.name for image in images}
    if len(kinds) > 1:
        found = ", ".join(f"{name} ({kind}, {planes} planes)" for (kind, planes), name in kinds.items())
        raise RecipeError(
            f"Noisy images of one kind were expected, but found {found}. Put each kind in its own folder."
        )
    return images


def measure_correlation(images: Sequence[NoisyImage]) -> NoiseCorrelation:
    """Return the correlation of the noise of the middle one of the images that agree, in most cases, on what fits.

    By `noise_correlation` of each image's middle. Images that are too small to be measured do not count.
    """
    found = []
    for image in images:
        with suppress(ShapeError):
            found.append(noise_correlation(as_house_units(middle(image.planes, 1600))))
    if not found:
        return NoiseCorrelation(0.0, (), (), None, "the images are too small to see the noise in")
    told = sorted((each for each in found if each.along), key=lambda each: max(each.along[0], each.down[0]))
    if not told:
        return found[0]
    method = Counter(each.method for each in told).most_common(1)[0][0]
    agreed = [each for each in told if each.method == method]
    return agreed[len(agreed) // 2]


def advise(found: NoiseCorrelation, method: str) -> str:
    """Return a warning if a method does not fit what was measured, in words for a user; empty if it fits."""
    method = "cbsn" if method == "cbsn-teacher" else method
    if found.method == method:
        return ""
    if found.method is None:
        return f"warning: neither noise2score nor cbsn is sure to fit these images: {found.reason}."
    return f"warning: {found.method} would fit these images, and {method} was asked for: {found.reason}."
