"""A cube as few spectra times few images, fitted so that stripes, spikes and dead elements do not count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from denoise.cubes.band_noise import mean_of_valid, robust_sigma, sigma_by_differences, signal_spectra
from denoise.cubes.flaws import Flaws
from denoise.cubes.streaks import find_streaks
from denoise.cubes.stripes import BANDS_PER_SPECTRUM, column_offsets, weighted_fit

_MOST_SPECTRA: Final = (3, 6, 12, 24, 48, 48)
_SPIKE_SIGMA: Final = 4.0
_COMPANY_SIGMA: Final = 3.0
_SURELY: Final = 5.0
FIRST_SPIKE_SIGMA: Final = 6.0
"""At first sight, a spike lies this far from the mean of its column."""
_MANY_STREAKS: Final = 0.025
"""Share of the values in them, from which on a cube is full of streaks."""
_EVERY_COLUMN: Final = 4
"""Of so many, one tells whether the cube is full of streaks."""
_MOST_LEVERAGE: Final = 0.95
_OWN_SPECTRUM: Final = 0.75
"""Leverage of a band that has a spectrum of its own, such as a line that no other band shows."""
_LEAST_SIGMA: Final = 5e-4
"""Of what a band deviates at most from its median: of less noise nothing is to be gained, and the fit errs as much."""
_LEAST_OF_ALL: Final = 1e-4
"""Of the band's that deviates most, for the dullest ones."""
_ROUNDING: Final = 2e-6
"""Of a band's values: in float32 sums of them err by as much."""
_HIGH: Final = 0.999
_VALUES: Final = 4096


