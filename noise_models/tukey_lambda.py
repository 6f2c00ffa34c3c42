"""The Tukey-lambda law in numbers: quantiles, standard deviation, scale against sigma. Needs numpy only.

The quantile function is ``Q(p) = scale * (p**lam - (1 - p)**lam) / lam``; at ``lam = 0`` it is the logistic law
``scale * ln(p / (1 - p))``. The scale is not the standard deviation: see `sigma_per_scale`.

References
----------
.. [1] J. W. Tukey, "The practical relationship between the common transformations of percentages or fractions and of
   amounts", Technical Report 36, Princeton, 1960.
.. [2] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from noise_models.base import NoiseModelError

LOWEST_LAMBDA = -0.5
"""At this shape and below the variance is infinite."""

# Below this |lambda| the standard deviation comes from its series: the closed form loses digits to cancellation there.
_SERIES_BELOW = 2e-3


@functools.lru_cache(maxsize=4096)
def sigma_per_scale(shape: float) -> float:
    """Return the standard deviation of the law of scale 1.

    Parameters
    ----------
    shape : float
        Lambda, above -0.5 [1].

    Returns
    -------
    float
        sigma / scale [1].

    Raises
    ------
    NoiseModelError
        If lambda is not above -0.5, where the variance is infinite.

    Notes
    -----
    var = 2 / lam**2 * (1 / (1 + 2 lam) - G(lam + 1)**2 / G(2 lam + 2)), G the gamma function                     (1)
    Near lam = 0 (1) cancels; there the parabola through pi**2 / 3 and (1) at both ends of that range is used.    (2)
    """
    if not math.isfinite(shape) or shape <= LOWEST_LAMBDA:
        raise NoiseModelError(
            f"A Tukey-lambda law was asked with lambda {shape}, but its variance is finite only above {LOWEST_LAMBDA}. "
            "Give a larger lambda; camera sensors lie between -0.3 and 0.2."
        )
    if abs(shape) < _SERIES_BELOW:  # (2)
        step = _SERIES_BELOW
        low, middle, high = _variance(-step), math.pi**2 / 3, _variance(step)
        offset = shape / step
        return math.sqrt(middle + offset * (high - low) / 2 + offset**2 * (high - 2 * middle + low) / 2)
    return math.sqrt(_variance(shape))


def _variance(shape: float) -> float:
    gamma_ratio = math.exp(2 * math.lgamma(shape + 1) - math.lgamma(2 * shape + 2))
    return 2 / shape**2 * (1 / (1 + 2 * shape) - gamma_ratio)  # (1)


def sigma_from_scale(scale_dn: float, shape: float) -> float:
    """Return the standard deviation [DN] of the law with this scale [DN] and lambda [1]."""
    return scale_dn * sigma_per_scale(shape)


def scale_from_sigma(sigma_dn: float, shape: float) -> float:
    """Return the scale [DN] at which the law with this lambda [1] has this standard deviation [DN]."""
    return sigma_dn / sigma_per_scale(shape)


def quantile(probability: npt.ArrayLike, shape: float) -> npt.NDArray[np.float64]:
    """Return the quantiles of the law of scale 1, without loss of digits at lambda near 0.

    Parameters
    ----------
    probability : array of any shape
        From 0 to 1; at 0 and 1 the quantile is infinite where lambda <= 0.
    shape : float
        Lambda [1].

    Returns
    -------
    array
        float64, same shape as ``probability`` [scale].

    Notes
    -----
    Q(p) = (expm1(lam * ln p) - expm1(lam * ln(1 - p))) / lam                                                    (1)
    """
    share = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        below, above = np.log(share), np.log1p(-share)
    if abs(shape) < 1e-12:
        return below - above
    with np.errstate(over="ignore"):
        return (np.expm1(shape * below) - np.expm1(shape * above)) / shape  # (1)


def cumulated(values: npt.ArrayLike, shape: float) -> npt.NDArray[np.float64]:
    """Return the share of the law of scale 1 that lies below each value, by bisection of the quantile function.

    Parameters
    ----------
    values : array of any shape
        [scale].
    shape : float
        Lambda [1].

    Returns
    -------
    array
        float64, same shape, 0 to 1, right to 1e-15.
    """
    wanted = np.asarray(values, np.float64)
    # By symmetry the lower half is enough, and there the logarithm of the share keeps its digits.
    target = -np.abs(wanted)
    low, high = np.full(wanted.shape, -700.0), np.full(wanted.shape, np.log(0.5))
    for _ in range(80):
        middle = (low + high) / 2
        above = quantile(np.exp(middle), shape) > target
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    share = np.exp((low + high) / 2)
    if shape > 0:
        share = np.where(target <= -1 / shape, 0.0, share)
    return np.where(wanted > 0, 1 - share, share)
