"""The noise proxy's place in a calibration: what it learns from, what it is measured by, where it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.decouple import pixel_noise
from noise_models.calibration.estimate import Calibration
from noise_models.calibration.fidelity import HeldBack, Planes, compare_held, held_back
from noise_models.calibration.frames import FrameStack
from noise_models.calibration.stages import Progress
from noise_models.pnnp_network import NoiseProxy, ProxySampler
from noise_models.pnnp_training import PixelNoise
from noise_models.profile import CameraProfile


@dataclass(frozen=True, eq=False)
class ProxyFrames:
    """What dark frames give for a proxy."""

    noises: tuple[PixelNoise, ...]
    """To learn from, one for each ISO of the profile."""
    held: dict[float, HeldBack]
    """By ISO, the frame that neither calibration nor training saw."""


def read_pixels(found: Calibration, stacks: Sequence[FrameStack], tell: Progress) -> ProxyFrames:
    """Read the dark frames again from which the read noise of each ISO was taken.

    Parameters
    ----------
    found : Calibration
        Of these frames.
    stacks : sequence of FrameStack
        That it was made from.
    tell : callable
        Told what is being done.

    Returns
    -------
    ProxyFrames
        Pixel noise and held-back frames.
    """
    noises, held = [], {}
    for iso, fit in sorted(found.evidence.read.items()):
        stack = next(s for s in stacks if s.kind == "dark" and s.iso == iso and s.exposure_s == fit.exposure_s)
        tell(f"pixel noise of the darks at ISO {iso:g}")
        sums = sum_darks(stack)
        noises.append(pixel_noise(sums, found.profile.gain_mode(iso)))
        kept = held_back(sums, fit)
        if kept is not None:
            held[iso] = kept
    return ProxyFrames(tuple(noises), held)


def with_proxy(found: Calibration, proxy: NoiseProxy, held: dict[float, HeldBack]) -> Calibration:
    """Return the calibration with a trained proxy, measured on the held-back frames beside the other models."""
    draw = _Pixels(found.profile, proxy)
    fidelity = {iso: compare_held(held[iso], draw) if iso in held else () for iso in found.evidence.fidelity}
    return replace(found, proxy=proxy, evidence=replace(found.evidence, fidelity=fidelity))


class _Pixels:
    """Draws pixels of a proxy for the comparison."""

    def __init__(self, profile: CameraProfile, proxy: NoiseProxy) -> None:
        self._profile = profile
        self._samplers = [ProxySampler(proxy.mode(number)) for number in range(len(proxy.modes))]

    def __call__(self, shape: tuple[int, int], iso: float, seed: int) -> Planes:
        noise = torch.zeros(shape)
        sampler = self._samplers[self._profile.gain_mode(iso)]
        sampler.add_(noise, iso, torch.Generator().manual_seed(seed))
        return np.asarray(noise)
