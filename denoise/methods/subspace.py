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

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from denoise.card import ModelCard
from denoise.cubes.eigen_images import EigenImages
from denoise.cubes.first_estimate import BandTrust, FirstEstimate, combine, joined
from denoise.cubes.flaws import Flaws, find_flaws
from denoise.cubes.low_rank import LowRank, column_spread, fit_low_rank, trusted
from denoise.cubes.spectra import refit
from denoise.cubes.stripes import column_offsets
from denoise.cubes.survey import Columns, read_sample, survey_columns, survey_spectra, survey_stripes
from denoise.denoiser import Denoiser, Whole
from denoise.methods.supervised import SupervisedDenoiser
from noise_models.level import NoiseLevel

_LOG = logging.getLogger(__name__)
SUBSPACE_CARD: Final = ModelCard(
    id="subspace",
    method="subspace",
    summary="Hyperspectral cubes of any number of bands, with noise, stripes, spikes and dead elements; no training.",
    stands_on="supervised-unet.grey",
    domain="cube",
    halo=None,
    precisions=("float32",),
    noise="used",
    licence_data="none of its own; that of the model it stands on: see its card",
    paper="L. Zhuang, J. M. Bioucas-Dias, Fast hyperspectral image denoising and inpainting, IEEE JSTARS 11(3), 2018",
    limits=(
        "Stripes must be columns: cubes in sensor geometry, not yet orthorectified.",
        "What one pixel alone shows in one band alone counts as noise.",
        "Fewer than ten bands do not tell noise from signal: `auto` denoises each by itself then (`classical`).",
        "Of 10 to 13 bands with little noise (sigma 2 of 255) single ones may lose up to 16 dB: take `classical`.",
        "A line that one band alone shows may be taken for spikes, a road of one column along the track for a stripe.",
    ),
)

