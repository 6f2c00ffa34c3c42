"""How far drawn numbers are from real ones: quantiles against quantiles, cumulated shares against cumulated shares.

Both losses are differentiable in the drawn values, so that a network learns a law from samples alone: no pairs, no
likelihood, no second network.

References
----------
.. [1] H. Feng et al., "Physics-guided noise neural proxy for practical low-light raw image denoising",
   arXiv 2310.09126, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

MOST_VALUES: Final = 2**24
"""`torch.quantile` takes no more values than this; larger sets are thinned to as many."""
GRID_SIGMAS: Final = 4.0
"""The grids reach so far into the tails [sigma of a Gaussian]."""
GRID_POINTS: Final = 1000
DENSITY_EVERY: Final = 5
"""So many cells of a grid make one of the density's."""


@dataclass(frozen=True, eq=False)
class EmpiricalLaw:
    """The law of a set of numbers: straight lines between its sorted values."""

    values: Tensor
    """(N,) ascending; two or more."""
    shares: Tensor
    """(N,) share of the law below each, from 0 to 1."""

    @classmethod
    def of(cls, values: Tensor, weights: Tensor | None = None, most: int = MOST_VALUES) -> EmpiricalLaw:
        """Make the law of values of any shape.

        Parameters
        ----------
        values : float tensor
            Two or more; the gradient flows through them.
        weights : tensor of the same shape, optional
            How much each counts, above 0; by default all count the same.
        most : int
            Of more values, so many are kept, evenly spaced in rank.

        Returns
        -------
        EmpiricalLaw
            With equal weights the share below the i-th of N is i / (N - 1), counted from 0.
        """
        ascending, order = torch.sort(values.reshape(-1))
        if weights is None:
            shares = torch.linspace(0, 1, ascending.numel(), device=values.device, dtype=torch.float64)
        else:
            weight = weights.reshape(-1)[order].double()
            middle = torch.cumsum(weight, 0) - weight / 2
            shares = (middle - middle[0]) / (middle[-1] - middle[0])
        if ascending.numel() > most:
            even = torch.linspace(0, ascending.numel() - 1, most, device=values.device, dtype=torch.float64)
            ascending, shares = ascending[even.round().long()], shares[even.round().long()]
        return cls(ascending, shares)

    def quantiles(self, shares: Tensor) -> Tensor:
        """Return the values below which these shares (P,) of the law lie, (P,)."""
        wanted = shares.double().clamp(0, 1)
        above = torch.searchsorted(self.shares.detach(), wanted).clamp(1, self.values.numel() - 1)
        part = _part(wanted, self.shares[above - 1], self.shares[above])
        return torch.lerp(self.values[above - 1], self.values[above], part.to(self.values))

    def cumulated(self, places: Tensor) -> Tensor:
        """Return the shares of the law below these places (P,), (P,).

        Notes
        -----
        F(x) = F_(i-1) + (F_i - F_(i-1)) (x - s_(i-1)) / (s_i - s_(i-1)), s_(i-1) < x <= s_i                      (1)

        The gradient flows to s_i and s_(i-1). Between equal values there is no slope, and never NaN.
        """
        fixed = self.values.detach()
        inside = places.to(fixed).clamp(fixed[0], fixed[-1])
        above = torch.searchsorted(fixed, inside).clamp(1, fixed.numel() - 1)
        part = _part(inside, self.values[above - 1], self.values[above])
        return torch.lerp(self.shares[above - 1].to(part), self.shares[above].to(part), part)  # (1)


