"""Clean and noisy RAW for training: photographs unprocessed, exposed too short, spoilt by a camera, brightened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from denoise.denoiser import Batch
from denoise.training.sources.crops import Crops, trim
from denoise.training.sources.exposures import (
    MOST_VARIANCE,
    Cameras,
    Exposure,
    OneCamera,
    choose_cameras,
    longest_ratio,
)
from denoise.unprocess import CameraLook, unprocess
from noise_models.base import SensorSettings
from noise_models.eld import EldNoise
from noise_models.level import NoiseLevel
from noise_models.profile_shelf import load_profile

PUBLISHED_CASES: Final = ((3200.0, 1.0), (12800.0, 4.0), (25600.0, 8.0), (1600.0, 100.0))
"""ISO and ratio of a Sony A7S2, by which weights for any camera are chosen."""
_EXPOSURE_S: Final = 1 / 30


class CameraPairs:
    """Patches of mosaics under the whole noise of a camera: Tukey-lambda, rows, black level, rounding, clipping.

    Parameters
    ----------
    photos, held_out : sequence of (3, H, W) tensor
        For training, and for validation: sRGB photographs as uint8, or linear camera RGB of clean RAW files as float16.
    patch : int
        Side of a patch in pixels of a plane.
    ratio : (float, float)
        Least and largest exposure ratio, drawn log-uniformly; the largest is less where `MOST_VARIANCE` is reached.
    well_exposed : float
        Share of the exposures with the least ratio.
    busy, weaves : float
        See `Crops`.
    cut_at_black : float
        Share of the exposures whose negative values are lost, as in some cameras' files.
    noise : str
        Key of `noise_models.NOISE_MODELS`.
    profile : str, optional
        Id or file of the camera, for any noise but "virtual".
    darks : str, optional
        Folder or glob of its dark frames, for the noise "dark-frames".
    cameras : Cameras, optional
        Where exposures come from, instead of ``noise`` and ``profile``.
    cases : sequence of (float, float)
        ISO and ratio of the validation, which visits each for every image held out.
    judge : Cameras, optional
        The camera of the validation; a Sony A7S2 by its published parameters by default.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 64,
        ratio: tuple[float, float] = (1.0, 300.0),
        well_exposed: float = 0.4,
        busy: float = 0.0,
        weaves: float = 0.0,
        cut_at_black: float = 0.03,
        noise: str = "virtual",
        profile: str | None = None,
        darks: str | None = None,
        cameras: Cameras | None = None,
        cases: Sequence[tuple[float, float]] = PUBLISHED_CASES,
        judge: OneCamera | None = None,
    ) -> None:
        self.crops = Crops(photos, 2 * patch, busy=busy, weaves=weaves)
        self.held_out = held_out
        self.ratio, self.well_exposed, self.cut_at_black = ratio, well_exposed, cut_at_black
        self.cameras = cameras or choose_cameras(noise, None if profile is None else load_profile(profile), darks)
        self._cases = tuple(cases)
        self._judge = judge

    @property
    def cases(self) -> tuple[str, ...]:
        """What the batches of `validation` are, in turn."""
        return tuple(f"iso{iso:g}-x{ratio:g}" for iso, ratio in self._cases)

    def draw(self, batch: int, *, generator: torch.Generator) -> Batch:
        """Return ``batch`` patches (B, 4, patch, patch)."""
        pairs, levels = [], []
        for _ in range(batch):
            light = self.crops.draw(generator)
            if not self.crops.linear:
                # A pixel of a mosaic shows one colour: one rounding error for all three of a place is enough.
                dither = torch.rand(light.shape[1:], generator=generator).sub_(0.5).div_(255)
                light = unprocess(light + dither, CameraLook.draw(generator))
            exposure = self.draw_exposure(generator)
            clean = exposure.mosaic(light)
            noisy = exposure.shoot(clean, generator)
            if torch.rand((), generator=generator) < self.cut_at_black:
                noisy.clamp_(min=0.0)
            pairs.append((noisy, clean))
            levels.append(exposure.level)
        noisy, clean = (torch.stack(planes) for planes in zip(*pairs, strict=True))
        return Batch(noisy, clean, _stacked(levels))

    def draw_exposure(self, generator: torch.Generator) -> Exposure:
        """Draw a camera, an exposure and its ratio."""
        while True:
            exposure = self.cameras.draw(generator)
            least, most = self.ratio
            most = min(most, longest_ratio(exposure.unit_level, MOST_VARIANCE))
            if most >= least:
                break
        share, place = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        if share < self.well_exposed:
            return exposure.brightened(least)
        return exposure.brightened(least * math.exp(place * math.log(most / least)))

    def validation(self) -> Iterator[Batch]:
        """Yield every photograph held out under each of the cases in turn, with the same noise at every call."""
        generator = torch.Generator().manual_seed(20)
        judge = self._judge or _published_sony()
        for photo in self.held_out:
            look, light = CameraLook.draw(generator), trim(photo.float(), 32)
            if not photo.is_floating_point():
                light = unprocess(light / 255, look)
            for iso, ratio in self._cases:
                exposure = Exposure(judge.profile, SensorSettings(iso, _EXPOSURE_S), judge.noise, ratio)
                clean = exposure.mosaic(light)
                yield Batch(exposure.shoot(clean, generator)[None], clean[None], _stacked([exposure.level]))


def _published_sony() -> OneCamera:
    """Return a Sony A7S2 whose black level is known: photons, Tukey-lambda read noise, rows, rounding, clipping."""
    profile = load_profile("sony-a7s2")
    return OneCamera(profile, EldNoise(profile, without=("scatter", "bias")))


def _stacked(levels: Sequence[NoiseLevel]) -> NoiseLevel:
    shot, read = (np.stack([getattr(level, name) for level in levels]) for name in ("shot", "read"))
    return NoiseLevel(shot, read, levels[0].source)
