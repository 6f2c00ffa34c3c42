"""Strength: how much of the noise goes, and how much stays, in units of the noise itself."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from denoise.errors import DenoiseError

Planes = TypeVar("Planes", torch.Tensor, npt.NDArray[np.float32])


def leave(noisy: Planes, denoised: Planes, strength: float) -> Planes:
    """Leave (1 - strength) of the noise's standard deviation in.

    Why a straight line between the two images is a scale in sigma: what a denoiser removes, noisy - denoised, is its
    estimate of the noise n. Where it is right, ``noisy = clean + n`` and ``denoised = clean``, so (1) is
    ``clean + (1 - strength) n``: noise of the same colour and the same law over brightness, its standard deviation
    times (1 - strength), at every signal and in every plane. This holds in linear house units, where noise adds; a line
    drawn between rendered or stabilised images would bend with brightness. The noise level of the result is
    ``NoiseLevel.left(1 - strength)``, which is what the NoiseProfile of the written DNG says.

    Parameters
    ----------
    noisy, denoised : (..., H, W) tensors or float32 arrays
        House units, one shape. Neither is changed.
    strength : float
        1 returns ``denoised``, 0 returns ``noisy``, both exactly (the same object).

    Returns
    -------
    (..., H, W) tensor or array
        out = denoised + (1 - strength) (noisy - denoised)                                              (1)

    Raises
    ------
    DenoiseError
        If the strength lies outside 0 to 1.
    """
    if not 0.0 <= strength <= 1.0:
        raise DenoiseError(f"Strength {strength:g} was asked for, but it lies between 0 (nothing) and 1 (all).")
    if strength == 1.0:
        return denoised
    if strength == 0.0:
        return noisy
    removed = noisy - denoised
    removed *= 1.0 - strength
    removed += denoised  # (1)
    return removed
