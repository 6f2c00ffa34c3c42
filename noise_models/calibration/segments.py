"""Straight lines of ln sigma against ln gain: one for each gain mode of the sensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_LEAST_DROP: Final = 0.85
"""The read noise in electrons must fall at least this much when a sensor raises its conversion gain."""
_LEAST_GAIN: Final = 3.0
"""Two lines must leave at least this much less scatter than one."""


@dataclass(frozen=True)
class Line:
    """ln sigma = slope * ln x + intercept, over one gain mode."""

    slope: float
    """[1]."""
    intercept: float
    """[1]."""
    scatter: float
    """Root of the mean square residual of ln sigma [1]."""


@dataclass(frozen=True)
class Segments:
    """One or two gain modes."""

    breaks_iso: tuple[float, ...]
    """First ISO of every mode but the lowest [ISO]."""
    lines: tuple[Line, ...]
    """One for each mode."""
    single: Line
    """One line for all, for comparison."""

    @property
    def scatter(self) -> float:
        """Largest scatter of the modes [1]."""
        return max(line.scatter for line in self.lines)


def fit_segments(isos: Sequence[float], x: Sequence[float], sigma: Sequence[float]) -> Segments:
    """Fit one line, or two where the sensor switches its conversion gain.

    A dual-gain sensor reads out with less noise above the switch, so that ln sigma falls back at one ISO; one line
    through both modes is wrong by tens of per cent at either side.

    Parameters
    ----------
    isos : sequence of float
        Ascending [ISO].
    x : sequence of float
        Gain [DN/e-], or the ISO where no gain is known.
    sigma : sequence of float
        Read noise [DN].

    Returns
    -------
    Segments
        Two modes if the noise falls back at the break and two lines leave a third of one line's scatter.
    """
    names = np.asarray(isos, np.float64)
    across, noise = np.log(np.asarray(x, np.float64)), np.log(np.maximum(np.asarray(sigma, np.float64), 1e-6))
    single = _line(across, noise)
    best: tuple[float, int] | None = None
    for cut in range(1, len(names)):
        if len(names) < 4 or _drop(across, noise, cut) > math.log(_LEAST_DROP):
            continue
        left, right = _line(across[:cut], noise[:cut]), _line(across[cut:], noise[cut:])
        total = math.sqrt((cut * left.scatter**2 + (len(names) - cut) * right.scatter**2) / len(names))
        if best is None or total < best[0]:
            best = total, cut
    if best is None or best[0] * _LEAST_GAIN > single.scatter:
        return Segments((), (single,), single)
    cut = best[1]
    return Segments((float(names[cut]),), (_line(across[:cut], noise[:cut]), _line(across[cut:], noise[cut:])), single)


def _drop(across: FloatArray, noise: FloatArray, cut: int) -> float:
    """Return by how much ln sigma grows over the cut beyond what its neighbours say; far below 0 at a switch."""
    before = _slope(across[:cut], noise[:cut])
    after = _slope(across[cut:], noise[cut:])
    known = [value for value in (before, after) if value is not None]
    slope = sum(known) / len(known) if known else 1.0
    return float(noise[cut] - noise[cut - 1] - slope * (across[cut] - across[cut - 1]))


def _slope(across: FloatArray, noise: FloatArray) -> float | None:
    return _line(across, noise).slope if len(across) > 1 else None


def _line(across: FloatArray, noise: FloatArray) -> Line:
    if len(across) < 2 or np.ptp(across) == 0:
        return Line(0.0, float(noise.mean()), 0.0)
    slope, intercept = np.polyfit(across, noise, 1)
    return Line(float(slope), float(intercept), float(np.sqrt(np.mean((noise - slope * across - intercept) ** 2))))
