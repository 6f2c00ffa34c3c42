"""Patches for training: photographs spoilt with noise of known level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from denoise.denoiser import Batch
from denoise.training.sources.crops import Crops, log_uniform, trim
from denoise.unprocess import CameraLook, mosaic_planes, turn_planes, unprocess
from noise_models.level import NoiseLevel


class PhotoPatches:
    """Photographs with white Gaussian noise.

    Parameters
    ----------
    photos, held_out : sequence of (3, H, W) uint8 tensor
        For training, and for validation.
    patch : int
        Side of a patch in pixels.
    sigma_max : float
        Noise is drawn uniformly between 0 and this standard deviation, 1 = white.
    grey : float
        Share of the batches that are grey; of 1, so is the validation.
    busy, weaves, recolour : float
        See `Crops`.
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 128,
        sigma_max: float = 75 / 255,
        grey: float = 1 / 7,
        busy: float = 0.0,
        weaves: float = 0.0,
        recolour: float = 1.0,
    ) -> None:
        self.crops = Crops(photos, patch, busy=busy, weaves=weaves, recolour=recolour)
        self.held_out = held_out
        self.sigma_max = sigma_max
        self.grey = grey
        self.cases = ("sigma15", "sigma25", "sigma50")

    def draw(self, batch: int, *, generator: torch.Generator) -> Batch:
        """Return ``batch`` patches (B, 3 or 1, patch, patch)."""
        clean = torch.stack([self.crops.draw(generator) for _ in range(batch)])
        if torch.rand((), generator=generator) < self.grey:
            clean = clean.mean(1, keepdim=True)
        sigma = torch.rand(batch, 1, generator=generator) * self.sigma_max
        return _with_white_noise(clean, sigma, generator)

    def validation(self) -> Iterator[Batch]:
        """Yield the held-out photographs with noise of sigma 15, 25 and 50 of 255 in turn."""
        generator = torch.Generator().manual_seed(20)
        for index, photo in enumerate(self.held_out):
            clean = trim(photo.float() / 255, 16)[None]
            if self.grey == 1:
                clean = clean.mean(1, keepdim=True)
            sigma = torch.full((1, 1), (15, 25, 50)[index % 3] / 255)
            yield _with_white_noise(clean, sigma, generator)


class RawPatches:
    """Packed mosaics unprocessed from photographs, with shot and read noise over the range of real cameras.

    Shot noise is drawn log-uniformly, read noise log-uniformly in electrons, so that the pair is always physical; some
    exposures are darkened, some saturate at white as a converter does, a few are cut at black as some cameras do.

    Parameters
    ----------
    photos, held_out : sequence of (3, H, W) uint8 tensor
        For training, and for validation.
    patch : int
        Side of a patch in pixels of a plane.
    shot_range : (float, float)
        Least and largest shot noise, house units.
    read_electrons : (float, float)
        Least and largest read noise [e-].
    """

    def __init__(
        self,
        photos: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 64,
        shot_range: tuple[float, float] = (2e-6, 0.04),
        read_electrons: tuple[float, float] = (0.3, 20.0),
    ) -> None:
        self.crops = Crops(photos, 2 * patch)
        self.held_out = held_out
        self.shot_range = shot_range
        self.read_electrons = read_electrons
        self.cases = ("iso3200", "iso12800", "iso25600")

    def draw(self, batch: int, *, generator: torch.Generator) -> Batch:
        """Return ``batch`` patches (B, 4, patch, patch)."""
        planes = []
        for _ in range(batch):
            photo = self.crops.draw(generator)
            photo = photo + (torch.rand(photo.shape, generator=generator) - 0.5) / 255
            clean = mosaic_planes(unprocess(photo, CameraLook.draw(generator)))
            clean = turn_planes(clean, int(torch.randint(4, (), generator=generator)))
            if torch.rand((), generator=generator) < 0.5:
                clean = clean * float(log_uniform(0.05, 1.0, 1, generator))
            planes.append(clean)
        clean = torch.stack(planes)
        shot = log_uniform(*self.shot_range, batch, generator)[:, None]
        electrons = log_uniform(*self.read_electrons, batch, generator)[:, None]
        steps = log_uniform(900.0, 16000.0, batch, generator)[:, None]
        read = (shot * electrons).clamp_max(0.08).square() + 1 / (12 * steps.square())
        noisy = _with_shot_and_read_noise(clean, shot, read, generator)
        saturates = (torch.rand(batch, generator=generator) < 0.7)[:, None, None, None]
        noisy = torch.where(saturates, noisy.clamp_max(1.0), noisy)
        cut = (torch.rand(batch, generator=generator) < 0.05)[:, None, None, None]
        noisy = torch.where(cut, noisy.clamp_min(0.0), noisy)
        level = NoiseLevel(shot.expand(-1, 4).numpy(), read.expand(-1, 4).numpy(), "drawn")
        return Batch(noisy, clean, level)

    def validation(self) -> Iterator[Batch]:
        """Yield the held-out photographs as a Sony A7S2 would see them at ISO 3200, 12800 and 25600 in turn."""
        generator = torch.Generator().manual_seed(20)
        cases = ((3.0602, 3.9194), (12.2406, 14.2459), (24.4813, 25.853))
        for index, photo in enumerate(self.held_out):
            clean = mosaic_planes(unprocess(trim(photo.float() / 255, 32), CameraLook.draw(generator)))[None]
            gain_dn_per_e, sigma_dn = cases[index % 3]
            shot = torch.full((1, 4), gain_dn_per_e / 15871)
            read = torch.full((1, 4), (sigma_dn**2 + 1 / 12) / 15871**2)
            noisy = _with_shot_and_read_noise(clean, shot, read, generator)
            yield Batch(noisy, clean, NoiseLevel(shot.numpy(), read.numpy(), "drawn"))


def _with_white_noise(clean: Tensor, sigma: Tensor, generator: torch.Generator) -> Batch:
    noisy = clean + sigma[..., None, None] * torch.randn(clean.shape, generator=generator)
    read = sigma.square().expand(-1, clean.shape[1]).numpy()
    return Batch(noisy, clean, NoiseLevel(np.zeros_like(read), read, "drawn"))


def _with_shot_and_read_noise(clean: Tensor, shot: Tensor, read: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil (B, C, H, W) with noise of level (B, C or 1)."""
    shot, sigma = shot[..., None, None], read.sqrt()[..., None, None]
    noisy = torch.poisson(clean / shot, generator=generator) * shot
    return noisy + sigma * torch.randn(clean.shape, generator=generator)
