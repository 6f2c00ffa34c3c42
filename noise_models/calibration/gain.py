"""Photon transfer: how many DN one electron makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.base import CalibrationError
from noise_models.calibration.flat_sums import FlatSums
from noise_models.calibration.measured import Measured

FloatArray = npt.NDArray[np.float64]

HIGHEST_SHARE: Final = 0.70
"""Of saturation, up to which the photon transfer curve is fitted."""
LOWEST_LEVELS: Final = 3
"""Fewer brightnesses than this give no curve."""

_ROUNDS: Final = 4
_BINS: Final = 48
_BIN_WIDTH: Final = 0.04
_MODEL_ERROR: Final = 0.01


@dataclass(frozen=True, eq=False)
class GainFit:
    """The photon transfer curve of one ISO."""

    iso: float
    """Sensitivity [ISO]."""
    gain_dn_per_e: Measured
    """Slope K [DN/e-]."""
    intercept_dn2: Measured
    """Variance without light, as the flats see it [DN^2]."""
    dark_variance_dn2: Measured | None
    """The same as the darks see it, without row and column noise [DN^2]."""
    gain_by_position: FloatArray
    """(4,) slope of each position of the cell [DN/e-]."""
    curve_dn: FloatArray
    """(B,) signal of the points of the curve, tiles of like signal averaged [DN above black]."""
    curve_variance_dn2: FloatArray
    """(B,) their variance [DN^2]."""
    curve_used: npt.NDArray[np.bool_]
    """(B,) whether they were fitted: below 70 % of saturation."""
    curve_error_dn2: FloatArray
    """(B,) standard error of their variance [DN^2]."""
    residual_percent: FloatArray
    """(B,) variance over the fit, minus 1 [%]."""
    curvature: Measured
    """Relative growth of the slope from 0 to 70 % of saturation [1]; 0 for a linear sensor."""
    saturation_dn: float
    """Signal at saturation [DN above black]."""
    levels: int
    """Number of brightnesses fitted."""

    @property
    def worst_residual_percent(self) -> float:
        """Root of the mean square residual of the fitted points [%]."""
        return float(np.sqrt(np.mean(self.residual_percent[self.curve_used] ** 2)))


def fit_gain(
    flats: Sequence[FlatSums], black_dn: Sequence[FloatArray], white_dn: float, dark: Measured | None
) -> GainFit:
    """Measure the gain K from the flat frames of one ISO.

    The variance of light grows with its mean; the slope is the gain.

    Parameters
    ----------
    flats : sequence of FlatSums
        Of one ISO, several brightnesses.
    black_dn : sequence of (2, 2) arrays
        Dark level for each of them [DN].
    white_dn : float
        Saturation [DN].
    dark : Measured, optional
        Variance of the dark frames without row and column noise [DN^2]: the curve's point without light.

    Returns
    -------
    GainFit
        K with its standard error, the curve and its residuals.

    Raises
    ------
    CalibrationError
        If all flats are saturated or dark, or fewer than three levels lie below 70 % of saturation.

    Notes
    -----
    var(d1 - d2) / 2 = K * mean(d) + sigma_r**2                                                                   (1)
    Each point weighs 1 / Var(v) = n / (2 v**2), v from the fit, not from the point, which would pull K down.     (2)
    Errors are those of a fit whose weights may be wrong (sandwich).                                              (3)

    References
    ----------
    .. [1] EMVA Standard 1288, release 4.0, photon transfer method.
    """
    signal, variance, degrees, position = _points(flats, black_dn)
    saturation = _saturation(signal, variance, white_dn - float(np.mean(black_dn)))
    clipped = np.concatenate([item.saturated.ravel() for item in flats]) > 1e-3
    used = (signal <= HIGHEST_SHARE * saturation) & ~clipped
    if not used.any():
        raise CalibrationError(
            f"All flat frames at ISO {flats[0].iso:g} are saturated or brighter than {HIGHEST_SHARE:.0%} of saturation "
            f"({signal.min():.0f} of {saturation:.0f} DN at the darkest). Shoot them shorter or with less light: "
            "denoise calibrate --plan says how bright."
        )
    brightest = float(signal[used].max())
    if brightest < 0.02 * saturation:
        raise CalibrationError(
            f"The flat frames at ISO {flats[0].iso:g} reach only {brightest / saturation:.1%} of saturation, but up to "
            f"{HIGHEST_SHARE:.0%} is needed. Give them more light."
        )
    levels = int(_alike(signal[used], 0.1).max()) + 1
    if (levels < LOWEST_LEVELS and dark is None) or levels < 1:
        raise CalibrationError(
            f"The flat frames at ISO {flats[0].iso:g} show {levels} brightnesses below {HIGHEST_SHARE:.0%} of "
            f"saturation, but at least {LOWEST_LEVELS} are needed. Shoot more: denoise calibrate --plan says which."
        )
    x, v, n = signal[used], variance[used], _evened(signal[used], degrees[used])
    slope, intercept, cov = _line(x, v, n, dark)
    by_position = [
        _line(x[position[used] == place], v[position[used] == place], n[position[used] == place], dark)[0]
        for place in range(4)
        if (position[used] == place).sum() >= 2
    ]
    curvature = _curvature(x, v, n, slope, intercept, dark, HIGHEST_SHARE * saturation)
    curve, curve_v, curve_error, curve_used = _binned(signal, variance, degrees, used)
    fitted = slope * curve + intercept
    return GainFit(
        iso=flats[0].iso,
        gain_dn_per_e=Measured(slope, math.sqrt(cov[0])),
        intercept_dn2=Measured(intercept, math.sqrt(cov[1])),
        dark_variance_dn2=dark,
        gain_by_position=np.array(by_position),
        curve_dn=curve,
        curve_variance_dn2=curve_v,
        curve_used=curve_used,
        curve_error_dn2=curve_error,
        residual_percent=100 * (curve_v / np.maximum(fitted, 1e-9) - 1),
        curvature=curvature,
        saturation_dn=saturation,
        levels=levels,
    )


def _points(
    flats: Sequence[FlatSums], black_dn: Sequence[FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """Return signal, variance, degrees of freedom and position of every tile of every pair."""
    signal, variance, degrees, position = [], [], [], []
    for item, black in zip(flats, black_dn, strict=True):
        shape = item.level_dn.shape
        signal.append((item.level_dn - black.reshape(1, 4, 1)).ravel())
        variance.append(item.variance_dn2.ravel())
        degrees.append(np.broadcast_to(item.degrees, shape).ravel())
        position.append(np.broadcast_to(np.arange(4)[None, :, None], shape).ravel())
    return tuple(np.concatenate(values) for values in (signal, variance, degrees, position))  # pyright: ignore[reportReturnType]


def _saturation(signal: FloatArray, variance: FloatArray, nominal: float) -> float:
    """Return the signal at which the variance has fallen back from its peak, or the nominal one if it does not fall.

    A full pixel is as quiet as it is bright, whether or not the converter has reached its last value.
    """
    order = np.argsort(signal)
    bins = np.array_split(order, min(_BINS, len(order)))
    means = np.array([signal[chosen].mean() for chosen in bins])
    heights = np.array([variance[chosen].mean() for chosen in bins])
    peak = int(np.argmax(heights))
    fallen = np.flatnonzero(heights[peak:] < 0.8 * heights[peak]) + peak
    if not len(fallen) or means[peak] < 0.3 * nominal:
        return nominal
    return min(float(means[fallen[0]]), nominal)


def _alike(signal: FloatArray, width: float = _BIN_WIDTH) -> npt.NDArray[np.intp]:
    """Number the brightnesses: a new one begins where the logarithm of the signal is ``width`` above its first."""
    steps = np.log(np.maximum(signal, 10.0))
    order = np.argsort(steps)
    numbers = np.empty(len(signal), np.intp)
    number, first = -1, -math.inf
    for index, step in zip(order.tolist(), steps[order].tolist(), strict=True):
        if step - first > width:
            number, first = number + 1, step
        numbers[index] = number
    return numbers


def _evened(signal: FloatArray, degrees: FloatArray) -> FloatArray:
    """Return degrees of freedom capped so that no brightness counts as known better than 1 % of its variance.

    A sensor is no straighter than that; without the cap one brightness shot often would outweigh the others.
    """
    _, which, count = np.unique(_alike(signal), return_inverse=True, return_counts=True)
    return 2 / (2 / degrees + _MODEL_ERROR**2 * count[which])


def _line(x: FloatArray, v: FloatArray, n: FloatArray, dark: Measured | None) -> tuple[float, float, FloatArray]:
    """Fit v = K x + c; return K, c and the variances of both."""
    scale = float(x.max())
    design = np.stack([x / scale, np.ones_like(x)], axis=1)
    slope, intercept = float(np.sum(n * v) / max(np.sum(n * x), 1e-9)), dark.value if dark else 0.0
    inverse, weight = np.eye(2), n
    anchor = np.zeros((2, 2))
    target = np.zeros(2)
    if dark is not None:
        trust = 1 / max(dark.error, _MODEL_ERROR * dark.value, 1e-9) ** 2
        anchor[1, 1], target[1] = trust, trust * dark.value
    for _ in range(_ROUNDS):
        expected = np.maximum(slope * x + intercept, 0.02 * np.abs(v).mean() + 1e-9)
        weight = n / (2 * expected**2)  # (2)
        normal = design.T @ (weight[:, None] * design) + anchor
        inverse = np.linalg.pinv(normal)
        first, intercept = (float(value) for value in inverse @ (design.T @ (weight * v) + target))
        slope = first / scale  # (1)
    misfit = v - slope * x - intercept
    count = len(x)
    inner = (design * (weight * misfit)[:, None]).T @ (design * (weight * misfit)[:, None]) * count / max(count - 2, 1)
    cov = inverse @ (inner + anchor) @ inverse  # (3)
    plain = inverse
    variances = np.maximum(np.diag(cov), np.diag(plain)) / np.array([scale**2, 1.0])
    return slope, intercept, variances


def _curvature(
    x: FloatArray, v: FloatArray, n: FloatArray, slope: float, intercept: float, dark: Measured | None, end: float
) -> Measured:
    """Fit v = K x (1 + q x / end) + c and return q."""
    expected = np.maximum(slope * x + intercept, 1e-9)
    weight = np.sqrt(n / 2) / expected
    design = np.stack([x / end, (x / end) ** 2, np.ones_like(x)], axis=1) * weight[:, None]
    target = v * weight
    if dark is not None:
        trust = 1 / max(dark.error, _MODEL_ERROR * dark.value, 1e-9)
        design = np.vstack([design, [0.0, 0.0, trust]])
        target = np.append(target, trust * dark.value)
    normal = np.linalg.pinv(design.T @ design)
    found = normal @ (design.T @ target)
    return Measured(float(found[1] / found[0]), float(math.sqrt(max(normal[1, 1], 0.0)) / abs(found[0])))


def _binned(
    signal: FloatArray, variance: FloatArray, degrees: FloatArray, used: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Average tiles whose signals lie within a few per cent of each other, used and unused ones apart."""
    rows = []
    for flag in (True, False):
        chosen = np.flatnonzero(used == flag)
        if not len(chosen):
            continue
        steps = _alike(signal[chosen])
        for step in np.unique(steps):
            part = chosen[steps == step]
            weight = degrees[part] / degrees[part].sum()
            mean = float(weight @ variance[part])
            rows.append((float(weight @ signal[part]), mean, mean * math.sqrt(2 / degrees[part].sum()), flag))
    rows.sort()
    columns = [np.array(values) for values in zip(*rows, strict=True)]
    return columns[0], columns[1], columns[2], columns[3].astype(bool)
