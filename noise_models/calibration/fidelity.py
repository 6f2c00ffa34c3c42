"""How far frames drawn from a new profile are from real ones that the calibration never saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from noise_models.calibration.dark import DarkFit, ordinary_pixels
from noise_models.calibration.dark_sums import DarkSums
from noise_models.tukey_lambda import quantile

FloatArray = npt.NDArray[np.float64]

MODELS: Final = ("gaussian", "eld")
"""What real frames are compared with: one Gaussian for every pixel; the full model with its rows and columns."""

_TAIL_SIGMAS: Final = 4.0
_QUANTILES: Final = 1000


@dataclass(frozen=True)
class Distance:
    """Between the noise of one held-back dark frame and as much drawn noise."""

    model: str
    """"gaussian" or "eld"."""
    kl_forward: float
    """Sum of p ln(p/q) over bins of 1 DN that both fill, p real, q drawn [nat]."""
    kl_inverse: float
    """Sum of q ln(q/p) [nat]."""
    dropped: float
    """Share of both histograms in bins that only one of them fills [1]; those bins are not in the divergence."""
    quantile_r2: float
    """Squared correlation of the quantiles, evenly spaced in z from -4 to 4 sigma [1]."""
    tail_ratio: float
    """Share of real values beyond 4 sigma over that of drawn ones [1]."""
    row_ratio: float
    """Standard deviation of the real row means over that of drawn ones [1]."""

    @property
    def kl(self) -> float:
        """Mean of both divergences [nat]."""
        return (self.kl_forward + self.kl_inverse) / 2


def compare(sums: DarkSums, fit: DarkFit, *, seed: int = 1) -> tuple[Distance, ...]:
    """Draw dark frames from what was fitted and compare them with the one that was held back.

    Parameters
    ----------
    sums : DarkSums
        With a held-back frame.
    fit : DarkFit
        Made without that frame.
    seed : int
        Of the drawn frames.

    Returns
    -------
    tuple of Distance
        One for each of `MODELS`; empty where no frame was held back.

    Notes
    -----
    Real residuals are taken against the mean of n other frames, which adds sigma**2 / n; the drawn ones get as much.
    """
    if sums.held_back_dn is None or sums.held_back_row_means_dn is None:
        return ()
    mean = sums.mean_dn[sums.sample_rows]
    rows = sums.held_back_row_means_dn - sums.row_means_dn.mean(axis=0)
    jitter = float(rows.mean())
    real = (sums.held_back_dn - mean - np.float32(jitter)).ravel()
    kept = ordinary_pixels(sums).ravel()
    generator = np.random.default_rng(seed)
    return tuple(_distance(model, sums, fit, mean, real, kept, rows, generator) for model in MODELS)


def _distance(
    model: str,
    sums: DarkSums,
    fit: DarkFit,
    mean: npt.NDArray[np.float32],
    real: npt.NDArray[np.float32],
    kept: npt.NDArray[np.bool_],
    rows: FloatArray,
    generator: np.random.Generator,
) -> Distance:
    width = sums.mean_dn.shape[1]
    read, row, column = fit.read_sigma_dn.value, fit.row_sigma_dn.value, fit.column_sigma_dn.value
    shape = mean.shape
    if model == "gaussian":
        noise = generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(read**2 + row**2 + column**2))
        row_sigma = 0.0
    else:
        share = np.clip(generator.random(shape), 1e-12, 1 - 1e-12)
        noise = (fit.read_scale_dn.value * quantile(share, fit.read_lambda.value)).astype(np.float32)
        noise += row * generator.standard_normal((shape[0], 1), np.float32)
        noise += column * generator.standard_normal((1, width), np.float32)
        row_sigma = row
    drawn = noise
    if sums.whole_numbers:
        drawn = np.rint(mean + noise) - mean
    drawn = drawn + generator.standard_normal(shape, np.float32) * np.float32(read / math.sqrt(sums.frames))
    drawn = drawn.ravel()
    real, drawn = real[kept], drawn[kept]
    forward, inverse, dropped = divergence(real, drawn)
    edge = _TAIL_SIGMAS * math.sqrt((read**2 + row**2 + column**2 + 1 / 12) * (1 + 1 / sums.frames))
    beyond = [float(np.count_nonzero(np.abs(values) > edge)) + 0.5 for values in (real, drawn)]
    seen = float(rows.std())
    white = fit.pixel_variance_dn2.value / width
    expected = math.sqrt((row_sigma**2 + white) * (1 + 1 / sums.frames))
    return Distance(model, forward, inverse, dropped, quantile_r2(real, drawn), beyond[0] / beyond[1], seen / expected)


def divergence(real: npt.NDArray[np.floating], drawn: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """Return KL(real, drawn), KL(drawn, real) [nat] over bins of 1 DN, and the share in bins that one leaves empty.

    Parameters
    ----------
    real, drawn : (N,) arrays
        Noise [DN].

    Returns
    -------
    tuple of float
        Forward, inverse, dropped share.
    """
    low = math.floor(min(float(real.min()), float(drawn.min()))) - 0.5
    high = math.ceil(max(float(real.max()), float(drawn.max()))) + 0.5
    bins = min(int(high - low), 2**17)
    first, _ = np.histogram(real, bins, (low, low + bins))
    second, _ = np.histogram(drawn, bins, (low, low + bins))
    p, q = first / len(real), second / len(drawn)
    both = (p > 0) & (q > 0)
    ratio = np.log(p[both] / q[both])
    return float(p[both] @ ratio), float(-(q[both] @ ratio)), float((p[~both].sum() + q[~both].sum()) / 2)


def quantile_r2(real: npt.NDArray[np.floating], drawn: npt.NDArray[np.floating]) -> float:
    """Return the squared correlation of two laws' quantiles, evenly spaced in z between -4 and 4 sigma."""
    share = ndtr(np.linspace(-_TAIL_SIGMAS, _TAIL_SIGMAS, _QUANTILES))
    one, two = np.quantile(real, share), np.quantile(drawn, share)
    return float(np.corrcoef(one, two)[0, 1] ** 2)
