"""How the proxy learns from the pixel noise of dark frames: what is real, what is drawn, and their distance.

The real residuals are not the noise itself: the converter rounded each frame, the mean of n frames was taken off, and
dither filled the steps that were left. So the drawn noise goes the same way before the two are compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from noise_models.base import CalibrationError
from noise_models.pnnp_losses import EmpiricalLaw, cdf_loss, centre_grid, density_loss, quantile_loss, tail_grid
from noise_models.pnnp_network import REACH_SIGMAS, ModeProxy, NoiseProxy

DRAWN: Final = 2**14
"""Values drawn of each ISO in a step."""
_FEWEST_BEYOND: Final = 10
"""Quantiles beyond which fewer real values lie say nothing."""
_WIDE: Final = 1.8
_START_SIGMAS: Final = 5.0
_START_NODES: Final = 501
_DENSITY_WEIGHT: Final = 10.0
_FEWER_RESTS: Final = 2  # sums over the other frames are drawn for one value in so many
_NODES: Final = 1201


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
    drawn : int
        Values drawn of each ISO in a step.

    Raises
    ------
    CalibrationError
        If there is no noise to learn from.

    Notes
    -----
    r = ((1 - 1/n) x - (x_2 + ... + x_n) / n) sqrt(n / (n - 1)) + dither, x = K f_dep + f_ind + rounding          (1)

    total = quantile loss + CDF loss + 10 density loss; the last holds what the CDF hardly shows

    Inputs are drawn from a mixture of N(0, 1) and a wider Gaussian, and weighted back: the tails are seen often. (2)

    A branch is evaluated at nodes and read between them, so that a step costs the same for any number of values. (3)

    Scrambled Sobol points [1]_ take the place of random ones for all that is drawn of a pixel: the CDF then strays
    six times less from step to step.                                                                             (4)

    References
    ----------
    .. [1] A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14(4), 1998.
    """

    def __init__(self, proxy: NoiseProxy, noises: Sequence[PixelNoise], *, drawn: int = DRAWN) -> None:
        super().__init__()
        if not noises:
            raise CalibrationError("A noise proxy learns from dark frames, but none were given. Give --darks.")
        self.proxy = proxy
        self._how = [(noise.iso, noise.mode, noise.sigma_dn, noise.frames, noise.rounded) for noise in noises]
        self._drawn = drawn

    def loss(self, batch: ProxyBatch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Return quantile, CDF and density loss and their weighted sum "total", means over the ISOs of the batch."""
        curves: dict[int, _Curves] = {}
        losses = []
        for row, number in enumerate(batch.which.tolist()):
            iso, mode, sigma_dn, frames, rounded = self._how[number]
            if mode not in curves:
                curves[mode] = _Curves(self.proxy.mode(mode))
            noise, weights = curves[mode].residuals(iso, self._drawn, frames, rounded, generator)
            law = EmpiricalLaw.of(noise / sigma_dn, weights)
            losses.append(
                torch.stack(
                    [
                        quantile_loss(law, batch.shares[row], batch.real_quantiles[row]),
                        cdf_loss(law, batch.places[row], batch.real_shares[row]),
                        density_loss(law, batch.places[row], batch.real_shares[row]),
                    ]
                )
            )
        quantile, cdf, density = torch.stack(losses).mean(0)
        total = quantile + cdf + _DENSITY_WEIGHT * density
        return {
            "total": total, "quantile": quantile.detach(), "cdf": cdf.detach(), "density": density.detach()
        }  # fmt: skip


class _Curves:
    """Both branches of a mode at evenly spaced nodes, their means taken out."""

    def __init__(self, mode: ModeProxy) -> None:
        self._mode = mode
        device = mode.log_scale.device
        nodes = torch.linspace(-REACH_SIGMAS, REACH_SIGMAS, _NODES, device=device)
        density = torch.softmax(-nodes.square() / 2, 0)
        curves = [branch.curve(nodes) for branch in (mode.dependent, mode.independent)]  # (3)
        # Residuals do not show the mean, so nothing else would hold it.
        self._dependent, self._independent = (curve - (curve * density).sum() for curve in curves)

    def residuals(
        self, iso: float, count: int, frames: int, rounded: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what residuals of drawn frames look like, (count,) [DN], and how much each counts."""
        points = _even_points(5, count, generator)
        before, weight = _wide_numbers(points[0])
        after, other_weight = _wide_numbers(points[1])
        gain = self._mode.gain_at(iso)
        noise = gain * _between(self._dependent, before) + _between(self._independent, after)
        if rounded:
            noise = noise + (points[2].to(noise) - 0.5)
        if frames > 1:
            rest = self._rest(gain.detach(), -(-count // _FEWER_RESTS), frames - 1, rounded, generator)
            rest = rest.sort().values[(points[3] * len(rest)).long()]
            noise = ((1 - 1 / frames) * noise - rest / frames) * math.sqrt(frames / (frames - 1))  # (1)
        if rounded:
            noise = noise + (points[4].to(noise) - 0.5)
        return noise, weight * other_weight

    @torch.no_grad()
    def _rest(self, gain: Tensor, count: int, frames: int, rounded: bool, generator: torch.Generator) -> Tensor:
        """Return sums (count,) over the other frames of a pixel [DN]."""
        fields = torch.randn((2, frames * count), generator=generator, device=gain.device)
        noise = gain * _between(self._dependent, fields[0]) + _between(self._independent, fields[1])
        rest = noise.view(frames, count).sum(0)
        rest = rest + rounded * math.sqrt(frames / 12) * torch.randn(count, generator=generator, device=gain.device)
        return rest - rest.mean()  # their law's mean is 0


def _even_points(dimensions: int, count: int, generator: torch.Generator) -> Tensor:
    """Return (dimensions, count) float64 numbers from 0 to 1 that fill the cube evenly, scrambled by chance; (4)."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    points = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    return points.T.to(generator.device)


def _wide_numbers(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Turn numbers from 0 to 1 into ones half from N(0, 1), half from a wider Gaussian, and their weights; (2)."""
    wide = shares >= 0.5
    within = (2 * shares - wide.double()).clamp(1e-12, 1 - 1e-12)
    numbers = torch.special.ndtri(within) * torch.where(wide, _WIDE, 1.0)
    numbers = numbers.clamp(-REACH_SIGMAS, REACH_SIGMAS)
    squares = numbers.square() / 2
    ratio = torch.exp(squares - squares / _WIDE**2) / _WIDE
    return numbers.float(), (2 / (1 + ratio)).float()


def _between(curve: Tensor, numbers: Tensor) -> Tensor:
    """Read a curve, given at even nodes, straight between them."""
    place = (numbers.clamp(-REACH_SIGMAS, REACH_SIGMAS) + REACH_SIGMAS) * ((_NODES - 1) / (2 * REACH_SIGMAS))
    below = place.long().clamp(max=_NODES - 2)
    return torch.lerp(curve[below], curve[below + 1], place - below)
