"""The shape of read noise: a Tukey-lambda probability plot, corrected for what dither, rounding and means do to it.

The plot of residuals finds the lambda whose quantiles lie straightest (PPCC). Residuals are not the noise itself,
though: the converter rounded each frame, the mean of n frames was subtracted, and dither was added; all three bend
the law towards a Gaussian. The same plot of the law that these steps make of a known lambda is computed through
characteristic functions, and lambda and scale are those for which the two plots agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from noise_models.tukey_lambda import quantile, sigma_per_scale

FloatArray = npt.NDArray[np.float64]

SHAPES: Final = (-0.45, 0.6)
"""Range of lambda that is searched."""
GAUSSIAN_SHAPE: Final = 0.14
"""Lambda at which the law is nearest to a Gaussian."""

_TAIL: Final = 128
_GROWTH: Final = 64
_ROUNDS: Final = 12
_GRID: Final = 2**16
_DRAWS: Final = 40


@dataclass(frozen=True, eq=False)
class PlotPoints:
    """Sorted values, averaged in blocks that are small in the tails: a probability plot of millions as thousands."""

    values: FloatArray
    """(P,) mean of each block, ascending."""
    probability: FloatArray
    """(P,) median probability of each block's ranks."""
    weight: FloatArray
    """(P,) number of values in each block."""


@dataclass(frozen=True)
class PlotFit:
    """The straightest probability plot."""

    shape: float
    """Lambda [1]."""
    slope: float
    """Scale [unit of the values]."""
    r2: float
    """Squared correlation of values and quantiles [1]."""


@dataclass(frozen=True)
class Distortion:
    """What was done to the noise before its residuals were plotted."""

    frames: int
    """Number n of frames whose mean was subtracted from each of them; 0 if none was."""
    rounded: bool
    """Whether each frame was rounded to whole numbers."""
    dithered: bool
    """Whether U(-1/2, 1/2) was added to each residual."""

    @property
    def added_variance(self) -> float:
        """Variance that rounding and dither add, in residuals scaled to the noise's own size [DN^2]."""
        shrink = 1 - 1 / self.frames if self.frames else 1.0
        return self.rounded / 12 + self.dithered / 12 / shrink


