"""The maps of the fixed pattern, and their thumbnails for the report."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from noise_models.calibration.evidence import PatternEvidence
from noise_models.calibration.fixed_pattern import (
    MeanDark,
    Response,
    Shading,
    fit_response,
    fit_shading,
    hot_pixels,
    rounded,
)
from noise_models.calibration.flat_sums import FlatSums
from noise_models.calibration.frames import FrameStack
from noise_models.calibration.gain import HIGHEST_SHARE, GainFit
from noise_models.fixed_pattern import FixedPattern

_TEXTURE: Final = 0.05
_LEAST_SHARE: Final = 0.15
_PICTURE_PIXELS: Final = 160


def make_maps(
    means: Mapping[float, MeanDark],
    breaks_iso: Sequence[float],
    flats: Sequence[FrameStack],
    gains: Sequence[GainFit],
    sums: Mapping[float, Sequence[FlatSums]],
) -> tuple[FixedPattern, PatternEvidence]:
    """Make the maps of a sensor.

    Parameters
    ----------
    means : mapping
        By ISO, the mean dark frame.
    breaks_iso : sequence of float
        First ISO of every gain mode but the lowest.
    flats : sequence of FrameStack
        To measure PRNU on the best of them; one more reading of that stack.
    gains, sums
        Photon transfer and the sums of the flats, to choose it.

    Returns
    -------
    FixedPattern, PatternEvidence
        The maps, and what the report shows of them.
    """
    edges = [0.0, *breaks_iso, float("inf")]
    modes = [[means[iso] for iso in sorted(means) if low <= iso < high] for low, high in itertools.pairwise(edges)]
    shape = next(iter(means.values())).mean_dn.shape
    hot = np.zeros(shape, bool)
    for mean in means.values():
        hot |= hot_pixels(mean)
    shadings = [fit_shading(mode) for mode in modes if mode]
    response = _response(means, flats, gains, sums)
    last = max(means)
    picture = _shading_at(shadings[-1], last)
    pattern = _pattern(shadings, response, hot, last)
    cells = _small(hot.astype(np.float32))
    per_cell = hot.size / cells.size
    return pattern, PatternEvidence(
        dsnu_dn=tuple(item.dsnu_dn for item in shadings),
        kept=tuple(item.kept for item in shadings),
        prnu=response.prnu_sigma if response else None,
        hot=int(hot.sum()),
        dead=int(response.dead.sum()) if response else 0,
        shading=_small(picture),
        hot_density=cells * np.float32(per_cell),
    )


def _shading_at(shading: Shading, iso: float) -> npt.NDArray[np.float32]:
    picture = shading.at_zero_dn.copy()
    if shading.per_iso_dn is not None:
        picture += shading.per_iso_dn * np.float32(iso)
    return picture


def _pattern(
    shadings: Sequence[Shading], response: Response | None, hot: npt.NDArray[np.bool_], last_iso: float
) -> FixedPattern:
    zero = np.stack([rounded(item.at_zero_dn) for item in shadings])
    slope = None
    if any(item.per_iso_dn is not None for item in shadings):
        slope = np.zeros_like(zero)
        for target, item in zip(slope, shadings, strict=True):
            if item.per_iso_dn is not None:
                target[...] = rounded(item.per_iso_dn, last_iso)
    return FixedPattern(
        dark_shading_dn=zero,
        prnu=response.prnu if response else np.zeros(hot.shape, np.float32),
        hot=hot,
        dead=response.dead if response else np.zeros(hot.shape, bool),
        dark_shading_dn_per_iso=slope,
    )


def _response(
    means: Mapping[float, MeanDark],
    flats: Sequence[FrameStack],
    gains: Sequence[GainFit],
    sums: Mapping[float, Sequence[FlatSums]],
) -> Response | None:
    """Measure PRNU on the stack with the most light below 70 % of saturation; None if none is bright and even."""
    best: tuple[float, FrameStack, GainFit] | None = None
    for gain in gains:
        black = float(means[gain.iso].fit.level_dn.mean())
        stacks = [stack for stack in flats if stack.iso == gain.iso]
        for stack, item in zip(stacks, sums[gain.iso], strict=True):
            share = (item.mean_dn - black) / gain.saturation_dn
            brightest = (float(np.quantile(item.level_dn, 0.99)) - black) / gain.saturation_dn
            if not item.steady or item.texture > _TEXTURE or share < _LEAST_SHARE or brightest > HIGHEST_SHARE:
                continue
            light = share * gain.saturation_dn / gain.gain_dn_per_e.value * len(stack)
            if best is None or light > best[0]:
                best = light, stack, gain
    if best is None:
        return None
    _, stack, gain = best
    return fit_response(stack, means[gain.iso].mean_dn, gain.gain_dn_per_e.value, gain.intercept_dn2.value)


def _small(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average a map down to at most 160 pixels a side."""
    height, width = values.shape
    scale = min(1.0, _PICTURE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
