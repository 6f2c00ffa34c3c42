"""A cube larger than memory, looked at as a whole: a sample of its pixels, and its columns along the track."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final

import torch
from torch import Tensor

from denoise.cubes.band_noise import Moments
from denoise.cubes.flaws import Flaws, between, stuck_columns
from denoise.cubes.low_rank import FIRST_SPIKE_SIGMA, LowRank, most_spectra, trusted
from denoise.cubes.stripes import ColumnSums, stripe_offsets
from denoise.denoiser import Whole

_RUN: Final = 32
"""Pixels of a sample that lie side by side, about."""
_FITS: Final = 2
_TRACK_ROWS: Final = 512
"""Rows, spread over the track, that tell all about a column: then 4.5 standard errors of its mean are 0.2 sigma."""


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of the columns of a whole cube, and of its bands."""

    offsets: Tensor
    """(bands, W): stripes."""
    mean: Tensor
    """(bands, W): of what was measured."""
    spread: Tensor
    """(bands,): sigma of deviations from it, scene and noise."""
    stuck: Tensor
    """(bands, W) bool."""
    empty: Tensor
    """(bands, 1) bool: bands that hold nothing."""
    low: Tensor
    """(bands,): as in `Flaws`."""
    high: Tensor
    """(bands,): as in `Flaws`."""

    def part(self, left: int, width: int) -> Columns:
        """Return so many columns from ``left`` on; past the last one, their mirror image."""
        last = self.mean.shape[1] - 1
        places = last - (last - torch.arange(left, left + width, device=self.mean.device)).abs()
        taken = {name: getattr(self, name)[:, places] for name in ("offsets", "mean", "stuck")}
        return replace(self, **taken)

    def flaws(self, planes: Tensor) -> Flaws:
        """Return the flaws of rows (bands, h, W)."""
        alive = ~(self.stuck | self.empty)[:, None, :]
        return Flaws(alive & between(planes, self.low, self.high), self.stuck, self.low, self.high)

    def near(self, planes: Tensor, flaws: Flaws) -> Tensor:
        """Return which values (bands, h, W) are no spike at first sight: not far from the mean of their column."""
        return flaws.valid & ((planes - self.mean[:, None, :]).abs() < FIRST_SPIKE_SIGMA * self.spread[:, None, None])

    def applied(self, model: LowRank, planes: Tensor, flaws: Flaws) -> LowRank:
        """Return what was fitted to the whole cube with the stripes of rows (bands, h, W), and what of them counts."""
        model = replace(model, offsets=self.offsets, valid=self.near(planes, flaws))
        for _ in range(_FITS):
            fitted = model.cube(model.images(planes)[0], planes.shape)
            model = replace(model, valid=trusted(model.destriped(planes) - fitted, model.sigma, flaws, fitted))
        return model


def read_sample(whole: Whole) -> Tensor:
    """Read runs of pixels spread over a cube, about as many as may be worked on: (bands, h, w), columns as columns."""
    bands, height, width = whole.shape
    area = max(1, whole.most_values // bands)
    wide = min(width, max(math.isqrt(area), area // height))
    high = min(height, max(1, area // wide))
    across = spread_runs(width, wide, _RUN)
    rows = [
        torch.cat([whole.window(top, bottom, left, right) for left, right in across], 2)
        for top, bottom in spread_runs(height, high, _RUN)
    ]
    return torch.cat(rows, 1)


def spread_runs(length: int, wanted: int, run: int) -> list[tuple[int, int]]:
    """Return (first, end) of runs of about ``run`` places, spread from one end of an axis to the other, in order."""
    if wanted >= length:
        return [(0, length)]
    count = max(2, wanted // run) if wanted > 1 else 1
    size = wanted // count
    return [(first, first + size) for first in (n * (length - size) // max(1, count - 1) for n in range(count))]


def survey_columns(whole: Whole, model: LowRank, flaws: Flaws, spread: Tensor) -> Columns:
    """Find what columns have in common along the track.

    Parameters
    ----------
    whole : Whole
        The cube.
    model : LowRank
        Fitted to a sample: its mean, spectra and sigma are used.
    flaws : Flaws
        Of the sample: its limits are used.
    spread : (bands,) tensor
        Sigma of deviations from the mean of a column, in the sample.

    Notes
    -----
    The rows are read three times. Columns first get their mean and range; then their offsets, where only what lies far
    from that mean does not count; then again, without all spikes, which show once the stripes are out.
    """
    seen = (
        (planes.amin(1), planes.amax(1), ColumnSums.of(planes, between(planes, flaws.low, flaws.high), split))
        for planes, split in _track(whole)
    )
    lowest, highest, track = reduce(_together, seen)
    stuck, empty = stuck_columns(lowest, highest, track.rows)
    mean = track.mean
    columns = Columns(torch.zeros_like(mean), mean, spread, stuck, empty, flaws.low, flaws.high)
    columns = _with_stripes(columns, whole, model, lambda columns, planes, here: columns.near(planes, here))
    return survey_stripes(columns, whole, model)


def survey_stripes(columns: Columns, whole: Whole, model: LowRank) -> Columns:
    """Return the columns of a cube with their stripes as a model, better than the one before, tells them."""
    return _with_stripes(
        columns, whole, model, lambda columns, planes, here: columns.applied(model, planes, here).valid
    )


def survey_spectra(columns: Columns, whole: Whole, model: LowRank) -> Tensor:
    """Return the spectra (bands, r) of rows all along the track, scaled by the noise that a sample showed."""
    sigma = model.sigma[:, None, None]

    def moments(planes: Tensor) -> Moments:
        fit = columns.applied(model, planes, columns.flaws(planes))
        fitted = fit.cube(fit.images(planes)[0], planes.shape)
        filled = torch.where(fit.valid, fit.destriped(planes), fitted)
        return Moments.of((filled - filled.mean(1, keepdim=True)) / sigma)

    spectra = reduce(Moments.__add__, (moments(planes) for planes, _ in _track(whole))).spectra(
        most_spectra(whole.shape[0])
    )
    return torch.where(torch.isfinite(model.sigma), model.sigma, 0.0)[:, None] * spectra


def _with_stripes(
    columns: Columns, whole: Whole, model: LowRank, counted: Callable[[Columns, Tensor, Flaws], Tensor]
) -> Columns:
    def sums(planes: Tensor, split: int) -> ColumnSums:
        fit = replace(model, offsets=columns.offsets, valid=counted(columns, planes, columns.flaws(planes)))
        residual = planes - fit.cube(fit.images(planes)[0], planes.shape)
        return ColumnSums.of(residual, fit.valid, split)

    track = reduce(ColumnSums.__add__, (sums(planes, split) for planes, split in _track(whole)))
    offsets = stripe_offsets(track, model.spectra, model.sigma)
    return replace(columns, offsets=offsets)


def _together(
    one: tuple[Tensor, Tensor, ColumnSums], other: tuple[Tensor, Tensor, ColumnSums]
) -> tuple[Tensor, Tensor, ColumnSums]:
    """Return least, largest and sums of two parts of a track."""
    return one[0].minimum(other[0]), one[1].maximum(other[1]), one[2] + other[2]


def _track(whole: Whole) -> Iterator[tuple[Tensor, int]]:
    """Yield rows (bands, h, W) spread over the track, and which of them is the first on its second half."""
    bands, height, width = whole.shape
    step = max(1, whole.most_values // (bands * width))
    for top, bottom in spread_runs(height, min(height, _TRACK_ROWS), step):
        for first in range(top, bottom, step):
            last = min(first + step, bottom)
            yield whole.window(first, last, 0, width), height // 2 - first
