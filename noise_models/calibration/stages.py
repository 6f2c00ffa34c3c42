"""The two long stages of a calibration: every dark frame is read once, then every flat frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.base import CalibrationError
from noise_models.calibration.checks import Check, check_dark, check_flats, check_read, refuse_light
from noise_models.calibration.dark import DarkFit, fit_dark
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.fidelity import Distance, compare
from noise_models.calibration.fixed_pattern import MeanDark, hot_pixels
from noise_models.calibration.flat_sums import FlatSums, sum_flats
from noise_models.calibration.frames import FrameStack
from noise_models.calibration.gain import GainFit, fit_gain

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str], None]

_GOOD_STACK: Final = 8
_FAIR_STACK: Final = 4


@dataclass(frozen=True, eq=False)
class Darks:
    """What all stacks of dark frames gave."""

    fits: list[DarkFit]
    """One for each stack."""
    means: dict[float, MeanDark]
    """By ISO, the mean frame and the fit of the stack that shows its read noise."""
    fidelity: dict[float, tuple[Distance, ...]]
    """By ISO, distance of drawn frames from the one held back."""


def measure_darks(
    stacks: Sequence[FrameStack],
    black: FloatArray | None,
    white: float,
    folder: Path,
    checks: list[Check],
    tell: Progress,
) -> Darks:
    """Read every stack of darks once; of each ISO, one stack's mean frame is kept, on disk."""
    chosen = {iso: _stands_for([stack for stack in stacks if stack.iso == iso]) for iso in {s.iso for s in stacks}}
    found = Darks([], {}, {})
    for number, stack in enumerate(stacks):
        tell(f"dark frames {number + 1}/{len(stacks)}: ISO {stack.iso:g}, {stack.exposure_s:g} s, {len(stack)} frames")
        stands_for_iso = chosen[stack.iso] is stack
        _measure_stack(stack, found, black, white, checks, folder / str(number) if stands_for_iso else None)
    return found


def _measure_stack(
    stack: FrameStack,
    found: Darks,
    black: FloatArray | None,
    white: float,
    checks: list[Check],
    place: Path | None,
) -> None:
    """Read one stack; where a place is given, it stands for its ISO."""
    sums = sum_darks(stack)
    refuse_light(sums, black, white, stack.paths)
    fit = fit_dark(sums)
    hot, lift_dn = hot_pixels(sums, fit)
    fit = replace(fit, level_dn=fit.level_dn - lift_dn)  # the level is that of ordinary pixels
    found.fits.append(fit)
    checks += check_dark(sums, fit)
    if place is None:
        return
    checks += check_read(fit)
    found.fidelity[stack.iso] = compare(sums, fit)
    found.means[stack.iso] = MeanDark.keep(sums, fit, hot, place)


def _stands_for(stacks: Sequence[FrameStack]) -> FrameStack:
    """Choose the stack of one ISO that shows its read noise: the shortest exposure with enough frames."""
    for enough in (_GOOD_STACK, _FAIR_STACK, 2):
        good = [stack for stack in stacks if len(stack) >= enough]
        if good:
            return min(good, key=lambda stack: stack.exposure_s)
    return stacks[0]


def measure_gains(
    flats: Sequence[FrameStack],
    darks: Sequence[DarkFit],
    read: dict[float, DarkFit],
    white: float,
    checks: list[Check],
    tell: Progress,
) -> tuple[list[GainFit], dict[float, list[FlatSums]], dict[float, list[FloatArray]]]:
    """Read every stack of flats once and fit the curve of each ISO that has darks too."""
    fits, sums, levels = [], {}, {}
    for number, stack in enumerate(flats):
        tell(f"flat frames {number + 1}/{len(flats)}: ISO {stack.iso:g}, {stack.exposure_s:g} s, {len(stack)} frames")
        if stack.iso not in read:
            checks.append(
                Check("darks for every flat", "note", f"flats at ISO {stack.iso:g} have no darks and were left out",
                      f"Shoot dark frames at ISO {stack.iso:g} too.")
            )  # fmt: skip
            continue
        level = _nearest(darks, stack).level_dn
        sums.setdefault(stack.iso, []).append(sum_flats(stack, level, white))
        levels.setdefault(stack.iso, []).append(level)
    problems = []
    for iso in sorted(sums):
        try:
            fit = fit_gain(sums[iso], levels[iso], white, read[iso].pixel_variance_dn2)
        except CalibrationError as error:
            problems.append(error)
            continue
        fits.append(fit)
        checks += check_flats(sums[iso], fit)
    if problems and not fits:
        raise problems[0]
    checks += [
        Check("flats usable", "note", str(error), "The gain at this ISO follows from the others.") for error in problems
    ]
    return fits, sums, levels


def _nearest(darks: Sequence[DarkFit], stack: FrameStack) -> DarkFit:
    """Return the darks of the same ISO whose exposure is nearest, those of many frames first among equals."""
    same = [fit for fit in darks if fit.iso == stack.iso]
    return min(same, key=lambda fit: (abs(np.log((fit.exposure_s + 1e-6) / (stack.exposure_s + 1e-6))), -fit.frames))
