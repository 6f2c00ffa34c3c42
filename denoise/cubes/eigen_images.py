"""The images of a cube's signal: few for many bands, with white noise of unit variance, strongest first."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class EigenImages:
    """A cube as its spectra and their images, which were denoised one by one; in units of the images' noise."""

    images: Tensor
    """(B, r, H, W): denoised."""
    rest: Tensor
    """(B, r, H, W): what was measured, less ``images``."""
    known: Tensor
    """(B, 1, H, W): share of what tells of a pixel that was measured, and is no spike; 0 to 1."""
    span: Tensor
    """(B, r): range of each image; the same for all tiles of a cube."""
    spectra: Tensor
    """(B, bands, r), house units: the cube is its mean spectrum and spectra x images."""

    def padded(self, images: int, pixels: int) -> EigenImages:
        """Return them with images of 0, and the last row and column repeated, until their numbers are multiples."""
        _, rank, height, width = self.images.shape
        sides = (0, -width % pixels, 0, -height % pixels)
        more = -rank % images

        def pad(planes: Tensor) -> Tensor:
            return functional.pad(planes, sides, mode="replicate")

        return EigenImages(
            functional.pad(pad(self.images), (0, 0, 0, 0, 0, more)),
            functional.pad(pad(self.rest), (0, 0, 0, 0, 0, more)),
            pad(self.known),
            functional.pad(self.span, (0, more), value=1.0),
            functional.pad(self.spectra, (0, more)),
        )

    def cube_of(self, images: Tensor) -> Tensor:
        """Return what images (B, r, H, W) add up to in a cube (B, bands, H, W)."""
        return torch.einsum("nbr,nrhw->nbhw", self.spectra, images)


def stacked(parts: list[EigenImages]) -> EigenImages:
    """Return single cubes as one batch; where they have fewer images than others, the last ones are 0."""
    most = max(part.images.shape[1] for part in parts)
    padded = [part.padded(most, 1) for part in parts]
    return EigenImages(*(torch.cat([getattr(part, field.name) for part in padded]) for field in fields(EigenImages)))
