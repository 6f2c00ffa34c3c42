"""Whole cameras drawn at random, so that what is trained on them serves a camera that nobody measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from noise_models.base import NoiseModelError, SensorSettings
from noise_models.eld import PARTS, EldNoise, check_batch
from noise_models.level import NoiseLevel
from noise_models.parts import switched_off
from noise_models.profile import CameraProfile, GainPoint, Provenance, Scatter
from noise_models.tukey_lambda import scale_from_sigma

ISO_RANGE: Final = (100.0, 6400.0)
"""What every virtual camera covers [ISO]: the six stops over which ELD's cameras were measured."""
GAIN_RANGE_DN_PER_E: Final = (0.05, 60.0)
"""Lowest gain at the lowest ISO and highest at the highest, over all virtual cameras [DN/e-]."""
_STOPS = tuple(100.0 * 2**stop for stop in range(7))
_CFAS = ("RGGB", "GRBG", "GBRG", "BGGR")


class _Dice:
    """Draws of plain numbers from a generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def uniform(self, low: float, high: float) -> float:
        draw = torch.rand((), generator=self._generator, device=self._generator.device, dtype=torch.float64)
        return low + (high - low) * float(draw)

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def normal(self, *shape: int) -> np.ndarray:
        draw = torch.randn(shape, generator=self._generator, device=self._generator.device, dtype=torch.float64)
        return draw.cpu().numpy()

    def happens(self, probability: float) -> bool:
        return self.uniform(0.0, 1.0) < probability

    def pick(self, choices: Sequence[int | str]) -> int | str:
        return choices[min(int(self.uniform(0.0, len(choices))), len(choices) - 1)]


def draw_camera(generator: torch.Generator, bit_depth: int | None = None) -> CameraProfile:
    """Draw a camera.

    Parameters
    ----------
    generator : torch.Generator
        Source of chance; the same state draws the same camera.
    bit_depth : int, optional
        Of its converter [bit]; drawn from 10, 12, 14 and 16 by default.

    Returns
    -------
    CameraProfile
        A Bayer camera with one point each stop of `ISO_RANGE`.

    Notes
    -----
    Ranges, each drawn log-uniformly unless said otherwise, wider than those of ELD's and LED's cameras [1]_ [2]_:
    gain at ISO 100 from 0.05 to 0.94 DN/e- and proportional to ISO; read noise 0.5 to 9 DN where K = 1, growing as
    K**0.45 to K**1 (uniform); two cameras in five change to a second gain mode where read noise falls to 0.3 to 0.8;
    lambda -0.35 to 0.2 (uniform) with a drift over ISO; row noise 0.01 to 0.2 of the read noise, one camera in five
    banded with up to 0.6; column noise in half the cameras; black-level error of 0.02 to 3 DN; dark current in half
    the cameras, 0.01 to 30 e-/s; black 1 to 12 % of white.

    References
    ----------
    .. [1] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
    .. [2] X. Jin et al., "Lighting every darkness in two pairs", ICCV 2023.
    """
    dice = _Dice(generator)
    bits = int(dice.pick((10, 12, 14, 16))) if bit_depth is None else bit_depth
    white = 2.0**bits - 1
    black = float(round(white * dice.log_uniform(0.01, 0.12)))
    lowest, highest = GAIN_RANGE_DN_PER_E
    base_gain = dice.log_uniform(lowest, highest * ISO_RANGE[0] / ISO_RANGE[1])
    read_at_one, read_power = dice.log_uniform(0.5, 9.0), dice.uniform(0.45, 1.0)
    break_iso = float(dice.pick(_STOPS[2:6])) if dice.happens(0.4) else None
    fall = dice.log_uniform(0.3, 0.8)
    shape, drift = dice.uniform(-0.35, 0.2), dice.uniform(-0.15, 0.05)
    row_share = dice.log_uniform(0.1, 0.6) if dice.happens(0.2) else dice.log_uniform(0.01, 0.2)
    column_share = dice.log_uniform(0.01, 0.3) if dice.happens(0.5) else 0.0
    bias_size, bias_drift = dice.log_uniform(0.02, 3.0), dice.log_uniform(0.003, 0.1)
    dark_current = dice.log_uniform(0.01, 30.0) if dice.happens(0.5) else None
    points = []
    for iso in _STOPS:
        gain = base_gain * iso / ISO_RANGE[0]
        sigma = read_at_one * gain**read_power * (fall if break_iso is not None and iso >= break_iso else 1.0)
        shape_here = float(np.clip(shape + drift * math.log(iso / 100) / math.log(64), -0.35, 0.2))
        bias = bias_size * (dice.normal(1, 1) + 0.3 * dice.normal(2, 2)) * (0.5 + gain / (base_gain * 64))
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=gain,
                read_scale_dn=scale_from_sigma(sigma, shape_here),
                read_lambda=shape_here,
                row_sigma_dn=row_share * sigma,
                column_sigma_dn=column_share * sigma,
                bias_dn=((float(bias[0, 0]), float(bias[0, 1])), (float(bias[1, 0]), float(bias[1, 1]))),
                bias_sigma_dn=bias_drift * min(sigma, 10.0),
                dark_current_e_per_s=dark_current,
            )
        )
    return CameraProfile.model_validate(
        {
            "make": "Virtual",
            "model": f"Camera {int(dice.uniform(0, 1e6)):06d}",
            "cfa": dice.pick(_CFAS),
            "bit_depth": bits,
            "black_dn": ((black, black), (black, black)),
            "white_dn": white,
            "points": tuple(points),
            "breaks_iso": () if break_iso is None else (break_iso,),
            "scatter": Scatter(ln_read=dice.log_uniform(0.003, 0.3), ln_row=dice.log_uniform(0.01, 0.35)),
            "provenance": Provenance(date="2026-01-01", sources=("drawn at random, not a camera that exists",)),
        }
    )


class VirtualCameraNoise:
    """A new camera for every image.

    Parameters
    ----------
    white_dn : float
        What white is in the tensors that it spoils, in DN above black. Each camera has its own converter; the signal is
        scaled to its range and back, so that images of one batch share one scale.
    without : iterable of str
        Names of `noise_models.eld.PARTS` to leave out.

    Raises
    ------
    NoiseModelError
        If a part is unknown or ``white_dn`` is not above 0.
    """

    def __init__(self, white_dn: float = 16383.0 - 512.0, without: Iterable[str] = frozenset()) -> None:
        if not white_dn > 0:
            raise NoiseModelError(f"White was given as {white_dn} DN above black, but must be above 0.")
        self.white_dn = white_dn
        self.without = switched_off(without, PARTS, "virtual")

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil ``clean_dn`` (B, C, H, W) float32 [DN above black], one setting each image; same shape and dtype.

        Raises
        ------
        ProfileError
            If an ISO lies outside `ISO_RANGE`.
        """
        check_batch(clean_dn, settings)
        noisy = torch.empty_like(clean_dn, memory_format=torch.contiguous_format)
        for clean, exposure, out in zip(clean_dn, settings, noisy, strict=True):
            camera = draw_camera(generator)
            own_dn = _span_dn(camera) / self.white_dn
            model = EldNoise(camera, self.without)
            torch.div(model(clean[None] * own_dn, [exposure], generator=generator)[0], own_dn, out=out)
        return noisy

    def spoil(self, clean: Tensor, *, generator: torch.Generator) -> tuple[Tensor, NoiseLevel]:
        """Spoil mosaics in the house's units, each by a camera and an exposure of its own.

        Parameters
        ----------
        clean : (B, 1, H, W) float32
            Expected signal of the exposure, 0 is black and 1 is white.
        generator : torch.Generator
            Source of chance.

        Returns
        -------
        (B, 1, H, W) float32
            Noisy mosaics, same units.
        NoiseLevel
            (B, 1), what each image's profile says of its noise.
        """
        noisy = torch.empty_like(clean, memory_format=torch.contiguous_format)
        levels = []
        for image, out in zip(clean, noisy, strict=True):
            camera = draw_camera(generator)
            exposure = camera.draw(generator)
            span = _span_dn(camera)
            model = EldNoise(camera, self.without)
            torch.div(model(image[None] * span, [exposure], generator=generator)[0], span, out=out)
            levels.append(camera.noise_level(exposure.iso).pick([0]))
        shot, read = np.stack([level.shot for level in levels]), np.stack([level.read for level in levels])
        return noisy, NoiseLevel(shot, read, source="profiles of virtual cameras")


def _span_dn(camera: CameraProfile) -> float:
    return camera.white_dn - camera.black_dn[0][0]
