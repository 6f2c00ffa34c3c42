"""What dark frames say of a sensor: level, read noise and its shape, row and column noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.calibration.dark_sums import DarkSums
from noise_models.calibration.line_noise import line_noise
from noise_models.calibration.measured import Measured
from noise_models.calibration.probability_plot import (
    GAUSSIAN_SHAPE,
    Distortion,
    PlotPoints,
    ShapeFit,
    blocks,
    fit_shape,
    gaussian_r2,
    scatter,
    straightest,
)
from noise_models.tukey_lambda import sigma_per_scale

FloatArray = npt.NDArray[np.float64]

QUANTISATION_DN2: Final = 1 / 12
LOWEST_SHAPE_SIGMA_DN: Final = 0.5
"""Below this sigma the staircase of whole numbers hides the shape of the noise [DN]."""
LOWEST_R2: Final = 0.97
"""A probability plot with less is no Tukey-lambda law."""

_CHUNKS: Final = 16
_MOST_VALUES: Final = 2**22
_HOT_SIGMAS: Final = 5.0


@dataclass(frozen=True, eq=False)
class DarkFit:
    """The noise of the dark frames of one ISO and exposure."""

    iso: float
    """Sensitivity [ISO]."""
    exposure_s: float
    """Exposure time [s]."""
    frames: int
    """Number of frames."""
    level_dn: FloatArray
    """(2, 2) mean dark level by position, hot pixels left out where they are known [DN]."""
    level_error_dn: float
    """Its standard error, the worst position [DN]."""
    level_sigma_dn: float
    """Standard deviation of the level from frame to frame, without what row and pixel noise bring to it [DN]."""
    pixel_variance_dn2: Measured
    """Of a pixel in time, without row and column noise, rounding included [DN^2]."""
    read_sigma_dn: Measured
    """Standard deviation of the read noise without rounding [DN]."""
    read_scale_dn: Measured
    """Scale of its Tukey-lambda law [DN]."""
    read_lambda: Measured
    """Shape of that law [1]."""
    shape_refused: str
    """Why the shape was set to the Gaussian's; empty where it was measured."""
    r2: float
    """Of the probability plot against the Tukey-lambda law [1]."""
    gaussian_r2: float
    """Of the probability plot against a Gaussian [1]."""
    row_sigma_dn: Measured
    """Of the value that a row shares, sigma**2 / W removed [DN]."""
    column_sigma_dn: Measured
    """Of the value that a column shares, sigma**2 / H removed [DN]."""
    row_banding: float
    """Mean power of a frame's Fourier transform at f_x = 0 over that elsewhere; 1 for white noise [1]."""
    column_banding: float
    """The same at f_y = 0 [1]."""
    row_spectrum: FloatArray
    """(F,) power at f_x = 0 over the power of white noise, by f_y [1]."""
    column_spectrum: FloatArray
    """(F,) power at f_y = 0 over the power of white noise, by f_x [1]."""
    plot: PlotPoints
    """Probability plot of the residuals with dither [DN]."""
    distortion: Distortion
    """What makes the plotted residuals differ from the noise itself."""
    lowest_fraction: float
    """Share of values at the lowest one [1]."""


