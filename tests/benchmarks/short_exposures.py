"""Photographs as an unusual camera would see them in far too little light: pairs to train on, pictures to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from unusual_camera import ISOS

from denoise.denoiser import Batch
from denoise.errors import ManifestError
from denoise.manifests import data_root, find_files
from denoise.training.sources.crops import Crops, load_photos, log_uniform
from denoise.training.sources.exposures import Exposure
from denoise.unprocess import CameraLook, unprocess
from noise_models.base import NoiseModel, SensorSettings
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile

CASES = ((800.0, 200.0), (1600.0, 100.0), (3200.0, 50.0))
"""ISO and ratio of the test."""
RATIOS = (50.0, 200.0)
"""Of the training."""
SPREAD = 2
"""Sensor pixels to one of a photograph, along either side."""
PATCH = 64
"""Side of a patch in pixels of a plane."""
_EXPOSURE_S = 1 / 30


@dataclass(frozen=True, eq=False)
class IsoBatch(Batch):
    """Pairs whose ISO is known."""

    iso: Tensor
    """(B,) [ISO]."""


class ShortExposures:
    """Training pairs: crops of linear light, a whole batch spoilt at once.

    Parameters
    ----------
    photos : sequence of (3, H, W) float16
        Linear camera RGB.
    profile : CameraProfile
        As calibrated; states the noise level that the network is told.
    noise : NoiseModel
        How the pairs are spoilt.
    """

    def __init__(self, photos: Sequence[Tensor], profile: CameraProfile, noise: NoiseModel) -> None:
        self.crops = Crops(photos, 2 * PATCH // SPREAD)
        self.exposures = [Exposure(profile, SensorSettings(iso, _EXPOSURE_S), noise) for iso in ISOS]

    def draw(self, batch: int, *, generator: torch.Generator) -> Batch:
        """Return ``batch`` patches (B, 4, patch, patch)."""
        which = torch.randint(len(self.exposures), (batch,), generator=generator).tolist()
        ratios = log_uniform(*RATIOS, batch, generator).tolist()
        exposures = [self.exposures[one].brightened(ratio) for one, ratio in zip(which, ratios, strict=True)]
        light = oversample(torch.stack([self.crops.draw(generator) for _ in exposures]))
        clean = torch.stack([exposure.mosaic(one) for exposure, one in zip(exposures, light, strict=True)])
        factors = torch.stack([exposure.span_dn / exposure.ratio for exposure in exposures])[:, :, None, None]
        frames = functional.pixel_shuffle(clean * factors, 2)
        settings = [exposure.settings for exposure in exposures]
        noisy = functional.pixel_unshuffle(exposures[0].noise(frames, settings, generator=generator), 2) / factors
        levels = [exposure.level for exposure in exposures]
        shot, read = (np.stack([getattr(level, name) for level in levels]) for name in ("shot", "read"))
        isos = torch.tensor([exposure.settings.iso for exposure in exposures])
        return IsoBatch(noisy, clean, NoiseLevel(shot, read, levels[0].source), isos)


def oversample(light: Tensor) -> Tensor:
    """Show (B, 3, H, W) to a sensor of more pixels, (B, 3, SPREAD H, SPREAD W)."""
    larger = functional.interpolate(light.float(), scale_factor=SPREAD, mode="bicubic", align_corners=False)
    return larger.clamp_(0, 1)


def photographs(root: Path | None, images: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return photographs to train on, and the middles of oversampled ones to test on, linear (3, H, W) float16."""
    try:
        folder = data_root(root)
        photos, held_out = load_photos(find_files("photos", folder)), load_photos(find_files("kodak24", folder))
    except ManifestError:
        from skimage import data

        pictures = [data.astronaut(), data.coffee(), data.chelsea()]
        tensors = [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pictures]
        photos, held_out = tensors[:2], tensors[2:]
    chance = torch.Generator().manual_seed(1)
    pictures = [oversample(_linear(photo, chance)[None])[0].half() for photo in held_out[:images]]
    return [_linear(photo, chance, 2) for photo in photos], [_middle(picture) for picture in pictures]


def _middle(picture: Tensor) -> Tensor:
    height, width = (side // SPREAD // 32 * 32 for side in picture.shape[1:])
    top, left = ((whole - part) // 2 for whole, part in zip(picture.shape[1:], (height, width), strict=True))
    return picture[:, top : top + height, left : left + width]


def _linear(photo: Tensor, generator: torch.Generator, shrink: int = 1) -> Tensor:
    """Turn sRGB (3, H, W) uint8 into what a camera saw, so many times smaller along either side, float16."""
    smaller = functional.avg_pool2d(photo.float() / 255, shrink)
    return unprocess(smaller, CameraLook.draw(generator)).half()
