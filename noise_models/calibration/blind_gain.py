"""The gain of a camera from ordinary photographs, where no flat frames are at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from noise_models.base import CalibrationError, NoiseModelError
from noise_models.calibration.measured import Measured


@dataclass(frozen=True)
class BlindGain:
    """The gain that one photograph shows."""

    iso: float
    """Sensitivity [ISO]."""
    gain_dn_per_e: float
    """K [DN/e-]."""
    error: float
    """Its standard error [DN/e-]."""


EstimateGain = Callable[[Path], BlindGain]
"""Reads a photograph and estimates its gain; raises `NoiseModelError` where it cannot."""


@dataclass(frozen=True)
class GainPerIso:
    """K / ISO, the same for every ISO of a camera whose gain is proportional to ISO."""

    per_iso: Measured
    """K / ISO [DN/e- per ISO]."""
    photographs: int
    """Number of photographs used."""

    def at(self, iso: float) -> Measured:
        """Return K at an ISO [DN/e-]."""
        return Measured(self.per_iso.value * iso, self.per_iso.error * iso)


def pool(photos: Sequence[Path], estimate: EstimateGain) -> GainPerIso:
    """Pool blind estimates of several photographs.

    Parameters
    ----------
    photos : sequence of path
        RAW files of the camera, at any ISO.
    estimate : callable
        Gives the gain of one.

    Returns
    -------
    GainPerIso
        The weighted median of K / ISO, with the spread between photographs in its error.

    Raises
    ------
    CalibrationError
        If no photograph gave a gain.
    """
    found, reasons = [], []
    for path in photos:
        try:
            found.append(estimate(path))
        except NoiseModelError as error:
            reasons.append(f"{path.name}: {error}")
    found = [item for item in found if item.gain_dn_per_e > 0 and item.error < item.gain_dn_per_e]
    if not found:
        why = f" ({reasons[0]})" if reasons else ""
        raise CalibrationError(
            f"None of the {len(photos)} photographs shows the gain{why}. Give photographs with smooth areas of several "
            "brightnesses (sky, walls), at ISO 400 or more, or flat frames (--flats)."
        )
    ratio = np.array([math.log(item.gain_dn_per_e / item.iso) for item in found])
    weight = 1 / (np.array([item.error / item.gain_dn_per_e for item in found]) ** 2 + 0.02**2)
    order = np.argsort(ratio)
    along = np.cumsum(weight[order]) - weight[order] / 2
    middle = float(np.interp(0.5 * weight.sum(), along, ratio[order]))
    spread = 1.4826 * float(np.median(np.abs(ratio - middle))) if len(found) > 2 else 0.1
    error = max(1.25 * spread / math.sqrt(len(found)), 1 / math.sqrt(weight.sum()), 0.02)
    value = math.exp(middle)
    return GainPerIso(Measured(value, value * error), len(found))
