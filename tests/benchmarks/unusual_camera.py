"""A simulated camera outside the family of every noise model here, no larger in anything than published cameras.

Before the amplifier two kinds of pixels, most of little noise and some of much, another one each time; after it
Gaussian noise: so the shape of the noise depends on ISO, and is no Tukey-lambda law at any. Rows, columns and a black
level that is wrong at every ISO, and drifts from frame to frame, come on top.

Where its numbers come from (at ISO 800 to 3200, unless said otherwise):

- gain: Sony A7S2, 0.00095 DN/e- for each ISO [2]_;
- read noise, 4.1 to 5 e-: Sony A7S2 4.6 and 4.1 at ISO 800 and 1600 [2]_, Canon EOS 70D 4.4 at 800 [1]_; floor after
  the amplifier, 1 to 2 DN: Sony A7S2 1.0 at ISO 50 and 100 [2]_;
- tails: what a Tukey-lambda fit finds lies between -0.14 (Sony A7S2) and -0.24 (Nikon D850) [1]_;
- rows, a tenth to a sixth of the read noise: IMX385 0.10, EOS 5D IV 0.10, Sony A7S2 0.16 [1]_ [2]_;
- columns: 0.15 of the rows in [3]_, here up to half;
- error of the black level, 0.17 to 0.44 of the read noise, up or down: Sony A7S2 0.62, 2.43 and -1.73 DN at ISO 800,
  1600 and 3200, where the read noise is 3.5, 6.3 and 3.9 DN; by colour up to 0.05 more or less;
- its drift, 0.6 to 1.5 % of the read noise: Sony A7S2 [2]_.

References
----------
.. [1] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
.. [2] H. Feng et al., "Learnability enhancement for low-light raw image denoising: a data perspective", TPAMI 46(1),
   2024.
.. [3] H. Feng et al., "Physics-guided noise neural proxy for practical low-light raw image denoising",
   arXiv 2310.09126, 2023.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from noise_models.base import SensorSettings
from noise_models.calibration.frames import Frame, FrameFile, FrameInfo
from noise_models.components import add_bias, add_columns, add_rows, clip_to_converter, shot

BLACK_DN, WHITE_DN = 512.0, 16383.0
ISOS = (400.0, 800.0, 1600.0, 3200.0, 6400.0)
FRAME = (512, 512)
DARKS = 12
FLATS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65)


class UnusualCamera:
    """Gives frames to a calibration, and spoils images by the true noise.

    Parameters
    ----------
    seed : int
        Of the camera's parameters and of its frames; another seed is another camera.
    """

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng((seed, 1)).uniform
        self.gain_per_iso = draw(0.8e-3, 1.2e-3)
        self.quiet_e = draw(3.0, 3.6)
        self.loud_share, self.loud_e = draw(0.04, 0.08), self.quiet_e * draw(3.5, 4.5)
        self.after_dn = draw(1.0, 2.0)
        self.row_share, self.column_share = draw(0.1, 0.16), draw(0.04, 0.08)
        self.drift_share = draw(0.006, 0.015)
        signs = {iso: 1.0 if draw(-1, 1) > 0 else -1.0 for iso in ISOS}
        self.bias_dn = {
            iso: self.sigma_dn(iso) * (signs[iso] * draw(0.17, 0.44) + draw(-0.05, 0.05, (2, 2))) for iso in ISOS
        }
        self.seed = seed

    def sigma_dn(self, iso: float) -> float:
        """Return the standard deviation of a pixel's own noise without light [DN]."""
        before_e2 = (1 - self.loud_share) * self.quiet_e**2 + self.loud_share * self.loud_e**2
        return float(np.hypot(self.gain_per_iso * iso * np.sqrt(before_e2), self.after_dn))

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil (B, 1, H, W) [DN above black] by the true noise."""
        isos = [exposure.iso for exposure in settings]
        gains = [self.gain_per_iso * iso for iso in isos]
        sigmas = [self.sigma_dn(iso) for iso in isos]
        noisy = shot(clean_dn, gains, generator=generator)
        loud = torch.rand(noisy.shape, generator=generator) < self.loud_share
        spread_e = torch.where(loud, self.loud_e, self.quiet_e)
        normal = torch.randn((2, *noisy.shape), generator=generator)
        noisy += torch.tensor(gains, dtype=torch.float32).view(-1, 1, 1, 1) * spread_e * normal[0]
        noisy += self.after_dn * normal[1]
        noisy = add_rows(noisy, [self.row_share * sigma for sigma in sigmas], generator=generator)
        noisy = add_columns(noisy, [self.column_share * sigma for sigma in sigmas], generator=generator)
        drift = self.drift_share * torch.tensor(sigmas) * torch.randn(len(isos), generator=generator)
        levels = torch.stack([torch.as_tensor(self.bias_dn[iso], dtype=torch.float32) for iso in isos])
        noisy = add_bias(noisy, levels + drift[:, None, None])
        return clip_to_converter(torch.round(noisy), BLACK_DN, WHITE_DN)

    def describe(self, path: Path) -> FrameInfo:
        """Return what the frame of this name is: kind, ISO, electrons, number."""
        black = ((BLACK_DN, BLACK_DN), (BLACK_DN, BLACK_DN))
        iso = float(path.name.split("_")[1])
        return FrameInfo(FRAME, "RGGB", black, WHITE_DN, 14, iso, 0.01, make="Simulated", model="Camera")

    def read(self, path: Path) -> Frame:
        """Expose a frame of an even light; the same name is the same frame, as in a file."""
        _, iso, electrons, _ = path.name.split("_")
        light = torch.full((1, 1, *FRAME), float(electrons) * self.gain_per_iso * float(iso))
        chance = torch.Generator().manual_seed(zlib.crc32(path.name.encode(), self.seed))
        noisy = self(light, [SensorSettings(float(iso), 0.01)], generator=chance)
        return Frame((noisy[0, 0] + BLACK_DN).numpy().astype(np.uint16), self.describe(path))

    def frames(self) -> list[FrameFile]:
        """Return the names of the frames that a calibration needs."""
        full_e = {iso: (WHITE_DN - BLACK_DN) / (self.gain_per_iso * iso) for iso in ISOS}
        darks = [FrameFile(Path(f"dark_{iso}_0_{number}"), "dark") for iso in ISOS for number in range(DARKS)]
        flats = [
            FrameFile(Path(f"flat_{iso}_{level * full_e[iso]}_{number}"), "flat", photons_per_pixel=level * full_e[iso])
            for iso in ISOS
            for level in FLATS
            for number in range(2)
        ]
        return darks + flats
