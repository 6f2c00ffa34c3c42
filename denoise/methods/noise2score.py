"""Noise2Score: learn the score of noisy images from noisy images alone; Tweedie's formula makes it a denoiser.

One network serves every kind of noise: what kind it is, and how much, enters after the training, in a formula.

References
----------
.. [1] K. Kim, J. C. Ye, "Noise2Score: Tweedie's approach to self-supervised image denoising without clean images",
   NeurIPS 2021.
.. [2] K. Kim, T. Kwon, J. C. Ye, "Noise distribution adaptive self-supervised image denoising using Tweedie
   distribution and score matching", CVPR 2022.
.. [3] J. H. Lim et al., "AR-DAE: towards unbiased neural entropy gradient estimation", ICML 2020.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from denoise.card import ModelCard
from denoise.denoiser import Batch, needed
from denoise.errors import DenoiseError
from denoise.networks.score import ScoreUNet
from denoise.noise_from_score import (
    FamilyEstimate,
    detect_family,
    estimate_parameter,
    estimate_shot_and_read,
    respond,
)
from denoise.strength import keep_detail, keep_mean
from denoise.tweedie import gamma_mean_by_logarithm, mean_by_stabilising
from noise_models.level import NoiseLevel

PERTURBATION: Final = (0.01, 0.2)
"""Least and largest standard deviation of the noise that training adds [house units]."""
_LEAST_STEPS: Final = 0.6
"""Added noise is at least this part of the distance between neighbouring values, or their grid would be learned."""


class Noise2Score(torch.nn.Module):
    """A `ScoreUNet` and Tweedie's formula.

    Parameters
    ----------
    card : ModelCard
        ``config`` holds the arguments of the network: ``channels``, ``widths``, ``blocks``, ``fold``.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.network = ScoreUNet(**card.config)
        self.macs_per_pixel = 2 * self.network.macs_per_pixel()  # mirrored as well
        self.bytes_per_pixel = self.network.bytes_per_pixel()

    def score(self, noisy: Tensor) -> Tensor:
        """Return grad_y log p(y) of (B, C, H, W), H and W multiples of the card's ``multiple_of``.

        It is the mean of what the network finds in an image and in its mirror image: pictures are as probable
        mirrored, and the network's errors in the two are partly their own.
        """
        return 0.5 * (self.network(noisy) + self.network(noisy.flip(3)).flip(3))

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, C, H, W) float32 with shot and read noise of a known level; same shape out.

        For other kinds of noise take `score` and a formula of `denoise.tweedie`.

        Raises
        ------
        WeightsError
            If no noise level is given.
        """
        noise = needed(noise, self.card, noisy.shape[1])
        return self._stabilised(noisy, noise)

    def denoise_blind(self, noisy: Tensor, *, generator: torch.Generator) -> tuple[Tensor, FamilyEstimate, float]:
        """Find out the family of the noise and its parameter from the score alone, and denoise by them.

        Parameters
        ----------
        noisy : (1, C, H, W) tensor
            A whole image; parts of one may not tell.
        generator : torch.Generator
            Of the perturbation.

        Returns
        -------
        (tensor, FamilyEstimate, float)
            The result, the family, and sigma, zeta, k, or the shot noise of a sensor.

        Raises
        ------
        DenoiseError
            If the family cannot be told, or is none that is served: then the noise must be given.
        """
        response = respond(self.score, noisy, generator=generator)
        found = detect_family(response)
        if found.family is None:
            raise DenoiseError(
                f"The family of the noise was to be found, but {found.reason}. Give --noise SHOT,READ, or take `score` "
                "and a formula of `denoise.tweedie`."
            )
        if found.family == "gamma":
            k = estimate_parameter(response, "gamma")
            return gamma_mean_by_logarithm(self.score, noisy, k), found, k
        if found.family == "shot-and-read":
            level = estimate_shot_and_read(response).for_channels(noisy.shape[1])
            parameter = float(level.shot[0])
        else:
            parameter = estimate_parameter(response, found.family)
            values = (0.0, parameter**2) if found.family == "gaussian" else (parameter, 0.0)
            shot, read = (np.full(noisy.shape[1], value) for value in values)
            level = NoiseLevel(shot, read, "the score")
        return self._stabilised(noisy, level), found, parameter

    def _stabilised(self, noisy: Tensor, noise: NoiseLevel) -> Tensor:
        """Denoise by way of the stabilised image, and take no more away than there is noise."""
        denoised = mean_by_stabilising(self.score, noisy, noise)
        return keep_mean(noisy, keep_detail(noisy, denoised, noise), noise)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Residual denoising: the network must point back from where added noise has led.

        Notes
        -----
        L = mean((u + a R(y + a u))^2), u standard normal, a log-uniform for each image; least where R is the
        score of y + a u                                                                               (1)

        Every u is taken with both signs. What u R(y) adds to L is nothing on average, and without u's opposite most
        of what the gradient varies by: with it, the variance is half as large.

        L is near 1 whatever the network does; "explained" = (1 - L) / a^2, which grows towards the mean square of the
        score, says more.
        """
        noisy = batch.noisy
        steps = getattr(batch, "step", None)
        least = noisy.new_full((noisy.shape[0],), PERTURBATION[0])
        if steps is not None:
            least = torch.maximum(least, _LEAST_STEPS * steps.to(noisy)).clamp_max(PERTURBATION[1])
        place = torch.rand(noisy.shape[0], generator=generator, device=noisy.device)
        amount = (least * (PERTURBATION[1] / least) ** place)[:, None, None, None].repeat(2, 1, 1, 1)
        added = torch.randn(noisy.shape, generator=generator, device=noisy.device)
        added, noisy = torch.cat((added, -added)), noisy.repeat(2, 1, 1, 1)
        errors = (added + amount * self.network(noisy + amount * added)).square()  # (1)
        total = errors.mean()
        explained = ((added.square() - errors) / amount.square()).mean()
        return {"total": total, "explained": explained.detach()}

    def to(self, *arguments: Any, **keywords: Any) -> Noise2Score:
        """Move to a device; returns itself."""
        super().to(*arguments, **keywords)
        return self
