"""The noise cases on which the field compares hyperspectral denoisers, exactly as it defines them.

A clean cube (bands, H, W) in 0..1 comes in, columns across track; what comes out is not cut to 0..1, but for bands
that impulses hit, as the original's ``imnoise`` does.

References
----------
.. [1] K. Wei, Y. Fu, H. Huang, "3-D quasi-recurrent neural network for hyperspectral image denoising", IEEE TNNLS
   32(1), 2021.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from noise_models.base import NoiseModelError
from noise_models.names import nearest

SIGMAS: Final = (10 / 255, 30 / 255, 50 / 255, 70 / 255)
"""Of which each band of the complex cases draws one."""
IMPULSE_DENSITIES: Final = (0.1, 0.3, 0.5, 0.7)
"""Of which each band with impulses draws one."""
STRIPE_REACH: Final = 0.25
"""Largest offset of a stripe."""


def spoil_cube(clean: Tensor, case: str, *, generator: torch.Generator) -> Tensor:
    """Spoil a cube by a standard case.

    Parameters
    ----------
    clean : (bands, H, W) float32 tensor
        Scaled to 0..1.
    case : str
        "gaussian-S": white noise of sigma S/255, such as "gaussian-30". "non-iid": each band its own sigma of 10, 30,
        50 or 70/255. "stripe", "deadline", "impulse": non-iid, and a third of the bands so. "mixture": non-iid, and a
        third of the bands each with stripes, dead columns and impulses, no band with two of them.
    generator : torch.Generator
        Source of chance.

    Returns
    -------
    (bands, H, W) float32 tensor
        Noisy.

    Raises
    ------
    NoiseModelError
        If the case is not known, or the tensor is no cube.
    """
    if clean.ndim != 3 or clean.dtype != torch.float32:
        raise NoiseModelError(
            f"Case '{case}' was asked for a tensor of shape {tuple(clean.shape)} and {clean.dtype}, but it spoils a "
            "cube (bands, H, W) float32, scaled to 0..1."
        )
    gaussian = re.fullmatch(r"gaussian-(\d+(?:\.\d+)?)", case)
    if gaussian:
        return add_gaussian(clean, [float(gaussian[1]) / 255] * len(clean), generator)
    if case not in CUBE_CASES:
        raise NoiseModelError(f"There is no noise case '{case}'. {nearest(case, ('gaussian-30', *CUBE_CASES))}")
    noisy = add_gaussian(clean, pick(SIGMAS, len(clean), generator), generator)
    bands = torch.randperm(len(clean), generator=generator).tolist()
    third = len(clean) // 3
    for number, add in enumerate(CUBE_CASES[case]):
        add(noisy, bands[number * third : (number + 1) * third], generator)
    return noisy


def add_gaussian(clean: Tensor, sigmas: Sequence[float], generator: torch.Generator) -> Tensor:
    """Return a cube (bands, H, W) with white noise, each band with its own standard deviation."""
    noise = torch.randn(clean.shape, generator=generator)
    return clean + noise * torch.tensor(sigmas, dtype=clean.dtype)[:, None, None]


def add_stripes_(noisy: Tensor, bands: Sequence[int], generator: torch.Generator) -> None:
    """Take from 5 to 15 % of the columns of these bands one number each, uniform from -0.25 to 0.25, in place."""
    for band in bands:
        columns = _columns(noisy.shape[2], generator)
        noisy[band][:, columns] -= STRIPE_REACH * (2 * torch.rand(len(columns), generator=generator) - 1)


def add_dead_columns_(noisy: Tensor, bands: Sequence[int], generator: torch.Generator) -> None:
    """Set from 5 to 15 % of the columns of these bands to 0, in place."""
    for band in bands:
        noisy[band][:, _columns(noisy.shape[2], generator)] = 0.0


def add_impulses_(noisy: Tensor, bands: Sequence[int], generator: torch.Generator) -> None:
    """Cut these bands to 0..1 and set a share of their pixels to 0 or 1, half each, in place."""
    for band, density in zip(bands, pick(IMPULSE_DENSITIES, len(bands), generator), strict=True):
        chance = torch.rand(noisy[band].shape, generator=generator)
        spoilt = noisy[band].clamp(0, 1)
        spoilt[chance < density / 2] = 0.0
        spoilt[(chance >= density / 2) & (chance < density)] = 1.0
        noisy[band] = spoilt


def pick(values: Sequence[float], count: int, generator: torch.Generator) -> list[float]:
    """Draw ``count`` of these values, each as likely."""
    return [values[number] for number in torch.randint(len(values), (count,), generator=generator).tolist()]


def _columns(width: int, generator: torch.Generator) -> Tensor:
    """Draw distinct columns, as many as a number uniform from ceil(0.05 W) to ceil(0.15 W), both included."""
    least, most = math.ceil(0.05 * width), math.ceil(0.15 * width)
    count = int(torch.randint(least, most + 1, (), generator=generator))
    return torch.randperm(width, generator=generator)[:count]


Part = Callable[[Tensor, Sequence[int], torch.Generator], None]
CUBE_CASES: Final[dict[str, tuple[Part, ...]]] = {
    "non-iid": (),
    "stripe": (add_stripes_,),
    "deadline": (add_dead_columns_,),
    "impulse": (add_impulses_,),
    "mixture": (add_stripes_, add_dead_columns_, add_impulses_),
}
"""What the complex cases add to white noise, each to its own third of the bands."""
