"""How the proxy learns from the pixel noise of dark frames: what is real, what is drawn, and their distance.

The real residuals are not the noise itself: the converter rounded each frame, the mean of n frames was taken off, and
dither filled the steps that were left. So the drawn noise goes the same way before the two are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from noise_models.base import CalibrationError
from noise_models.pnnp_law import Curves
from noise_models.pnnp_losses import EmpiricalLaw, cdf_loss, centre_grid, density_loss, quantile_loss, tail_grid
from noise_models.pnnp_network import NoiseProxy

_FEWEST_BEYOND: Final = 10
"""Quantiles beyond which fewer real values lie say nothing."""
_START_SIGMAS: Final = 5.0
_START_NODES: Final = 501
_DENSITY_WEIGHT: Final = 1000.0


@dataclass(frozen=True, eq=False)
class PixelNoise:
    """The noise of single pixels at one ISO, as dark frames show it."""

    iso: float
    """Sensitivity [ISO]."""
    mode: int
    """Number of its gain mode."""
    law: EmpiricalLaw
    """Of the residuals, dithered where they were whole numbers [DN]."""
    sigma_dn: float
    """Their standard deviation [DN]."""
    frames: int
    """Number n of frames whose mean was taken off; 0 if none was."""
    rounded: bool
    """Whether the converter rounded each frame, and dither was added to the residuals."""
    lines: float = 0.0
    """Share of the variance that row and column means took off, 1/W + 1/H [1]."""


@dataclass(frozen=True, eq=False)
class ProxyBatch:
    """The real side of the loss at B ISOs, on grids of P points, in units of the real standard deviation."""

    which: Tensor
    """(B,) int64, number of the ISO."""
    shares: Tensor
    """(B, P)."""
    real_quantiles: Tensor
    """(B, P)."""
    places: Tensor
    """(B, P)."""
    real_shares: Tensor
    """(B, P)."""


def start_from(proxy: NoiseProxy, noises: Sequence[PixelNoise]) -> None:
    """Give the first branch of every mode the shape of the pixel noise at the mode's highest ISO.

    Training would find it too, but from a Gaussian it takes thousands of steps more.

    Parameters
    ----------
    proxy : NoiseProxy
        As it begins; changed in place.
    noises : sequence of PixelNoise
        What it will learn from.

    Notes
    -----
    f_dep(z) = Q(Phi(z)) sigma_dep / sigma, Q the quantiles of the real noise; straight on from its outermost values (1)
    """
    nodes = torch.linspace(-_START_SIGMAS, _START_SIGMAS, _START_NODES)
    density = torch.softmax(-nodes.square() / 2, 0)
    for mode in sorted({noise.mode for noise in noises}):
        noise = max((each for each in noises if each.mode == mode), key=lambda each: each.iso)
        branch = proxy.mode(mode).dependent
        with torch.no_grad():
            size = (density * branch.curve(nodes).square()).sum().sqrt()
        branch.follow(nodes, size * _shape(noise, nodes))  # (1)


def _shape(noise: PixelNoise, nodes: Tensor) -> Tensor:
    """Return the real quantiles at the nodes of a Gaussian, in units of sigma, straight on from the outermost ones."""
    fewest = _FEWEST_BEYOND / max(noise.law.values.numel(), 20 * _FEWEST_BEYOND)
    reach = float(torch.special.ndtri(torch.tensor(1 - fewest, dtype=torch.float64)))
    inside = nodes[nodes.abs() < reach].double()
    wanted = noise.law.quantiles(torch.special.ndtr(inside)) / noise.sigma_dn
    few = max(len(inside) // 40, 1)
    step = inside[few] - inside[0]
    low, high = (wanted[few] - wanted[0]) / step, (wanted[-1] - wanted[-1 - few]) / step
    below, above = nodes[nodes <= inside[0] - 1e-6], nodes[nodes >= inside[-1] + 1e-6]
    parts = wanted[0] + low * (below - inside[0]), wanted, wanted[-1] + high * (above - inside[-1])
    return torch.cat(parts).float()


class PixelNoiseSource:
    """Where the training of a proxy gets its batches: real pixel noise, seen at the points of random grids.

    Parameters
    ----------
    noises : sequence of PixelNoise
        One for each ISO.
    """

    def __init__(self, noises: Sequence[PixelNoise]) -> None:
        self.noises = tuple(noises)

    def draw(self, batch: int, *, generator: torch.Generator) -> ProxyBatch:
        """Return ``batch`` ISOs, all different where there are as many."""
        count = len(self.noises)
        which = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-batch // count))])[:batch]
        sides = [self._side(self.noises[number], generator) for number in which.tolist()]
        shares, real_quantiles, places, real_shares = (torch.stack(values) for values in zip(*sides, strict=True))
        return ProxyBatch(which, shares, real_quantiles, places, real_shares)

    def _side(self, noise: PixelNoise, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        edge = min(_FEWEST_BEYOND / noise.law.values.numel(), 0.1)
        shares = tail_grid(generator, like=noise.law.values).clamp(edge, 1 - edge)
        places = centre_grid(generator, like=noise.law.values)
        return (
            shares,
            noise.law.quantiles(shares) / noise.sigma_dn,
            places,
            noise.law.cumulated(places * noise.sigma_dn).to(places),
        )


class ProxyLearner(nn.Module):
    """The learning half of a `NoiseProxy`.

    Parameters
    ----------
    proxy : NoiseProxy
        Trained in place.
    noises : sequence of PixelNoise
        What a batch's numbers stand for; only how each was measured is used here.
    Raises
    ------
    CalibrationError
        If there is no noise to learn from.

    Notes
    -----
    r = ((1 - 1/n) x - (x_2 + ... + x_n) / n) sqrt(n / (n - 1)) + dither, x = K f_dep + f_ind + rounding          (1)

    total = quantile loss + CDF loss + 1000 density loss                                                          (2)

    Nothing is drawn: what the network does to a Gaussian is known at every place, and the law of a sum is the
    convolution of the laws. So the drawn side of the loss has no chance of its own, and the proxy comes as near as
    the dark frames allow. The density loss is the likelihood of the binned values, and what is efficient at the end;
    the two others find the way there.
    """

    def __init__(self, proxy: NoiseProxy, noises: Sequence[PixelNoise]) -> None:
        super().__init__()
        if not noises:
            raise CalibrationError("A noise proxy learns from dark frames, but none were given. Give --darks.")
        self.proxy = proxy
        self._how = [
            (noise.iso, noise.mode, noise.sigma_dn, noise.frames, noise.rounded, noise.lines) for noise in noises
        ]

    def loss(self, batch: ProxyBatch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Return quantile, CDF and density loss and their weighted sum "total", means over the ISOs of the batch."""
        curves: dict[int, Curves] = {}
        losses = []
        for row, number in enumerate(batch.which.tolist()):
            iso, mode, sigma_dn, frames, rounded, lines = self._how[number]
            if mode not in curves:
                curves[mode] = Curves(self.proxy.mode(mode))
            law = curves[mode].residuals(iso, sigma_dn, frames, rounded=rounded, lines=lines)
            losses.append(
                torch.stack(
                    [
                        quantile_loss(law, batch.shares[row], batch.real_quantiles[row]),
                        cdf_loss(law, batch.places[row], batch.real_shares[row]),
                        density_loss(law, batch.real_quantiles[row], batch.shares[row]),
                    ]
                )
            )
        quantile, cdf, density = torch.stack(losses).mean(0)
        total = quantile + cdf + _DENSITY_WEIGHT * density  # (2)
        return {
            "total": total, "quantile": quantile.detach(), "cdf": cdf.detach(), "density": density.detach()
        }  # fmt: skip
