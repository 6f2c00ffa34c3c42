"""What law a proxy's noise obeys, computed, not drawn: tables of both branches, and convolutions of their laws."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from noise_models.pnnp_losses import EmpiricalLaw
from noise_models.pnnp_network import REACH_SIGMAS, ModeProxy

_NODES: Final = 201
_CELLS: Final = 4096
_CELLS_A_SIGMA: Final = 32
_MOST_TURNS: Final = 24.0
"""Frequencies up to here are enough if the core of the noise is wider than a fifth of its standard deviation
[1/sigma]."""
_EVERY: Final = 2
"""Of the nodes, so many-th ones are enough for the sum over other frames, whose parts are small."""


class Curves:
    """Both branches of a mode at evenly spaced nodes of their Gaussian input, their means taken out.

    Parameters
    ----------
    mode : ModeProxy
        The gradient flows to its parameters.
    """

    def __init__(self, mode: ModeProxy) -> None:
        self._mode = mode
        self._nodes = torch.linspace(
            -REACH_SIGMAS, REACH_SIGMAS, _NODES, dtype=torch.float64, device=mode.log_scale.device
        )
        weights = torch.softmax(-self._nodes.square() / 2, 0)
        curves = [
            branch.curve(self._nodes.to(mode.log_scale)).double() for branch in (mode.dependent, mode.independent)
        ]
        # Residuals do not show the mean, so nothing else would hold it.
        self._dependent, self._independent = (curve - (curve * weights).sum() for curve in curves)

    def residuals(self, iso: float, sigma_dn: float, frames: int, *, rounded: bool, lines: float = 0.0) -> EmpiricalLaw:
        """Return the law of what residuals of the proxy's dark frames look like.

        Parameters
        ----------
        iso : float
            Sensitivity [ISO].
        sigma_dn : float
            Standard deviation of the real residuals: the unit of the law [DN].
        frames : int
            Number n of frames whose mean was taken off; 0 if none was.
        rounded : bool
            Whether each frame was rounded, and dither added to the residuals.
        lines : float
            Share of a pixel's variance that the means of its row and column took off, 1/W + 1/H.

        Returns
        -------
        EmpiricalLaw
            On even places from -64 to 64 [sigma]; the gradient flows through its shares.

        Notes
        -----
        r = ((1 - 1/n) x - (x_2 + ... + x_n) / n) sqrt(n / (n - 1)) + dither, x = K f_dep + f_ind + rounding      (1)

        The characteristic function of a sum is the product of those of its parts                                (2)

        The means of row and column took part of the pixel's own noise and left that of its neighbours, a sum of so
        many that it is Gaussian; the residuals were scaled to the whole variance:
        r -> r sqrt(1 - lines) + N(0, lines var(x))                                                               (3)
        """
        gain = self._mode.gain_at(iso).double()
        spread = math.sqrt((1 - lines) * (frames / (frames - 1) if frames > 1 else 1.0))  # (3)
        own = spread * ((1 - 1 / frames) if frames > 1 else 1.0) / sigma_dn
        turns = 2 * math.pi * torch.fft.rfftfreq(_CELLS, 1 / _CELLS_A_SIGMA, dtype=torch.float64, device=gain.device)
        low = turns[turns < _MOST_TURNS]
        whole = self._transform(low * own * gain, low * own)  # (2)
        if frames > 1:
            other = low * -(spread / frames / sigma_dn)
            one = self._transform(other * gain, other, _EVERY)
            whole = whole * (one * _even(other) if rounded else one) ** (frames - 1)
        if rounded:
            whole = whole * _even(low * own) * _even(low / sigma_dn)
        taken = lines * self._variance(gain, rounded=rounded) / sigma_dn**2
        whole = whole * torch.exp(-taken * low.square() / 2)  # (3)
        whole = whole * _even(low / _CELLS_A_SIGMA)  # what a cell holds, not the density in its middle
        whole = torch.cat([whole, whole.new_zeros(len(turns) - len(low))]).conj()
        masses = torch.fft.fftshift(torch.fft.irfft(whole, _CELLS)).clamp_min(1e-15)
        shares = torch.cumsum(masses, 0)
        edges = (torch.arange(_CELLS + 1, dtype=torch.float64, device=gain.device) - _CELLS / 2 - 0.5) / _CELLS_A_SIGMA
        return EmpiricalLaw(edges, torch.cat([shares.new_zeros(1), shares]) / shares[-1])

    def _variance(self, gain: Tensor, *, rounded: bool) -> Tensor:
        """Return the variance of one frame's noise [DN^2]."""
        weights = torch.softmax(-self._nodes.square() / 2, 0)
        squares = (gain * self._dependent).square() + self._independent.square()
        return (weights * squares).sum() + rounded / 12

    def _transform(self, dependent: Tensor, independent: Tensor, every: int = 1) -> Tensor:
        """Return the characteristic function of one frame's noise at frequencies (F,) of either branch.

        Notes
        -----
        Between two nodes a curve is straight and its values are equally likely there: in the far tails nodes lie
        whole sigmas apart, and points of probability would show as lumps.

        E exp(i t f) = sum_j P_j exp(i t m_j) sinc(t d_j / 2), m_j the middle and d_j the width between nodes     (1)
        """
        weights = torch.special.ndtr(self._nodes[::every]).diff()
        weights = weights / weights.sum()
        product = torch.ones((), dtype=torch.complex128)
        for curve, turns in ((self._dependent, dependent), (self._independent, independent)):
            below, above = curve[::every][:-1], curve[::every][1:]
            angles = turns[:, None] * ((above + below) / 2)
            spread = _even(turns[:, None] * (above - below))
            product = product * torch.complex(
                (torch.cos(angles) * spread) @ weights, (torch.sin(angles) * spread) @ weights
            )  # (1)
        return product


def _even(turns: Tensor) -> Tensor:
    """Return the characteristic function of a number even from -1/2 to 1/2; `torch.sinc` takes thrice as long."""
    half = (turns / 2).abs().clamp_min(1e-6)
    return torch.sin(half) / half
