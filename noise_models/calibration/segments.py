"""Straight lines of ln sigma against ln gain: one for each gain mode of the sensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

FloatArray = npt.NDArray[np.float64]

_LEAST_DROP: Final = 0.93
"""A step to more than this share of the noise is no switch of the conversion gain."""
_LEAST_F: Final = 45.0
"""By how many residual variances a step must better the fit; single-gain cameras drawn at random stay below."""
_MODEL_ERROR: Final = 0.01
"""How well a smooth curve follows ln sigma of a real sensor at best [1]."""
_LEAST_POINTS: Final = 5
_LEAST_FALL: Final = 0.90
"""Read noise in DN that falls to less over whole stops shows a switch by itself: in one mode it never falls."""
_LEAST_STEP: Final = 0.04
"""Of ln(K / ISO) [1]."""
_STEADY: Final = 0.015
"""Scatter of ln(K / ISO) within a mode [1]."""


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


def fit_segments(
    isos: Sequence[float] | FloatArray, x: Sequence[float] | FloatArray, sigma: Sequence[float] | FloatArray
) -> Segments:
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
        Two modes if the read noise steps down where no smooth curve could, or K / ISO steps.

    Notes
    -----
    sigma**2 = b**2 + a**2 K**2 in one mode: noise behind and before the amplifier                                (1)
    ln sigma = c + d ln K + e (ln K)**2, for sensors that follow (1) less well                                    (2)

    A step is accepted if (1) or (2) with a step betters the better of both without by an F of 45. With fewer than five
    ISOs it shows only where the noise falls although the gain rises, over whole stops: ISOs between them may be
    stretched in software, which makes the noise zigzag.
    """
    names = np.asarray(isos, np.float64)
    gains, noise = np.asarray(x, np.float64), np.log(np.maximum(np.asarray(sigma, np.float64), 1e-6))
    across = np.log(gains)
    single = _line(across, noise)
    cut = _step_of_noise(across, noise) or _step_of_gain(np.log(gains / names)) or _fall(names, noise)
    if not cut:
        return Segments((), (single,), single)
    return Segments((float(names[cut]),), (_line(across[:cut], noise[:cut]), _line(across[cut:], noise[cut:])), single)


def _step_of_noise(across: FloatArray, noise: FloatArray) -> int | None:
    """Return the first point after the step that betters a smooth curve through ln sigma most, if that is enough."""
    count = len(noise)
    if count < _LEAST_POINTS:
        return None
    smooth = min(curve(across, noise, None)[0] for curve in (_two_stages, _bent))
    best: tuple[float, float, int, int] | None = None
    for cut in range(2, count - 1):
        after = (np.arange(count) >= cut).astype(np.float64)
        for curve, freedom in ((_two_stages, count - 3), (_bent, count - 4)):
            misfit, step = curve(across, noise, after)
            if best is None or misfit < best[0]:
                best = misfit, step, freedom, cut
    if best is None:
        return None
    misfit, step, freedom, cut = best
    better = (smooth - misfit) / (misfit / freedom + _MODEL_ERROR**2)
    return cut if better > _LEAST_F and step < math.log(_LEAST_DROP) else None


def _two_stages(across: FloatArray, noise: FloatArray, after: FloatArray | None) -> tuple[float, float]:
    """Fit (1), with a step at ``after`` if given; return the sum of squared residuals and the step."""

    def residual(values: FloatArray) -> FloatArray:
        curve = np.logaddexp(values[1], values[0] + 2 * across) / 2  # (1)
        return curve - noise if after is None else curve + values[2] * after - noise

    start = np.array([2 * (noise[-1] - across[-1]), 2 * noise[0]] + ([] if after is None else [0.0]))
    fits = [least_squares(residual, start - np.array([less, 0.2, 0.0][: len(start)])) for less in (0.0, 1.5)]
    best = min(fits, key=lambda fit: fit.cost)
    return 2 * float(best.cost), 0.0 if after is None else float(best.x[2])


def _bent(across: FloatArray, noise: FloatArray, after: FloatArray | None) -> tuple[float, float]:
    """Fit (2), with a step at ``after`` if given; return the sum of squared residuals and the step."""
    centred = across - across.mean()
    columns = [np.ones_like(across), centred, centred**2, *([] if after is None else [after])]
    design = np.stack(columns, axis=1)
    found = np.linalg.lstsq(design, noise)[0]  # (2)
    return float(np.sum((noise - design @ found) ** 2)), 0.0 if after is None else float(found[3])


def _step_of_gain(ratio: FloatArray) -> int | None:
    """Return the first point after a step of ln(K / ISO) that is constant on both sides of it."""
    for cut in range(2, len(ratio) - 1):
        low, high = ratio[:cut], ratio[cut:]
        scatter = max(float(low.std(ddof=1)), float(high.std(ddof=1)))
        if scatter < _STEADY and abs(high.mean() - low.mean()) > max(_LEAST_STEP, 5 * scatter):
            return cut
    return None


def _fall(isos: FloatArray, noise: FloatArray) -> int | None:
    """Return the point where the noise falls most over whole stops, if it falls enough."""
    falls = {
        cut: float(noise[cut] - noise[cut - 1])
        for cut in range(1, len(isos))
        if abs(math.remainder(math.log2(isos[cut] / isos[cut - 1]), 1.0)) < 0.05 and isos[cut] > 1.5 * isos[cut - 1]
    }
    cut = min(falls, key=falls.__getitem__, default=0)
    return cut if cut and falls[cut] < math.log(_LEAST_FALL) else None


def _line(across: FloatArray, noise: FloatArray) -> Line:
    if len(across) < 2 or np.ptp(across) == 0:
        return Line(0.0, float(noise.mean()), 0.0)
    slope, intercept = np.polyfit(across, noise, 1)
    return Line(float(slope), float(intercept), float(np.sqrt(np.mean((noise - slope * across - intercept) ** 2))))
