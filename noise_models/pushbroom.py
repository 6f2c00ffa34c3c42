"""The same sensor, moving: a cube is a stack of its frames, and what a detector element does stays: stripes.

A pushbroom's detector sees one line of the scene at a time, columns across track, rows the bands. Its fixed pattern,
(bands, W), is held while the satellite moves, so that in every band it draws stripes along the track.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from noise_models import components
from noise_models.base import NoiseModelError, SensorSettings
from noise_models.eld import check_batch
from noise_models.fixed_pattern import FixedPattern
from noise_models.gain_point import GainPoint
from noise_models.parts import switched_off
from noise_models.profile import CameraProfile

PARTS: Final[tuple[str, ...]] = (
    "fixed-pattern",
    "dark-current",
    "shot",
    "read",
    "bias",
    "row",
    "column",
    "quantise",
    "clip",
)
"""Names for ``without``. "row" is the value that a band shares in one line, "column" the one that a column shares."""


@dataclass(frozen=True)
class ElementSpread:
    """How unequal detector elements are, where no map of them was measured.

    Raises
    ------
    NoiseModelError
        If a spread is negative, or a share not from 0 to 1.
    """

    prnu: float = 0.01
    """Standard deviation of the response to light [1]."""
    offset_dn: float = 0.0
    """Standard deviation of the dark level [DN]."""
    dead_share: float = 0.0
    """Share of elements that do not answer to light [1]."""
    hot_share: float = 0.0
    """Share of elements with a dark level far up [1]."""
    hot_dn: float = 0.0
    """That dark level [DN]."""

    def __post_init__(self) -> None:
        shares = (self.dead_share, self.hot_share)
        if min(self.prnu, self.offset_dn, *shares) < 0 or max(shares) > 1:
            raise NoiseModelError(f"{self} was given, but spreads are not negative and shares lie from 0 to 1.")

    def draw(self, bands: int, width: int, generator: torch.Generator) -> FixedPattern:
        """Draw the pattern of one detector, (bands, W)."""
        size = (bands, width)
        chance = torch.rand(size, generator=generator, device=generator.device)
        dead = chance < self.dead_share
        hot = ~dead & (chance > 1 - self.hot_share)
        offset = self.offset_dn * torch.randn(size, generator=generator, device=generator.device)
        response = self.prnu * torch.randn(size, generator=generator, device=generator.device)
        maps = [part.cpu().numpy() for part in (offset + self.hot_dn * hot, response.clamp_min(-1), hot, dead)]
        return FixedPattern(dark_shading_dn=maps[0], prnu=maps[1], hot=maps[2], dead=maps[3])


class PushbroomNoise:
    """Shot, read, dark and fixed-pattern noise of a sensor that scans a scene line by line.

    Parameters
    ----------
    profile : CameraProfile
        The camera; its gain must be known unless "shot" is switched off. If it holds a fixed pattern, of shape
        (bands, W), this is used.
    without : iterable of str
        Names of `PARTS` to leave out.
    spread : ElementSpread, optional
        Draws another detector for every cube, where the profile holds no pattern; by default all elements are equal.
    exact : bool
        Draw every photon count from the Poisson law itself; see `noise_models.components.shot`.

    Raises
    ------
    NoiseModelError
        If a part is unknown.
    ProfileError
        If the camera's gain is not known and something needs it.

    Notes
    -----
    noisy[b, i, j] = K Poisson((g_bj clean[b, i, j] + K D t) / K) + read[b, i, j] + row[b, i] + column[i, j] + o_bj,
    rounded and clipped; g_bj, o_bj do not depend on the line i                                                   (1)
    """

    def __init__(
        self,
        profile: CameraProfile,
        without: Iterable[str] = frozenset(),
        *,
        spread: ElementSpread | None = None,
        exact: bool = False,
    ) -> None:
        self.profile = profile
        self.without = switched_off(without, PARTS, "pushbroom")
        self.spread = spread
        self.exact = exact
        self._pattern = profile.load_fixed_pattern() if self._has("fixed-pattern") else None
        if self._has("shot") and not profile.knows_gain:
            profile.gain_dn_per_e(profile.iso_range[0])

    def _has(self, part: str) -> bool:
        return part not in self.without

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil cubes.

        Parameters
        ----------
        clean_dn : (B, bands, H, W) float32
            Expected signal, lines along H [DN above black].
        settings : sequence of SensorSettings
            One for each cube; the exposure is that of one line.
        generator : torch.Generator
            Source of chance.

        Returns
        -------
        (B, bands, H, W) float32
            What the converter reports, minus black [DN].

        Raises
        ------
        NoiseModelError
            If there are not as many settings as cubes, the tensor is not float32 of four dimensions, or the profile's
            pattern is of another size.
        ProfileError
            If an ISO lies outside the profile.
        """
        check_batch(clean_dn, settings)
        cubes = [
            self._spoil(cube[None], exposure, generator) for cube, exposure in zip(clean_dn, settings, strict=True)
        ]
        return torch.cat(cubes) if cubes else clean_dn.clone()

    def _spoil(self, clean: Tensor, exposure: SensorSettings, generator: torch.Generator) -> Tensor:
        point = self.profile.at(exposure.iso)
        pattern = self._pattern_for(clean, generator)
        noisy = clean.clone(memory_format=torch.contiguous_format)
        if pattern is not None:
            dead = torch.from_numpy(pattern.dead)[None, :, None, :]
            noisy = components.respond(noisy, torch.from_numpy(pattern.prnu)[None, :, None, :], dead)
        if self._has("shot") and point.gain_dn_per_e is not None:
            if self._has("dark-current") and point.dark_current_e_per_s:
                noisy = noisy + point.gain_dn_per_e * point.dark_current_e_per_s * exposure.exposure_s
            noisy = components.shot(noisy, point.gain_dn_per_e, generator=generator, exact=self.exact)
        if self._has("read"):
            noisy = components.add_tukey_lambda_read(noisy, point.read_scale_dn, point.read_lambda, generator=generator)
        noisy = self._add_lines(noisy, point, generator)
        if pattern is not None:
            shading = pattern.shading_dn(exposure.iso, self.profile.gain_mode(exposure.iso))
            noisy = components.shade(noisy, torch.from_numpy(np.ascontiguousarray(shading))[None, :, None, :])
        components.report_(
            noisy,
            self.profile.black_dn,
            self.profile.white_dn,
            rounded=self._has("quantise"),
            clipped=self._has("clip"),
        )
        return noisy

    def _add_lines(self, noisy: Tensor, point: GainPoint, generator: torch.Generator) -> Tensor:
        """Add what a frame's row (a band in one line) and a frame's column (all bands) share, and the black's error."""
        _, bands, height, width = noisy.shape
        if self._has("bias"):
            drift = torch.randn((1, 1, height, 1), generator=generator, device=noisy.device)
            noisy = noisy + float(np.mean(point.bias_dn)) + point.bias_sigma_dn * drift
        for part, sigma, size in (
            ("row", point.row_sigma_dn, (1, bands, height, 1)),
            ("column", point.column_sigma_dn, (1, 1, height, width)),
        ):
            if self._has(part) and sigma:
                noisy = noisy + sigma * torch.randn(size, generator=generator, device=noisy.device)
        return noisy

    def _pattern_for(self, clean: Tensor, generator: torch.Generator) -> FixedPattern | None:
        bands, width = clean.shape[1], clean.shape[3]
        if not self._has("fixed-pattern"):
            return None
        if self._pattern is None:
            return None if self.spread is None else self.spread.draw(bands, width, generator)
        if self._pattern.shape != (bands, width):
            raise NoiseModelError(
                f"The fixed pattern of {self.profile.id} has {self._pattern.shape[0]} bands and "
                f"{self._pattern.shape[1]} columns, but the cube has {bands} and {width}. A stripe belongs to one "
                "element: give cubes of the whole detector, or switch 'fixed-pattern' off."
            )
        return self._pattern
