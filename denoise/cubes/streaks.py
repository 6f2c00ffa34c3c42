"""Streaks: stripes that begin and end along the track, in pieces of a column that few bands show.

What a detector element adds for a while only has no column mean to be found by, and each of its values may be well
within the noise. A run of them is not.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_RUNS: Final = (12, 32)
"""Lengths that are looked at, along the track [px]: short strong streaks, and long weak ones."""
_ERRORS: Final = 5.0
_COMPANY_ERRORS: Final = 3.0
_BESIDE: Final = 4
"""Bands to either side that may go along."""
_COMPANY: Final = 0.35
"""Share of them that makes it something of the scene: spectra are smooth, elements are each on their own."""
_USUAL: Final = 1.25
"""Runs of white noise differ by less than this many standard errors, in the robust sense."""
_LOOKED_AT: Final = 32
"""Columns that tell how much runs of a band differ."""
_CHUNK: Final = 1 << 21


def find_streaks(distance: Tensor, valid: Tensor) -> Tensor:
    """Return which values belong to a streak.

    Parameters
    ----------
    distance : (bands, H, W) tensor
        What is left of a cube beside its fit, in standard deviations of the noise; columns across track.
    valid : (bands, H, W) bool
        What counts.

    Returns
    -------
    (bands, H, W) bool
        True in every run of 12 rows, and then of 32 of what is left, whose mean lies more than five standard errors
        from zero, or, where the fit misses more than noise, of what runs of the band usually show; unless that of more
        than a third of the four bands to either side lies more than three from it, to the same side. Tracks of less
        than twice a run have none of that length, and cubes of fewer than nine bands none at all.
    """
    if len(distance) < 2 * _BESIDE + 1:
        return torch.zeros_like(valid)
    columns = max(1, _CHUNK // (distance.shape[0] * distance.shape[1]))
    found = torch.zeros_like(valid)
    for run in _RUNS:
        if 2 * run > distance.shape[1]:
            break
        spread = _usual_errors(distance, valid, run)
        parts = zip(distance.split(columns, 2), valid.split(columns, 2), found.split(columns, 2), strict=True)
        for part, counts, before in parts:
            errors = _errors(part, counts & ~before, run) / spread
            for above in (errors, -errors):
                here = torch.nonzero((above > _ERRORS).any(1).any(0)).flatten()
                if len(here):
                    before[:, :, here] |= _runs_alone(above[:, :, here], run)
    return found


def _errors(distance: Tensor, counts: Tensor, run: int) -> Tensor:
    """Return the means of runs, in their standard errors."""
    return _sums(distance * counts, 1, run) / _sums(counts.to(distance), 1, run).clamp_min(1).sqrt()


def _usual_errors(distance: Tensor, valid: Tensor, run: int) -> Tensor:
    """Return how many standard errors runs of each band (bands, 1, 1) usually differ by: 1 where the fit holds.

    More where the fit still misses the scene: then streaks are what stands out from that.
    """
    some = slice(None, None, max(1, distance.shape[2] // _LOOKED_AT))
    errors = _errors(distance[:, :, some], valid[:, :, some], run)[:, :: run // 3]
    return (1.4826 / _USUAL * errors.abs().flatten(1).median(1).values).clamp_min(1)[:, None, None]


def _runs_alone(errors: Tensor, run: int) -> Tensor:
    """Return what lies in a run that stands out, and that the bands beside it do not show."""
    company = (errors > _COMPANY_ERRORS).to(errors)
    share = (_sums(company, 0, 2 * _BESIDE + 1) - company) / _beside(company)
    alone = (errors > _ERRORS) & (share < _COMPANY)
    return _sums(alone.to(errors), 1, run, late=True) > 0.5


def _beside(planes: Tensor) -> Tensor:
    """Return how many bands there are beside each (bands, 1, 1), at least one."""
    return (_sums(torch.ones_like(planes[:, :1, :1]), 0, 2 * _BESIDE + 1) - 1).clamp_min(1)


def _sums(planes: Tensor, axis: int, run: int, *, late: bool = False) -> Tensor:
    """Return the sums of so many neighbours along the first or the second axis, fewer at its ends.

    An even run has one more before its place than after it, and ``late`` the other way round.
    """
    length, before = planes.shape[axis], (run - late) // 2
    until = planes.cumsum(axis)
    whole = until.narrow(axis, length - 1, 1)
    fronts, ends = [torch.zeros_like(whole)] * (before + 1), [whole] * (run - before - 1)
    until = torch.cat([*fronts, until, *ends], axis)
    return until.narrow(axis, run, length) - until.narrow(axis, 0, length)
