"""Hyperspectral cubes by latent diffusion: what the subspace estimate missed, drawn in a 3-D latent space.

A 3-D autoencoder learned what cubes look like (stage 1). Between the latents of the subspace estimate and those of the
clean cube runs a short chain of Resfusion, told what was measured, how noisy each band is, and what holds no
measurement (stage 2, on the field's standard noise; stage 3, on a pushbroom sensor's). The decoded difference is added
to the subspace estimate, so what the autoencoder cannot say costs nothing, and the result is put together with the
noisy cube by their own uncertainties.

References
----------
.. [1] Z. Shi et al., "Resfusion: Denoising Diffusion Probabilistic Models for Image Restoration Based on Prior
   Residual Noise", NeurIPS 2024.
.. [2] HSI-Diffusion for the FINCH satellite, SmallSat 2024, SSC24-X-04 (the problem: 3-D, in three stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.cubes.first_estimate import FirstEstimate, combine, pad
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

_TOLD: Final = 4  # estimate, what is left, noise, validity
_FARTHEST: Final = 5.0
_STRONGEST: Final = 8.0
_WITHOUT_NOISE: Final = 0.5
_FOLLOWING: Final = 0.01
_LEAST_PART: Final = 0.1


class FirstEstimator(Protocol):
    """What gives a first estimate: `denoise.methods.subspace.SubspaceDenoiser`."""

    def first_estimate(self, noisy: Tensor, noise: NoiseLevel | None) -> FirstEstimate:
        """Estimate (B, bands, H, W)."""
        ...


@dataclass(frozen=True, eq=False)
class CubeBatch(Batch):
    """Cubes with their first estimate."""

    first: FirstEstimate
    """Of ``noisy``."""


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
        self.bands_multiple_of = SPECTRAL_STEP * self.network.multiple_of
        self.bytes_per_pixel = _BYTES_PER_BAND * _BANDS

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
        if self.stage == "autoencoder":
            return self._reconstructed(noisy)
        return self._refined(noisy, self._estimated(noisy, noise), self.samples, generator)[0]

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> _RefinedSurvey | None:
        """Return what the subspace method finds of a cube as a whole: the first estimates of tiles go by it."""
        if self.stage == "autoencoder" or not isinstance(self.foundation, Surveyor):
            return None
        found = self.foundation.survey(whole, noise)
        return None if found is None else _RefinedSurvey(self, found)

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
                f"An uncertainty from {samples} samples was asked for, but it takes at least 2. Pass --samples 8."
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
        if self.stage == "autoencoder":
            return self._autoencoder_loss(batch.clean)
        if not isinstance(batch, CubeBatch):
            raise WeightsError(
                "Cube diffusion refines a first estimate; the batch has none. Use the source cube-pairs."
            )
        return self._diffusion_loss(batch.clean, batch.first, generator)

    def _autoencoder_loss(self, clean: Tensor) -> dict[str, Tensor]:
        """Mean absolute error of values, and of steps from band to band, in units of the cube's own contrast."""
        seen, _ = _centred(clean, clean)
        error = self.autoencoder.decode(self.autoencoder.encode(seen)).float() - seen
        contrast = seen.std((1, 2, 3), keepdim=True) + 1e-3
        values, steps = (error / contrast).abs().mean(), (error.diff(dim=1) / contrast).abs().mean()
        return {"total": values + steps, "values": values.detach(), "steps": steps.detach()}

    def _diffusion_loss(self, clean: Tensor, first: FirstEstimate, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared errors of latents at a random step of the chain, and of what they decode to.

        Both are in parts of the error of the first estimate, so that every example has a say, and "pixel" below 1 is a
        gain. That of latents is the network's, whose scale at every step makes it one of the resnoise. Half of the
        examples go without noise, at the step where sampling begins: they learn the mean of all clean cubes.
        """
        told = _Told.of(self, first)
        with torch.no_grad():
            target = self._encode((clean - first.cube) / first.unit + told.seen) - told.latents
            self._follow_spread(target)
            target = target / self.spread.clamp_min(1e-6)
        step = torch.randint(self.schedule.steps, (len(clean),), generator=generator, device=clean.device)
        noise = torch.randn(target.shape, generator=generator, device=clean.device)
        noise = immiscible(target, noise) if self.immiscible else noise
        silent = torch.rand(len(clean), generator=generator, device=clean.device) < _WITHOUT_NOISE
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
        wanted = (clean - first.cube) / first.unit
        pixel = _relative(self._decode(found, told) - wanted, wanted)
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
        self, noisy: Tensor, first: FirstEstimate, samples: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the mean of the draws and their standard deviation, put together with what was measured."""
        padded = first.padded(self.bands_multiple_of, self.multiple_of)
        told = _Told.of(self, padded)
        _, bands, height, width = noisy.shape
        measured = torch.isfinite(first.sigma)[:, :, None, None]

        def whole(latents: Tensor) -> Tensor:
            refined = (padded.cube + padded.unit * self._decode(latents, told))[:, :bands, :height, :width]
            return torch.where(measured, combine(refined, first), noisy)

        if samples == 0:
            mean = whole(self._mean(told))
            return mean, torch.full_like(mean, torch.nan)
        chance = torch.Generator(noisy.device).manual_seed(0)
        return average_samples(lambda: whole(self._draw(told, generator, chance)), samples)

    def _mean(self, told: _Told) -> Tensor:
        """Return the mean of all clean latents in one step: the state where sampling begins, without its noise."""
        state = start_point(torch.zeros_like(told.latents), None, self.schedule)
        return self._predict(state, self._same_step(told, self.schedule.steps - 1), told)

    def _draw(self, told: _Told, generator: torch.Generator | None, chance: torch.Generator) -> Tensor:
        """Draw clean latents; without a generator only the start is drawn, and from ``chance``."""

        def predict(state: Tensor, step: int) -> Tensor:
            return self._predict(state, self._same_step(told, step), told)

        anchor = torch.zeros_like(told.latents)
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
        return torch.full((len(told.latents),), step, device=told.latents.device)

    def _encode(self, cube: Tensor) -> Tensor:
        """Encode in float32: differences of latents are what counts."""
        with torch.autocast(cube.device.type, enabled=False):
            return self.autoencoder.encode(cube)

    def _decode(self, latents: Tensor, told: _Told) -> Tensor:
        """Return by how much the cube changes, in units of its noise, when its latents change."""
        with torch.autocast(latents.device.type, enabled=False):
            changed = self.autoencoder.decode(told.latents + self.spread * latents.float())
            return changed - self.autoencoder.decode(told.latents)

    def _reconstructed(self, cube: Tensor) -> Tensor:
        _, bands, height, width = cube.shape
        padded = pad(cube, self.bands_multiple_of, self.multiple_of)
        seen, centre = _centred(padded, padded)
        return (self.autoencoder.decode(self.autoencoder.encode(seen)).float() + centre)[:, :bands, :height, :width]

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
    found: Any
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
        return self.model._refined(noisy, first, self.model.samples, generator)[0]


@dataclass(frozen=True, eq=False)
class _Told:
    """What the chain is told, worked out once for all its steps."""

    seen: Tensor
    """(B, bands, H, W): the first estimate less its mean spectrum, in units of the typical noise."""
    latents: Tensor
    """Of ``seen``."""
    anchor: Tensor
    """``latents`` at a strength that is bounded: however little noise there is, the network sees numbers it knows."""
    condition: Tensor
    """Features of what is known."""

    @classmethod
    def of(cls, model: CubeDiffusion, first: FirstEstimate) -> _Told:
        """Tell a first estimate whose sides are multiples."""
        centred, _ = _centred(first.cube, first.cube)
        seen = centred / first.unit
        bound = (_STRONGEST / seen.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)).clamp_max(1.0)
        sigma = first.known_sigma
        rest = (first.rest / sigma).clamp(-_FARTHEST, _FARTHEST)  # also where it is not valid: cut values tell as well
        noise = (sigma / first.unit).clamp_max(_FARTHEST).expand_as(seen)
        with torch.no_grad():
            latents = model._encode(seen)
        condition = model.teller(torch.stack((bound * first.cube / first.unit, rest, noise, first.valid.to(seen)), 1))
        return cls(seen, latents, bound[..., None] * latents, condition)


_BYTES_PER_BAND: Final = 250.0
"""Alive at the peak, per pixel and band [byte]."""
_BANDS: Final = 200
"""For which memory is planned."""


def _relative(error: Tensor, whole: Tensor) -> Tensor:
    """Return the mean over examples of |error|^2 / |whole|^2, where whole is not far below that of its batch."""
    energy = whole.square().flatten(1).mean(1)
    return (error.square().flatten(1).mean(1) / energy.maximum(_LEAST_PART**2 * energy.mean())).mean()


def _centred(cube: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return a cube without the mean spectrum of another, and that spectrum (B, bands, 1, 1)."""
    centre = reference.mean((2, 3), keepdim=True)
    return cube - centre, centre
