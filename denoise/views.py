"""A model's answer averaged over mirrored views of an image: a little better, for so many times the work.

References
----------
.. [1] R. Timofte et al., "Seven ways to improve example-based single image super resolution", CVPR 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from denoise.denoiser import Denoiser, Survey, Surveyor, Whole
from noise_models.level import NoiseLevel

_MIRRORED: Final = ((), (3,), (2,), (2, 3))
"""Axes of (B, C, H, W): as it is, rows backwards, columns backwards, both."""
VIEWS: Final = (1, 2, 4)
"""How many can be averaged."""


class ViewsAveraged:
    """A `Denoiser` that asks another one for each view, and averages its answers, mirrored back.

    The errors of a network in an image and in its mirror image are partly their own, so the average errs less. Mirrored
    planes of a Bayer mosaic are those of another phase, which the networks have learned too.

    Parameters
    ----------
    model : Denoiser
        For photographs or RAW; the rows and columns of a cube are no equals.
    views : int
        Of `VIEWS`.
    """

    def __init__(self, model: Denoiser, views: int) -> None:
        self.model, self.views, self.card = model, views, model.card
        macs, held = (getattr(model, name, None) for name in ("macs_per_pixel", "bytes_per_pixel"))
        self.macs_per_pixel = None if macs is None else views * macs
        self.bytes_per_pixel = None if held is None else held + 4 * max(model.card.channels or (4,))

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, C, H, W) as `Denoiser.denoise` does."""
        return _average(lambda view: self.model.denoise(view, noise, generator=generator), noisy, self.views)

    def survey(self, whole: Whole, noise: NoiseLevel | None) -> Survey | None:
        """Return what the model found of the image as a whole, if it looks."""
        found = self.model.survey(whole, noise) if isinstance(self.model, Surveyor) else None
        return None if found is None else _ViewsOfSurvey(found, self.views)

    def to(self, device: torch.device) -> ViewsAveraged:
        """Move to a device; returns itself."""
        self.model = self.model.to(device)
        return self


@dataclass(frozen=True, eq=False)
class _ViewsOfSurvey:
    found: Survey
    views: int

    def denoise(
        self,
        noisy: Tensor,
        noise: NoiseLevel | None,
        places: Sequence[tuple[int, int]],
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return _average(lambda view: self.found.denoise(view, noise, places, generator=generator), noisy, self.views)


def _average(answer: Callable[[Tensor], Tensor], noisy: Tensor, views: int) -> Tensor:
    result = answer(noisy)
    for axes in _MIRRORED[1:views]:
        result = result + answer(noisy.flip(axes)).flip(axes)
    return result / views
