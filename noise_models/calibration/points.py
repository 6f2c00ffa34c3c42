"""From the fits of each ISO to the points of a profile, and the gain modes they fall into."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.calibration.blind_gain import GainPerIso
from noise_models.calibration.checks import Check
from noise_models.calibration.dark import DarkFit
from noise_models.calibration.dark_current import fit_dark_current
from noise_models.calibration.gain import GainFit
from noise_models.calibration.measured import Measured
from noise_models.calibration.segments import Segments, fit_segments
from noise_models.profile import GainPoint, StandardErrors

FloatArray = npt.NDArray[np.float64]

_STRAY: Final = 0.03


@dataclass(frozen=True, eq=False)
class Gains:
    """The gain at every ISO, and where it comes from."""

    by_iso: Mapping[float, Measured | None]
    """K [DN/e-]; None where nothing shows it."""
    source: str
    """In words."""
    unverified: tuple[str, ...]
    """Fields that were inferred, not measured."""
    notes: tuple[str, ...]
    """For the profile."""
    checks: tuple[Check, ...]
    """For the verdict."""

    @classmethod
    def of(cls, fits: Sequence[GainFit], photos: GainPerIso | None, isos: Sequence[float]) -> Gains:
        """Choose for every ISO its own flats, else the other ISOs' flats, else photographs, else nothing.

        Notes
        -----
        K = k * ISO between ISOs with flats and beyond them, k their median                                       (1)
        """
        if fits:
            return cls._from_flats(fits, isos)
        if photos is not None:
            share = photos.per_iso.error / photos.per_iso.value
            text = f"K comes from {photos.photographs} photographs, to about {share:.0%}"
            return cls(
                {iso: photos.at(iso) for iso in isos},
                text,
                ("gain_dn_per_e",),
                (text,),
                (Check("gain", "note", text, "Shoot flat frames (--flats) for a gain within 1 %."),),
            )
        text = "K is not known: dark frames alone do not show it"
        return cls(
            dict.fromkeys(isos),
            text,
            (),
            (text,),
            (Check("gain", "note", text, "Give flat frames (--flats) or photographs of this camera (--photos)."),),
        )

    @classmethod
    def _from_flats(cls, fits: Sequence[GainFit], isos: Sequence[float]) -> Gains:
        own = {fit.iso: fit.gain_dn_per_e for fit in fits}
        ratios = np.array([gain.value / iso for iso, gain in own.items()])
        k = float(np.median(ratios))  # (1)
        stray = float(np.abs(ratios / k - 1).max())
        error = max(stray, 0.01, min(gain.error / gain.value for gain in own.values()))
        by_iso: dict[float, Measured | None] = {iso: own.get(iso) or Measured(k * iso, k * iso * error) for iso in isos}
        missing = [iso for iso in isos if iso not in own]
        checks, notes, unverified = [], [], ()
        if missing:
            named = ", ".join(f"{iso:g}" for iso in missing)
            notes.append(f"K at ISO {named} follows from K / ISO = {k:.4g} of the others")
            unverified = ("gain_dn_per_e",)
            checks.append(
                Check("flats at every ISO", "note", f"none at ISO {named}: K is taken as proportional to ISO there",
                      "Shoot flats at those ISOs if the camera stretches them in software.")
            )  # fmt: skip
        if stray > _STRAY:
            checks.append(
                Check("gain proportional to ISO", "note", f"K / ISO varies by {stray:.1%} over the ISOs",
                      "Usual below the base ISO and where ISO is set in software; calibrate every ISO that you use.")
            )  # fmt: skip
        return cls(by_iso, "photon transfer of flat frames", unverified, tuple(notes), tuple(checks))


def make_points(
    read: Mapping[float, DarkFit], darks: Sequence[DarkFit], gains: Gains, black_dn: FloatArray
) -> tuple[tuple[GainPoint, ...], dict[float, Measured]]:
    """Put together what one ISO does.

    Parameters
    ----------
    read : mapping
        By ISO, the darks that show its read noise.
    darks : sequence of DarkFit
        All of them, for the dark current.
    gains : Gains
        By ISO.
    black_dn : (2, 2)
        Nominal black [DN].

    Returns
    -------
    points : tuple of GainPoint
        Sorted by ISO.
    rates_dn_per_s : dict
        By ISO, growth of the dark level, where several exposures show it.
    """
    points, rates = [], {}
    for iso in sorted(read):
        fit, gain = read[iso], gains.by_iso[iso]
        rate, current = fit_dark_current([item for item in darks if item.iso == iso], gain.value if gain else None)
        if rate is not None:
            rates[iso] = rate
        bias = fit.level_dn - black_dn
        points.append(
            GainPoint(
                iso=iso,
                gain_dn_per_e=gain.value if gain else None,
                read_scale_dn=fit.read_scale_dn.value,
                read_lambda=fit.read_lambda.value,
                row_sigma_dn=fit.row_sigma_dn.value,
                column_sigma_dn=fit.column_sigma_dn.value,
                bias_dn=((bias[0, 0], bias[0, 1]), (bias[1, 0], bias[1, 1])),
                bias_sigma_dn=fit.level_sigma_dn,
                dark_current_e_per_s=current.value if current else None,
                fit_r2=min(max(fit.r2, 0.0), 1.0),
                errors=StandardErrors(
                    gain_dn_per_e=gain.error if gain else None,
                    read_scale_dn=fit.read_scale_dn.error,
                    read_lambda=None if fit.shape_refused else fit.read_lambda.error,
                    read_sigma_dn=fit.read_sigma_dn.error,
                    row_sigma_dn=fit.row_sigma_dn.error,
                    column_sigma_dn=fit.column_sigma_dn.error,
                    bias_dn=fit.level_error_dn,
                    dark_current_e_per_s=current.error if current else None,
                ),
            )
        )
    return tuple(points), rates


def modes_of(points: Sequence[GainPoint]) -> tuple[Segments, Segments | None]:
    """Find the gain modes from the read noise, and the lines of the row noise in the same modes.

    Parameters
    ----------
    points : sequence of GainPoint
        Sorted by ISO.

    Returns
    -------
    read, row : Segments
        Lines of ln sigma against ln K, or ln ISO where K is not known; row is None without row noise.
    """
    isos = [point.iso for point in points]
    known = all(point.gain_dn_per_e is not None for point in points)
    x = [point.gain_dn_per_e or point.iso if known else point.iso for point in points]
    read = fit_segments(isos, x, [max(point.read_sigma_dn, 1e-3) for point in points])
    rows = [point.row_sigma_dn for point in points]
    if min(rows) <= 0:
        return read, None
    edges = [0.0, *read.breaks_iso, math.inf]
    parts = [
        fit_segments(*zip(*[item for item in zip(isos, x, rows, strict=True) if low <= item[0] < high], strict=True))
        for low, high in itertools.pairwise(edges)
    ]
    return read, Segments(read.breaks_iso, tuple(part.single for part in parts), fit_segments(isos, x, rows).single)