@dataclass(frozen=True, eq=False)
class LowRank:
    """What was found: x_b = mean_b + sum_k spectra_bk image_k + offset_b(column) + noise of sigma_b."""

    mean: Tensor
    """(bands,)."""
    spectra: Tensor
    """(bands, r); rows of bands without noise to go by are 0."""
    sigma: Tensor
    """(bands,) noise; infinity where it is not known."""
    offsets: Tensor
    """(bands, W) stripes."""
    valid: Tensor
    """(bands, H, W) bool: what counts; no stuck element, no limit, no spike."""

    def destriped(self, planes: Tensor) -> Tensor:
        """Return a cube (bands, H, W) without its stripes."""
        return planes - self.offsets[:, None, :]

    def images(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Fit the images to a cube (bands, H, W): (r, H W), and the mean covariance of their noise (r, r)."""
        weight = self.valid.flatten(1) / self.sigma.square()[:, None]
        return weighted_fit((self.destriped(planes) - self.mean[:, None, None]).flatten(1), weight, self.spectra)

    def cube(self, images: Tensor, shape: torch.Size) -> Tensor:
        """Return the cube (bands, H, W) that images (r, H W) make."""
        return torch.addmm(self.mean[:, None], self.spectra, images).view(shape)


def fit_low_rank(planes: Tensor, flaws: Flaws, sigma: Tensor | None = None) -> LowRank:
    """Find the spectra, the noise and the stripes of a cube.

    Parameters
    ----------
    planes : (bands, H, W) tensor
        House units, columns across track.
    flaws : Flaws
        Of the cube.
    sigma : (bands,) tensor, optional
        Noise of each band, where it is known; otherwise measured.

    Returns
    -------
    LowRank
        Of the rank that the data show.

    Notes
    -----
    The spectra come from deviations from the mean of each column, in which offsets of columns have no part. Then, in
    turns: images by least squares over what counts; stripes, spikes and noise from what is left; the next spectra from
    the cube in which what does not count was replaced by its fit. A band that was cut off does not lead.

    sigma_b^2 = mad(residual_b)^2 / (1 - h_b), h_b the share of a band's own noise in its fit                      (1)
    """
    known = sigma
    bands = len(planes)
    rough = sigma_by_differences(planes, flaws.valid)
    sigma = _floored(rough if sigma is None else sigma, planes)
    model = LowRank(
        mean=mean_of_valid(planes, flaws.valid)[:, 0, 0],
        spectra=planes.new_zeros(bands, 1),
        sigma=sigma,
        offsets=planes.new_zeros(bands, planes.shape[2]),
        valid=_without_first_spikes(planes, flaws.valid),
    )
    fitted = None
    for most in _MOST_SPECTRA:
        deviation = _deviation(model.destriped(planes), model.valid, fitted) / sigma[:, None, None]
        spectra = signal_spectra(deviation, min(most, most_spectra(bands)))
        leading = torch.where(flaws.clipped, torch.inf, sigma) if (~flaws.clipped).sum() > bands // 4 else sigma
        spectra = torch.where(torch.isfinite(sigma), sigma, 0.0)[:, None] * spectra
        model = replace(model, spectra=spectra, sigma=leading)
        residual = planes - model.cube(model.images(planes)[0], planes.shape)
        model = replace(model, offsets=column_offsets(residual, model.valid, spectra, leading))
        fitted = model.cube(model.images(planes)[0], planes.shape)
        residual = model.destriped(planes) - fitted
        shift = mean_of_valid(residual, model.valid)
        model, fitted, residual = replace(model, mean=model.mean + shift[:, 0, 0]), fitted + shift, residual - shift
        if known is None:
            leverage = _leverage(spectra, leading)
            share = (1 - leverage).clamp_min(1 - _MOST_LEVERAGE).sqrt()
            sigma = robust_sigma(residual, flaws.valid) / share  # (1)
            # A band with a spectrum of its own leaves nothing to measure its noise by.
            sigma = torch.where(leverage > _OWN_SPECTRUM, sigma.maximum(rough), sigma)
            sigma = _floored(sigma, planes)
        model = replace(model, sigma=sigma, valid=trusted(residual, sigma, flaws, fitted))
    return model


def most_spectra(bands: int) -> int:
    """Return how many spectra a cube of so many bands may have at most, if stripes are to be told from them."""
    return min(_MOST_SPECTRA[-1], max(1, bands // BANDS_PER_SPECTRUM - 1))


def trusted(residual: Tensor, sigma: Tensor, flaws: Flaws, expected: Tensor, *, rare: bool = False) -> Tensor:
    """Return which values (bands, H, W) count: measured, no spike, no streak, and far from where a band was cut.

    A spike lies more than four sigma from what is expected, alone: the bands beside it do not go along. A whole stretch
    of the spectrum that goes astray is something rare, not noise. With ``rare``, for a fit that is done, neither are
    those of a pixel that has many more of them than the others. A streak (`find_streaks`) does not count where the
    cube is full of them; elsewhere, what looks like one is mostly the scene.
    """
    inside = flaws.unaffected(expected, 3 * torch.where(torch.isfinite(sigma), sigma, 0.0))
    distance = torch.where(flaws.valid & inside, residual / sigma[:, None, None], 0.0)
    near = (distance.abs() < _SPIKE_SIGMA) | _accompanied(distance)
    measured = flaws.valid & inside
    near = near | (_missed_as_a_whole(measured & ~near, measured) if rare else False)
    counts = measured & near
    some = find_streaks(distance[:, :, ::_EVERY_COLUMN], counts[:, :, ::_EVERY_COLUMN])
    return counts & ~find_streaks(distance, counts) if float(some.float().mean()) > _MANY_STREAKS else counts


def _missed_as_a_whole(spikes: Tensor, measured: Tensor) -> Tensor:
    """Return (H, W): the pixels with more spikes than five standard errors above what the cube's share of them brings.

    Spikes come by chance, one here and one there. Where one pixel has many, the fit misses its spectrum.
    """
    count = measured.sum(0).clamp_min(1)
    share = spikes.float().mean((1, 2), keepdim=True)
    expected = (share * measured).sum(0)
    scatter = (share * (1 - share) * measured).sum(0).sqrt()
    return (spikes.sum(0) > expected + _SURELY * scatter + 1) & (count > 1)


def _accompanied(distance: Tensor) -> Tensor:
    """Return which values a band beside goes along with, far and to the same side."""
    beside = torch.zeros_like(distance, dtype=torch.bool)
    for above in (distance, -distance):
        company = above > _COMPANY_SIGMA
        beside[1:] |= company[:-1] & (above[1:] > 0)
        beside[:-1] |= company[1:] & (above[:-1] > 0)
    return beside


def _leverage(spectra: Tensor, sigma: Tensor) -> Tensor:
    """Return the share (bands,) of the noise of each band that its own fit follows."""
    whitened = spectra / sigma[:, None]
    gram = whitened.T @ whitened
    inverse = torch.linalg.inv(gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)).to(gram))
    return ((whitened @ inverse) * whitened).sum(1)


def _deviation(planes: Tensor, valid: Tensor, fitted: Tensor | None) -> Tensor:
    """Return deviations from the mean of each column; what does not count is replaced by its fit."""
    if fitted is not None:
        whole = torch.where(valid, planes, fitted)
        return whole - whole.mean(1, keepdim=True)
    mean = (planes * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp_min(1)
    return torch.where(valid, planes - mean, 0.0)


def column_spread(planes: Tensor, valid: Tensor) -> Tensor:
    """Return sigma of deviations from the mean of each column, (bands,): of scene and noise together."""
    return robust_sigma(_deviation(planes, valid, None), valid)


def _without_first_spikes(planes: Tensor, valid: Tensor) -> Tensor:
    deviation = _deviation(planes, valid, None)
    return valid & (deviation.abs() < FIRST_SPIKE_SIGMA * robust_sigma(deviation, valid)[:, None, None])


def _floored(sigma: Tensor, planes: Tensor) -> Tensor:
    """Keep the noise (bands,) above what the fit can tell, so that its errors are not taken for spikes."""
    some = planes.flatten(1)[:, :: max(1, planes[0].numel() // _VALUES)]
    place = max(1, round(_HIGH * some.shape[1]))
    spread = (some - some.median(1, keepdim=True).values).abs().kthvalue(place, 1).values
    rounding = _ROUNDING * some.abs().kthvalue(place, 1).values
    least = (_LEAST_SIGMA * spread).clamp_min(_LEAST_OF_ALL * float(spread.max()))
    return sigma.maximum(least).maximum(rounding).clamp_min(1e-12)
