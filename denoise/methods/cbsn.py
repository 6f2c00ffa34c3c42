"""C-BSN: learn from noisy photographs whose noise is correlated, such as a camera's JPEGs; and its small student.

A network that cannot see a pixel cannot copy its noise. Noise that neighbours share would tell it anyway, so the blind
state trains on pictures of every fifth pixel. The seeing state of the same weights, which is what denoises, is held
close to the noisy image and, on every second pixel, to what the blind state makes of it.

References
----------
.. [1] Y. I. Jang et al., "Self-supervised image denoising with downsampled invariance loss and conditional blind-spot
   network", ICCV 2023.
.. [2] W. Chen et al., "Exploring asymmetric tunable blind-spots for self-supervised denoising in real-world
   scenarios", CVPR 2024 (distillation into a plain network).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.denoiser import Batch, Whole
from denoise.errors import WeightsError
from denoise.networks.blind_spot import ConditionalBlindSpot, batch_to_space, draw_cells, space_to_batch, subsample
from denoise.networks.unet import ResidualUNet
from denoise.self_check import middle, middle_window, noise_correlation
from denoise.strength import keep_mean
from noise_models.level import NoiseLevel

STRIDE: Final = 5
"""Of the pictures that the blind state learns on: noise of a demosaiced photograph reaches less far."""
SUBSAMPLE: Final = 2
INVARIANCE: Final = 2.0
"""Weight of the invariance loss, lambda."""
STRONGEST: Final = 16 / 255
"""That a student is told while it learns, and its teachers."""
_USUAL: Final = 8 / 255
"""Told of most images that a camera saved at 100 %: there is detail enough above it."""
_USUALLY_TAKEN: Final = 3.5 / 255
"""Standard deviation of what goes when the usual is told: where more goes, more noise is in the image."""
_MOST_TOLD: Final = 24 / 255
"""More than any student learned, which a network without biases bears: noise and what it is told grow alike."""
_TRIED_ON: Final = 512
"""Of a side [px], in the middle, for what goes when the usual is told."""
_BLOCK: Final = 16
_TIMES: Final = 8.0
"""The strength told, in standard deviations of the noise in an image's flattest parts: elsewhere there is more."""
_UNSEEN: Final = 4 / 255
"""Told where nothing is flat."""
_SURVEYED: Final = 1024
"""Of a side [px], in the middle of the image: enough to find even places in, soon looked at."""
_LEAST_SIDE: Final = 64
"""Shorter sides hold too few even places."""
_LEAST_DEVIATION: Final = 1 / 256
_SILENT: Final = NoiseLevel(np.zeros(1), np.zeros(1))
_LOUD: Final = NoiseLevel(np.zeros(1), np.array([(40 / 255) ** 2]))
"""More noise than any that the student meets: `keep_mean` then takes no change for an outlier."""


