"""Noise of single pixels by a proxy that learned from dark frames; everything else by the sensor's physics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from noise_models import components
from noise_models.base import ProfileError, SensorSettings
from noise_models.eld import PARTS, EldNoise
from noise_models.gain_point import GainPoint
from noise_models.parts import switched_off
from noise_models.pnnp_network import NoiseProxy, ProxySampler
from noise_models.profile import CameraProfile

_AFTER_READ: Final = frozenset({"read", "bias", "row", "column", "scatter", "quantise", "clip"})
"""Parts that are not left to `EldNoise`."""

# How far a training strays from what was measured, for one exposure in ten much further.
_RARE: Final = 0.1
_PROXY_STRAYS: Final = 0.05
_MORE_ROWS: Final = (0.25, 2.5)
_ROWS_IN_COLUMNS: Final = (0.15, 1.5)
_MORE_DRIFT: Final = (1.0, 10.0)


class PnnpNoise:
    """Physics-guided noise by a neural proxy: photons, rows and columns as calibrated, pixels as dark frames show.

    Parameters
    ----------
    profile : CameraProfile
        The camera; its gain must be known unless "shot" and "dark-current" are switched off.
    without : iterable of str
        Names of `noise_models.eld.PARTS` to leave out: "read" is the proxy's noise here, "scatter" what a training
        varies around what was measured. Nothing is cut at black: "clip" is the range of the converter.
    proxy : NoiseProxy, optional
        Instead of the one that lies beside the profile.

    Raises
    ------
    NoiseModelError
        If a part is unknown.
    ProfileError
        If there is no proxy, it has other gain modes than the profile, or the camera's gain is not known and something
        needs it.

    Notes
    -----
    noisy = K Poisson((clean + K D t) / K) + proxy(iso) + row + column + bias + shading, rounded and clipped      (1)

    With "scatter", once for each image: the proxy times 1 + 0.05 N(0, 1); rows 1.25 times the row noise, strayed as
    the profile says; columns at least 0.15 times the row noise; in one image of ten 3.5 and 1.5 times, and the drift
    of the black level ten times as large                                                                         (2)

    References
    ----------
    .. [1] H. Feng et al., "Physics-guided noise neural proxy for practical low-light raw image denoising",
       arXiv 2310.09126, 2023.
    """

    def __init__(
        self, profile: CameraProfile, without: Iterable[str] = frozenset(), *, proxy: NoiseProxy | None = None
    ) -> None:
        self.profile = profile
        self.without = switched_off(without, PARTS, "pnnp")
        self.proxy = proxy or profile.load_proxy()
        if self.proxy is None:
            raise ProfileError(
                f"The noise model 'pnnp' was asked for, but {profile.id} has no noise proxy. "
                "Train one from its dark frames with: denoise calibrate --proxy"
            )
        modes = len(profile.breaks_iso) + 1
        if len(self.proxy.modes) != modes:
            raise ProfileError(
                f"The noise proxy of {profile.id} has {len(self.proxy.modes)} gain modes, but the profile {modes}. "
                "Calibrate again with --proxy, so that both are of the same frames."
            )
        self._light = EldNoise(profile, self.without | _AFTER_READ)
        self._samplers = [ProxySampler(self.proxy.mode(number)) for number in range(modes)]

    def _has(self, part: str) -> bool:
        return part not in self.without

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil ``clean_dn`` (B, C, H, W) float32 [DN above black], one setting each image; same shape and dtype.

        Raises
        ------
        NoiseModelError
            If there are not as many settings as images, or the tensor is not float32 of four dimensions.
        ProfileError
            If an ISO lies outside the profile.
        """
        noisy = self._light(clean_dn, settings, generator=generator)
        for index, exposure in enumerate(settings):
            self._spoil_(noisy[index : index + 1], self.profile.at(exposure.iso), generator)
        components.report_(
            noisy,
            self.profile.black_dn,
            self.profile.white_dn,
            rounded=self._has("quantise"),
            clipped=self._has("clip"),
        )
        return noisy

    def _spoil_(self, image: Tensor, point: GainPoint, generator: torch.Generator) -> None:
        """Add what does not come with the light to one image, (1, C, H, W) contiguous [DN], in place."""
        scale = 1.0
        row, column, drift = point.row_sigma_dn, point.column_sigma_dn, point.bias_sigma_dn
        if self._has("scatter"):  # (2)
            numbers = torch.randn(2, generator=generator, device=generator.device, dtype=torch.float64).tolist()
            rare = int(float(torch.rand((), generator=generator, device=generator.device)) < _RARE)
            scale = max(1 + _PROXY_STRAYS * numbers[0], 0.0)
            measured = row * math.exp(self.profile.scatter.ln_row * numbers[1])
            row = measured * (1 + _MORE_ROWS[rare])
            column = math.hypot(column, measured * _ROWS_IN_COLUMNS[rare])
            drift = math.hypot(drift, point.errors.bias_dn or 0.0) * _MORE_DRIFT[rare]
        if self._has("read"):
            self._samplers[self.profile.gain_mode(point.iso)].add_(image, point.iso, generator, scale)
        _, channels, height, width = image.shape
        for part, sigma, size in (("row", row, (height, 1)), ("column", column, (1, width))):
            if self._has(part) and sigma:
                lines = torch.randn((1, channels, *size), generator=generator, device=image.device)
                image.add_(lines, alpha=sigma)
        if self._has("bias"):
            shift = drift * float(torch.randn((), generator=generator, device=generator.device)) if drift else 0.0
            levels = torch.tensor(point.bias_dn, dtype=torch.float32) + shift
            if levels.any():
                image.copy_(components.add_bias(image, levels))
