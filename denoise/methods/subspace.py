"""Few spectra, few images: a cube is denoised where its signal lives, by a network for photographs.

The noise of each band is measured and made even, the spectra that hold the signal are found in spite of stripes,
spikes, dead elements and bands that were cut off, the images that go with them are denoised at their own noise level,
and the spectra are fitted once more to the clean images. It needs no training of its own.

References
----------
.. [1] L. Zhuang, J. M. Bioucas-Dias, "Fast hyperspectral image denoising and inpainting based on low-rank and sparse
   representations", IEEE JSTARS 11(3), 2018.
.. [2] L. Zhuang, M. K. Ng, "Hyperspectral mixed noise removal by l1-norm-based subspace representation", IEEE JSTARS
   13, 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from denoise.card import ModelCard
from denoise.cubes.first_estimate import FirstEstimate, combine
from denoise.cubes.flaws import find_flaws
from denoise.cubes.low_rank import LowRank, fit_low_rank, trusted
from denoise.cubes.spectra import refit
from denoise.cubes.stripes import column_offsets
from denoise.denoiser import Denoiser
from denoise.methods.supervised import SupervisedDenoiser
from noise_models.level import NoiseLevel

SUBSPACE_CARD: Final = ModelCard(
    id="subspace",
    method="subspace",
    summary="Hyperspectral cubes of any number of bands, with noise, stripes, spikes and dead elements; no training.",
    stands_on="supervised-unet.photo",
    domain="cube",
    halo=None,
    precisions=("float32",),
    noise="used",
    licence_data="none of its own; that of the model it stands on: see its card",
    paper="L. Zhuang, J. M. Bioucas-Dias, Fast hyperspectral image denoising and inpainting, IEEE JSTARS 11(3), 2018",
    limits=(
        "Stripes must be columns: cubes in sensor geometry, not yet orthorectified.",
        "What one pixel alone shows in one band alone counts as noise.",
    ),
)

_ROUNDS: Final = 2
_BORDER: Final = 8
_RANGE_SHARE: Final = 0.001


class SubspaceDenoiser:
    """A robust low-rank fit whose images a network denoises.

    Parameters
    ----------
    card : ModelCard
        `SUBSPACE_CARD`.
    foundation : Denoiser
        Denoises grey images with white noise: the model that the card ``stands_on``.
    """

    def __init__(self, card: ModelCard, foundation: Denoiser) -> None:
        self.card = card
        self.foundation = foundation
        if isinstance(foundation, SupervisedDenoiser):
            foundation.keeps_detail = False  # what is not noise in these images is spoilt values, and they are to go
        self.bytes_per_value = 75.0  # measured

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, bands, H, W) float32, rows along the track; same shape out.

        The noise of each band is measured, from what the other bands do not foretell of it, unless ``noise`` was
        stated; a blind estimate knows less.
        """
        first = self.first_estimate(noisy, noise)
        result = combine(first.cube, first)
        return torch.where(torch.isfinite(first.sigma)[:, :, None, None], result, noisy)

    def first_estimate(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
        """Return the estimate (B, bands, H, W) before it is put together with the noisy cube, and what is left."""
        found = [self._fit(planes.float(), _sigma_of(planes, noise, number)) for number, planes in enumerate(noisy)]
        return FirstEstimate(*(torch.stack(parts) for parts in zip(*found, strict=True)))

    def _fit(self, planes: Tensor, sigma: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return estimate, rest, validity (bands, H, W) and noise (bands,) of one cube."""
        flaws = find_flaws(planes)
        model = fit_low_rank(planes, flaws, sigma)
        fitted = rest = planes
        for _ in range(_ROUNDS):
            images = self._clean(model, planes)
            model = refit(model, planes, images, flaws, keep_sigma=sigma is not None)
            fitted = model.cube(images, planes.shape)
            model = replace(model, offsets=column_offsets(planes - fitted, model.valid, model.spectra, model.sigma))
            rest = model.destriped(planes) - fitted
            model = replace(model, valid=trusted(rest, model.sigma, flaws, fitted))
        empty = ~flaws.valid.any(2).any(1)
        return fitted, rest, model.valid, model.sigma.masked_fill(empty, torch.inf)

    def _clean(self, model: LowRank, planes: Tensor) -> Tensor:
        """Return the images (r, H W) of a fit, denoised: turned so that their noise is white, strongest first."""
        images, covariance = model.images(planes)
        rank = len(images)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, images, upper=False)
        turn = torch.linalg.eigh(torch.cov(white).reshape(rank, rank)).eigenvectors.flip(1)
        white = (turn.T @ white).view(rank, *planes.shape[1:])
        return root @ turn @ self._denoised(white).flatten(1)

    def _denoised(self, white: Tensor) -> Tensor:
        """Denoise images (r, H, W) of unit noise, each shown to the network in its range from 0 to 1."""
        height, width = white.shape[1:]
        flat = white.flatten(1)
        ends = max(1, round(_RANGE_SHARE * flat.shape[1]))
        low = flat.kthvalue(ends, 1).values[:, None, None]
        span = flat.kthvalue(flat.shape[1] + 1 - ends, 1).values[:, None, None] - low
        span = span.clamp_min(1.0)
        step = self.foundation.card.multiple_of
        beyond = [_BORDER, _BORDER + -(width + 2 * _BORDER) % step, _BORDER, _BORDER + -(height + 2 * _BORDER) % step]
        shown = functional.pad(
            ((white - low) / span)[:, None], beyond, mode="reflect" if min(height, width) > 40 else "replicate"
        )
        read = span.flatten()[:, None].double().cpu().numpy() ** -2
        cleaned = self.foundation.denoise(shown, NoiseLevel(np.zeros_like(read), read, "white"))
        return cleaned[:, 0, _BORDER : _BORDER + height, _BORDER : _BORDER + width] * span + low

    def to(self, *arguments: Any, **keywords: Any) -> SubspaceDenoiser:
        """Move to a device; returns itself."""
        self.foundation.to(*arguments, **keywords)
        return self


def _sigma_of(planes: Tensor, noise: NoiseLevel | None, number: int) -> Tensor | None:
    """Return the mean noise (bands,) of the cube with this number in the batch; None where nobody stated it."""
    if noise is None or noise.source.startswith("blind"):
        return None
    level = noise.for_channels(len(planes))
    if level.shot.ndim > 1:
        level = replace(level, shot=level.shot[number], read=level.read[number])
    signal = planes.clamp_min(0).mean((1, 2)).double().cpu().numpy()
    return torch.from_numpy(np.sqrt(level.variance(signal))).to(planes)
