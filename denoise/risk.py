"""How much of a denoiser's correction to take, told without truth: Stein's unbiased risk estimate.

References
----------
.. [1] C. Stein, "Estimation of the mean of a multivariate normal distribution", Annals of Statistics 9(6), 1981.
.. [2] S. Ramani, T. Blu, M. Unser, "Monte-Carlo SURE", IEEE Transactions on Image Processing 17(9), 2008.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from denoise.strength import between_cells, cells_around

_OUTLIER: Final = 25.0
_FACTORS: Final = (0x2545F491, 0x1B873593, 0x19D699A5, 0x2F0B4C47, 0x11C9D3A7, 0x2C1B3C6D, 0x297A2D39)
"""Odd numbers whose bits look like chance, as hashes use them."""


def probe(noisy: Tensor) -> Tensor:
    """Return signs (B, C, H, W), +1 or -1, that follow from the values alone: a tile gets those of the whole image.

    A hash of 4 x 4 float32 values up and to the left: even where noise is a step or less, so many do not repeat. In the
    first three rows and columns there are fewer, and a tile's may differ from the whole's.
    """
    mixed = noisy.contiguous().view(torch.int32) * _FACTORS[0]
    for factor, axis, shift in zip(_FACTORS[1:5], (3, 3, 2, 2), (1, 2, 1, 2), strict=True):
        beside = torch.zeros_like(mixed)
        rest = mixed.shape[axis] - shift
        beside.narrow(axis, shift, rest).copy_(mixed.narrow(axis, 0, rest))
        mixed = mixed + beside * factor
    for factor, shift in zip(_FACTORS[5:], (15, 12), strict=True):
        mixed = (mixed ^ (mixed >> shift)) * factor
    return ((mixed >> 17) & 1).to(noisy.dtype).mul_(2).sub_(1)


def best_share(removed: Tensor, response: Tensor) -> Tensor:
    """Return the share, 0 to 1, of a correction that leaves the least squared error, over cells and their neighbours.

    Parameters
    ----------
    removed : (B, C, H, W) tensor
        r = y - f(y), what the denoiser f takes from an image y of unit white noise; what it takes of an outlier counts
        as five standard deviations at most.
    response : (B, C, H, W) tensor
        p (f(y + e p) - f(y)) / e with the signs p of `probe` and a small e: in the mean the divergence of f.

    Returns
    -------
    (B, 1, H, W) tensor
        For cells of 8 x 8 with their neighbours (24 x 24 pixels of all planes), interpolated linearly. Tiles must begin
        at multiples of 8 and reach 20 pixels beyond what is used.

    Notes
    -----
    The error of y - s r is n - s r for the noise n, and E[n r] = 1 - E[df/dy] by Stein's lemma, so the best share is
    s = (1 - E[df/dy]) / E[r^2].                                                                        (1)
    """
    energy = cells_around(removed.square().clamp_max_(_OUTLIER))
    share = (cells_around(1 - response) / energy.clamp_min_(1e-6)).clamp_(0, 1)  # (1)
    return between_cells(share, *removed.shape[2:])
