"""Physics-based sensor noise after ELD, in sensor geometry, parameters looked up in a camera profile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from noise_models import components
from noise_models.base import NoiseModelError, SensorSettings
from noise_models.fixed_pattern import FixedPattern
from noise_models.gain_point import GainPoint
from noise_models.parts import switched_off
from noise_models.profile import CameraProfile
from noise_models.sampling import add_tukey_lambda_, count_photons_

PARTS: Final[tuple[str, ...]] = (
    "fixed-pattern",
    "dark-current",
    "shot",
    "read",
    "bias",
    "row",
    "column",
    "scatter",
    "quantise",
    "clip",
)
"""Names for ``without``: "scatter" is the draw of parameters around the profile, "clip" the range of the converter."""


class EldNoise:
    """ELD's noise model, and what it left out: columns, dark current, fixed pattern, the converter's range.

    Parameters
    ----------
    profile : CameraProfile
        The camera; its gain must be known unless "shot" and "dark-current" are switched off.
    without : iterable of str
        Names of `PARTS` to leave out.
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
    noisy = K Poisson((clean + K D t) / K) + read + bias + row + column + shading, rounded and clipped            (1)

    ln sigma = ln sigma(ISO) + scatter * N(0, 1), for read and row each, within one gain mode                     (2)

    K, lambda and the black-level error are those of the exposure's ISO. One draw of (2) for each image.

    References
    ----------
    .. [1] K. Wei et al., "A physics-based noise formation model for extreme low-light raw denoising", CVPR 2020.
    .. [2] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
    """

    def __init__(self, profile: CameraProfile, without: Iterable[str] = frozenset(), *, exact: bool = False) -> None:
        self.profile = profile
        self.without = switched_off(without, PARTS, "eld")
        self.exact = exact
        self._pattern = profile.load_fixed_pattern() if self._has("fixed-pattern") else None
        if self._has("shot") and not profile.knows_gain:
            profile.gain_dn_per_e(profile.iso_range[0])

    def _has(self, part: str) -> bool:
        return part not in self.without

    def draw_points(self, isos: Sequence[float], generator: torch.Generator) -> list[GainPoint]:
        """Draw what the sensor does in one exposure at each ISO: the profile's points, strayed by its scatter (2)."""
        at = {iso: self.profile.at(iso) for iso in dict.fromkeys(isos)}
        scatter = self.profile.scatter
        if not self._has("scatter") or not (scatter.ln_read or scatter.ln_row):
            return [at[iso] for iso in isos]
        draws = torch.randn((len(isos), 2), generator=generator, device=generator.device, dtype=torch.float64)
        return [
            at[iso].model_copy(
                update={
                    "read_scale_dn": at[iso].read_scale_dn * math.exp(scatter.ln_read * read),  # (2)
                    "row_sigma_dn": at[iso].row_sigma_dn * math.exp(scatter.ln_row * row),
                }
            )
            for iso, (read, row) in zip(isos, draws.tolist(), strict=True)
        ]

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil images.

        Parameters
        ----------
        clean_dn : (B, C, H, W) float32
            Expected signal in sensor geometry [DN above black]; C is 1 for Bayer and mono.
        settings : sequence of SensorSettings
            One for each image.
        generator : torch.Generator
            Source of chance.

        Returns
        -------
        (B, C, H, W) float32
            What the converter reports, minus black [DN].

        Raises
        ------
        NoiseModelError
            If there are not as many settings as images, or the tensor is not float32 of four dimensions.
        ProfileError
            If an ISO lies outside the profile.
        """
        check_batch(clean_dn, settings)
        noisy = clean_dn.clone(memory_format=torch.contiguous_format)
        points = self.draw_points([exposure.iso for exposure in settings], generator)
        crops = self._crops(noisy.shape[-2:], len(settings), generator)
        for number, crop in enumerate(crops):
            noisy[number] = components.respond(noisy[number], crop.response, crop.dead)
        if self._has("shot"):
            self._count_(noisy, points, settings, generator)
        if self._has("read"):
            scales, shapes = [point.read_scale_dn for point in points], [point.read_lambda for point in points]
            add_tukey_lambda_(noisy, scales, shapes, generator)
        if self._has("bias"):
            self._bias_(noisy, points, generator)
        batch, channels, height, width = noisy.shape
        for part, size in (("row", (batch, channels, height, 1)), ("column", (batch, channels, 1, width))):
            sigmas = _each([point.row_sigma_dn if part == "row" else point.column_sigma_dn for point in points], noisy)
            if self._has(part) and sigmas.any():
                noisy.add_(torch.randn(size, generator=generator, device=noisy.device).mul_(sigmas))
        for number, crop in enumerate(crops):
            iso = settings[number].iso
            noisy[number] += crop.shading(iso, self.profile.gain_mode(iso))
        rounded, clipped = self._has("quantise"), self._has("clip")
        components.report_(noisy, self.profile.black_dn, self.profile.white_dn, rounded=rounded, clipped=clipped)
        return noisy

    def _count_(
        self,
        noisy: Tensor,
        points: Sequence[GainPoint],
        settings: Sequence[SensorSettings],
        generator: torch.Generator,
    ) -> None:
        gains = [point.gain_dn_per_e or self.profile.gain_dn_per_e(point.iso) for point in points]
        currents = [point.dark_current_e_per_s or 0.0 for point in points]
        if self._has("dark-current") and any(currents):
            dark_e = [current * exposure.exposure_s for current, exposure in zip(currents, settings, strict=True)]
            noisy.add_(_each([gain * count for gain, count in zip(gains, dark_e, strict=True)], noisy))
        count_photons_(noisy, gains, generator, exact=self.exact)

    def _bias_(self, noisy: Tensor, points: Sequence[GainPoint], generator: torch.Generator) -> None:
        levels = torch.tensor([point.bias_dn for point in points], dtype=torch.float32, device=noisy.device)
        drifts = _each([point.bias_sigma_dn for point in points], noisy)[:, 0]
        if drifts.any():
            levels.add_(torch.randn(drifts.shape, generator=generator, device=noisy.device).mul_(drifts))
        width = noisy.shape[-1]
        for row in range(2):
            if levels[:, row].any():
                line = levels[:, row].repeat(1, -(-width // 2))[:, :width]
                noisy[..., row::2, :].add_(line[:, None, None])

    def _crops(self, size: Sequence[int], count: int, generator: torch.Generator) -> list[_Crop]:
        """Draw a window of the fixed pattern for each image; none where the profile has no pattern."""
        if self._pattern is None:
            return []
        shape = self._pattern.shape
        corners = [draw_corner(shape, size, generator, step=2, what="fixed pattern") for _ in range(count)]
        return [_Crop(self._pattern, top, left, size[0], size[1]) for top, left in corners]


class _Crop:
    """A window of the fixed pattern, its corner at an even row and column."""

    def __init__(self, pattern: FixedPattern, top: int, left: int, height: int, width: int) -> None:
        self._pattern = pattern
        self._window = slice(top, top + height), slice(left, left + width)

    @property
    def response(self) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._pattern.prnu[self._window]))

    @property
    def dead(self) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._pattern.dead[self._window]))

    def shading(self, iso: float, mode: int) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._pattern.shading_dn(iso, mode, self._window)))


def _each(values: Sequence[float], like: Tensor) -> Tensor:
    """Return one value for each image, (B, 1, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1, 1)


