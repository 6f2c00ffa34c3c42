"""The contracts of a method: how it denoises, and how it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from denoise.card import ModelCard
from denoise.errors import WeightsError
from noise_models.level import NoiseLevel

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Denoiser(Protocol):
    """A method with its weights: a tensor in, a cleaner tensor out.

    It never clips, never reads a file, never picks a device.
    """

    card: ModelCard

    def denoise(
        self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Denoise ``noisy`` (B, C, H, W) float32, 0 black and 1 white; same shape and dtype out.

        ``noise`` has shape (C,) or (B, C). A method whose card says "required" raises `WeightsError` without it.
        """
        ...

    def to(self, device: torch.device) -> Denoiser:
        """Move to a device; returns itself."""
        ...


@dataclass(frozen=True, eq=False)
class Batch:
    """What a training step sees."""

    noisy: torch.Tensor
    """(B, C, H, W) float32, house units."""
    clean: torch.Tensor | None
    """Same shape, or None where only noisy images are known."""
    noise: NoiseLevel | None
    """(B, C), or None where it is not known."""


class Learner(Protocol):
    """The learning half of a method."""

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Return the losses of one batch; "total" is minimised, the rest is logged."""
        ...


def needed(noise: NoiseLevel | None, card: ModelCard, channels: int) -> NoiseLevel:
    """Return the noise level spelled out for ``channels`` planes, for a model that cannot do without.

    Raises
    ------
    WeightsError
        If there is none.
    """
    if noise is None:
        raise WeightsError(
            f"Model '{card.id}' was asked to denoise without a noise level, but it needs one. "
            "Give --noise SHOT,READ or leave it out for a blind estimate."
        )
    return noise.for_channels(channels)
