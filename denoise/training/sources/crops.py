"""Photographs in memory, and random crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from kornia.enhance import adjust_gamma
from torch import Tensor
from torch.nn import functional

from denoise.errors import FileFormatError, RecipeError
from denoise.training.sources.weaves import lay_weave
from denoise.unprocess import turn_planes

_SCALED: Final = 0.8
"""Share of the crops whose scale is not 1."""
_BUSIEST_OF: Final = 6
"""So many are looked at for a busy crop. With scales of 1 to 3, wallpapers then have the spectrum of BSDS500."""


def load_photos(files: Sequence[Path]) -> list[Tensor]:
    """Read photographs into memory as (3, H, W) uint8 RGB.

    Raises
    ------
    FileFormatError
        If a file is not a picture.
    """
    photos = []
    for path in files:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise FileFormatError(f"{path} was given as a training photograph, but it is not a picture. Remove it.")
        photos.append(torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))))
    return photos


class Crops:
    """Random crops of photographs, by area, at random scales and turns.

    Parameters
    ----------
    photos : sequence of (3, H, W) tensor
        sRGB as uint8, or linear light as float16; those smaller than a crop are left out.
    side : int
        Of a crop [px].
    scales : (float, float)
        Least and largest number of the photograph's pixels to one of the crop: at 100 % a large photograph is smooth,
        at 50 or 30 % it is full of detail. Below 1 it is magnified.
    busy : float
        Share of the crops that are the busiest of six: of sky there is much to see and little to learn.
    weaves : float
        Share of the crops over which a regular texture is laid (`lay_weave`); not of linear light.
    recolour : float
        Share of the sRGB crops whose colours are changed, so that few photographs show many.

    Raises
    ------
    RecipeError
        If no photograph is large enough.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        side: int,
        *,
        scales: tuple[float, float] = (1.0, 3.0),
        busy: float = 0.0,
        weaves: float = 0.0,
        recolour: float = 1.0,
    ) -> None:
        self.photos = [photo for photo in photos if min(photo.shape[1:]) >= side]
        if not self.photos:
            raise RecipeError(
                f"Patches need photographs of at least {side} pixels a side, but none of the {len(photos)} is. "
                "Choose a smaller patch (--set source_options.patch=32) or larger photographs."
            )
        self.side, self.scales, self.busy, self.weaves, self.recolour = side, scales, busy, weaves, recolour
        self.linear = self.photos[0].is_floating_point()
        self.areas = torch.tensor([float(photo.shape[1] * photo.shape[2]) for photo in self.photos])

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return one crop (3, side, side), 1 = white."""
        side, (least, most) = self.side, self.scales
        if torch.rand((), generator=generator) < _SCALED:
            side = int(side * (least + (most - least) * float(torch.rand((), generator=generator))))
        crop = self._cut(side, generator)
        if self.busy and torch.rand((), generator=generator) < self.busy:
            crop = max((crop, *(self._cut(side, generator) for _ in range(_BUSIEST_OF - 1))), key=_business)
        crop = crop.float()
        if crop.shape[1:] != (self.side, self.side):
            crop = functional.interpolate(
                crop[None], size=(self.side, self.side), mode="bicubic", antialias=True, align_corners=False
            )[0].clamp_(0, 1 if self.linear else 255)
        crop = turn_planes(crop, int(torch.randint(8, (), generator=generator)))
        if self.linear:
            return crop
        crop = crop / 255
        if self.weaves and torch.rand((), generator=generator) < self.weaves:
            crop = lay_weave(crop, generator)
        if torch.rand((), generator=generator) < self.recolour:
            crop = _recolour(crop, generator)
        return crop

    def _cut(self, side: int, generator: torch.Generator) -> Tensor:
        """Return a square (3, side, side) of a photograph, smaller where the photograph is."""
        photo = self.photos[int(torch.multinomial(self.areas, 1, generator=generator))]
        side = min(side, *photo.shape[1:])
        top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for size in photo.shape[1:])
        return photo[:, top : top + side, left : left + side]


def _business(crop: Tensor) -> float:
    """Return how much neighbours along the rows of (3, H, W) differ, in green; every second row is enough."""
    rows = crop[1, ::2].float()
    return float((rows[:, 1:] - rows[:, :-1]).abs().mean())


def _recolour(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange the channels of (3, H, W), and change its saturation and its tone."""
    photo = photo[torch.randperm(3, generator=generator)]
    if torch.rand((), generator=generator) < 0.5:
        grey = photo.mean(0, keepdim=True)
        photo = (grey + float(log_uniform(0.5, 3.0, 1, generator)) * (photo - grey)).clamp(0, 1)
    if torch.rand((), generator=generator) < 0.3:
        photo = adjust_gamma(photo, float(log_uniform(0.5, 2.0, 1, generator)))
    return photo


def trim(photo: Tensor, multiple: int) -> Tensor:
    """Leave out the last rows and columns of (C, H, W), so that both sides are multiples."""
    height, width = (size // multiple * multiple for size in photo.shape[1:])
    return photo[:, :height, :width]


def log_uniform(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw (count,) numbers whose logarithm is uniform."""
    return low * torch.exp(torch.rand(count, generator=generator) * float(np.log(high / low)))
