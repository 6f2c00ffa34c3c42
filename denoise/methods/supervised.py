"""A residual network that learned from pairs of clean and noisy images, told the noise level.

The noise is made even first (variance stabilisation), so that one number says how much of it there is; the network
corrects the stabilised image; the result returns to linear light.

References
----------
.. [1] K. Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2022.
.. [2] H. Feng et al., "YOND: Practical Blind Raw Image Denoising Free from Camera-Specific Data Dependency", 2025.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.denoiser import Batch, needed
from denoise.errors import WeightsError
from denoise.networks.unet import ResidualUNet
from denoise.risk import best_share, probe
from denoise.strength import keep_detail, keep_mean
from denoise.vst import Stabiliser
from noise_models.level import NoiseLevel

_PROBE: Final = 0.1  # of the noise: one bends the answer, less drowns in rounding
_LEAST_LEVEL: Final = 1e-3  # of white: below it an image weighs no more


class SupervisedDenoiser(nn.Module):
    """A `ResidualUNet` between a stabiliser and its inverse.

    Parameters
    ----------
    card : ModelCard
        ``config`` holds the arguments of the network: ``channels``, ``widths``, ``blocks``, ``fold``.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.network = ResidualUNet(**card.config)
        self.channels = int(card.config["channels"])
        self.macs_per_pixel = self.network.macs_per_pixel()
        self.bytes_per_pixel = self.network.bytes_per_pixel()
        self.keeps_detail = True
        """Whether too much taken away is seen and returns; not where flaws are to go with the noise."""

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, C, H, W) float32, H and W multiples of the card's ``multiple_of``; same shape out.

        Raises
        ------
        WeightsError
            If no noise level is given.
        """
        noise = needed(noise, self.card, noisy.shape[1])
        stabiliser, scale, level = self._prepare(noisy, noise)
        stable = stabiliser.forward(noisy).div_(scale)
        cleaned = self._clean(stable, level)
        if float(level.min()) < self.card.careful_below:
            cleaned = self._as_far_as_it_helps(noisy, stable, cleaned, level)
        denoised = stabiliser.inverse(cleaned.mul_(scale))
        if self.keeps_detail:
            denoised = keep_detail(noisy, denoised, noise)
        return keep_mean(noisy, denoised, noise)

    def _as_far_as_it_helps(self, noisy: Tensor, stable: Tensor, cleaned: Tensor, level: Tensor) -> Tensor:
        """Take of the correction what helps, told by a second look at a slightly altered image.

        The network's error is a share of contrast: with little noise it may be larger than the noise.
        """
        sigma = level[:, :, :1, :1]
        signs = probe(noisy)
        again = self._clean(torch.addcmul(stable, _PROBE * sigma, signs), level)
        response = (again - cleaned).mul_(signs).div_(_PROBE * sigma)
        share = best_share((stable - cleaned) / sigma, response)
        return torch.where(sigma < self.card.careful_below, torch.lerp(stable, cleaned, share), cleaned)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute error in the stabilised image, in units of its noise: every exposure weighs alike."""
        if batch.clean is None or batch.noise is None:
            raise WeightsError("Supervised training needs clean images and their noise level; the batch lacks them.")
        stabiliser, scale, level = self._prepare(batch.noisy, batch.noise)
        target = stabiliser.forward(batch.clean) / scale
        cleaned = self._clean(stabiliser.forward(batch.noisy) / scale, level)
        error = (cleaned - target).abs().mean((1, 2, 3))
        weight = _LEAST_LEVEL / (level.mean((1, 2, 3)) + _LEAST_LEVEL)
        return {"total": (error * weight).mean(), "l1": error.mean().detach()}

    def _prepare(self, noisy: Tensor, noise: NoiseLevel) -> tuple[Stabiliser, Tensor, Tensor]:
        """Return the stabiliser, the stabilised range of white (B, 1, 1, 1), and the noise map (B, 1, h, w)."""
        stabiliser = Stabiliser(noise.for_channels(noisy.shape[1]), like=noisy)
        scale = stabiliser.forward(noisy.new_ones(1, noisy.shape[1], 1, 1)).mean(1, keepdim=True)
        scale = scale.expand(noisy.shape[0], 1, 1, 1)
        fold = self.network.fold
        level = (1 / scale).expand(-1, 1, noisy.shape[2] // fold, noisy.shape[3] // fold)
        return stabiliser, scale, level

    def _clean(self, stable: Tensor, level: Tensor) -> Tensor:
        """Correct a stabilised image; grey is shown to a colour network as three equal channels."""
        grey = stable.shape[1] == 1 and self.channels == 3
        seen = stable.expand(-1, 3, -1, -1) if grey else stable
        correction = self.network(seen, level).float()
        return (correction.mean(1, keepdim=True) if grey else correction).add_(stable)

    def to(self, *arguments: Any, **keywords: Any) -> SupervisedDenoiser:
        """Move to a device; returns itself."""
        super().to(*arguments, **keywords)
        return self
