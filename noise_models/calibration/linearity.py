"""Mean signal against light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.calibration.flat_sums import FlatSums
from noise_models.calibration.gain import HIGHEST_SHARE

FloatArray = npt.NDArray[np.float64]

_UNKNOWN_LIGHT: Final = 20.0
"""Per cent off a straight line, from which on the light was not what the files say."""


@dataclass(frozen=True, eq=False)
class LinearityFit:
    """Mean signal against light."""

    light: FloatArray
    """(L,) exposure [s], or photons for each pixel [1]."""
    light_unit: str
    """"s" or "photons"."""
    signal_dn: FloatArray
    """(L,) mean signal [DN above black]."""
    residual_percent: FloatArray
    """(L,) signal over the straight line, minus 1 [%]."""
    used: npt.NDArray[np.bool_]
    """(L,) between 5 % and 70 % of saturation."""


def fit_linearity(
    flats: Sequence[FlatSums], black_dn: Sequence[FloatArray], saturation_dn: float
) -> LinearityFit | None:
    """Compare the signal with the light, where the light was metered or the exposure varied under one lamp.

    Parameters
    ----------
    flats : sequence of FlatSums
        Of one ISO.
    black_dn : sequence of (2, 2) arrays
        Dark level for each of them [DN].
    saturation_dn : float
        Signal at saturation [DN above black].

    Returns
    -------
    LinearityFit or None
        None below three levels between 5 % and 70 % of saturation, or where the light is not known.
    """
    pairs = [(item, black) for item, black in zip(flats, black_dn, strict=True) if item.steady]
    flats, black_dn = [item for item, _ in pairs], [black for _, black in pairs]
    if not flats:
        return None
    photons = [item.photons_per_pixel for item in flats]
    metered = [value for value in photons if value is not None and value > 0]
    light = np.array(metered if len(metered) == len(photons) else [item.exposure_s for item in flats])
    unit = "photons" if len(metered) == len(photons) else "s"
    signal = np.array([item.mean_dn - black.mean() for item, black in zip(flats, black_dn, strict=True)])
    used = (signal > 0.05 * saturation_dn) & (signal < HIGHEST_SHARE * saturation_dn)
    if used.sum() < 3 or len(np.unique(light[used])) < 3:
        return None
    design = np.stack([light[used], np.ones(used.sum())], axis=1) / signal[used, None]
    (slope, start), *_ = np.linalg.lstsq(design, np.ones(used.sum()))
    order = np.argsort(light)
    expected = slope * light + start
    residual = 100 * (signal / np.where(expected > 0, expected, np.nan) - 1)
    if slope <= 0 or np.nanmax(np.abs(residual[used])) > _UNKNOWN_LIGHT:
        return None
    return LinearityFit(light[order], unit, signal[order], residual[order], used[order])
