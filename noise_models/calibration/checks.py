"""What can be wrong with frames, how it shows, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from noise_models.base import CalibrationError
from noise_models.calibration.dark import DarkFit
from noise_models.calibration.dark_sums import DarkSums
from noise_models.calibration.flat_sums import FlatSums
from noise_models.calibration.gain import LOWEST_LEVELS, GainFit

FloatArray = npt.NDArray[np.float64]
Severity = Literal["ok", "note", "stop"]

_LIT_SHARE: Final = 0.03
_LIT_SHARE_SHORT: Final = 0.01
"""In exposures so short that heat frees next to no electrons."""
_SHORT_S: Final = 0.1
_UNKNOWN_BLACK_SHARE: Final = 0.30
_FEW_DARKS: Final = 8
_WANTED_LEVELS: Final = 6
_TEXTURE: Final = 0.05
_FLICKER: Final = 0.02
_WARMING_C: Final = 3.0
_BAD_RESIDUAL_PERCENT: Final = 5.0
_CUT_TAIL: Final = 2e-5


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    severity: Severity
    """"ok"; "note": usable, but read it; "stop": the profile would be wrong."""
    found: str
    """What was found."""
    remedy: str = ""
    """What to do, where something is to be done."""


def refuse_light(sums: DarkSums, black_dn: FloatArray | None, white_dn: float, paths: Sequence[Path]) -> None:
    """Refuse dark frames with light in them.

    Raises
    ------
    CalibrationError
        If the level of a frame lies more than 3 % of the range (1 % in exposures up to 0.1 s) above the nominal black
        or above the other frames; or, where no black is stated, above 30 % of white.
    """
    brightest = int(np.argmax(sums.frame_means_dn))
    level, others = float(sums.frame_means_dn[brightest]), float(np.median(sums.frame_means_dn))
    black = float(black_dn.mean()) if black_dn is not None else 0.0
    share = (level - black) / (white_dn - black)
    most = _LIT_SHARE_SHORT if sums.exposure_s <= _SHORT_S else _LIT_SHARE
    alone = level - others > most * (white_dn - others)
    if not alone and share <= (most if black_dn is not None else _UNKNOWN_BLACK_SHARE):
        return
    nominal = f"the black level {black:.0f} DN" if black_dn is not None else "0 DN, and no black level is stated"
    found = (
        f"the mean of {paths[brightest].name} is {level:.0f} DN, that of the others {others:.0f} DN"
        if alone
        else f"their mean is {level:.0f} DN, {share:.0%} of the range above {nominal}"
    )
    raise CalibrationError(
        f"The dark frames at ISO {sums.iso:g}, {sums.exposure_s:g} s hold light: {found}. "
        "Cap the lens, close the viewfinder, and shoot them in the dark."
    )


def check_dark(sums: DarkSums, fit: DarkFit) -> list[Check]:
    """Look at one stack of dark frames.

    Parameters
    ----------
    sums, fit : DarkSums, DarkFit
        Of the same stack.

    Returns
    -------
    list of Check
        Only those with something to say.
    """
    where = f"ISO {fit.iso:g}, {fit.exposure_s:g} s"
    found = []
    clipped = _clipped(sums, fit)
    if clipped:
        found.append(
            Check(
                "dark frames not clipped",
                "stop",
                f"{where}: {clipped}",
                "Use RAW files that keep the black level; switch off in-camera noise reduction and dark subtraction.",
            )
        )
    elif sums.whole_numbers and sums.lowest_dn <= 0 and sums.lowest_fraction > _CUT_TAIL:
        found.append(
            Check(
                "dark frames not clipped",
                "note",
                f"{where}: {sums.lowest_fraction:.3%} of all values are 0 DN: the far tail of the noise is cut off",
                "Nothing, if it is so rare; lambda and the standard deviation are those of what is left.",
            )
        )
    shading = _unevenness(sums)
    sigma = math.sqrt(fit.pixel_variance_dn2.value)
    if shading > max(4 * sigma, 2.0):
        found.append(
            Check(
                "dark frames even",
                "note",
                f"{where}: the dark level varies by {shading:.1f} DN over the sensor ({shading / sigma:.1f} sigma)",
                "If it is not the glow of the amplifier, light leaks in: cover the viewfinder and work in the dark.",
            )
        )
    drift = float(np.ptp(sums.position_means_dn.mean(axis=(1, 2))))
    if drift > max(0.5 * sigma, 0.5):
        found.append(
            Check(
                "dark level steady",
                "note",
                f"{where}: the mean of the frames moves by {drift:.2f} DN ({drift / sigma:.2f} sigma)",
                "The sensor warms up: let it rest until its temperature is steady, then shoot the frames in one go.",
            )
        )
    if len(sums.temperatures_c) > 1 and np.ptp(sums.temperatures_c) > _WARMING_C:
        found.append(
            Check(
                "temperature steady",
                "note",
                f"{where}: from {min(sums.temperatures_c):.1f} to {max(sums.temperatures_c):.1f} degrees C",
                "Let the sensor reach a steady temperature before the first frame.",
            )
        )
    return found


def check_read(fit: DarkFit) -> list[Check]:
    """Look at what was measured on the stack that stands for its ISO."""
    found = []
    if fit.shape_refused:
        found.append(
            Check(
                "shape of the read noise",
                "note",
                f"ISO {fit.iso:g}: {fit.shape_refused}; a Gaussian is used",
                "Nothing, if low ISOs are not what you denoise; the standard deviation is measured all the same.",
            )
        )
    if fit.frames + 1 < _FEW_DARKS:
        found.append(
            Check(
                "enough dark frames",
                "note",
                f"ISO {fit.iso:g}: {fit.frames} used",
                f"Shoot {_FEW_DARKS} or more at each ISO: the fixed pattern is otherwise half noise.",
            )
        )
    return found


def _clipped(sums: DarkSums, fit: DarkFit) -> str:
    """Return how the converter cuts the noise off at the low end; empty if it does not."""
    sigma = math.sqrt(fit.pixel_variance_dn2.value + fit.row_sigma_dn.value**2 + fit.column_sigma_dn.value**2)
    share = sums.lowest_fraction
    middle = float(sums.level_dn.min())
    expected = float(ndtr((sums.lowest_dn + 0.5 - middle) / max(sigma, 0.1)))
    # A law of which half is missing is far wider above its median than below.
    median = float(np.median(sums.sample_dn[0]))
    above = float(np.quantile(sums.sample_dn[0], 0.99)) - median
    below = median + float(sums.offset_dn.mean()) - sums.lowest_dn
    lopsided = above > 1.5 * below + 1.5
    at_zero = sums.whole_numbers and sums.lowest_dn <= 0 and share > 0.01
    if at_zero or (share > 0.02 and (share > 3 * expected or lopsided)):
        return f"{share:.1%} of all values are {sums.lowest_dn:g} DN, the lowest there is; noise below black is cut off"
    return ""


def _unevenness(sums: DarkSums) -> float:
    """Return how far the level of large areas differs over the sensor [DN]."""
    height, width = sums.mean_dn.shape
    rows, columns = max(2, height // 6), max(2, width // 6)
    values = [
        float(np.median(sums.mean_dn[top : top + rows : 3, left : left + columns : 3]))
        for top in range(0, height - rows + 1, rows)
        for left in range(0, width - columns + 1, columns)
    ]
    return max(values) - min(values)


def check_flats(flats: Sequence[FlatSums], gain: GainFit) -> list[Check]:
    """Look at the flat frames of one ISO and the curve through them."""
    where = f"ISO {gain.iso:g}"
    found = []
    if gain.levels < _WANTED_LEVELS:
        severity: Severity = "note" if gain.levels >= LOWEST_LEVELS else "stop"
        found.append(
            Check(
                "enough brightnesses",
                severity,
                f"{where}: {gain.levels} below 70 % of saturation",
                f"Shoot {_WANTED_LEVELS} or more brightnesses from 5 % to 70 % of saturation, two frames each.",
            )
        )
    texture = max(item.texture for item in flats)
    if texture > _TEXTURE:
        found.append(
            Check(
                "flats even",
                "note",
                f"{where}: pixels of a small area differ by {texture:.1%}; PRNU is not measured, the gain is",
                "Defocus fully, or photograph a blank screen or sky through a diffuser.",
            )
        )
    flicker = max(item.flicker for item in flats)
    if flicker > _FLICKER:
        found.append(
            Check(
                "light steady",
                "note",
                f"{where}: frames of one brightness differ by {flicker:.1%}",
                "The lamp flickers: use daylight or a steady lamp, and exposures above 1/30 s.",
            )
        )
    if gain.worst_residual_percent > _BAD_RESIDUAL_PERCENT:
        found.append(
            Check(
                "photon transfer straight",
                "stop",
                f"{where}: variances lie {gain.worst_residual_percent:.1f} % (r.m.s.) off the line",
                "Use RAW files without noise reduction or compression; keep the light steady within a pair.",
            )
        )
    elif abs(gain.curvature.value) > max(0.05, 3 * gain.curvature.error):
        found.append(
            Check(
                "photon transfer straight",
                "note",
                f"{where}: the slope changes by {gain.curvature.value:+.1%} up to 70 % of saturation",
                "Charges repel each other in full pixels; K is the mean slope. Shoot more dark levels for low light.",
            )
        )
    dark = gain.dark_variance_dn2
    if dark is not None:
        apart = gain.intercept_dn2.value - dark.value
        if abs(apart) > max(5 * math.hypot(gain.intercept_dn2.error, dark.error), 0.3 * dark.value):
            found.append(
                Check(
                    "flats and darks agree",
                    "note",
                    f"{where}: without light, flats say {gain.intercept_dn2.value:.2f} DN^2, darks {dark.value:.2f}",
                    "Shoot darks and flats in one mode: same shutter type, same bit depth, same drive mode.",
                )
            )
    return found


def verdict(checks: Sequence[Check]) -> bool:
    """Return True ("go") if nothing was found that makes the profile wrong."""
    return all(check.severity != "stop" for check in checks)
