"""Strength: how much of the noise goes, and how much stays, in units of the noise itself.

And `keep_mean`: what must never go, the local brightness.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from denoise.errors import DenoiseError
from noise_models.level import NoiseLevel

Planes = TypeVar("Planes", torch.Tensor, npt.NDArray[np.float32])

MEAN_HALO: Final = 48
"""How far `keep_mean` looks [pixel of a plane]."""
_STEP: Final = 8
_RADIUS: Final = 1.5
_REACH: Final = 4
_OUTLIER_SIGMA: Final = 5.0
_PLAUSIBLE_ERRORS: Final = 1.5


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


def keep_mean(noisy: torch.Tensor, denoised: torch.Tensor, noise: NoiseLevel) -> torch.Tensor:
    """Return to the denoised image what was removed of the coarse brightness.

    A denoiser errs by a few hundredths of sigma in the mean: an inverse of the stabiliser that does not fit, a network
    that learned a median. Nobody sees it in a pixel, but it darkens shadows as a whole or tints them. Noise has no
    coarse structure worth removing: averaged over this kernel only 0.024 of its standard deviation is left, which this
    adds back. Where a cell of 8 x 8 has still moved by more than one and a half standard errors of its mean, which
    noise seldom explains, the excess is returned as well. Outliers (hot pixels) are held to five standard deviations,
    so that none of them glows.

    Parameters
    ----------
    noisy, denoised : (B, C, H, W) float tensors
        House units. Neither is changed. Tiles must begin at multiples of 8, and reach `MEAN_HALO` beyond what is used.
    noise : NoiseLevel
        (C,) or (B, C), of ``noisy``.

    Returns
    -------
    (B, C, H, W) tensor
        denoised + G (noisy - denoised), G a low pass of 12 pixels standard deviation (means of 8 x 8, a Gaussian,
        linear interpolation), plus the excess of single cells. Planes smaller than 96 pixels are returned as they are.
    """
    height, width = noisy.shape[2:]
    if min(height, width) < 2 * MEAN_HALO:
        return denoised
    shot, read = (
        torch.tensor(_OUTLIER_SIGMA**2 * part, dtype=noisy.dtype, device=noisy.device).reshape(-1, part.shape[-1], 1, 1)
        for part in (noise.shot, noise.read)
    )
    limit = torch.addcmul(read, shot, denoised.clamp_min(0)).sqrt_()
    removed = (noisy - denoised).clamp_(-limit, limit)
    bottom, right = -height % _STEP, -width % _STEP
    if bottom or right:
        removed, limit = (functional.pad(part, (0, right, 0, bottom), mode="replicate") for part in (removed, limit))
    cells = coarse = functional.avg_pool2d(removed, _STEP)
    plausible = functional.avg_pool2d(limit, _STEP).mul_(_PLAUSIBLE_ERRORS / _OUTLIER_SIGMA / _STEP)
    taps = torch.arange(-_REACH, _REACH + 1, device=noisy.device, dtype=noisy.dtype)
    kernel = torch.exp(-0.5 * (taps / _RADIUS) ** 2)
    kernel = (kernel / kernel.sum()).expand(noisy.shape[1], 1, 1, -1)
    with torch.autocast(noisy.device.type, enabled=False):
        for across, padding in ((kernel, (_REACH, _REACH, 0, 0)), (kernel.transpose(2, 3), (0, 0, _REACH, _REACH))):
            coarse = functional.conv2d(functional.pad(coarse, padding, mode="reflect"), across, groups=noisy.shape[1])
    moved = cells - coarse
    coarse = coarse + (moved - moved.clamp(-plausible, plausible))
    smooth = functional.interpolate(coarse, scale_factor=_STEP, mode="bilinear", align_corners=False)
    return smooth[:, :, :height, :width].add_(denoised)