class ConditionalBlindSpotDenoiser(nn.Module):
    """The paper's network and losses: the teacher.

    Parameters
    ----------
    card : ModelCard
        ``config``: ``channels``, ``width``, ``depth`` of the network, and ``ramp_steps``, over which the losses of the
        seeing state come in (the paper's 200,000).
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        config = dict(card.config)
        self.ramp_steps = int(config.pop("ramp_steps", 200_000))
        self.network = ConditionalBlindSpot(**config)
        self.macs_per_pixel = self.network.macs_per_pixel()
        self.bytes_per_pixel = 4.0 * 6 * card.config["width"]
        self.register_buffer("ramp", torch.zeros((), dtype=torch.float64))

    def denoise(
        self, noisy: Tensor, noise: NoiseLevel | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Denoise (B, C, H, W) float32 by one pass of the seeing state; the noise level is not needed."""
        return _Contrast(self, *_statistics(noisy)).denoise(noisy)

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> _Contrast:
        """Return what normalises every tile of an image: mean and contrast of all of it."""
        planes, height, width = whole.shape
        step = max(1, whole.most_values // (planes * width))
        total, squares = torch.zeros(planes, dtype=torch.float64), torch.zeros(planes, dtype=torch.float64)
        for top in range(0, height, step):
            rows = whole.window(top, min(top + step, height), 0, width).double().cpu()
            total += rows.sum((1, 2))
            squares += rows.square().sum((1, 2))
        mean = total / (height * width)
        deviation = (squares / (height * width) - mean.square()).clamp_min(0).sqrt().clamp_min(_LEAST_DEVIATION)
        mean, deviation = (part.float().view(1, -1, 1, 1).to(self.ramp.device) for part in (mean, deviation))
        return _Contrast(self, mean, deviation)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute errors of normalised images; sides of patches are multiples of 10.

        Notes
        -----
        L_blind = |B2S5(f(S2B5(x); blind)) - x|                                                       (1)
        L_self = |f(x; seeing) - x|                                                                   (2)
        L_inv = |RS2(f(x; seeing)) - stop(f(RS2(x); blind))|, RS2 one random pixel of 2 x 2, the same ones on both
        sides                                                                                         (3)
        L = L_blind + w (L_self + 2 L_inv), w rising from 0 to 1 while it trains                      (4)
        """
        mean, deviation = _statistics(batch.noisy)
        x = (batch.noisy - mean) / deviation
        parts = self.network(space_to_batch(x, STRIDE), blind=True).float()
        blind = (batch_to_space(parts, STRIDE, (x.shape[2], x.shape[3])) - x).abs().mean()  # (1)
        seeing = self.network(x, blind=False).float()
        close = (seeing - x).abs().mean()  # (2)
        invariance = self.invariance(x, seeing, generator)
        weight = self.ramp.float() if self.training else torch.ones_like(blind)
        total = blind + weight * (close + INVARIANCE * invariance)  # (4)
        if self.training and torch.is_grad_enabled():
            self.ramp = (self.ramp + 1 / self.ramp_steps).clamp_max(1.0)
        parts_of = {"blind": blind, "self": close, "invariance": invariance, "ramp": weight}
        return {"total": total} | {name: value.detach() for name, value in parts_of.items()}

    def invariance(self, x: Tensor, seeing: Tensor, generator: torch.Generator) -> Tensor:
        """Compare the seeing state, on one random pixel of each cell, with what the blind state makes of these."""
        cells = draw_cells(x, SUBSAMPLE, generator=generator)
        with torch.no_grad():
            target = self.network(subsample(x, cells, SUBSAMPLE), blind=True).float()
        return (subsample(seeing, cells, SUBSAMPLE) - target).abs().mean()  # (3)

    def to(self, *arguments: Any, **keywords: Any) -> ConditionalBlindSpotDenoiser:
        """Move to a device; returns itself."""
        super().to(*arguments, **keywords)
        return self


@dataclass(frozen=True, eq=False)
class _Contrast:
    """The teacher, with what images are normalised by."""

    teacher: ConditionalBlindSpotDenoiser
    mean: Tensor
    """(B or 1, C, 1, 1)."""
    deviation: Tensor
    """(B or 1, C, 1, 1)."""

    def denoise(
        self,
        noisy: Tensor,
        noise: NoiseLevel | None = None,
        places: Sequence[tuple[int, int]] = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise images or tiles (B, C, H, W) by one pass of the seeing state."""
        seen = self.teacher.network((noisy - self.mean) / self.deviation, blind=False)
        return seen.float() * self.deviation + self.mean


class DistilledBlindSpot(nn.Module):
    """The student: a plain U-Net without biases that learned what the teacher makes of noisy images.

    One that is ``told`` how strong the noise is finds that out by itself, in the flattest parts of the image: what is
    fainter may be noise, what is stronger is not.

    Parameters
    ----------
    card : ModelCard
        ``config`` holds the arguments of the network: ``channels``, ``widths``, ``blocks``, ``fold``; and ``told``,
        whether it is shown the strength, default false.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        config = dict(card.config)
        self.told = bool(config.pop("told", False))
        self.network = ResidualUNet(maps=int(self.told), **config)
        self.macs_per_pixel = self.network.macs_per_pixel()
        self.bytes_per_pixel = self.network.bytes_per_pixel()

    def denoise(
        self, noisy: Tensor, noise: NoiseLevel | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Denoise (B, C, H, W) float32, H and W multiples of the card's ``multiple_of``; no noise level is needed.

        What the network took of the local mean colour, which no noise explains, is given back.
        """
        return self.denoise_at(noisy, noisy.new_tensor([self._strength(middle(image, _SURVEYED)) for image in noisy]))

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> _AtStrength:
        """Return what every tile of an image is told: the strength of its noise, found in its middle."""
        planes, *sides = whole.shape
        most = min(_SURVEYED, int((whole.most_values / planes) ** 0.5))
        window = middle_window(sides, most)
        return _AtStrength(self, self._strength(whole.window(*window)) if self.told else 0.0)

    def denoise_at(self, noisy: Tensor, strength: Tensor) -> Tensor:
        """Denoise (B, C, H, W) told the strength (B,) of what may be noise [house units]."""
        return keep_mean(noisy, self._clean(noisy, strength), _LOUD.for_channels(noisy.shape[1]))

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute error from the teacher's result, which the batch holds as its clean image.

        Where the network is told the strength, so was the teacher, by the batch's noise level.
        """
        told = batch.noise if self.told else _SILENT
        if batch.clean is None or told is None:
            raise WeightsError(
                "A student learns from its teacher's results, and one that is told the noise from what that was told; "
                "the batch lacks them. Give the source 'camera-jpegs' teachers, and 'noisy-images' a second_teacher."
            )
        strength = torch.as_tensor(told.read).to(batch.noisy).sqrt().mean(-1).expand(len(batch.noisy))
        return {"total": (self._clean(batch.noisy, strength) - batch.clean).abs().mean()}

    def _strength(self, image: Tensor) -> float:
        """Return what is told of an image (C, H, W): so many times the noise of its flattest parts.

        Flat parts may be the bright ones and hold more noise than the rest. So it is no more than the usual, unless the
        network, told that, takes much away:

        t = min(8 sigma, 8/255 max(1, (taken / (3.5/255))^2), 24/255)                                           (1)
        """
        if not self.told or min(image.shape[1:]) < _LEAST_SIDE:
            return _UNSEEN
        found = noise_correlation(image)
        strength = _TIMES * found.sigma if found.along else _UNSEEN
        if strength <= _USUAL:
            return strength
        share = self._taken(middle(image, _TRIED_ON)) / _USUALLY_TAKEN
        return min(strength, _USUAL * max(1.0, share**2), _MOST_TOLD)

    def _taken(self, image: Tensor) -> float:
        """Return what the network, told the usual, takes of an image (C, H, W): median deviation of its blocks."""
        height, width = (size - size % max(_BLOCK, self.card.multiple_of) for size in image.shape[1:])
        seen = image[None, :, :height, :width]
        removed = (seen - self._clean(seen, seen.new_tensor([_USUAL]))).detach()[0]
        blocks = removed.unflatten(2, (-1, _BLOCK)).unflatten(1, (-1, _BLOCK))
        return float(blocks.std((2, 4)).median())

    def _clean(self, noisy: Tensor, strength: Tensor) -> Tensor:
        sides = [size // self.network.fold for size in noisy.shape[2:]]
        level = strength.view(-1, 1, 1, 1).expand(-1, int(self.told), *sides)
        return noisy + self.network(noisy, level)

    def to(self, *arguments: Any, **keywords: Any) -> DistilledBlindSpot:
        """Move to a device; returns itself."""
        super().to(*arguments, **keywords)
        return self


@dataclass(frozen=True, eq=False)
class _AtStrength:
    """The student, with what it is told of an image."""

    student: DistilledBlindSpot
    strength: float

    def denoise(
        self,
        noisy: Tensor,
        noise: NoiseLevel | None = None,
        places: Sequence[tuple[int, int]] = (),
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise tiles (B, C, H, W) of the image."""
        return self.student.denoise_at(noisy, noisy.new_full((len(noisy),), self.strength))


def _statistics(noisy: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each plane of each image, at least one level of 8 bit."""
    mean = noisy.mean((2, 3), keepdim=True)
    return mean, noisy.std((2, 3), correction=0, keepdim=True).clamp_min(_LEAST_DEVIATION)
