"""Real dark frames as the source of all noise that light does not bring; only the photons are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from noise_models.base import NoiseModelError, ProfileError, SensorSettings
from noise_models.components import report_
from noise_models.eld import check_batch, draw_corner
from noise_models.gain_point import GainPoint
from noise_models.parts import switched_off
from noise_models.profile import CameraProfile
from noise_models.sampling import count_photons_
from noise_models.tukey_lambda import cumulated

PARTS: Final[tuple[str, ...]] = ("shot", "dark-frames", "reconstruct", "quantise", "clip")
"""Names for ``without``: "reconstruct" is the filling of the steps between whole DN."""

_ISO_TOLERANCE = 1e-3
# Beyond this many sigma a value is an outlier (a hot pixel, a cosmic ray) and stays as it was read.
_WITHIN_SIGMAS = 6.0


class DarkFrameNoise:
    """Noise taken from real dark frames: nothing to fit, every pattern kept.

    Parameters
    ----------
    profile : CameraProfile
        The camera: gain, black, white, and the law that fills the steps between whole DN.
    darks : mapping of float to sequence of (H, W) arrays
        Dark frames by ISO, as read from the sensor, black included [DN]; whole frames, all of one size.
    without : iterable of str
        Names of `PARTS` to leave out.

    Raises
    ------
    NoiseModelError
        If a part is unknown, or the frames are none, of different sizes, or not two-dimensional.

    Notes
    -----
    noisy = K Poisson(clean / K) + dark - black                                                                   (1)

    A dark value is a whole number v; brightening shows its steps. Between them it is drawn from the law F of the read
    noise at that ISO [1]_, u uniform from 0 to 1:

    dark = F^-1(F(v - 1/2) + u (F(v + 1/2) - F(v - 1/2)))                                                         (2)

    Windows start at even rows and columns, so that the pattern stays in phase with the colour filters.

    References
    ----------
    .. [1] Y. Zhang et al., "Rethinking noise synthesis and modeling in raw denoising", ICCV 2021.
    """

    def __init__(
        self,
        profile: CameraProfile,
        darks: Mapping[float, Sequence[npt.NDArray[np.generic]]],
        without: Iterable[str] = frozenset(),
    ) -> None:
        self.profile = profile
        self.without = switched_off(without, PARTS, "dark-frames")
        self.darks = {float(iso): list(frames) for iso, frames in darks.items()}
        sizes = {np.shape(frame) for frames in self.darks.values() for frame in frames}
        if not self.darks or not all(self.darks.values()) or len(sizes) != 1 or len(next(iter(sizes))) != 2:
            raise NoiseModelError(
                f"Dark frames were given for {len(self.darks)} ISOs in the sizes {sorted(sizes)}, but at least one "
                "for each ISO is needed, all (H, W) of one size. Give frames of one camera."
            )
        self._step = 1 if profile.geometry == "mono" else 2
        self._edges: dict[float, Tensor] = {}

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil ``clean_dn`` (B, C, H, W) float32 [DN above black], one setting each image; same shape and dtype.

        Raises
        ------
        NoiseModelError
            If an image is larger than the dark frames.
        ProfileError
            If there are no dark frames at an ISO, or the profile does not cover it.
        """
        check_batch(clean_dn, settings)
        noisy = clean_dn.clone(memory_format=torch.contiguous_format)
        for image, exposure in zip(noisy, settings, strict=True):
            if "shot" not in self.without:
                count_photons_(image[None], [self.profile.gain_dn_per_e(exposure.iso)], generator)
            if "dark-frames" not in self.without:
                for channel in image:
                    channel.add_(self._window(exposure.iso, channel.shape, generator))  # (1)
            report_(
                image[None],
                self.profile.black_dn,
                self.profile.white_dn,
                rounded="quantise" not in self.without,
                clipped="clip" not in self.without,
            )
        return noisy

    def _window(self, iso: float, size: Sequence[int], generator: torch.Generator) -> Tensor:
        near = [known for known in self.darks if abs(known / iso - 1) <= _ISO_TOLERANCE]
        if not near:
            known = ", ".join(f"{each:g}" for each in sorted(self.darks))
            raise ProfileError(
                f"Noise at ISO {iso:g} was asked for, but there are dark frames at ISO {known} only. "
                f"Shoot dark frames at ISO {iso:g}, or use the noise model 'eld'."
            )
        frames = self.darks[near[0]]
        which = int(torch.randint(len(frames), (), generator=generator, device=generator.device))
        frame = frames[which]
        top, left = draw_corner(np.shape(frame), size, generator, step=self._step, what="dark frame")
        window = np.asarray(frame[top : top + size[0], left : left + size[1]], np.float32)
        black = np.asarray(self.profile.black_dn, np.float32)
        # Whole numbers stay whole until their steps are filled; what the black has beyond them follows.
        whole = np.round(black)
        dark = torch.from_numpy(window - _tile(whole, size)).to(generator.device)
        if "reconstruct" not in self.without:
            dark = reconstruct(dark, self.profile.at(iso), generator, shift_dn=float(np.mean(black - whole)))
        return dark.sub_(torch.from_numpy(_tile(black - whole, size)).to(generator.device))


