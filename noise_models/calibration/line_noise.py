"""Row and column noise: what all pixels of a line share."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from noise_models.calibration.measured import Measured

FloatArray = npt.NDArray[np.float64]


def _variance_error(variance: float, degrees: float) -> float:
    return variance * math.sqrt(2 / max(degrees, 1.0))


def sigma_of(variance: float, error: float) -> Measured:
    """Return the square root of an estimated variance; 0 where the variance is not above its own error.

    The error is a third of the way to what three errors less of variance would give, so that it holds near 0 too.
    """
    if variance < 2 * error:
        return Measured(0.0, math.sqrt(3 * error) / 3 + math.sqrt(max(variance, 0.0)) / 3)
    sigma = math.sqrt(variance)
    return Measured(sigma, (sigma - math.sqrt(max(variance - 3 * error, 0.0))) / 3)


def line_noise(means_dn: FloatArray, pixel_variance_dn2: float, across: int) -> tuple[Measured, float, FloatArray]:
    """Measure the value that all pixels of a row, or of a column, share.

    Parameters
    ----------
    means_dn : (n, L) array
        Mean of every line of n frames [DN].
    pixel_variance_dn2 : float
        Of single pixels in time [DN^2].
    across : int
        Number of pixels in a line.

    Returns
    -------
    sigma_dn : Measured
        Standard deviation of the shared value [DN].
    banding : float
        Mean power of the lines' Fourier transform over that of white noise [1].
    spectrum : (F,) array
        That power by frequency, the mean of the frame left out [1].

    Notes
    -----
    sigma_r**2 = var(line means) - sigma_px**2 / W                                                                (1)
    banding = W * var(line means) / sigma_px**2, by Parseval                                                      (2)
    """
    frames, lines = means_dn.shape
    moving = means_dn - means_dn.mean(axis=0)
    moving = moving - moving.mean(axis=1, keepdims=True)
    degrees = (frames - 1) * (lines - 1)
    variance = float((moving**2).sum() / degrees)
    floor = pixel_variance_dn2 / across
    sigma = sigma_of(variance - floor, _variance_error(variance, degrees))  # (1)
    power = np.abs(np.fft.rfft(moving, axis=1)) ** 2
    spectrum = power.sum(axis=0)[1:] / ((frames - 1) * lines * floor)
    return sigma, variance / floor, spectrum  # (2)
