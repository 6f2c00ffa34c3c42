"""Detail too faint to be seen in noise, taken out of a clean picture.

References
----------
.. [1] R. R. Coifman, D. L. Donoho, "Translation-invariant de-noising", 1995 (shifted transforms, averaged).
.. [2] L. P. Yaroslavsky, K. O. Egiazarian, J. T. Astola, "Transform domain image restoration methods: review,
   comparison, and interpretation", SPIE 4304, 2001 (the sliding cosine transform).
"""

from __future__ import annotations

from typing import Final

import torch
from scipy.fft import dct
from torch import Tensor
from torch.nn import functional

_SIDE: Final = 8
_STRIDE: Final = 4
_FAINT: Final = 2.7
"""In standard deviations: white noise seldom reaches further."""
_WAVE: Final = torch.from_numpy(dct(torch.eye(_SIDE).numpy(), norm="ortho", axis=0))
_WAVES: Final = torch.kron(_WAVE, _WAVE)
"""(64, 64): a wave a row."""
_OPPONENTS: Final = functional.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]))
"""Brightness and two colour differences, orthonormal."""


def without_faint(picture: Tensor, sigma: float) -> Tensor:
    """Return a picture (C, H, W) without the waves that noise of a standard deviation would hide.

    Colours are taken apart into brightness and two differences, planes of a mosaic are not; squares of 8 x 8, every
    fourth pixel, into cosine waves. Waves fainter than 2.7 ``sigma`` go. Where squares overlap, those of fewer waves
    count more [1]_, [2]_.
    """
    apart = _OPPONENTS if len(picture) == 3 else torch.eye(len(picture))
    planes = torch.einsum("ck,khw->chw", apart, picture)[:, None]
    height, width = picture.shape[1:]
    edge = _SIDE - 1
    below, right = (edge + -(size + 2 * edge - _SIDE) % _STRIDE for size in (height, width))
    padded = functional.pad(planes, (edge, right, edge, below), mode="reflect")
    waves = _WAVES @ functional.unfold(padded, _SIDE, stride=_STRIDE)
    kept = waves.abs() > _FAINT * sigma
    kept[:, 0] = True
    weight = 1 / kept.sum(1, keepdim=True)
    squares = torch.stack((_WAVES.T @ (waves * kept * weight), weight.expand_as(waves)))
    total, weights = functional.fold(squares.flatten(0, 1), padded.shape[2:], _SIDE, stride=_STRIDE).chunk(2)
    planes = (total / weights)[:, 0, edge : edge + height, edge : edge + width]
    return torch.einsum("ck,chw->khw", apart, planes)
