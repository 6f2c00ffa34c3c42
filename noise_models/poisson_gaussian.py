"""The plain model: photons and white Gaussian noise of the variance that a noise level states."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor

from noise_models.base import SensorSettings
from noise_models.components import report_
from noise_models.eld import check_batch
from noise_models.parts import switched_off
from noise_models.profile import CameraProfile
from noise_models.sampling import count_photons_

PARTS: Final[tuple[str, ...]] = ("shot", "read", "quantise", "clip")
"""Names for ``without``."""


class PoissonGaussianNoise:
    """The baseline that physics-based models are measured against.

    Parameters
    ----------
    profile : CameraProfile
        The camera; its gain must be known unless "shot" is switched off.
    without : iterable of str
        Names of `PARTS` to leave out.

    Raises
    ------
    NoiseModelError
        If a part is unknown.

    Notes
    -----
    noisy = K Poisson(clean / K) + N(0, read_sigma**2 + row_sigma**2 + column_sigma**2), rounded and clipped      (1)

    References
    ----------
    .. [1] A. Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data",
       IEEE Transactions on Image Processing 17(10), 2008.
    """

    def __init__(self, profile: CameraProfile, without: Iterable[str] = frozenset()) -> None:
        self.profile = profile
        self.without = switched_off(without, PARTS, "poisson-gaussian")

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil ``clean_dn`` (B, C, H, W) float32 [DN above black], one setting each image; same shape and dtype."""
        check_batch(clean_dn, settings)
        noisy = clean_dn.clone(memory_format=torch.contiguous_format)
        for image, exposure in zip(noisy, settings, strict=True):
            point = self.profile.at(exposure.iso)
            if "shot" not in self.without:
                count_photons_(image[None], [self.profile.gain_dn_per_e(exposure.iso)], generator)
            if "read" not in self.without:
                sigma = math.hypot(point.read_sigma_dn, point.row_sigma_dn, point.column_sigma_dn)
                image.add_(torch.randn(image.shape, generator=generator, device=image.device), alpha=sigma)  # (1)
            report_(
                image,
                self.profile.black_dn,
                self.profile.white_dn,
                rounded="quantise" not in self.without,
                clipped="clip" not in self.without,
            )
        return noisy
