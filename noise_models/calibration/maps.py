"""The maps of the fixed pattern, and their thumbnails for the report."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import cv2
import numpy as np
import numpy.typing as npt

from noise_models.calibration.evidence import PatternEvidence, SmallMap
from noise_models.calibration.fixed_pattern import (
    MeanDark,
    Response,
    fit_response,
    fit_shading,
    rounded,
    shading_weights,
)
from noise_models.calibration.flat_sums import FlatSums
from noise_models.calibration.frames import FrameStack
from noise_models.calibration.gain import HIGHEST_SHARE, GainFit
from noise_models.fixed_pattern import map_in, maps_archive

FloatArray = npt.NDArray[np.float64]

_TEXTURE: Final = 0.05
_LEAST_SHARE: Final = 0.15
_PICTURE_PIXELS: Final = 160


class MapsFile:
    """The maps of a calibration in a temporary ``.npz``, which goes with this object; they need not fit in memory."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="denoise-maps-", suffix=".npz")
        os.close(handle)
        self.path = Path(name)
        """Where it lies."""
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    def copy_to(self, path: Path) -> None:
        """Copy it, whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            shutil.copyfile(self.path, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def make_maps(
    means: Mapping[float, MeanDark],
    breaks_iso: Sequence[float],
    flats: Sequence[FrameStack],
    gains: Sequence[GainFit],
    sums: Mapping[float, Sequence[FlatSums]],
) -> tuple[MapsFile, PatternEvidence]:
    """Make the maps of a sensor, each written before the next is made.

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
    MapsFile, PatternEvidence
        The maps of a `FixedPattern`, and what the report shows of them.
    """
    edges = [0.0, *breaks_iso, float("inf")]
    modes = [[means[iso] for iso in sorted(means) if low <= iso < high] for low, high in itertools.pairwise(edges)]
    file = MapsFile()
    with maps_archive(file.path) as archive:
        hot, hot_density = _write_hot(archive, means)
        dead, prnu = _write_response(archive, means, flats, gains, sums)
        shading, dsnu, kept = _write_shading(archive, [mode for mode in modes if mode])
    return file, PatternEvidence(dsnu, kept, prnu, hot, dead, shading, hot_density)


def _write_hot(archive: ZipFile, means: Mapping[float, MeanDark]) -> tuple[int, SmallMap]:
    """Write the map of hot pixels; return their number and a picture of their density."""
    shape = next(iter(means.values())).shape
    hot = np.zeros(shape, bool)
    for mean in means.values():
        hot.reshape(-1)[mean.hot] = True
    with map_in(archive, "hot", shape, bool) as put:
        put(hot)
    cells = _small(hot.astype(np.float32))
    return int(hot.sum()), cells * np.float32(hot.size / cells.size)


def _write_response(
    archive: ZipFile,
    means: Mapping[float, MeanDark],
    flats: Sequence[FrameStack],
    gains: Sequence[GainFit],
    sums: Mapping[float, Sequence[FlatSums]],
) -> tuple[int, float | None]:
    """Write how pixels answer to light, zeros where no flat shows it; return how many are dead, and the PRNU."""
    shape = next(iter(means.values())).shape
    response = _response(means, flats, gains, sums)
    with map_in(archive, "dead", shape, bool) as put:
        put(response.dead if response else np.zeros(shape, bool))
    with map_in(archive, "prnu", shape, np.float32) as put:
        put(response.prnu if response else np.zeros(shape, np.float32))
    return (int(response.dead.sum()), response.prnu_sigma) if response else (0, None)


def _write_shading(
    archive: ZipFile, modes: Sequence[Sequence[MeanDark]]
) -> tuple[SmallMap, tuple[float, ...], tuple[float, ...]]:
    """Write the dark shading of every mode; return a picture of it at the highest ISO, and by mode DSNU and kept."""
    shape = (len(modes), *modes[0][0].shape)
    weighted = [(mode, shading_weights(mode)) for mode in modes]
    last_iso = modes[-1][-1].fit.iso
    with map_in(archive, "dark_shading_dn", shape, np.float32) as put:
        found = [_put_shading(put, mode, weights.at_zero, 1.0) for mode, weights in weighted]
    picture, dsnu, kept = zip(*found, strict=True)
    if all(weights.per_iso is None for _, weights in weighted):
        return picture[-1], dsnu, kept
    with map_in(archive, "dark_shading_dn_per_iso", shape, np.float32) as put:
        growth = np.float32(0)
        for mode, weights in weighted:
            if weights.per_iso is None:
                growth = np.float32(0)
                put(np.zeros(shape[1:], np.float32))
            else:
                growth, _, _ = _put_shading(put, mode, weights.per_iso, last_iso)
    return picture[-1] + growth * np.float32(last_iso), dsnu, kept


def _put_shading(
    put: Callable[[SmallMap], None], mode: Sequence[MeanDark], weights: FloatArray, largest_iso: float
) -> tuple[SmallMap, float, float]:
    """Write one map of one mode; return a picture of it, its DSNU, and how much of that was kept."""
    shading = fit_shading(mode, weights)
    picture = _small(shading.values)
    put(rounded(shading.values, largest_iso))
    return picture, shading.dsnu, shading.kept


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
    return fit_response(stack, means[gain.iso], gain.gain_dn_per_e.value, gain.intercept_dn2.value)


def _small(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average a map down to at most 160 pixels a side."""
    height, width = values.shape
    scale = min(1.0, _PICTURE_PIXELS / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)