def draw_corner(
    whole: Sequence[int], size: Sequence[int], generator: torch.Generator, *, step: int, what: str
) -> tuple[int, int]:
    """Draw the corner of a window, at multiples of ``step`` so that the colour filters stay in phase.

    Raises
    ------
    NoiseModelError
        If the window is larger than the whole.
    """
    if size[0] > whole[0] or size[1] > whole[1]:
        raise NoiseModelError(
            f"The {what} has {whole[1]}x{whole[0]} pixels, but noise for {size[1]}x{size[0]} was asked for. "
            "Ask for smaller images, or give frames of the whole sensor."
        )
    rows, columns = ((whole[axis] - size[axis]) // step + 1 for axis in (0, 1))
    draws = torch.rand(2, generator=generator, device=generator.device, dtype=torch.float64).tolist()
    return int(draws[0] * rows) * step, int(draws[1] * columns) * step


def check_batch(clean_dn: Tensor, settings: Sequence[SensorSettings]) -> None:
    """Refuse what no noise model can spoil.

    Raises
    ------
    NoiseModelError
        If the tensor is not (B, C, H, W) float32, or there are not as many settings as images.
    """
    if clean_dn.ndim != 4 or clean_dn.dtype != torch.float32:
        raise NoiseModelError(
            f"A noise model was given a tensor of shape {tuple(clean_dn.shape)} and {clean_dn.dtype}, "
            "but needs (B, C, H, W) float32, DN above black."
        )
    if len(settings) != clean_dn.shape[0]:
        raise NoiseModelError(f"{clean_dn.shape[0]} images came with {len(settings)} settings; give one for each.")
