"""Regression where values were cut off at limits: bands with saturation, fill values or impulses.

References
----------
.. [1] R. J. Olsen, "Note on the Uniqueness of the Maximum Likelihood Estimator for the Tobit Model", Econometrica
   46(5), 1978 (the parameters).
.. [2] C. Orme, "On the uniqueness of the maximum likelihood estimator in truncated regression models", Econometric
   Reviews 8(2), 1989 (a stationary point is the maximum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_MOST_PIXELS: Final = 16384
_FIRST_PIXELS: Final = 1024
_STEPS: Final = 30
_CLOSE: Final = 1e-3  # of a log-likelihood: far below what chance does to it
_LEAST_SHARE: Final = 1e-10
_FIRST_DAMPING: Final = 1e-3
_LEAST_DAMPING: Final = 1e-8
_MOST_DAMPING: Final = 1e6


@dataclass(frozen=True, eq=False)
class TruncatedFit:
    """Of bands that were cut off."""

    theta: Tensor
    """(bands, k) coefficients."""
    sigma: Tensor
    """(bands,) noise before the cut."""
    variance: Tensor
    """(bands,): of the error of a coefficient, their mean; infinity where nothing was found."""


def fit_truncated(
    values: Tensor, seen: Tensor, features: Tensor, limits: tuple[Tensor, Tensor], theta: Tensor, sigma: Tensor
) -> TruncatedFit:
    """Fit values = theta features + Gaussian noise, of which only what lies between limits was seen.

    Values at a limit have no say, whether they were cut off or impulses, so it need not be known how many are which.

    Parameters
    ----------
    values : (bands, n) tensor
        With what was cut off.
    seen : (bands, n) bool tensor
        What lies between the limits, and was measured.
    features : (k, n) tensor
        Of unit variance, uncorrelated.
    limits : ((bands, n) tensor, (bands, n) tensor)
        Lower and upper one; infinite where there is none.
    theta : (bands, k) tensor
        To begin with.
    sigma : (bands,) tensor
        Noise to begin with.

    Returns
    -------
    TruncatedFit
        The maximum of likelihood; where it was not reached, what was begun with.

    Notes
    -----
    With g = 1 / sigma and d = g theta, the log-likelihood of a value y between L and H is

    ln g - u^2 / 2 - ln(Phi(c) - Phi(a)),  u = g y - d f, a = g L - d f, c = g H - d f,                        (1)

    maximised by damped Newton steps. With C the inverse of its curvature, to first order

    var theta = (C_dd - 2 theta C_dg + theta^2 C_gg) / g^2.                                                    (2)

    Every n-th pixel is used where there are more than enough.
    """
    pixels = values.shape[1]
    last = max(1, -(-pixels // _MOST_PIXELS))

    def every(step: int) -> _Likelihood:
        return _Likelihood(*(part[:, ::step].double() for part in (values, seen, features, *limits)))

    begun = torch.cat((theta / sigma[:, None], 1 / sigma[:, None]), 1).double()
    begun, _, _ = _climbed(every(max(last, pixels // _FIRST_PIXELS)), begun)
    parameters, curvature, found = _climbed(every(last), begun)
    fitted, inverse = parameters[:, :-1] / parameters[:, -1:], parameters[:, -1]
    covariance = torch.linalg.pinv(curvature, hermitian=True) / last
    own, shared = covariance.diagonal(dim1=1, dim2=2)[:, :-1], covariance[:, :-1, -1]
    error = (own - 2 * fitted * shared + fitted.square() * covariance[:, -1:, -1]).mean(1) / inverse.square()  # (2)
    return TruncatedFit(
        torch.where(found[:, None], fitted, theta.double()).to(values.dtype),
        torch.where(found, 1 / inverse, sigma.double()).to(values.dtype),
        torch.where(found, error, torch.inf).to(values.dtype),
    )


def _climbed(likelihood: _Likelihood, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return parameters (bands, k + 1) at the top, the curvature there, and whether (bands,) it was reached."""
    best, slope, curvature = likelihood.at(parameters)
    damping = torch.full_like(best, _FIRST_DAMPING)
    found = torch.zeros_like(best, dtype=torch.bool)
    for _ in range(_STEPS):
        scale = curvature.diagonal(dim1=1, dim2=2).abs().clamp_min(1e-12)
        damped = curvature + torch.diag_embed(damping[:, None] * scale)
        change = torch.linalg.solve_ex(damped, slope[..., None]).result[..., 0]
        found = found | ((change * slope).sum(1).abs() < _CLOSE)
        climbing = torch.nonzero(~found)[:, 0]
        if not len(climbing):
            break
        tried = parameters[climbing] + change[climbing]
        value, new_slope, new_curvature = likelihood.of(climbing).at(tried)
        better = (tried[:, -1] > 0) & (value > best[climbing])
        higher = climbing[better]
        parameters[higher], best[higher] = tried[better], value[better]
        slope[higher], curvature[higher] = new_slope[better], new_curvature[better]
        damping[climbing] *= torch.where(better, 0.1, 10.0).to(damping)
        damping.clamp_(_LEAST_DAMPING, _MOST_DAMPING)
    return parameters, curvature, found & (curvature.diagonal(dim1=1, dim2=2).amin(1) > 0)


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Of parameters (bands, k + 1): d, then g; sums over the values that were seen."""

    values: Tensor
    counts: Tensor
    features: Tensor
    low: Tensor
    high: Tensor

    def of(self, bands: Tensor) -> _Likelihood:
        """Return that of some bands."""
        values, counts, low, high = (part[bands] for part in (self.values, self.counts, self.low, self.high))
        return _Likelihood(values, counts, self.features, low, high)

    def at(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (1), its gradient (bands, k + 1), and minus its second derivatives (bands, k + 1, k + 1)."""
        inverse = parameters[:, -1:]
        line = parameters[:, :-1] @ self.features
        residual = inverse * self.values - line
        below, above = inverse * self.low - line, inverse * self.high - line
        share = (torch.special.ndtr(above) - torch.special.ndtr(below)).clamp_min(_LEAST_SHARE)
        # density at the limits over the share between them, times powers of what multiplies the limit
        at_low, at_high = _density(below) / share, _density(above) / share
        low, high = torch.nan_to_num(self.low, posinf=0, neginf=0), torch.nan_to_num(self.high, posinf=0, neginf=0)
        mean = at_low - at_high
        pull = at_high * high - at_low * low
        steep_low = at_low * torch.nan_to_num(below, posinf=0, neginf=0)
        steep_high = at_high * torch.nan_to_num(above, posinf=0, neginf=0)
        value = (inverse.clamp_min(1e-30).log() - residual.square() / 2 - share.log()) * self.counts
        by_line = (residual - mean) * self.counts
        by_inverse = (1 / inverse - residual * self.values - pull) * self.counts
        line_line = (1 + steep_low - steep_high - mean.square()) * self.counts
        line_inverse = -(self.values - (steep_high * high - steep_low * low - mean * pull)) * self.counts
        both_inverse = (
            1 / inverse.square() + self.values.square() + steep_low * low**2 - steep_high * high**2
        ) * self.counts
        both_inverse = both_inverse - pull.square() * self.counts
        bands, size = parameters.shape
        curvature = line.new_zeros(bands, size, size)
        products = (self.features[:, None] * self.features[None]).flatten(0, 1)
        curvature[:, :-1, :-1] = (line_line @ products.T).view(bands, size - 1, size - 1)
        curvature[:, :-1, -1] = curvature[:, -1, :-1] = line_inverse @ self.features.T
        curvature[:, -1, -1] = both_inverse.sum(1)
        slope = torch.cat((by_line @ self.features.T, by_inverse.sum(1, keepdim=True)), 1)
        return value.sum(1), slope, curvature


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
