"""The spectra of a cube, fitted band by band to denoised images, each band held by its neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from denoise.cubes.band_noise import robust_sigma
from denoise.cubes.flaws import Flaws
from denoise.cubes.low_rank import LowRank
from denoise.cubes.truncated import TruncatedFit, fit_truncated

_LEAST_PIXELS: Final = 200
_LEAST_SHARE: Final = 0.2
_RIDGE: Final = 1e-6
_CHUNK: Final = 1 << 23
_LEAST_INNOVATION: Final = 1e-4
_VARIANCE_PER_MEDIAN: Final = 2.198  # of the square of a standard normal: 1 / 0.4549
_FAR: Final = 4.0
_LEAST_OF_SIGMA: Final = 0.5  # images that kept their noise explain the noise of the bands that lead them
_SURPRISING: Final = 2.0


def refit(model: LowRank, planes: Tensor, images: Tensor, flaws: Flaws, *, keep_sigma: bool = False) -> LowRank:
    """Fit mean and spectra of each band to denoised images.

    Parameters
    ----------
    model : LowRank
        What was found so far.
    planes : (bands, H, W) tensor
        The noisy cube.
    images : (r, H W) tensor
        Its images, denoised.
    flaws : Flaws
        Of the cube.
    keep_sigma : bool
        The noise is known, and stays.

    Returns
    -------
    LowRank
        With new mean, spectra and sigma.

    Notes
    -----
    In images of unit variance, made of the given ones by T, theta_b = (mean_b, spectra_b) T has the same error
    variance v_b = sigma_b^2 / n_b in every coefficient. Spectra are smooth: theta_b lies about the straight line
    between its neighbours, theta'_b, with the variance p_k that the cube itself shows. So

    theta_b <- (theta_b / v_b + theta'_b / p_b) / (1 / v_b + 1 / p_b)                                              (1)

    Where a band jumps by far more than that, it is believed. Of a band that was cut off close to most of its values,
    what lies between the limits is fitted as such (`fit_truncated`). A band in which too little counts is what its
    neighbours say.
    """
    pixels = images.shape[1]
    features = torch.cat((images.new_ones(1, pixels), images))
    to_unit = torch.linalg.cholesky(_moments(features))
    features = torch.linalg.solve_triangular(to_unit, features, upper=False)
    counts = model.valid.flatten(1).to(planes.dtype)
    measured = counts.sum(1)
    theta = _least_squares(model.destriped(planes).flatten(1), counts, features)
    sigma = model.sigma
    told = measured > max(_LEAST_PIXELS, _LEAST_SHARE * pixels)
    if not keep_sigma:
        residual = (model.destriped(planes).flatten(1) - theta @ features).view_as(planes)
        least = _LEAST_OF_SIGMA * torch.where(torch.isfinite(sigma), sigma, 0.0)
        sigma = torch.where(told, robust_sigma(residual, model.valid).maximum(least), sigma)
    told = told & torch.isfinite(sigma)
    variance = sigma.square() / measured.clamp_min(1)
    if told.sum() > 2:
        line = _held_by_neighbours(theta, variance, told)
        cut = flaws.clipped & ~told & torch.isfinite(sigma)
        if cut.any():
            fit = _fit_what_was_seen(model, planes, flaws, features, cut, line, sigma)
            found = torch.isfinite(fit.variance)
            theta[cut], variance[cut], told[cut] = fit.theta, fit.variance, found
            sigma = sigma if keep_sigma else sigma.index_put((cut,), fit.sigma)
            line = _held_by_neighbours(theta, variance, told)
        theta = line
    coefficients = torch.linalg.solve_triangular(to_unit, theta, upper=False, left=False)
    return replace(model, mean=coefficients[:, 0], spectra=coefficients[:, 1:].contiguous(), sigma=sigma)


def _fit_what_was_seen(
    model: LowRank, planes: Tensor, flaws: Flaws, features: Tensor, cut: Tensor, theta: Tensor, sigma: Tensor
) -> TruncatedFit:
    """Fit the ``cut`` bands from the values between their limits, beginning with ``theta`` (bands, r + 1)."""
    _, height, _ = planes.shape
    stripes = model.offsets[cut][:, None].expand(-1, height, -1).flatten(1)
    limits = flaws.low[cut][:, None] - stripes, flaws.high[cut][:, None] - stripes
    values, seen = planes[cut].flatten(1) - stripes, flaws.valid[cut].flatten(1)
    return fit_truncated(values, seen, features, limits, theta[cut], sigma[cut])


def _moments(features: Tensor) -> Tensor:
    moments = features @ features.T / features.shape[1]
    return moments + _RIDGE * torch.diag(moments.diagonal())


def _least_squares(values: Tensor, counts: Tensor, features: Tensor) -> Tensor:
    """Return theta (bands, r + 1) over the values (bands, n) that count (1 or 0)."""
    size, pixels = features.shape
    gram = values.new_zeros(len(values), size**2)
    for part in torch.arange(pixels).split(max(1, _CHUNK // size**2)):
        here = slice(int(part[0]), int(part[-1]) + 1)
        products = (features[:, None, here] * features[None, :, here]).flatten(0, 1)
        gram += counts[:, here] @ products.T
    gram = gram.view(-1, size, size)
    ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1.0)
    gram = gram + ridge[:, None, None] * torch.eye(size).to(gram)
    return torch.linalg.solve(gram, ((counts * values) @ features.T)[..., None])[..., 0]


def _held_by_neighbours(theta: Tensor, variance: Tensor, told: Tensor) -> Tensor:
    """Combine (bands, r + 1) coefficients of error ``variance`` (bands,) with the line between their neighbours (1)."""
    line, line_variance, gap = _line(theta, variance, told)
    surprise = (theta - line).square()
    noise = (variance + line_variance)[:, None]
    innovation = (_VARIANCE_PER_MEDIAN * (surprise - noise)[told].median(0).values).clamp_min(0)
    innovation = innovation.maximum(_LEAST_INNOVATION * theta[told].square().mean(0))
    prior = innovation * gap[:, None].square() + line_variance[:, None]
    distance = (surprise / (prior + variance[:, None])).mean(1, keepdim=True)
    prior = prior * torch.where(distance > _SURPRISING, distance, 1.0)
    combined = (theta / variance[:, None] + line / prior) / (1 / variance[:, None] + 1 / prior)  # (1)
    return torch.where(told[:, None], combined, line)


def _line(theta: Tensor, variance: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each band the line between the told bands beside it, its error variance, and half their distance."""
    bands = len(theta)
    known = torch.nonzero(told).flatten().tolist()
    below, above = [-1] * bands, [-1] * bands
    for low, high in zip([-1, *known], [*known, bands], strict=True):
        for band in range(low + 1, min(high + 1, bands)):
            below[band] = low
        for band in range(max(low, 0), high):
            above[band] = high if high < bands else -1
    low, high = torch.tensor(below), torch.tensor(above)
    alone = (low < 0) | (high < 0)
    low, high = torch.where(low < 0, high, low), torch.where(high < 0, low, high)
    place = torch.arange(bands)
    span = (high - low).clamp_min(1)
    share = torch.where(alone, 0.5, (place - low) / span).to(theta)
    line = (1 - share)[:, None] * theta[low] + share[:, None] * theta[high]
    line_variance = (1 - share).square() * variance[low] + share.square() * variance[high]
    return line, line_variance, torch.where(alone, _FAR, span / 2).to(theta)
