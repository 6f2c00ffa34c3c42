"""A first estimate of a cube with what was measured beside it, and how a better one is put together with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from denoise.cubes.eigen_images import EigenImages, stacked

_SURE_ERRORS: Final = 5.0
_SERVED: Final = 0.1
_WHOLE: Final = 0.95


@dataclass(frozen=True, eq=False)
class FirstEstimate:
    """What is known of cubes before a network refines them; house units throughout."""

    cube: Tensor
    """(B, bands, H, W): the estimate."""
    rest: Tensor
    """(B, bands, H, W): what was measured, its stripes taken out, less the estimate."""
    valid: Tensor
    """(B, bands, H, W) bool: where ``rest`` is signal and noise only; no dead element, no spike."""
    sigma: Tensor
    """(B, bands): noise of what was measured; infinity for a band that holds nothing."""
    eigen: EigenImages | None = None
    """The images that ``cube`` is made of, where it is made of any."""

    @property
    def known_sigma(self) -> Tensor:
        """(B, bands, 1, 1): the noise, that of the noisiest band where it is not known; never 0."""
        known = torch.isfinite(self.sigma)
        sigma = torch.where(known, self.sigma, 0.0)
        largest = sigma.amax(1, keepdim=True)
        least = torch.finfo(sigma.dtype).eps * self.cube.abs().amax((1, 2, 3)).clamp_min(1e-12)[:, None]
        return torch.where(known, sigma, largest).maximum(least)[:, :, None, None]


def joined(firsts: Sequence[FirstEstimate]) -> FirstEstimate:
    """Return estimates of cubes of the same shape as one batch."""
    eigen = [first.eigen for first in firsts if first.eigen is not None]
    return FirstEstimate(
        cube=torch.cat([first.cube for first in firsts]),
        rest=torch.cat([first.rest for first in firsts]),
        valid=torch.cat([first.valid for first in firsts]),
        sigma=torch.cat([first.sigma for first in firsts]),
        eigen=stacked(eigen) if len(eigen) == len(firsts) else None,
    )


@dataclass(frozen=True, eq=False)
class BandTrust:
    """How far a refined estimate is trusted, band by band: a fact of whole cubes, not of their parts."""

    moved: Tensor
    """(B, bands, 1, 1): what each band is moved by; house units."""
    weight: Tensor
    """(B, bands, 1, 1): share of what is left that comes back."""

    @classmethod
    def of(cls, refined: Tensor, first: FirstEstimate) -> BandTrust:
        """Measure it for an estimate (B, bands, H, W); see `combine`."""
        rest = torch.where(first.valid, first.cube + first.rest - refined, 0.0)
        count = first.valid.sum((2, 3), keepdim=True).clamp_min(1)
        moved = rest.sum((2, 3), keepdim=True) / count
        moved = moved * (1 - first.known_sigma.square() / (count * moved.square()).clamp_min(1e-30)).clamp_min(0)  # (3)
        moved = torch.where(count > _WHOLE * first.valid[0, 0].numel(), moved, 0.0)
        energy = torch.where(first.valid, (rest - moved) / first.known_sigma, 0.0).square()
        return cls(moved, _weight(energy, first.valid, (2, 3)))


def combine(refined: Tensor, first: FirstEstimate, trust: BandTrust | None = None) -> Tensor:
    """Put a refined estimate and what was measured together, each by its own uncertainty.

    What was measured errs by sigma, known. How far the refined estimate errs shows in what is left: if it were the
    truth, what is left would be noise of sigma. What there is beyond that, and beyond what chance brings, is its error,
    v sigma^2. It is measured twice: over every band, and over the spectrum of every pixel, where a small thing that the
    estimate lost shows. So a band in which the estimate serves badly comes back, and a cube that was nearly clean is
    not made worse.

    Parameters
    ----------
    refined : (B, bands, H, W) tensor
        House units.
    first : FirstEstimate
        Whose ``cube`` was refined.
    trust : BandTrust, optional
        Of the whole cube, where this is a part of one; otherwise measured here.

    Returns
    -------
    (B, bands, H, W) tensor
        refined + w rest', the minimum of variance for two independent estimates                             (1)

    Notes
    -----
    w = v / (v + 1),  v = max(0, mean(rest'^2 / sigma^2) - 1 - 5 sqrt(2 / n))                                 (2)

    Before that each band of which nearly all is valid, so that what is left out cannot bias its mean, is moved by

    (1 - sigma^2 / (n m^2)) m  where positive, m the mean of rest'                                           (3)

    over n valid values; bands that err as a whole have no say in a pixel's. Of the band's and the pixel's w the larger
    counts. Where nothing was measured, w = 0.
    """
    trust = trust or BandTrust.of(refined, first)
    refined = refined + trust.moved
    rest = torch.where(first.valid, first.cube + first.rest - refined, 0.0)
    served = first.valid & (trust.weight < _SERVED)
    of_pixel = _weight((rest / first.known_sigma).square() * served, served, (1,))
    return refined + trust.weight.maximum(of_pixel) * rest  # (1)


def _weight(energy: Tensor, valid: Tensor, axes: tuple[int, ...]) -> Tensor:
    count = valid.sum(axes, keepdim=True).clamp_min(1)
    excess = (energy.sum(axes, keepdim=True) / count - 1 - _SURE_ERRORS * (2 / count).sqrt()).clamp_min(0)
    return excess / (excess + 1)  # (2)
