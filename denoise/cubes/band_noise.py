"""The noise of each band of a cube, and the spectra that its signal needs.

All tensors are (bands, H, W) float32 in house units, rows along the track of a pushbroom; what is not ``valid`` may be
anything.

References
----------
.. [1] J. M. Bioucas-Dias, J. M. P. Nascimento, "Hyperspectral subspace identification", IEEE TGRS 46(8), 2008.
.. [2] V. A. Marchenko, L. A. Pastur, "Distribution of eigenvalues for some sets of random matrices", 1967.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

SIGMA_PER_MAD: Final = 1.4826
"""Standard deviation of a Gaussian per median of its absolute deviation."""
_LEAST_VALUES: Final = 50
_BLUR_RADIUS: Final = 1.0
_PIXELS_AT_ONCE: Final = 4096
"""Made float64 at a time."""
_ABOVE_THE_EDGE: Final = 1.2


def robust_sigma(residual: Tensor, valid: Tensor) -> Tensor:
    """Standard deviation of each band (bands,) about zero, by the median; infinity where too little is valid."""
    flat, good = residual.flatten(1), valid.flatten(1)
    median = flat.abs().masked_fill(~good, torch.nan).nanmedian(1).values
    return torch.where(good.sum(1) >= _LEAST_VALUES, SIGMA_PER_MAD * median, torch.inf)


def sigma_by_differences(planes: Tensor, valid: Tensor) -> Tensor:
    """Return a first estimate of the noise of each band (bands,), whatever the scene and the stripes.

    Notes
    -----
    d = (x[i-1] - 2 x[i] + x[i+1]) / sqrt(6) along the track                                                      (1)

    A column's offset cancels, a straight slope of the scene as well; texture makes it too large. Where too few
    neighbours along the track are valid, the spread of all valid values stands in.
    """
    count = valid.sum((1, 2))
    spread = (planes - mean_of_valid(planes, valid)).masked_fill(~valid, 0).square().sum((1, 2)) / count.clamp_min(1)
    spread = torch.where(count > 1, spread, torch.inf).sqrt()
    if planes.shape[1] < 3:
        return spread
    second = (planes[:, :-2] - 2 * planes[:, 1:-1] + planes[:, 2:]) / math.sqrt(6)  # (1)
    sigma = robust_sigma(second, valid[:, :-2] & valid[:, 1:-1] & valid[:, 2:])
    return torch.where(torch.isfinite(sigma), sigma, spread)


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of what was whitened and blurred; parts of a cube, added, are those of the cube."""

    total: Tensor
    """(bands, bands) float64: sum over the pixels."""
    pixels: int
    """How many."""
    gain: float
    """Of the variance of white noise in the blur."""

    @classmethod
    def of(cls, whitened: Tensor) -> Moments:
        """Take those of deviations from a mean (bands, H, W), divided by the noise of their band."""
        smooth, gain = blur(whitened, _BLUR_RADIUS)
        parts = (part.double() for part in smooth.flatten(1).split(_PIXELS_AT_ONCE, 1))
        return cls(sum((part @ part.T for part in parts), start=torch.zeros(())), whitened[0].numel(), gain)

    def __add__(self, other: Moments) -> Moments:
        pixels = self.pixels + other.pixels
        gain = (self.pixels * self.gain + other.pixels * other.gain) / pixels
        return Moments(self.total + other.total, pixels, gain)

    def spectra(self, most: int) -> Tensor:
        """Return the spectra (bands, r) float32 that hold the signal; see `signal_spectra`."""
        bands = len(self.total)
        values, vectors = torch.linalg.eigh((self.total / (self.pixels * self.gain)).cpu())  # (1)
        edge = (1 + math.sqrt(bands / (2 * self.pixels * self.gain))) ** 2  # (2)
        rank = int((values > _ABOVE_THE_EDGE * edge).sum())
        return vectors.flip(1)[:, : max(1, min(rank, most))].to(self.total.device, torch.float32)


def signal_spectra(whitened: Tensor, most: int) -> Tensor:
    """Return the spectra (bands, r) that hold the signal, orthonormal, strongest first.

    Parameters
    ----------
    whitened : (bands, H, W) tensor
        Deviations from a mean, divided by the noise of their band.
    most : int
        Upper bound of r; at least 1 is returned.

    Notes
    -----
    A scene is smooth and noise is not: after a small blur, whose noise gain is g, noise of unit variance leaves in

    C = sum s s^T / (N g)                                                                                         (1)

    only eigenvalues below (1 + sqrt(bands / N'))^2, N' = 2 N g independent pixels (2), so that signals several times
    weaker than without the blur stand above it.
    """
    return Moments.of(whitened).spectra(most)


def blur(planes: Tensor, radius: float) -> tuple[Tensor, float]:
    """Convolve each plane (C, H, W) with a Gaussian of this standard deviation [pixel]; also the gain of variance."""
    reach = min(math.ceil(3 * radius), min(planes.shape[1:]) - 1)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / radius) ** 2)
    taps = taps / taps.sum()
    for axis in (2, 1):  # shifted and added: a convolution would hold a copy of the planes for each tap
        length = planes.shape[axis]
        beyond = (reach, reach, 0, 0) if axis == 2 else (0, 0, reach, reach)
        padded = functional.pad(planes[None], beyond, mode="reflect")[0]
        planes = torch.zeros_like(planes)
        for shift, tap in enumerate(taps.tolist()):
            planes.add_(padded.narrow(axis, shift, length), alpha=tap)
    return planes, float(taps.square().sum() ** 2)


def mean_of_valid(planes: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid values of each band, (bands, 1, 1)."""
    return (planes * valid).sum((1, 2), keepdim=True) / valid.sum((1, 2), keepdim=True).clamp_min(1)
