"""How fast the dark fills with electrons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from noise_models.calibration.dark import DarkFit
from noise_models.calibration.measured import Measured


def fit_dark_current(fits: Sequence[DarkFit], gain_dn_per_e: float | None) -> tuple[Measured | None, Measured | None]:
    """Measure how the dark level of one ISO grows with the exposure.

    Parameters
    ----------
    fits : sequence of DarkFit
        Of one ISO, at any exposures.
    gain_dn_per_e : float, optional
        K [DN/e-].

    Returns
    -------
    rate_dn_per_s : Measured or None
        Growth of the level [DN/s]; None below two exposures that differ by a factor of 2.
    dark_current_e_per_s : Measured or None
        The same in electrons [e-/s], not below 0; None without a gain.

    Notes
    -----
    level = bias + rate * t                                                                                       (1)
    """
    times = np.array([fit.exposure_s for fit in fits])
    if len(set(times)) < 2 or times.max() < 2 * times.min():
        return None, None
    levels = np.array([fit.level_dn.mean() for fit in fits])
    noise = np.array([max(fit.level_error_dn, 1e-6) for fit in fits])
    weight = 1 / noise**2
    centre = (weight @ times) / weight.sum()
    spread = weight @ (times - centre) ** 2
    middle = (weight @ levels) / weight.sum()
    rate = float(weight @ ((times - centre) * (levels - middle)) / spread)  # (1)
    misfit = levels - middle - rate * (times - centre)
    excess = max(1.0, float(weight @ misfit**2) / (len(times) - 2)) if len(times) > 2 else 1.0
    error = float(math.sqrt(excess / spread))
    if gain_dn_per_e is None:
        return Measured(rate, error), None
    return Measured(rate, error), Measured(max(rate / gain_dn_per_e, 0.0), error / gain_dn_per_e)
