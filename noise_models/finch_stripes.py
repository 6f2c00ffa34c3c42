"""The stripe simulator of the FINCH team, without the mistakes of its published code.

References
----------
.. [1] UTAT Space Systems, FINCH-destriping: stripes in clusters of columns, whole or in fragments, by band or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noise_models.base import NoiseModelError


@dataclass(frozen=True)
class StripeSettings:
    """What stripes look like; the defaults are the published ones.

    Raises
    ------
    NoiseModelError
        If a share or an intensity is out of range.
    """

    frequency: float = 0.5
    """Share of columns that get a stripe [1]."""
    intensity: float | None = None
    """Strength in parts of a band's range, give or take 0.05 [1]; None draws it from 0.01 to 0.3 for each cube."""
    most_clusters: int = 10
    """Columns come in up to this many clusters; 0 for columns anywhere."""
    fragmented: bool = True
    """Whether stripes are broken into pieces, of which some are missing."""
    by_band: bool = True
    """Whether each band has its own columns, or all have the same."""

    def __post_init__(self) -> None:
        if not 0 <= self.frequency <= 1 or self.most_clusters < 0:
            raise NoiseModelError(
                f"Stripes on a share of {self.frequency:g} of the columns in up to {self.most_clusters} clusters were "
                "asked for; give a share from 0 to 1 and a number that is not negative."
            )
        if self.intensity is not None and not 0 <= self.intensity <= 1:
            raise NoiseModelError(f"Stripes of intensity {self.intensity:g} were asked for; give 0 to 1, or None.")


def add_finch_stripes(clean: Tensor, settings: StripeSettings | None = None, *, generator: torch.Generator) -> Tensor:
    """Add stripes to a cube.

    Parameters
    ----------
    clean : (bands, H, W) float32 tensor
        Any units; columns across track.
    settings : StripeSettings, optional
        The published ones by default.
    generator : torch.Generator
        Source of chance.

    Returns
    -------
    (bands, H, W) float32 tensor
        With stripes that brighten their columns.

    Notes
    -----
    Column j of band b rises by |N(0, (s range_b)^2)|, range_b = max - min of the clean band.                     (1)
    The published code drew pieces from the width instead of the height, rounded to integers, and failed where clusters
    held more columns than were asked for.
    """
    settings = settings or StripeSettings()
    bands, height, width = clean.shape
    if settings.intensity is None:
        strength = _uniform(0.01, 0.3, generator)
    else:
        strength = max(0.0, settings.intensity - 0.05) + _uniform(0.0, 0.1, generator)
    span = clean.amax((1, 2)) - clean.amin((1, 2))
    noisy = clean.clone()
    columns = _columns(width, settings, generator)
    for band in range(bands):
        if settings.by_band and band:
            columns = _columns(width, settings, generator)
        rise = (strength * span[band] * torch.randn(len(columns), generator=generator)).abs()  # (1)
        if settings.fragmented:
            for column, step in zip(columns.tolist(), rise.tolist(), strict=True):
                noisy[band, _pieces(height, generator), column] += step
        else:
            noisy[band][:, columns] += rise
    return noisy


def _columns(width: int, settings: StripeSettings, generator: torch.Generator) -> Tensor:
    """Draw distinct columns: clusters first, the rest anywhere."""
    wanted = int(width * settings.frequency)
    drawn: list[int] = []
    if settings.most_clusters:
        each = round(settings.frequency * (width - 1)) // settings.most_clusters
        for _ in range(round(_uniform(0, settings.most_clusters, generator))):
            centre = round(_uniform(0, width - 1, generator))
            for _ in range(each):
                place = round(_uniform(centre - each / 2, centre + each / 2, generator))
                drawn.append(min(max(place, 0), width - 1))
    drawn = drawn[:wanted]
    drawn += [round(_uniform(0, width - 1, generator)) for _ in range(wanted - len(drawn))]
    return torch.tensor(sorted(set(drawn)), dtype=torch.long)


def _pieces(height: int, generator: torch.Generator) -> Tensor:
    """Return which rows (H,) bool of a column carry its stripe: a random part of random pieces."""
    ends, filled = [0], 0
    for _ in range(int(torch.randint(max(height - 1, 1), (), generator=generator))):
        length = math.ceil(_uniform(0, height, generator))
        if filled + length <= height:
            filled += length
            ends.append(filled)
    if filled < height:
        ends.append(height)
    count = len(ends) - 1
    kept = torch.randperm(count, generator=generator)[: int(torch.randint(1, count + 1, (), generator=generator))]
    rows = torch.zeros(height, dtype=torch.bool)
    for piece in kept.tolist():
        rows[ends[piece] : ends[piece + 1]] = True
    return rows


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))
