"""The contracts of a method: how it denoises, and how it learns."""

from __future__ import annotations

from collections.abc import Sequence
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


class Whole(Protocol):
    """An image that is larger than a tile, as a survey reads it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        ...

    @property
    def most_values(self) -> int:
        """Values to work on at a time, at most, all planes together: what the memory promised allows."""
        ...

    def window(self, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
        """Return planes [top:bottom, left:right] (C, h, w) float32, on the device of the model."""
        ...


class Survey(Protocol):
    """What was found in one image as a whole; it never changes, so that tiles may be denoised side by side."""

    def denoise(
        self,
        noisy: torch.Tensor,
        noise: NoiseLevel | None,
        places: Sequence[tuple[int, int]],
        *,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Denoise tiles (B, C, h, w) of that image as `Denoiser.denoise` does, given (row, column) of their corners.

        A tile may reach past the right and lower border; there it holds the mirror image.
        """
        ...


@runtime_checkable
class Surveyor(Protocol):
    """A `Denoiser` that goes by facts of the whole image: its mean, its noise, what its columns share.

    Of an image in one tile it finds them by itself. Where the engine cuts an image, it asks for a survey first, and
    every tile is denoised by it.
    """

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> Survey | None:
        """Look at the image as a whole; None if there is nothing to know."""
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