_ROUNDS: Final = 2
_BORDER: Final = 8
_SHORTEST_TRACK: Final = 4
"""Rows: fewer tell neither noise nor stripes from the scene."""
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
        return joined(
            [self._alone(planes.float(), _sigma_of(planes, noise, number)) for number, planes in enumerate(noisy)]
        )

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> SubspaceSurvey | None:
        """Find noise, spectra and stripes of a cube that is too large for one tile.

        Noise and limits are those of a sample of it, about as large as a tile; spectra, stripes and stuck elements come
        from rows all along the track. A cube too short to tell noise from the scene gets none.
        """
        if whole.shape[1] < _SHORTEST_TRACK:
            return None
        sample = read_sample(whole)
        sigma, flaws = _sigma_of(sample, noise, 0), find_flaws(sample)
        model = fit_low_rank(sample, flaws, sigma)
        columns = survey_columns(whole, model, flaws, column_spread(sample, flaws.valid))
        model = replace(model, spectra=survey_spectra(columns, whole, model))
        fit = self._fit(sample, flaws, model, keep_sigma=sigma is not None)
        columns = survey_stripes(columns, whole, fit.model)
        trust = BandTrust.of(fit.first.cube, fit.first)
        return SubspaceSurvey(self, fit.start, fit.model, fit.shown, columns, trust)

    def _alone(self, planes: Tensor, sigma: Tensor | None) -> FirstEstimate:
        """Return the estimate of one cube (bands, H, W); the cube itself if it is too short or holds one spectrum."""
        if planes.shape[1] < _SHORTEST_TRACK:
            return _left_alone(planes)
        flaws = find_flaws(planes)
        try:
            return self._fit(planes, flaws, fit_low_rank(planes, flaws, sigma), keep_sigma=sigma is not None).first
        except torch.linalg.LinAlgError as error:  # pyright: ignore[reportPrivateImportUsage]
            _LOG.warning("Nothing was taken for noise: the bands do not differ, or the cube is too small (%s).", error)
            return _left_alone(planes)

    def _fit(self, planes: Tensor, flaws: Flaws, model: LowRank, *, keep_sigma: bool) -> _Fit:
        """Go on from the fit of one cube (bands, H, W), in rounds of clean images and better spectra."""
        for _ in range(_ROUNDS - 1):
            model = self._round(planes, flaws, model, keep_sigma=keep_sigma).model
        return self._round(planes, flaws, model, keep_sigma=keep_sigma)

    def _round(self, planes: Tensor, flaws: Flaws, start: LowRank, *, keep_sigma: bool) -> _Fit:
        images, covariance = start.images(planes)
        shown = _Shown.of(images, covariance)
        white, clean = self.cleaned(images, shown, planes.shape)
        images = shown.back(clean)
        model = refit(start, planes, images, flaws, keep_sigma=keep_sigma)
        fitted = model.cube(images, planes.shape)
        model = replace(model, offsets=column_offsets(planes - fitted, model.valid, model.spectra, model.sigma))
        rest = model.destriped(planes) - fitted
        model = replace(model, valid=trusted(rest, model.sigma, flaws, fitted, rare=True))
        sigma = model.sigma.masked_fill(~flaws.valid.any(2).any(1), torch.inf)
        eigen = shown.eigen_images(white, clean, start, model.spectra)
        return _Fit(start, model, shown, _first_estimate(fitted, rest, model.valid, sigma, eigen))

    def estimate_images(self, images: Tensor, known: Tensor) -> EigenImages:
        """Denoise images (r, H, W) with white noise of unit variance as those of a cube are, ``known`` (H, W) apart.

        The images themselves take the place of bands: ``spectra`` turns the ones that were denoised back to them.
        """
        unit = torch.eye(len(images)).to(images)
        shown = _Shown.of(images.flatten(1), unit)
        white, clean = self.cleaned(images.flatten(1), shown, images.shape)
        return EigenImages(
            clean[None], (white - clean)[None], known[None, None], shown.span[None, :, 0, 0], shown.turn[None]
        )

    def cleaned(self, images: Tensor, shown: _Shown, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Return images (r, H W) of a fit as the network is shown them, and denoised: (r, H, W)."""
        white = shown.white(images).view(len(images), *shape[1:])
        return white, self._denoised(white, shown.low, shown.span)

    def _denoised(self, white: Tensor, low: Tensor, span: Tensor) -> Tensor:
        """Denoise images (r, H, W) of unit noise, each shown to the network in its range from 0 to 1."""
        height, width = white.shape[1:]
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


@dataclass(frozen=True, eq=False)
class _Shown:
    """How the images of a fit are shown to the network: turned so that their noise is white, strongest first."""

    root: Tensor
    """(r, r): Cholesky factor of the covariance of their noise."""
    turn: Tensor
    """(r, r): rotation to the strongest directions."""
    low: Tensor
    """(r, 1, 1): shown as 0."""
    span: Tensor
    """(r, 1, 1): above ``low``, shown as 1."""

    @classmethod
    def of(cls, images: Tensor, covariance: Tensor) -> _Shown:
        """Choose it for images (r, n)."""
        rank = len(images)
        root = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(root, images, upper=False)
        turn = torch.linalg.eigh(torch.cov(white).reshape(rank, rank)).eigenvectors.flip(1)
        flat = turn.T @ white
        ends = max(1, round(_RANGE_SHARE * flat.shape[1]))
        low = flat.kthvalue(ends, 1).values[:, None, None]
        span = flat.kthvalue(flat.shape[1] + 1 - ends, 1).values[:, None, None] - low
        return cls(root, turn, low, span.clamp_min(1.0))

    def white(self, images: Tensor) -> Tensor:
        """Return images (r, n) as they are shown, not yet in their range."""
        return self.turn.T @ torch.linalg.solve_triangular(self.root, images, upper=False)

    def back(self, white: Tensor) -> Tensor:
        """Return images (r, H, W) that were shown as images (r, n) of the fit."""
        return self.root @ self.turn @ white.flatten(1)

    def eigen_images(self, white: Tensor, clean: Tensor, start: LowRank, spectra: Tensor) -> EigenImages:
        """Return images (r, H, W) of the fit ``start``, as shown and denoised, with the spectra found from them."""
        to_fit = self.root @ self.turn
        told = (start.spectra @ to_fit / start.sigma[:, None]).square().sum(1)
        known = torch.einsum("b,bhw->hw", told / told.sum().clamp_min(1e-30), start.valid.to(told))
        span, spectra = self.span[:, 0, 0], spectra @ to_fit
        return EigenImages(clean[None], (white - clean)[None], known[None, None], span[None], spectra[None])


@dataclass(frozen=True, eq=False)
class _Fit:
    """What one cube gave."""

    start: LowRank
    """What the images of the last round were fitted with."""
    model: LowRank
    """What was fitted to these images, denoised."""
    shown: _Shown
    """How the network saw them."""
    first: FirstEstimate
    """Of this one cube."""


@dataclass(frozen=True, eq=False)
class SubspaceSurvey:
    """What was found of a cube as a whole; its tiles go by it and differ in their spikes and images alone."""

    denoiser: SubspaceDenoiser
    """Whose network denoises."""
    start: LowRank
    """What images are fitted with."""
    model: LowRank
    """What makes the cube of images that are denoised."""
    shown: _Shown
    """How the network sees them."""
    columns: Columns
    """Stripes, stuck elements, limits."""
    trust: BandTrust
    """Of the bands."""

    def denoise(
        self,
        noisy: Tensor,
        noise: NoiseLevel | None,
        places: Sequence[tuple[int, int]],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise tiles (B, bands, h, w) whose corners lie at ``places``."""
        first = self.first_estimate(noisy, places)
        result = combine(first.cube, first, self.trust)
        return torch.where(torch.isfinite(first.sigma)[:, :, None, None], result, noisy)

    def first_estimate(self, noisy: Tensor, places: Sequence[tuple[int, int]]) -> FirstEstimate:
        """Return the estimate of tiles (B, bands, h, w) before it is put together with them, and what is left."""
        return joined([self._fit(planes.float(), left) for planes, (_, left) in zip(noisy, places, strict=True)])

    def _fit(self, planes: Tensor, left: int) -> FirstEstimate:
        columns = self.columns.part(left, planes.shape[2])
        flaws = columns.flaws(planes)
        model = columns.applied(self.start, planes, flaws)
        fitted = rest = white = clean = planes
        shown = model
        for _ in range(_ROUNDS):
            shown = model
            white, clean = self.denoiser.cleaned(shown.images(planes)[0], self.shown, planes.shape)
            fitted = self.model.cube(self.shown.back(clean), planes.shape)
            rest = model.destriped(planes) - fitted
            model = replace(model, valid=trusted(rest, self.model.sigma, flaws, fitted, rare=True))
        sigma = self.model.sigma.masked_fill(self.columns.empty[:, 0], torch.inf)
        eigen = self.shown.eigen_images(white, clean, shown, self.model.spectra)
        return _first_estimate(fitted, rest, model.valid, sigma, eigen)


def _left_alone(planes: Tensor) -> FirstEstimate:
    """Return the estimate of a cube (bands, H, W) of which nothing can be said: nothing but what was measured."""
    nothing = torch.zeros_like(planes)
    unknown = planes.new_full((len(planes),), torch.inf)
    return FirstEstimate(planes[None], nothing[None], nothing[None].bool(), unknown[None])


def _first_estimate(cube: Tensor, rest: Tensor, valid: Tensor, sigma: Tensor, eigen: EigenImages) -> FirstEstimate:
    """Return that of one cube: estimate, rest, validity (bands, H, W) and noise (bands,)."""
    return FirstEstimate(cube[None], rest[None], valid[None], sigma[None], eigen)


def _sigma_of(planes: Tensor, noise: NoiseLevel | None, number: int) -> Tensor | None:
    """Return the mean noise (bands,) of the cube with this number in the batch; None where nobody stated it."""
    if noise is None or noise.source.startswith("blind"):
        return None
    level = noise.for_channels(len(planes))
    if level.shot.ndim > 1:
        level = replace(level, shot=level.shot[number], read=level.read[number])
    signal = planes.clamp_min(0).mean((1, 2)).double().cpu().numpy()
    return torch.from_numpy(np.sqrt(level.variance(signal))).to(planes)
