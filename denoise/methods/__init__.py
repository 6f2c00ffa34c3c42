"""One paper, one file; the table of what exists.

To add a method: its file here, its network in ``denoise/networks/``, one line in `METHODS`, its weights and card in
``weights/``. The contract tests then cover it by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from denoise.card import ModelCard
from denoise.methods.cbsn import ConditionalBlindSpotDenoiser, DistilledBlindSpot
from denoise.methods.classical import CLASSICAL_CARD, ClassicalDenoiser
from denoise.methods.cube_diffusion import CubeDiffusion
from denoise.methods.noise2score import Noise2Score
from denoise.methods.subspace import SUBSPACE_CARD, SubspaceDenoiser
from denoise.methods.supervised import SupervisedDenoiser

if TYPE_CHECKING:
    from denoise.denoiser import Denoiser


@dataclass(frozen=True)
class Method:
    """How a denoiser is built from its card."""

    build: Callable[..., Any]
    """The class, called with the card, and with the model that the card stands on."""
    card: ModelCard | None = None
    """The card of a method that needs no weights."""

    def denoiser(self, card: ModelCard, foundation: Denoiser | None = None) -> Denoiser:
        """Build the denoiser, its weights not yet loaded, on the model that its card ``stands_on``."""
        return self.build(card) if foundation is None else self.build(card, foundation)


METHODS: Final[dict[str, Method]] = {
    "classical": Method(ClassicalDenoiser, CLASSICAL_CARD),
    "supervised": Method(SupervisedDenoiser),
    "noise2score": Method(Noise2Score),
    "cbsn": Method(DistilledBlindSpot),
    "cbsn-teacher": Method(ConditionalBlindSpotDenoiser),
    "subspace": Method(SubspaceDenoiser, SUBSPACE_CARD),
    "cube-diffusion": Method(CubeDiffusion),
}

DEFAULT_MODELS: Final[dict[tuple[str, str], str]] = {
    ("classical", "raw"): "classical",
    ("classical", "photo"): "classical",
    ("classical", "grey"): "classical",
    ("classical", "cube"): "classical",
    ("supervised", "raw"): "supervised-unet.virtual-cameras",
    ("supervised", "photo"): "supervised-unet.photo",
    ("supervised", "grey"): "supervised-unet.grey",
    ("subspace", "cube"): "subspace",
    ("fast", "raw"): "supervised-unet.virtual-cameras-fast",
    ("fast", "photo"): "supervised-unet.photo",
    ("fast", "grey"): "supervised-unet.grey",
    ("fast", "cube"): "subspace",
    ("camera-jpeg", "photo"): "blind-unet.camera-jpegs",
    ("cbsn", "photo"): "cbsn.photo",
    ("noise2score", "photo"): "noise2score.photo",
    ("cube-diffusion", "cube"): "cube-diffusion.finch",
}
"""The model that a word of `--model` stands for, by kind of image; "grey" is any of one plane."""
