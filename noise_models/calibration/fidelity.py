"""How far frames drawn from a new profile are from real ones that the calibration never saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from noise_models.calibration.dark import DarkFit, ordinary_pixels
from noise_models.calibration.dark_sums import DarkSums
from noise_models.tukey_lambda import quantile

FloatArray = npt.NDArray[np.float64]
Planes = npt.NDArray[np.float32]

MODELS: Final = ("gaussian", "eld", "pnnp")
"""What real frames are compared with: one Gaussian for every pixel; the full model with its rows and columns; the same
rows and columns with pixels drawn by a noise proxy, where there is one."""

_TAIL_SIGMAS: Final = 4.0
_QUANTILES: Final = 1000
_DRAWN_VALUES: Final = 2**22
_MOST_DRAWS: Final = 16


@dataclass(frozen=True)
class Distance:
    """Between the noise of one held-back dark frame and drawn noise."""

    model: str
    """One of `MODELS`."""
    kl_forward: float
    """Sum of p ln(p/q) over bins of 1 DN that both fill, p real, q drawn [nat]."""
    kl_inverse: float
    """Sum of q ln(q/p) [nat]."""
    dropped: float
    """Share of both histograms in bins that only one of them fills [1]; those bins are not in the divergence."""
    kl_chance: float
    """What either divergence would be, on average, if real and drawn values had one law: there are no more of them
    [nat]. Differences between models that are small beside it say nothing."""
    quantile_r2: float
    """Squared correlation of the quantiles, evenly spaced in z from -4 to 4 sigma [1]."""
    tail_ratio: float
    """Share of real values beyond 4 sigma over that of drawn ones [1]."""
    row_ratio: float
    """Standard deviation of the real row means over that of drawn ones [1]."""
    correlation: tuple[float, float]
    """Of drawn neighbours in a row, and in a column [1]."""
    real_correlation: tuple[float, float]
    """The same of the real frame [1]."""

    @property
    def kl(self) -> float:
        """Mean of both divergences [nat]."""
        return (self.kl_forward + self.kl_inverse) / 2


class DrawPixels(Protocol):
    """Draws the noise of single pixels."""

    def __call__(self, shape: tuple[int, int], iso: float, seed: int) -> Planes:
        """Return noise (H, W) at an ISO [DN]; the same seed is the same noise."""
        ...


@dataclass(frozen=True, eq=False)
class HeldBack:
    """A dark frame that the calibration never saw, and what it is compared by."""

    mean_dn: Planes
    """(R, W) mean of the other frames [DN above offset]."""
    real_dn: Planes
    """(R, W) the frame's noise against that mean [DN]."""
    kept: npt.NDArray[np.bool_]
    """(R, W) False at hot pixels."""
    rows_dn: FloatArray
    """(H,) its row means against theirs [DN]."""
    frames: int
    """Number n of the others."""
    whole_numbers: bool
    """Whether the values are a converter's whole numbers."""
    fit: DarkFit
    """Made of the others."""


def held_back(sums: DarkSums, fit: DarkFit) -> HeldBack | None:
    """Return the frame that a stack lends to the comparison; None where the stack is too short for that."""
    if sums.held_back_dn is None or sums.held_back_row_means_dn is None:
        return None
    mean = sums.mean_dn[sums.sample_rows]
    rows = sums.held_back_row_means_dn - sums.row_means_dn.mean(axis=0)
    real = sums.held_back_dn - mean - np.float32(rows.mean())
    return HeldBack(mean, real, ordinary_pixels(sums), rows, sums.frames, sums.whole_numbers, fit)


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
        "gaussian" and "eld"; empty where no frame was held back.
    """
    held = held_back(sums, fit)
    return () if held is None else compare_held(held, seed=seed)


def compare_held(held: HeldBack, proxy: DrawPixels | None = None, *, seed: int = 1) -> tuple[Distance, ...]:
    """Compare a held-back frame with frames drawn from each model.

    Parameters
    ----------
    held : HeldBack
        The frame.
    proxy : callable, optional
        Draws the pixels of "pnnp"; without it that model is left out.
    seed : int
        Of the drawn frames; all models share their rows and columns.

    Returns
    -------
    tuple of Distance
        One for each model.

    Notes
    -----
    Real residuals are taken against the mean of n other frames, which adds sigma**2 / n; the drawn ones get as much.
    Up to 16 frames are drawn for the one, so that only the real one's own chance is left in the numbers.
    """
    return tuple(_distance(model, held, proxy, seed) for model in MODELS if model != "pnnp" or proxy is not None)


def _draw(model: str, held: HeldBack, proxy: DrawPixels | None, seed: int) -> Planes:
    """Draw one frame's noise against the mean of n others, (R, W) [DN]."""
    fit, shape = held.fit, held.mean_dn.shape
    generator = np.random.default_rng(seed)
    read, row, column = fit.read_sigma_dn.value, fit.row_sigma_dn.value, fit.column_sigma_dn.value
    lines = np.float32(row) * generator.standard_normal((shape[0], 1), np.float32)
    lines = lines + np.float32(column) * generator.standard_normal((1, shape[1]), np.float32)
    blurred = generator.standard_normal(shape, np.float32) * np.float32(read / math.sqrt(held.frames))
    if model == "gaussian":
        noise = generator.standard_normal(shape, np.float32) * np.float32(math.sqrt(read**2 + row**2 + column**2))
    elif model == "pnnp" and proxy is not None:
        noise = lines + proxy(shape, fit.iso, seed)
    else:
        share = np.clip(generator.random(shape), 1e-12, 1 - 1e-12)
        noise = lines + (fit.read_scale_dn.value * quantile(share, fit.read_lambda.value)).astype(np.float32)
    if held.whole_numbers:
        noise = np.rint(held.mean_dn + noise) - held.mean_dn
    return (noise + blurred).astype(np.float32)


