"""What spoils a cube as the pushbroom sensor of the FINCH satellite would."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from denoise.training.sources.crops import log_uniform
from noise_models.base import SensorSettings
from noise_models.finch_stripes import add_finch_stripes
from noise_models.profile_shelf import load_profile
from noise_models.pushbroom import ElementSpread, PushbroomNoise

_EXPOSURE_S: Final = (0.005, 0.04)
_FILL: Final = (0.2, 0.7)
_PRNU: Final = (0.002, 0.05)
_OFFSET_DN: Final = (1.0, 100.0)
_DEAD_SHARE: Final = (1e-4, 0.02)
_HOT_DN: Final = 3000.0


def spoil_as_finch(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil a cube (bands, H, W), 0 to 1, as FINCH would.

    Its sensor has a detector of its own, corrected for dark and gain alone; every second cube also gets the stripes
    that the team simulates. Exposure and light are drawn; white in the cube is 20 to 70 % of the sensor's range: dark
    current needs room above it.
    """
    profile = load_profile("finch-eye")
    exposure_s, fill, prnu, offset_dn, dead = (
        float(log_uniform(*limits, 1, generator)) for limits in (_EXPOSURE_S, _FILL, _PRNU, _OFFSET_DN, _DEAD_SHARE)
    )
    spread = ElementSpread(prnu, offset_dn, dead, dead / 2, _HOT_DN)
    point = profile.points[0]
    white = fill * (profile.white_dn - float(np.mean(profile.black_dn)))
    noise, settings = PushbroomNoise(profile, spread=spread), SensorSettings(point.iso, exposure_s)
    noisy_dn = noise(clean[None] * white, [settings], generator=generator)[0]
    dark_dn = (point.gain_dn_per_e or 0.0) * (point.dark_current_e_per_s or 0.0) * exposure_s
    noisy = (noisy_dn - dark_dn) / white
    striped = torch.rand((), generator=generator) < 0.5
    return add_finch_stripes(noisy, generator=generator) if striped else noisy
