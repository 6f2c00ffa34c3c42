"""Values of a cube that are no measurement: detector elements that stick, and values cut off at a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_LEAST_SHARE: Final = 0.01
_TIMES_THE_NEXT: Final = 5
_LEAST_VALUES: Final = 100
_LEAST_ROWS: Final = 8


@dataclass(frozen=True, eq=False)
class Flaws:
    """What of a cube holds no measurement."""

    valid: Tensor
    """(bands, H, W) bool: False for stuck elements and for values at a limit."""
    stuck: Tensor
    """(bands, W) bool: columns that show one value all along the track."""
    low: Tensor
    """(bands,) where a band is cut off below; minus infinity where it is not."""
    high: Tensor
    """(bands,) where a band is cut off above; infinity where it is not."""

    @property
    def clipped(self) -> Tensor:
        """(bands,) bool: bands that were cut off."""
        return torch.isfinite(self.low) | torch.isfinite(self.high)

    def unaffected(self, expected: Tensor, margin: Tensor) -> Tensor:
        """Return where the expected values (bands, H, W) keep a ``margin`` (bands,) from the limits.

        There the cut left the noise as it was. It is chosen by what is expected, never by what was measured, so a mean
        over what is chosen has no bias.
        """
        low, high = (self.low + margin)[:, None, None], (self.high - margin)[:, None, None]
        return ~self.clipped[:, None, None] | ((expected > low) & (expected < high))


def find_flaws(planes: Tensor) -> Flaws:
    """Find stuck elements and limits.

    Parameters
    ----------
    planes : (bands, H, W) tensor
        A cube in sensor geometry, columns across track.

    Returns
    -------
    Flaws
        A band of one value holds nothing. One of which most columns stick is a flat scene, not a dead detector.

    Notes
    -----
    The lowest and the highest value of a noisy band are rare. Where at least 1 % of a band share one of them, five
    times as many as share the next, the band was cut off there, or impulses hit it: salt, pepper, saturation, fill.
    """
    stuck, empty = stuck_columns(planes.amin(1), planes.amax(1), planes.shape[1])
    alive = ~(stuck | empty)[:, None, :].expand_as(planes)
    limits = [(-_limit(-band[good]), _limit(band[good])) for band, good in zip(planes, alive, strict=True)]
    low, high = planes.new_tensor(limits).reshape(-1, 2).unbind(1)
    return Flaws(alive & between(planes, low, high), stuck, low, high)


def stuck_columns(lowest: Tensor, highest: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return which columns (bands, W) stick, and which bands (bands, 1) hold nothing, by the range of each column."""
    stuck = (highest == lowest) if rows >= _LEAST_ROWS else torch.zeros_like(highest, dtype=torch.bool)
    empty = (highest.amax(1) == lowest.amin(1))[:, None]
    return stuck & (stuck.float().mean(1, keepdim=True) < 0.5), empty


def between(planes: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return where planes (bands, h, w) lie strictly between limits (bands,)."""
    return (planes > low[:, None, None]) & (planes < high[:, None, None])


def _limit(values: Tensor) -> float:
    """Return the highest value if it is a limit, else infinity."""
    if len(values) < _LEAST_VALUES:
        return float("inf")
    highest = values.max()
    at_limit = int((values == highest).sum())
    below = values[values < highest]
    if at_limit < _LEAST_SHARE * len(values) or len(below) < _LEAST_VALUES:
        return float("inf")
    return float(highest) if at_limit > _TIMES_THE_NEXT * int((below == below.max()).sum()) else float("inf")