def _distance(model: str, held: HeldBack, proxy: DrawPixels | None, seed: int) -> Distance:
    draws = min(_MOST_DRAWS, max(1, math.ceil(_DRAWN_VALUES / held.real_dn.size)))
    frames = [_draw(model, held, proxy, seed + 1000 * number) for number in range(draws)]
    real, drawn = held.real_dn[held.kept], np.concatenate([frame[held.kept] for frame in frames])
    forward, inverse, dropped, chance = divergence(real, drawn)
    fit, added = held.fit, 1 + 1 / held.frames
    read, row, column = fit.read_sigma_dn.value, fit.row_sigma_dn.value, fit.column_sigma_dn.value
    edge = _TAIL_SIGMAS * math.sqrt((read**2 + row**2 + column**2 + 1 / 12) * added)
    beyond = [(np.count_nonzero(np.abs(values) > edge) + 0.5) / values.size for values in (real, drawn)]
    row_sigma = 0.0 if model == "gaussian" else row
    expected = math.sqrt((row_sigma**2 + fit.pixel_variance_dn2.value / held.mean_dn.shape[1]) * added)
    return Distance(
        model=model,
        kl_forward=forward,
        kl_inverse=inverse,
        dropped=dropped,
        kl_chance=chance,
        quantile_r2=quantile_r2(real, drawn),
        tail_ratio=float(beyond[0] / beyond[1]),
        row_ratio=float(held.rows_dn.std()) / expected,
        correlation=neighbour_correlation(frames[0], held.kept),
        real_correlation=neighbour_correlation(held.real_dn, held.kept),
    )


def neighbour_correlation(noise: Planes, kept: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the autocorrelation at one pixel's distance, in a row and in a column.

    Parameters
    ----------
    noise : (R, W) array
        Rows 2k and 2k + 1 are neighbours on the sensor [DN].
    kept : (R, W) bool
        Pixels that count.

    Returns
    -------
    tuple of float
        0 for independent pixels; row noise raises the first, column noise the second [1].
    """
    even = noise[: noise.shape[0] // 2 * 2]
    both = kept[: even.shape[0]]
    pairs = (
        (even[:, :-1], even[:, 1:], both[:, :-1] & both[:, 1:]),
        (even[0::2], even[1::2], both[0::2] & both[1::2]),
    )
    found = [float(np.corrcoef(one[inside], two[inside])[0, 1]) for one, two, inside in pairs]
    return found[0], found[1]


def divergence(real: npt.NDArray[np.floating], drawn: npt.NDArray[np.floating]) -> tuple[float, float, float, float]:
    """Return how far two sets of numbers are from each other, over bins of 1 DN.

    Parameters
    ----------
    real, drawn : (N,), (M,) arrays
        Noise [DN].

    Returns
    -------
    tuple of float
        KL(real, drawn) and KL(drawn, real) [nat]; the share in bins that only one of them fills [1]; what either
        divergence would be on average if both were of one law [nat].

    Notes
    -----
    chance = (B - 1) (1/N + 1/M) / 2 for B bins that both fill                                                    (1)
    """
    low = math.floor(min(float(real.min()), float(drawn.min()))) - 0.5
    high = math.ceil(max(float(real.max()), float(drawn.max()))) + 0.5
    bins = min(int(high - low), 2**17)
    first, _ = np.histogram(real, bins, (low, low + bins))
    second, _ = np.histogram(drawn, bins, (low, low + bins))
    p, q = first / len(real), second / len(drawn)
    both = (p > 0) & (q > 0)
    ratio = np.log(p[both] / q[both])
    dropped = float((p[~both].sum() + q[~both].sum()) / 2)
    chance = max(np.count_nonzero(both) - 1, 0) * (1 / len(real) + 1 / len(drawn)) / 2  # (1)
    return float(p[both] @ ratio), float(-(q[both] @ ratio)), dropped, chance


def quantile_r2(real: npt.NDArray[np.floating], drawn: npt.NDArray[np.floating]) -> float:
    """Return the squared correlation of two laws' quantiles, evenly spaced in z between -4 and 4 sigma."""
    share = ndtr(np.linspace(-_TAIL_SIGMAS, _TAIL_SIGMAS, _QUANTILES))
    one, two = np.quantile(real, share), np.quantile(drawn, share)
    return float(np.corrcoef(one, two)[0, 1] ** 2)
