"""Hyperspectral cubes by latent diffusion: what the subspace estimate missed, drawn in a 3-D latent space.

The subspace method finds the few images that hold the signal of all bands, and denoises them one by one. What it cannot
see is what they have in common: edges that a strong image shows lie in the weak ones too. So these images are taken as
one small cube. A 3-D autoencoder learned what such cubes look like (stage 1). Between the latents of the subspace
estimate and those of the clean images runs a short chain of Resfusion, told the images, what was measured beside them,
and where (stage 2, on white, uneven and striped noise; stage 3, on a pushbroom sensor's). What it finds is added to the
images, their spectra make a cube of it, and the result is put together with the noisy cube by their own uncertainties.

References
----------
.. [1] Z. Shi et al., "Resfusion: Denoising Diffusion Probabilistic Models for Image Restoration Based on Prior
   Residual Noise", NeurIPS 2024.
.. [2] HSI-Diffusion for the FINCH satellite, SmallSat 2024, SSC24-X-04 (the problem: 3-D, in three stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.cubes.eigen_images import EigenImages
from denoise.cubes.first_estimate import BandTrust, FirstEstimate, combine
from denoise.denoiser import Batch, Denoiser, Surveyor, Whole
from denoise.diffusion import (
    average_samples,
    draw_sample,
    immiscible,
    mixed,
    resfusion_schedule,
    run_deterministic,
    start_point,
)
from denoise.errors import WeightsError
from denoise.networks.cube3d import SPATIAL_STEP, SPECTRAL_STEP, CubeAutoencoder, CubeEncoder, LatentUNet
from noise_models.level import NoiseLevel

Stage = Literal["autoencoder", "diffusion"]

GUIDES: Final = 3
"""The strongest images, which all others are shown beside."""
_TOLD: Final = 3 + GUIDES  # estimate, what is left, what was measured
_FARTHEST: Final = 5.0  # of what is left, in units of its noise: beyond lie spikes
_WIDEST: Final = 48.0  # range of an image in units of its noise: stronger ones are shown as if they had this one
_WITHOUT_NOISE: Final = 0.75
_FOLLOWING: Final = 0.01
_LEAST_PART: Final = 0.1


class FoundWhole(Protocol):
    """What the estimator found of a cube as a whole."""

    @property
    def trust(self) -> BandTrust:
        """Of the bands."""
        ...

    def first_estimate(self, noisy: Tensor, places: Sequence[tuple[int, int]]) -> FirstEstimate:
        """Estimate tiles (B, bands, h, w) whose corners lie at ``places``."""
        ...


@dataclass(frozen=True, eq=False)
class CubeBatch(Batch):
    """Images of cubes (B, r, H, W), noisy and clean, in units of their noise."""

    first: EigenImages
    """Estimate of ``clean`` from ``noisy``."""


class CubeDiffusion(nn.Module):
    """Latent diffusion from a first estimate to the clean cube.

    Parameters
    ----------
    card : ModelCard
        ``config``: ``latent``, ``widths`` and ``blocks`` of the autoencoder, ``inner`` and ``inner_blocks`` of the
        latent network, ``condition`` features, ``length`` of the schedule before it is cut, ``samples`` to average,
        ``immiscible`` for that assignment of noise in training, and ``stage``, what `loss` teaches.
    foundation : Denoiser, optional
        The subspace method; not needed to learn.
    """

    def __init__(self, card: ModelCard, foundation: Denoiser | None = None) -> None:
        super().__init__()
        self.card = card
        self.foundation: Any = foundation
        config = card.config
        widths, blocks, latent = tuple(config["widths"]), int(config["blocks"]), int(config["latent"])
        self.stage: Stage = config["stage"]
        self.samples = int(config.get("samples", 0))
        self.immiscible = bool(config.get("immiscible", False))
        self.schedule = resfusion_schedule(int(config["length"]))
        self.autoencoder = CubeAutoencoder(latent, widths, blocks)
        self.teller = CubeEncoder(_TOLD, int(config["condition"]), widths, blocks)
        self.network = LatentUNet(
            latent, int(config["condition"]), self.schedule.steps, config["inner"], int(config["inner_blocks"])
        )
        self.spread: Tensor
        self.register_buffer("spread", torch.zeros(1))
        self.multiple_of = SPATIAL_STEP * self.network.multiple_of
        self.images_multiple_of = SPECTRAL_STEP * self.network.multiple_of
        self.bytes_per_value = 100.0  # the subspace estimate's 75 and, of some eight bands each, an image's features

    def with_samples(self, samples: int) -> CubeDiffusion:
        """Average that many draws, 0 for none: then one step leads to the mean of all; returns itself."""
        self.samples = samples
        self.card = self.card.model_copy(update={"stochastic": samples > 0})
        return self

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, bands, H, W) float32, rows along the track; same shape out.

        Without a generator every call gives the same, samples as well.

        Raises
        ------
        WeightsError
            If the subspace method is not at hand.
        """
        first = self._estimated(noisy, noise)
        if self.stage == "autoencoder":
            return self._reconstructed(noisy, first)
        return self._refined(noisy, first, self.samples, generator)[0]

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> _RefinedSurvey | None:
        """Return what the subspace method finds of a cube as a whole: the first estimates of tiles go by it."""
        if self.stage == "autoencoder" or not isinstance(self.foundation, Surveyor):
            return None
        found = self.foundation.survey(whole, noise)
        return None if found is None else _RefinedSurvey(self, cast(FoundWhole, found))

    def uncertainty(
        self, noisy: Tensor, noise: NoiseLevel | None, samples: int, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (B, bands, H, W) of at least two draws of the clean cube.

        Raises
        ------
        WeightsError
            If fewer than two samples are asked for, or the subspace method is not at hand.
        """
        if samples < 2:
            raise WeightsError(
                f"An uncertainty from {samples} samples was asked for, but it takes at least 2. Ask for 8."
            )
        return self._refined(noisy, self._estimated(noisy, noise), samples, generator)

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of the card's stage.

        Raises
        ------
        WeightsError
            If the batch has no clean cubes, or no first estimate where the stage needs one.
        """
        if batch.clean is None:
            raise WeightsError("Cube diffusion learns from clean cubes; the batch has none.")
        if not isinstance(batch, CubeBatch):
            raise WeightsError(
                "Cube diffusion refines the images of a cube; the batch has none. Use the source cube-images."
            )
        missed = batch.clean - batch.first.images
        if self.stage == "autoencoder":
            return self._autoencoder_loss(missed, batch.first)
        return self._diffusion_loss(missed, batch.first, generator)

    def _autoencoder_loss(self, missed: Tensor, first: EigenImages) -> dict[str, Tensor]:
        """Squared errors of what comes back of images, and of what estimates of them missed, in parts of either."""
        images, missed = (
            _relative(self.autoencoder.decode(self.autoencoder.encode(seen)).float() - seen, seen)
            for seen in (_bound(first) * first.images, missed)
        )
        return {"total": images + missed, "images": images.detach(), "missed": missed.detach()}

    def _diffusion_loss(self, missed: Tensor, first: EigenImages, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared errors of latents at a random step of the chain, and of what they decode to.

        Both are in parts of the error of the first estimate, so that every example has a say, and "pixel" below 1 is a
        gain. That of latents is the network's, whose scale at every step makes it one of the resnoise. Most of the
        examples go without noise, at the step where sampling begins: they learn the mean of all clean cubes.
        """
        told = _Told.of(self, first)
        with torch.no_grad():
            target = self.autoencoder.encode(missed).float()
            self._follow_spread(target)
            target = target / self.spread.clamp_min(1e-6)
        step = torch.randint(self.schedule.steps, (len(missed),), generator=generator, device=missed.device)
        noise = torch.randn(target.shape, generator=generator, device=missed.device)
        noise = immiscible(target, noise) if self.immiscible else noise
        silent = torch.rand(len(missed), generator=generator, device=missed.device) < _WITHOUT_NOISE
        step = torch.where(silent, self.schedule.steps - 1, step)
        noise = noise * (~silent)[:, None, None, None, None]
        state = torch.stack(
            [
                mixed(one, torch.zeros_like(one), chance, self.schedule, number)
                for one, chance, number in zip(target, noise, step.tolist(), strict=True)
            ]
        )
        found = self._predict(state, step, told)
        latent = _relative((found - target) / self._scales(step)[1], target)
        pixel = _relative(self._decode(found) - missed, missed)
        return {"total": latent + pixel, "latent": latent.detach(), "pixel": pixel.detach()}

    def _follow_spread(self, target: Tensor) -> None:
        """Keep a moving average of how much the latents differ from those of the first estimate."""
        if self.training:
            found = target.square().mean().sqrt()
            self.spread.lerp_(found, _FOLLOWING if self.spread > 0 else 1.0)

    def _estimated(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
        if self.foundation is None:
            raise WeightsError(
                f"{self.card.id} refines the estimate of the subspace method, which is not at hand. "
                "Load it with denoise.load_model."
            )
        with torch.autocast(noisy.device.type, enabled=False):
            return self.foundation.first_estimate(noisy.float(), noise)

    def _refined(
        self,
        noisy: Tensor,
        first: FirstEstimate,
        samples: int,
        generator: torch.Generator | None,
        trust: BandTrust | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean of the draws and their standard deviation, put together with what was measured."""
        if first.eigen is None and not torch.isfinite(first.sigma).any():  # nothing was found to refine
            return noisy, torch.full_like(noisy, torch.nan)
        eigen = self._images_of(first)
        _, rank, height, width = eigen.images.shape
        told = _Told.of(self, eigen.padded(self.images_multiple_of, self.multiple_of))
        measured = torch.isfinite(first.sigma)[:, :, None, None]

        def whole(latents: Tensor) -> Tensor:
            missed = self._decode(latents)[:, :rank, :height, :width]
            return torch.where(measured, combine(first.cube + eigen.cube_of(missed), first, trust), noisy)

        if samples == 0:
            mean = whole(self._mean(told))
            return mean, torch.full_like(mean, torch.nan)
        chance = torch.Generator(noisy.device).manual_seed(0)
        return average_samples(lambda: whole(self._draw(told, generator, chance)), samples)

    def _images_of(self, first: FirstEstimate) -> EigenImages:
        if first.eigen is None:
            raise WeightsError(
                f"{self.card.id} refines the images that an estimate of a cube is made of, but this one is made of "
                "none. Let the card stand on the subspace method."
            )
        return first.eigen

    def _mean(self, told: _Told) -> Tensor:
        """Return the mean of all clean latents in one step: the state where sampling begins, without its noise."""
        state = start_point(torch.zeros_like(told.anchor), None, self.schedule)
        return self._predict(state, self._same_step(told, self.schedule.steps - 1), told)

    def _draw(self, told: _Told, generator: torch.Generator | None, chance: torch.Generator) -> Tensor:
        """Draw clean latents; without a generator only the start is drawn, and from ``chance``."""

        def predict(state: Tensor, step: int) -> Tensor:
            return self._predict(state, self._same_step(told, step), told)

        anchor = torch.zeros_like(told.anchor)
        if generator is not None:
            return draw_sample(predict, anchor, self.schedule, generator)
        noise = torch.randn(anchor.shape, generator=chance, device=anchor.device)
        return run_deterministic(predict, anchor, self.schedule, noise)

    def _predict(self, state: Tensor, step: Tensor, told: _Told) -> Tensor:
        """Return the clean latents, less those of the first estimate, in units of their spread."""
        skip, scale = self._scales(step)
        return skip * state + scale * self.network(state, told.anchor, told.condition, step).float()

    def _scales(self, step: Tensor) -> Tensor:
        """Return `Schedule.scales` for each example, (2, B, 1, 1, 1, 1)."""
        pairs = [self.schedule.scales(number) for number in step.tolist()]
        return torch.tensor(pairs, device=step.device).T[:, :, None, None, None, None]

    def _same_step(self, told: _Told, step: int) -> Tensor:
        return torch.full((len(told.anchor),), step, device=told.anchor.device)

    def _decode(self, latents: Tensor) -> Tensor:
        """Return what the first estimate missed, by its latents in units of their spread."""
        return self.autoencoder.decode(self.spread * latents).float()

    def _reconstructed(self, noisy: Tensor, first: FirstEstimate) -> Tensor:
        """Return the subspace estimate, its images sent through the latents."""
        eigen = self._images_of(first).padded(self.images_multiple_of, self.multiple_of)
        bound = _bound(eigen)
        back = self.autoencoder.decode(self.autoencoder.encode(bound * eigen.images)).float() / bound
        moved = (back - eigen.images)[:, :, : noisy.shape[2], : noisy.shape[3]]
        return first.cube + eigen.cube_of(moved)

    def to(self, *arguments: Any, **keywords: Any) -> CubeDiffusion:
        """Move to a device; returns itself."""
        super().to(*arguments, **keywords)
        if self.foundation is not None and not keywords:
            self.foundation.to(*arguments)
        return self


@dataclass(frozen=True, eq=False)
class _RefinedSurvey:
    """What was found of a cube as a whole, for tiles to be refined."""

    model: CubeDiffusion
    """That refines."""
    found: FoundWhole
    """`denoise.methods.subspace.SubspaceSurvey`."""

    def denoise(
        self,
        noisy: Tensor,
        noise: NoiseLevel | None,
        places: Sequence[tuple[int, int]],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise tiles (B, bands, h, w) whose corners lie at ``places``."""
        with torch.autocast(noisy.device.type, enabled=False):
            first = self.found.first_estimate(noisy.float(), places)
        return self.model._refined(noisy, first, self.model.samples, generator, self.found.trust)[0]


@dataclass(frozen=True, eq=False)
class _Told:
    """What the chain is told, worked out once for all its steps."""

    anchor: Tensor
    """Latents of the images, at a strength that is bounded: however little noise there is, the network sees numbers it
    knows."""
    condition: Tensor
    """Features of what is known."""

    @classmethod
    def of(cls, model: CubeDiffusion, first: EigenImages) -> _Told:
        """Tell images whose numbers and sides are multiples: each with what it left, and the strongest of all."""
        seen = _bound(first) * first.images
        rest = first.rest.clamp(-_FARTHEST, _FARTHEST)
        guides = [seen[:, [number]].expand_as(seen) for number in range(GUIDES)]
        with torch.no_grad():
            anchor = model.autoencoder.encode(seen).float()
        return cls(anchor, model.teller(torch.stack((seen, rest, first.known.expand_as(seen), *guides), 1)))


def _relative(error: Tensor, whole: Tensor) -> Tensor:
    """Return the mean over examples of |error|^2 / |whole|^2, where whole is not far below that of its batch."""
    energy = whole.square().flatten(1).mean(1)
    return (error.square().flatten(1).mean(1) / energy.maximum(_LEAST_PART**2 * energy.mean())).mean()


def _bound(first: EigenImages) -> Tensor:
    """Return the factors (B, r, 1, 1) that keep strong images within what a network knows."""
    return (_WIDEST / first.span).clamp_max(1.0)[:, :, None, None]
