"""The noise currency of the house: variance as a straight line of the signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from noise_models.base import NoiseModelError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """Shot and read noise of an image: ``var(x) = shot * x + read``.

    ``x`` is in the house's units: 0 is black, 1 is white. This is what the DNG tag NoiseProfile holds, and what a
    camera profile yields at an ISO.

    Raises
    ------
    NoiseModelError
        If a value is negative or not finite, or if the two shapes differ.

    References
    ----------
    .. [1] Adobe, Digital Negative Specification 1.7, tag NoiseProfile (51041).
    """

    shot: FloatArray
    """Slope of the variance, (..., C) [1]; K / (white - black) for a gain of K DN per electron."""
    read: FloatArray
    """Variance at black, (..., C) [1]; the square of sigma / (white - black)."""
    source: str = "unknown"
    """Where the numbers come from, in words for a user: "DNG NoiseProfile", "given", "blind", "profile sony-a7s2"."""

    def __post_init__(self) -> None:
        shot = np.atleast_1d(np.asarray(self.shot, np.float64))
        read = np.atleast_1d(np.asarray(self.read, np.float64))
        if shot.shape != read.shape:
            raise NoiseModelError(
                f"A noise level needs as many shot as read values, but got shapes {shot.shape} and {read.shape}."
            )
        if not (np.isfinite(shot).all() and np.isfinite(read).all()) or shot.min() < 0 or read.min() < 0:
            raise NoiseModelError(
                f"A noise level was given as shot {shot.tolist()} and read {read.tolist()}, but both are variances: "
                "finite and not negative. Give SHOT,READ with var(x) = SHOT*x + READ, x from 0 (black) to 1 (white)."
            )
        object.__setattr__(self, "shot", shot)
        object.__setattr__(self, "read", read)

    @property
    def channels(self) -> int:
        """Number of planes that it describes; 1 stands for any number of equal planes."""
        return self.shot.shape[-1]

    def variance(self, signal: npt.ArrayLike) -> FloatArray:
        """Variance at ``signal`` (..., C), in the house's units; a signal below black counts as black."""
        return self.shot * np.maximum(np.asarray(signal, np.float64), 0.0) + self.read

    def for_channels(self, channels: int) -> NoiseLevel:
        """Return the level spelled out for ``channels`` planes.

        Raises
        ------
        NoiseModelError
            If it describes another number of planes, and more than one.
        """
        if self.channels == channels:
            return self
        if self.channels != 1:
            raise NoiseModelError(
                f"The noise level describes {self.channels} planes, but the image has {channels}. "
                f"Give one SHOT,READ for all planes or {channels} of them."
            )
        shape = (*self.shot.shape[:-1], channels)
        return replace(self, shot=np.broadcast_to(self.shot, shape), read=np.broadcast_to(self.read, shape))

    def pick(self, indices: Sequence[int]) -> NoiseLevel:
        """Return the level of some planes, in the order given."""
        return replace(self, shot=self.shot[..., list(indices)], read=self.read[..., list(indices)])

    def left(self, fraction: float) -> NoiseLevel:
        """Return the level once only ``fraction`` of the noise's standard deviation is left."""
        return replace(self, shot=self.shot * fraction**2, read=self.read * fraction**2)