def _tile(cell: npt.NDArray[np.float32], size: Sequence[int]) -> npt.NDArray[np.float32]:
    return np.tile(cell, (size[0] // 2 + 1, size[1] // 2 + 1))[: size[0], : size[1]]


def reconstruct(dark_dn: Tensor, point: GainPoint, generator: torch.Generator, *, shift_dn: float = 0.0) -> Tensor:
    """Draw what the converter rounded away, (2) of `DarkFrameNoise`.

    Parameters
    ----------
    dark_dn : (H, W) float32
        Dark values in whole DN, black subtracted [DN].
    point : GainPoint
        The law of the read noise at that ISO.
    generator : torch.Generator
        Source of chance.
    shift_dn : float
        What the black that was subtracted lacks of the nominal black [DN].

    Returns
    -------
    (H, W) float32
        Within half a DN of the input; what lies beyond six sigma is returned as it came [DN].
    """
    if point.read_scale_dn == 0:
        return dark_dn
    centre, sigma = float(np.mean(point.bias_dn)) + shift_dn, point.read_sigma_dn
    lowest, highest = np.floor(centre - _WITHIN_SIGMAS * sigma), np.ceil(centre + _WITHIN_SIGMAS * sigma)
    values = np.arange(lowest, highest + 2) - 0.5
    shares = torch.from_numpy(cumulated((values - centre) / point.read_scale_dn, point.read_lambda)).to(dark_dn.device)
    flat = dark_dn.reshape(-1)
    inside = ((flat >= lowest) & (flat <= highest)).nonzero().view(-1)
    index = (flat[inside] - lowest).round().to(torch.int64)
    chance = torch.rand(inside.numel(), dtype=torch.float64, device=dark_dn.device, generator=generator)
    below, above = shares[index], shares[index + 1]
    share = (below + chance * (above - below)).clamp(1e-15, 1 - 1e-15)  # (2)
    whole = flat[inside]
    drawn = centre + point.read_scale_dn * _quantile(share, point.read_lambda)
    filled = flat.clone()
    filled[inside] = torch.clamp(drawn.to(torch.float32), whole - 0.5, whole + 0.5)
    return filled.view(dark_dn.shape)


def _quantile(probability: Tensor, shape: float) -> Tensor:
    """Return the quantiles of the law of scale 1 for float64 probabilities below 1; see `tukey_lambda.quantile`."""
    below, above = torch.log(probability), torch.log1p(-probability)
    if abs(shape) < 1e-12:
        return below - above
    return (torch.expm1(shape * below) - torch.expm1(shape * above)) / shape