def _part(value: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Return how far ``value`` has come from below to above; 1 where the two are equal."""
    gap = above - below
    is_open = gap > 0
    return torch.where(is_open, value - below, 1.0) / torch.where(is_open, gap, 1.0)


def dither(values: Tensor, generator: torch.Generator, step: float = 1.0) -> Tensor:
    """Fill the gaps between quantised values: each is moved by up to half a ``step``, evenly to both sides."""
    chance = torch.rand(values.shape, generator=generator, device=values.device, dtype=values.dtype)
    return values + step * (chance - 0.5)


def tail_grid(
    generator: torch.Generator, points: int = GRID_POINTS, sigmas: float = GRID_SIGMAS, *, like: Tensor
) -> Tensor:
    """Return shares (points,) that a Gaussian's quantiles space evenly: the tails count as much as the centre.

    Notes
    -----
    p = Phi(2 s u - s) + N(0, 1) 10**-s, u even from 10**-s to 1 - 10**-s, cut to 0..1 and sorted                 (1)
    """
    edge = 10.0**-sigmas
    even = torch.linspace(edge, 1 - edge, points, device=like.device, dtype=like.dtype)
    shares = torch.special.ndtr(2 * sigmas * even - sigmas)
    jitter = torch.randn(points, generator=generator, device=like.device, dtype=like.dtype)
    return torch.sort((shares + edge * jitter).clamp(0, 1)).values  # (1)


def centre_grid(
    generator: torch.Generator, points: int = GRID_POINTS, sigmas: float = GRID_SIGMAS, *, like: Tensor
) -> Tensor:
    """Return places (points,) between which a Gaussian holds equal shares: dense at the centre, sparse in the tails.

    Notes
    -----
    x = Phi^-1(u + N(0, 1) 10**-s / 2), u even from 10**-s to 1 - 10**-s, cut to that range and sorted            (1)
    """
    edge = 10.0**-sigmas
    even = torch.linspace(edge, 1 - edge, points, device=like.device, dtype=like.dtype)
    jitter = torch.randn(points, generator=generator, device=like.device, dtype=like.dtype)
    return torch.sort(torch.special.ndtri((even + edge / 2 * jitter).clamp(edge, 1 - edge))).values  # (1)


def quantile_loss(drawn: EmpiricalLaw, shares: Tensor, real_quantiles: Tensor) -> Tensor:
    """Return the mean distance of the drawn quantiles at ``shares`` (P,) from the real ones (P,)."""
    return (drawn.quantiles(shares) - real_quantiles).abs().mean()


def cdf_loss(drawn: EmpiricalLaw, places: Tensor, real_shares: Tensor) -> Tensor:
    """Return the mean distance of the drawn shares below ``places`` (P,) from the real ones (P,)."""
    return (drawn.cumulated(places) - real_shares).abs().mean()


def density_loss(drawn: EmpiricalLaw, places: Tensor, real_shares: Tensor, every: int = DENSITY_EVERY) -> Tensor:
    """Return the Kullback-Leibler divergence of the drawn from the real shares between ``places`` (P,) [nat].

    The two other losses hardly see a density that swings about the right one; this one does.

    Parameters
    ----------
    drawn : EmpiricalLaw
        The gradient flows through it.
    places, real_shares : (P,) tensors
        Sorted places, and the real shares below them.
    every : int
        Only every so many-th place is an edge of a cell; what lies beyond the outermost ones is a cell too.

    Notes
    -----
    KL = sum p ln(p / q), p and q the real and the drawn shares of each cell                                      (1)
    """
    p, q = _cells(real_shares[::every]), _cells(drawn.cumulated(places[::every])).clamp_min(1e-12)
    full = p > 0
    return (p[full] * (p[full] / q[full]).log()).sum()  # (1)


def _cells(shares: Tensor) -> Tensor:
    """Return the shares (P + 1,) between those below P places, and beyond the outermost."""
    return torch.cat([shares.new_zeros(1), shares, shares.new_ones(1)]).diff()


def distribution_loss(drawn: EmpiricalLaw, real: EmpiricalLaw, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return quantile loss and CDF loss of a drawn law against a real one.

    Parameters
    ----------
    drawn, real : EmpiricalLaw
        Both in units of the real one's standard deviation. The gradient flows to the values of ``drawn``.
    generator : torch.Generator
        Of the grids' jitter.

    Returns
    -------
    tuple of scalar tensors
        Their sum is what a proxy minimises.

    Notes
    -----
    L = mean_j |Q_drawn(p_j) - Q_real(p_j)| + mean_j |F_drawn(x_j) - F_real(x_j)|                                 (1)
    """
    shares = tail_grid(generator, like=real.values)
    places = centre_grid(generator, like=real.values)
    return (
        quantile_loss(drawn, shares, real.quantiles(shares)),
        cdf_loss(drawn, places, real.cumulated(places)),
    )  # (1)