def blocks(values: npt.NDArray[np.floating]) -> PlotPoints:
    """Sort values and average them in blocks.

    Parameters
    ----------
    values : array of any shape
        At least 16 values.

    Returns
    -------
    PlotPoints
        About 1000 points for a million values.

    Notes
    -----
    m_i = (i - 0.3175) / (n + 0.365), Filliben's medians                                                         (1)
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    count = len(ordered)
    edges, edge = [0], 0
    while edge < count // 2:
        edge = min(edge + max(1, (edge - _TAIL) // _GROWTH), count // 2)
        edges.append(edge)
    mirrored = [count - item for item in reversed(edges)]
    cuts = np.unique(np.array(edges + mirrored))
    weight = np.diff(cuts).astype(np.float64)
    middle = (cuts[:-1] + cuts[1:] + 1) / 2
    return PlotPoints(np.add.reduceat(ordered, cuts[:-1]) / weight, (middle - 0.3175) / (count + 0.365), weight)  # (1)


def straightest(points: PlotPoints) -> PlotFit:
    """Find the Tukey-lambda law whose quantiles correlate best with the values.

    Parameters
    ----------
    points : PlotPoints
        As `blocks` makes them.

    Returns
    -------
    PlotFit
        Lambda, scale and squared correlation.

    References
    ----------
    .. [1] J. J. Filliben, "The probability plot correlation coefficient test for normality", Technometrics 17, 1975.
    """
    weight = points.weight / points.weight.sum()
    values = points.values - weight @ points.values
    spread = weight @ values**2

    def line(shape: float) -> tuple[float, float]:
        law = quantile(points.probability, shape)
        law = law - weight @ law
        power, common = weight @ law**2, weight @ (law * values)
        return float(common**2 / (power * spread)), float(common / power)

    best: Any = minimize_scalar(
        lambda shape: 1 - line(shape)[0], bounds=SHAPES, method="bounded", options={"xatol": 1e-5}
    )
    r2, slope = line(float(best.x))
    return PlotFit(float(best.x), slope, r2)


def distorted(shape: float, scale_dn: float, how: Distortion, points: PlotPoints) -> PlotPoints:
    """Return the points that a known law would show after its distortion.

    Parameters
    ----------
    shape, scale_dn : float
        Tukey-lambda law of the noise [1], [DN].
    how : Distortion
        What was done to it.
    points : PlotPoints
        Gives the probabilities.

    Returns
    -------
    PlotPoints
        Expected values at the same probabilities, scaled as residuals are: by sqrt(n / (n - 1)).

    Notes
    -----
    With f the characteristic function of noise and rounding, a residual x_i - mean(x) has                        (1)
    f((1 - 1/n) t) * f(t/n)**(n - 1), times sinc(t / 2) for the dither.
    """
    sigma = math.hypot(scale_dn * sigma_per_scale(shape), 0.3)
    half = min(max(24 * sigma, 1.05 * scale_dn * float(quantile(1 - 1e-9, shape))), 400 * sigma)
    step = 2 * half / _GRID
    frequency = np.fft.rfftfreq(_GRID, step)

    def transform(part: float) -> FloatArray:
        return _transform(shape, part * scale_dn, step) * np.sinc(part * frequency * how.rounded)

    if how.frames:  # (1)
        part = 1 / how.frames
        own = transform(1 - part) * transform(part) ** (how.frames - 1)
    else:
        own = transform(1.0)
    own = own * np.sinc(frequency * how.dithered)
    density = np.fft.fftshift(np.fft.irfft(own, _GRID))
    density = np.maximum(density, 0)
    places = (np.arange(_GRID + 1) - _GRID // 2 - 0.5) * step  # ends of the cells around the grid points
    below = np.cumsum(density) / density.sum()
    above = np.cumsum(density[::-1]) / density.sum()
    upper_half = points.probability >= 0.5
    tail = np.where(upper_half, 1 - points.probability, points.probability)
    high = np.interp(tail, above, places[::-1][1:])
    low = np.interp(tail, below, places[1:])
    factor = math.sqrt(how.frames / (how.frames - 1)) if how.frames else 1.0
    return PlotPoints(np.where(upper_half, high, low) * factor, points.probability, points.weight)


def _transform(shape: float, scale_dn: float, step: float) -> FloatArray:
    """Return the characteristic function of the law, cut at the grid's ends, at the grid's frequencies."""
    logit = np.linspace(0.0, 40.0, 8001)
    ends = np.arange(_GRID // 2 + 1) * step
    upper = np.interp(ends, scale_dn * _upper_quantile(logit, shape), 1 / (1 + np.exp(-logit)), right=1.0)
    mass = np.diff(np.concatenate([1 - upper[:0:-1], upper]))
    mass = (mass + np.roll(mass, 1)) / 2  # from cells onto grid points, half to either side: the law stays symmetric
    return np.fft.rfft(np.fft.ifftshift(mass)).real


def _upper_quantile(logit: FloatArray, shape: float) -> FloatArray:
    """Return Q(p) of the law of scale 1 at p = 1 / (1 + exp(-logit)), exact far into the tail."""
    below = -np.log1p(np.exp(-logit))
    above = -logit - np.log1p(np.exp(-logit))
    if abs(shape) < 1e-12:
        return below - above
    return (np.expm1(shape * below) - np.expm1(shape * above)) / shape


@dataclass(frozen=True)
class ShapeFit:
    """Shape and scale of the noise itself."""

    shape: float
    """Lambda [1]."""
    scale_dn: float
    """Scale [DN]."""
    r2: float
    """Squared correlation of the probability plot [1]."""
    gaussian_r2: float
    """The same against a Gaussian [1]."""
    shape_per_plotted: float
    """How far lambda moves when the plotted lambda moves by 1 [1]."""
    plotted: PlotFit
    """What the residuals themselves show."""

    @property
    def sigma_dn(self) -> float:
        """Standard deviation [DN]."""
        return self.scale_dn * sigma_per_scale(self.shape)


def fit_shape(points: PlotPoints, how: Distortion) -> ShapeFit:
    """Find the law that shows the given plot after its distortion.

    Parameters
    ----------
    points : PlotPoints
        Of residuals, scaled by sqrt(n / (n - 1)) [DN].
    how : Distortion
        What was done to the noise.

    Returns
    -------
    ShapeFit
        Of the noise before that.
    """
    plotted = straightest(points)
    shape = min(max(plotted.shape, SHAPES[0]), 0.3)
    seen_sigma = plotted.slope * sigma_per_scale(plotted.shape)
    scale = math.sqrt(max(seen_sigma**2 - how.added_variance, 0.05 * seen_sigma**2)) / sigma_per_scale(shape)
    rate, last = 1.0, (math.nan, math.nan)
    for _ in range(_ROUNDS):
        expected = straightest(distorted(shape, scale, how, points))
        if abs(expected.shape - last[1]) > 1e-4:
            rate = min(max((shape - last[0]) / (expected.shape - last[1]), 0.7), 6.0)
        last = (shape, expected.shape)
        step = plotted.shape - expected.shape
        shape = min(max(shape + rate * step, SHAPES[0]), SHAPES[1] - 0.05)
        expected_sigma2 = (expected.slope * sigma_per_scale(expected.shape)) ** 2
        own = (scale * sigma_per_scale(last[0])) ** 2
        own = max(own + seen_sigma**2 - expected_sigma2, 0.05 * own)
        scale = math.sqrt(own) / sigma_per_scale(shape)
        if abs(step) < 2e-4 and abs(expected_sigma2 / seen_sigma**2 - 1) < 2e-4:
            break
    return ShapeFit(shape, scale, plotted.r2, gaussian_r2(points), rate, plotted)


def scatter(fit: ShapeFit, how: Distortion, points: PlotPoints, generator: np.random.Generator) -> FloatArray:
    """Return how far lambda, scale and sigma would stray if the same frames were taken again.

    Parameters
    ----------
    fit : ShapeFit
        The law.
    how : Distortion
        What was done to it.
    points : PlotPoints
        The plot that it was fitted to.
    generator : numpy.random.Generator
        Source of chance.

    Returns
    -------
    (3,) array
        Standard deviations of lambda [1], scale [DN] and sigma [DN].

    Notes
    -----
    The plot is drawn again from the law: uniform order statistics are cumulative sums of exponential spacings, so
    that a block of w ranks takes a gamma number of shape w. Residuals of n frames have (n - 1) / n of the freedom. (1)
    """
    logit = np.linspace(-23.0, 23.0, 4001)
    grid = PlotPoints(logit, 1 / (1 + np.exp(-logit)), np.ones_like(logit))
    law = distorted(fit.shape, fit.scale_dn, how, grid)
    found = []
    for _ in range(_DRAWS):
        gaps = generator.gamma(np.append(points.weight, 1.0))
        share = np.cumsum(gaps)
        middle = (share[:-1] - gaps[:-1] + gaps[:-1] * (points.weight + 1) / (2 * points.weight)) / share[-1]
        values = np.interp(np.log(middle / (1 - middle)), logit, law.values)
        seen = straightest(PlotPoints(values, points.probability, points.weight))
        found.append((seen.shape, (seen.slope * sigma_per_scale(seen.shape)) ** 2))
    shapes, variances = np.array(found).T
    shapes = fit.shape + fit.shape_per_plotted * (shapes - shapes.mean())
    sigmas = np.sqrt(np.maximum(fit.sigma_dn**2 + variances - variances.mean(), 0.01 * fit.sigma_dn**2))
    scales = sigmas / np.array([sigma_per_scale(float(np.clip(value, -0.49, 1.0))) for value in shapes])
    freedom = math.sqrt(how.frames / (how.frames - 1)) if how.frames else 1.0  # (1)
    return freedom * np.array([shapes.std(ddof=1), scales.std(ddof=1), sigmas.std(ddof=1)])


def gaussian_r2(points: PlotPoints) -> float:
    """Return the squared correlation of the values with a Gaussian's quantiles."""
    from scipy.special import ndtri

    weight = points.weight / points.weight.sum()
    values = points.values - weight @ points.values
    law = ndtri(points.probability)
    law = law - weight @ law
    return float((weight @ (law * values)) ** 2 / ((weight @ law**2) * (weight @ values**2)))
