"""Strength: how much of the noise goes, and how much stays, in units of the noise itself.

And what must never go: `keep_detail`, more than there is noise; `keep_mean`, the local brightness.
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
_PLAUSIBLE_ENERGY: Final = 1.25
_LEAST_VARIANCE: Final = (1 / 65535) ** 2 / 12


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


def keep_detail(noisy: torch.Tensor, denoised: torch.Tensor, noise: NoiseLevel) -> torch.Tensor:
    """Return to the denoised image what was removed beyond the energy of the noise.

    A network's answer is off by some share of the picture's contrast, however little noise there is: on a nearly clean
    image of fine texture that is many times the noise. What goes in a cell of 8 x 8 pixels can be noise only as far as
    its energy, over a neighbourhood of 3 x 3 cells, is the noise's. Beyond that it is noise and an error independent of
    it, of energies 1 and E - 1, and the share 1 / E of it is the best to take away. Single outliers (hot pixels), which
    rightly go whole, count as five standard deviations at most.

    Parameters
    ----------
    noisy, denoised : (B, C, H, W) float tensors
        House units. Neither is changed. Tiles must begin at multiples of 8, and reach 20 pixels beyond what is used.
    noise : NoiseLevel
        (C,) or (B, C), of ``noisy``; at least the rounding of 16 bit is assumed.

    Returns
    -------
    (B, C, H, W) tensor
        denoised + (1 - min(1, 1.25 / E)) (noisy - denoised), E the mean of ((noisy - denoised) / sigma)^2 over planes
        and cells, interpolated linearly; the quarter above 1 is what E scatters by chance.

    Notes
    -----
    A mean m of squares that count 25 at most stands for E = m / (1 - m / 25), within a third up to E = 100.      (1)
    """
    height, width = noisy.shape[2:]
    variance = _variance(denoised, noise).clamp_min_(_LEAST_VARIANCE)
    removed = noisy - denoised
    cells = cells_around((removed.square() / variance).clamp_max_(_OUTLIER_SIGMA**2))
    cells = (cells / (1 - cells / _OUTLIER_SIGMA**2).clamp_min_(1e-6)).clamp_min_(_PLAUSIBLE_ENERGY)  # (1)
    if noisy.device.type == "cpu" and bool((cells.detach() <= _PLAUSIBLE_ENERGY).all()):
        return denoised  # as nearly always; a card would have to be waited for
    energy = between_cells(cells, height, width)
    limit = variance.sqrt_().mul_(_OUTLIER_SIGMA) * energy
    return removed.clamp_(-limit, limit).mul_(1 - _PLAUSIBLE_ENERGY / energy).add_(denoised)


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
    limit = _variance(denoised, noise).sqrt_().mul_(_OUTLIER_SIGMA)
    removed = (noisy - denoised).clamp_(-limit, limit)
    cells = coarse = _cells(removed)
    everywhere = limit.shape[2:] == (1, 1)
    plausible = (limit if everywhere else _cells(limit)) * (_PLAUSIBLE_ERRORS / _OUTLIER_SIGMA / _STEP)
    taps = torch.arange(-_REACH, _REACH + 1, device=noisy.device, dtype=noisy.dtype)
    kernel = torch.exp(-0.5 * (taps / _RADIUS) ** 2)
    kernel = (kernel / kernel.sum()).expand(noisy.shape[1], 1, 1, -1)
    with torch.autocast(noisy.device.type, enabled=False):
        for across, padding in ((kernel, (_REACH, _REACH, 0, 0)), (kernel.transpose(2, 3), (0, 0, _REACH, _REACH))):
            coarse = functional.conv2d(functional.pad(coarse, padding, mode="reflect"), across, groups=noisy.shape[1])
    moved = cells - coarse
    coarse = coarse + (moved - moved.clamp(-plausible, plausible))
    return denoised + between_cells(coarse, height, width)


def cells_around(values: torch.Tensor) -> torch.Tensor:
    """Average (B, C, H, W) over planes and over 3 x 3 cells of 8 x 8 around each cell, (B, 1, rows, columns)."""
    cells = functional.pad(_cells(values.mean(1, keepdim=True)), (1, 1, 1, 1), mode="replicate")
    return functional.avg_pool2d(cells, 3, 1)


def between_cells(cells: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Interpolate (B, C, rows, columns) of cells of 8 x 8 linearly to (B, C, height, width)."""
    pixels = functional.interpolate(cells.contiguous(), scale_factor=_STEP, mode="bilinear", align_corners=False)
    return pixels[:, :, :height, :width]


def _cells(values: torch.Tensor) -> torch.Tensor:
    """Average (B, C, H, W) over cells of 8 x 8, the last of which may reach beyond the edge."""
    bottom, right = -values.shape[2] % _STEP, -values.shape[3] % _STEP
    if bottom or right:
        values = functional.pad(values, (0, right, 0, bottom), mode="replicate")
    return functional.avg_pool2d(values, _STEP)


def _variance(denoised: torch.Tensor, noise: NoiseLevel) -> torch.Tensor:
    """Return the variance of the noise at every value of (B, C, H, W); (B, C, 1, 1) if it does not follow the light."""
    shot, read = (
        torch.tensor(part, dtype=denoised.dtype, device=denoised.device).reshape(-1, part.shape[-1], 1, 1)
        for part in (noise.shot, noise.read)
    )
    return torch.addcmul(read, shot, denoised.clamp_min(0)) if noise.shot.any() else read
