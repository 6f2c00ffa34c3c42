"""The score of noisy images: which way, and how steeply, a noisy image becomes more probable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.networks.unet import ResidualUNet

_CELL: Final = 8
_LEAST_SHARE: Final = 0.3
_LEAST_VARIANCE: Final = 1e-7


class ScoreUNet(nn.Module):
    """The gradient of the log-density of noisy images, grad_y log p(y), without being told the noise.

    For Gaussian noise the score is (clean - noisy) / variance: a correction, which a denoiser without biases finds at
    any scale, over the variance of the noise, which it must find as well. So a bias-free U-Net answers twice, with a
    correction r and a standard deviation q, and the score is their quotient. Scaling an image then scales its score
    inversely, as it must: what was learned at one noise level holds at others.

    Parameters
    ----------
    channels : int
        Planes of the image, C.
    widths, blocks, fold
        As of `ResidualUNet`.

    Notes
    -----
    score = r / ((t + q)^2 + 0.09 t^2 + 1e-7)                                                         (1)

    with t the root mean square of the finest diagonal Haar coefficients around: the noise's standard deviation where
    the picture is flat, from which q departs.
    """

    def __init__(
        self, channels: int, widths: Sequence[int] = (24, 48, 96, 192), blocks: int = 2, fold: int = 1
    ) -> None:
        super().__init__()
        self.body = ResidualUNet(channels, 0, widths, blocks, fold, outputs=2 * channels)
        self.fold = fold
        self.multiple_of = max(self.body.multiple_of, _CELL)

    def forward(self, noisy: Tensor) -> Tensor:
        """Map (B, C, H, W), H and W multiples of ``multiple_of``, to the score of the same shape [1 / image unit]."""
        none = noisy.new_zeros(noisy.shape[0], 0, *(size // self.fold for size in noisy.shape[2:]))
        correction, departure = self.body(noisy, none).float().chunk(2, 1)
        spread = finest_spread(noisy)
        variance = (spread + departure).square() + (_LEAST_SHARE * spread).square() + _LEAST_VARIANCE
        return correction / variance  # (1)

    def macs_per_pixel(self) -> float:
        """Multiply-accumulates for one pixel of one plane of the image."""
        return self.body.macs_per_pixel()

    def bytes_per_pixel(self) -> float:
        """Tensors alive at the peak, for one pixel of one plane's place, in float32: the body's, and the quotient's."""
        return self.body.bytes_per_pixel() + 60.0


def finest_spread(noisy: Tensor) -> Tensor:
    """Return the local root mean square of the finest diagonal Haar coefficients, smooth over about 24 pixels.

    Parameters
    ----------
    noisy : (B, C, H, W) tensor
        H and W multiples of 8.

    Returns
    -------
    (B, C, H, W) float32 tensor
        White noise of standard deviation s gives s.
    """
    values = noisy.detach().float()
    change = values[..., 1:, :] - values[..., :-1, :]
    diagonal = 0.5 * (change[..., 1:] - change[..., :-1])
    energy = functional.pad(diagonal.square(), (0, 1, 0, 1), mode="replicate")
    cells = functional.avg_pool2d(energy, _CELL)
    around = functional.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    smooth = functional.interpolate(around, scale_factor=_CELL, mode="bilinear", align_corners=False)
    return torch.sqrt(smooth + _LEAST_VARIANCE)
