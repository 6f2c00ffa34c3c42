"""Batches of images of which only a noisy version exists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from denoise.denoiser import Batch
from denoise.errors import RecipeError, nearest
from denoise.training.sources.crops import log_uniform, trim
from denoise.unprocess import turn_planes
from noise_models.level import NoiseLevel

Family = Literal["gaussian", "poisson", "gamma", "shot-and-read"]

RANGES: Final[dict[Family, tuple[float, float]]] = {
    "gaussian": (5 / 255, 55 / 255),
    "poisson": (0.001, 0.1),
    "gamma": (40.0, 120.0),
    "shot-and-read": (0.001, 0.05),
}
"""Least and largest noise parameter: sigma, zeta, k, and shot noise with as much read noise again at mid-grey."""


@dataclass(frozen=True, eq=False)
class NoisyBatch(Batch):
    """Noisy images, and the grid that their values lie on."""

    step: Tensor
    """(B,) Distance between neighbouring values [house units]; 0 where they are continuous."""


def spoil(clean: Tensor, family: Family, parameter: float, generator: torch.Generator) -> Tensor:
    """Give an image one kind of noise; the mean is kept, nothing is cut.

    Parameters
    ----------
    clean : (..., H, W) tensor
        Not negative, 1 = white.
    family : str
        "gaussian", "poisson", "gamma" or "shot-and-read".
    parameter : float
        Standard deviation sigma; scale zeta (variance zeta x); shape k (variance x^2 / k); or the shot noise a, to
        which read noise of variance a / 2 is added.
    generator : torch.Generator
        Source of chance.

    Raises
    ------
    RecipeError
        If the family is not known.
    """
    if family == "gaussian":
        return clean + parameter * torch.randn(clean.shape, generator=generator)
    if family == "poisson":
        return torch.poisson(clean / parameter, generator=generator) * parameter
    if family == "gamma":
        drawn = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).gamma(
            parameter, 1 / parameter, tuple(clean.shape)
        )
        return clean * torch.from_numpy(drawn).to(clean)
    if family == "shot-and-read":
        counted = torch.poisson(clean / parameter, generator=generator) * parameter
        return counted + (parameter / 2) ** 0.5 * torch.randn(clean.shape, generator=generator)
    raise RecipeError(f"Noise '{family}' is not known. {nearest(family, RANGES)}")


class NoisyPatches:
    """Crops of noisy images, with nothing known but the images themselves.

    Whatever keeps noise independent may be done to them: turns, exchange of planes, brightness, the mean of 2 x 2.

    Parameters
    ----------
    images : sequence of (C, H, W) tensor
        Noisy, house units; float16 or float32, or uint8 with 255 = white.
    steps : sequence of float
        Distance between neighbouring values of each image [house units].
    results : sequence of (C, H, W) tensor, optional
        What a teacher makes of each image; batches then hold it as the clean image.
    patch : int
        Side of a patch [px].
    exchange : bool
        Whether planes may change places: yes for colours, no for the planes of a mosaic, which have places.

    Raises
    ------
    RecipeError
        If no image is large enough.
    """

    def __init__(
        self,
        images: Sequence[Tensor],
        steps: Sequence[float],
        results: Sequence[Tensor] | None = None,
        *,
        patch: int = 128,
        exchange: bool = True,
    ) -> None:
        large = [index for index, image in enumerate(images) if min(image.shape[1:]) >= patch]
        if not large:
            largest = max((min(image.shape[1:]) for image in images), default=0)
            fits = largest // 16 * 16
            raise RecipeError(
                f"Patches need images of at least {patch} pixels a side, but the largest has {largest}. Choose "
                + (f"a smaller patch (--set source_options.patch={fits}) or " if fits else "")
                + "larger images."
            )
        self.images = [(images[index],) if results is None else (images[index], results[index]) for index in large]
        self.steps = [float(steps[index]) for index in large]
        self.patch, self.exchange = patch, exchange
        self.areas = torch.tensor([float(image[0].shape[1] * image[0].shape[2]) for image in self.images])

    def draw(self, batch: int, *, generator: torch.Generator) -> NoisyBatch:
        """Return ``batch`` patches (B, C, patch, patch)."""
        crops, steps = zip(*(self._crop(generator) for _ in range(batch)), strict=True)
        noisy, *results = (torch.stack(parts) for parts in zip(*crops, strict=True))
        return NoisyBatch(noisy, results[0] if results else None, None, torch.tensor(steps))

    def _crop(self, generator: torch.Generator) -> tuple[list[Tensor], float]:
        """Return a crop of an image, and the same of its teacher's result, and the step of its values."""
        index = int(torch.multinomial(self.areas, 1, generator=generator))
        images, step, side = self.images[index], self.steps[index], self.patch
        size = images[0].shape[1:]
        half = min(size) >= 2 * side and bool(torch.rand((), generator=generator) < 0.25)
        side *= 2 if half else 1
        top, left = (int(torch.randint(length - side + 1, (), generator=generator)) for length in size)
        order = torch.randperm(images[0].shape[0], generator=generator) if self.exchange else slice(None)
        turn = int(torch.randint(8, (), generator=generator))
        dimmed = float(log_uniform(0.5, 1.0, 1, generator)) if torch.rand((), generator=generator) < 0.3 else 1.0
        crops = []
        for image in images:
            crop = as_house_units(image[:, top : top + side, left : left + side])[order]
            if half:
                crop = functional.avg_pool2d(crop[None], 2)[0]
            crops.append(turn_planes(crop, turn) * dimmed)
        return crops, step * dimmed / (4 if half else 1)