def residuals(sums: DarkSums) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return what is left of the sampled rows without fixed pattern, row and column noise.

    Parameters
    ----------
    sums : DarkSums
        Of at least two frames.

    Returns
    -------
    residual_dn : (m, R, W) float32
        Scaled so that its variance is the noise's own [DN].
    kept : (R, W) bool
        False at hot pixels, whose dark current is not read noise.

    Notes
    -----
    r = (x - mean_m(x) - row - column) * sqrt(m / (m - 1)) / sqrt((1 - 1/W) (1 - 1/H))                            (1)
    """
    frames, _, width = sums.sample_dn.shape
    height = sums.mean_dn.shape[0]
    rows = sums.row_means_dn[:frames] - sums.row_means_dn[:frames].mean(axis=0)
    columns = sums.column_means_dn[:frames] - sums.column_means_dn[:frames].mean(axis=0)
    columns = columns - columns.mean(axis=1, keepdims=True)
    mean = sums.sample_dn.mean(axis=0)
    factor = np.float32(math.sqrt(frames / (frames - 1)) / math.sqrt((1 - 1 / width) * (1 - 1 / height)))
    residual = sums.sample_dn - mean
    residual -= rows[:, sums.sample_rows, None].astype(np.float32)
    residual -= columns[:, None, :].astype(np.float32)
    residual *= factor  # (1)
    kept = ordinary_pixels(sums)
    return residual * np.float32(math.sqrt(_coherence(sums, residual, kept))), kept


def ordinary_pixels(sums: DarkSums) -> npt.NDArray[np.bool_]:
    """Return which sampled pixels (R, W) are not hot.

    A pixel is hot where every frame lies far from its row: a single far value is the noise's own tail, and to leave it
    out would make the noise look more Gaussian than it is.
    """
    frames = len(sums.sample_dn)
    level = np.median(sums.sample_dn.mean(axis=0), axis=1, keepdims=True)
    nearest = np.abs(sums.sample_dn[0] - level)
    spread = 1.4826 * float(np.median(nearest))
    for frame in range(1, frames):
        np.minimum(nearest, np.abs(sums.sample_dn[frame] - level), out=nearest)
    return nearest <= _HOT_SIGMAS * max(spread, 0.5)


def _coherence(sums: DarkSums, residual: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> float:
    """Return the variance within a frame over that between frames, where it is clearly below 1.

    Within a frame lie the same noise and the fixed pattern on top, so it cannot be less, except where a coherent
    interference happened to hit few frames in opposite phase; then the frames themselves tell its size.
    """
    frames, lines, width = sums.sample_dn.shape
    height = sums.mean_dn.shape[0]
    few = slice(None, None, max(1, lines // 64))
    residual, kept, rows = residual[:, few], kept[few], sums.sample_rows[few]
    between = float(np.mean(residual[:, kept].astype(np.float64) ** 2))
    columns = (sums.column_means_dn[:frames] - sums.column_means_dn[:frames].mean(axis=1, keepdims=True))[:, None, :]
    single = sums.sample_dn[:, few] - sums.row_means_dn[:frames][:, rows, None] - columns
    within = float(single[:, kept].var(axis=1).mean()) / ((1 - 1 / width) * (1 - 1 / height))
    noise = math.sqrt(2 / max(kept.sum(), 1))
    return within / between if within < between * (1 - max(0.03, 5 * noise)) else 1.0


def fit_dark(sums: DarkSums, *, seed: int = 0) -> DarkFit:
    """Measure the noise of dark frames.

    Parameters
    ----------
    sums : DarkSums
        Of two or more frames of one ISO and exposure.
    seed : int
        Of the dither.

    Returns
    -------
    DarkFit
        Each value with its standard error, from 16 parts of the sensor or from the number of rows.

    References
    ----------
    .. [1] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
    .. [2] J. J. Filliben, "The probability plot correlation coefficient test for normality", Technometrics 17, 1975.
    """
    residual, kept = residuals(sums)
    height, width = sums.mean_dn.shape
    parts = _parts(residual, kept)
    floor = QUANTISATION_DN2 if sums.whole_numbers else 0.0
    variances = np.array([float(np.mean(part.astype(np.float64) ** 2)) for part in parts])
    pixel = Measured(float(variances.mean()), float(variances.std(ddof=1) / math.sqrt(len(variances))))
    row, row_banding, row_spectrum = line_noise(sums.row_means_dn, pixel.value, width)
    column, column_banding, column_spectrum = line_noise(sums.column_means_dn, pixel.value, height)
    generator = np.random.default_rng(seed)
    how = Distortion(len(sums.sample_dn), sums.whole_numbers, dithered=sums.whole_numbers)
    shape, scale, sigma, refused, fit, plot = _shape(parts, pixel, floor, how, generator)
    level_error, level_sigma = _level_errors(sums, pixel.value, row.value, column.value)
    return DarkFit(
        iso=sums.iso,
        exposure_s=sums.exposure_s,
        frames=sums.frames,
        level_dn=sums.level_dn,
        level_error_dn=level_error,
        level_sigma_dn=level_sigma,
        pixel_variance_dn2=pixel,
        read_sigma_dn=sigma,
        read_scale_dn=scale,
        read_lambda=shape,
        shape_refused=refused,
        r2=fit.r2 if fit else straightest(plot).r2,
        gaussian_r2=gaussian_r2(plot),
        row_sigma_dn=row,
        column_sigma_dn=column,
        row_banding=row_banding,
        column_banding=column_banding,
        row_spectrum=row_spectrum,
        column_spectrum=column_spectrum,
        plot=plot,
        distortion=how,
        lowest_fraction=sums.lowest_fraction,
    )


def _parts(residual: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float32]]:
    """Cut the sample into parts of the sensor, all frames of a pixel in one part."""
    width = residual.shape[2]
    thin = max(1, math.ceil(residual.size / _MOST_VALUES))
    columns = np.array_split(np.arange(width), _CHUNKS)
    parts = []
    for chosen in columns:
        inside = kept[:, chosen]
        values = residual[:, :, chosen][:, inside]
        parts.append(values[:, ::thin].ravel())
    return [part for part in parts if part.size >= 64]


def _shape(
    parts: Sequence[npt.NDArray[np.float32]],
    pixel: Measured,
    floor: float,
    how: Distortion,
    generator: np.random.Generator,
) -> tuple[Measured, Measured, Measured, str, ShapeFit | None, PlotPoints]:
    """Return lambda, scale and sigma with errors, why lambda was refused, the fit, and the plot."""
    stretch = math.sqrt(how.frames / (how.frames - 1))

    def dithered(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if not how.dithered:
            return part
        dither = generator.random(part.shape, np.float32) - np.float32(0.5)
        return (part + np.float32(stretch) * dither).astype(np.float32)

    noisy = [dithered(part) for part in parts]
    plot = blocks(np.concatenate(noisy))
    variance = max(pixel.value - floor, 0.0)
    sigma = math.sqrt(variance)
    sigma_error = pixel.error / (2 * sigma) if sigma > 0 else math.sqrt(pixel.error)
    plain = sigma_per_scale(GAUSSIAN_SHAPE)
    gaussian = Measured(GAUSSIAN_SHAPE, 0.0), Measured(sigma / plain, sigma_error / plain), Measured(sigma, sigma_error)
    if sigma < LOWEST_SHAPE_SIGMA_DN and how.rounded:
        reason = (
            f"sigma is {sigma:.2f} DN, and below {LOWEST_SHAPE_SIGMA_DN} DN the steps of the converter hide the shape"
        )
        return *gaussian, reason, None, plot
    fit = fit_shape(plot, how)
    if fit.r2 < LOWEST_R2:
        reason = f"the probability plot is not straight (R2 {fit.r2:.3f}, {LOWEST_R2} expected)"
        return *gaussian, reason, None, plot
    few = [straightest(blocks(part)) for part in noisy]
    shapes = np.array([item.shape for item in few])
    shapes = fit.shape + fit.shape_per_plotted * (shapes - shapes.mean())
    seen = np.array([item.slope * sigma_per_scale(item.shape) for item in few]) ** 2
    ratio = np.sqrt(np.maximum(1 + (seen - seen.mean()) / max(fit.sigma_dn**2, 1e-12), 0.01))
    sigmas = fit.sigma_dn * ratio
    scales = sigmas / np.array([sigma_per_scale(min(max(value, -0.49), 1.0)) for value in shapes])
    count = math.sqrt(len(parts))
    again = scatter(fit, how, plot, generator)
    errors = [
        max(float(values.std(ddof=1) / count), float(drawn))
        for values, drawn in zip((shapes, scales, sigmas), again, strict=True)
    ]
    return (
        Measured(fit.shape, errors[0]),
        Measured(fit.scale_dn, errors[1]),
        Measured(fit.sigma_dn, errors[2]),
        "",
        fit,
        plot,
    )


def _level_errors(sums: DarkSums, pixel: float, row: float, column: float) -> tuple[float, float]:
    """Return the standard error of the dark level by position, and its own jitter from frame to frame."""
    height, width = sums.mean_dn.shape
    white = pixel / (height * width / 4) + row**2 / (height / 2) + column**2 / (width / 2)
    seen = float(sums.position_means_dn.var(axis=0, ddof=1).max())
    whole_frame = sums.position_means_dn.mean(axis=(1, 2))
    expected = pixel / (height * width) + row**2 / height + column**2 / width
    jitter = math.sqrt(max(float(whole_frame.var(ddof=1)) - expected, 0.0))
    if jitter**2 < 2 * expected * math.sqrt(2 / (sums.frames - 1)):
        jitter = 0.0
    return math.sqrt(max(white + jitter**2, seen) / sums.frames), jitter