class FixedNoise:
    """Photographs of which one noisy version was made and kept: noise is never drawn anew on a clean image.

    Each photograph is cut into pieces, and each piece has a family and a parameter of its own, log-uniform, that stay
    with it for the whole training.

    Parameters
    ----------
    photos, held_out : sequence of (3, H, W) uint8 tensor
        For training, and to see how far it is.
    patch : int
        Side of a patch [px].
    piece : int
        Largest side of a piece [px].
    families : sequence of str
        Keys of `RANGES`.
    seed : int
        Of the noise.
    keep_clean : bool
        Whether batches hold the clean image as well: for a supervised twin, which shows what the lack of it costs.
    """

    cases: ClassVar[tuple[str, ...]] = ("sigma25", "zeta0.01", "sigma50")
    """What the batches of `validation` are, in turn."""

    def __init__(
        self,
        photos: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 128,
        piece: int = 512,
        families: Sequence[Family] = ("gaussian", "gaussian", "poisson", "gamma", "shot-and-read"),
        seed: int = 6,
        keep_clean: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        images, steps, cleans = [], [], []
        for index, clean in enumerate(piece_ for photo in photos for piece_ in _pieces(photo, piece)):
            family = families[index % len(families)]
            parameter = float(log_uniform(*RANGES[family], 1, generator))
            images.append(spoil(clean.float() / 255, family, parameter, generator).half())
            cleans.append(clean)
            steps.append(parameter if family == "poisson" else 0.0)
        self.patches = NoisyPatches(images, steps, cleans if keep_clean else None, patch=patch)
        self.held_out = held_out

    def draw(self, batch: int, *, generator: torch.Generator) -> NoisyBatch:
        """Return ``batch`` patches (B, 3, patch, patch)."""
        return self.patches.draw(batch, generator=generator)

    def validation(self) -> Iterator[Batch]:
        """Yield the photographs held out with the noise of `cases` in turn, and the clean ones to measure by."""
        generator = torch.Generator().manual_seed(20)
        cases: tuple[tuple[Family, float], ...] = (("gaussian", 25 / 255), ("poisson", 0.01), ("gaussian", 50 / 255))
        for index, photo in enumerate(self.held_out):
            clean = trim(photo.float() / 255, 16)[None]
            family, parameter = cases[index % 3]
            shot = parameter if family == "poisson" else 0.0
            level = NoiseLevel(np.full((1, 3), shot), np.full((1, 3), 0.0 if shot else parameter**2), "drawn")
            yield Batch(spoil(clean, family, parameter, generator), clean, level)


def as_house_units(image: Tensor) -> Tensor:
    """Return float32 with 1 = white of a float image or one of bytes."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def _pieces(photo: Tensor, side: int) -> list[Tensor]:
    """Cut (C, H, W) into equal pieces no larger than ``side``."""
    rows, columns = (-(-size // side) for size in photo.shape[1:])
    return [part for band in photo.tensor_split(rows, 1) for part in band.tensor_split(columns, 2)]
