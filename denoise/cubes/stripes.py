"""Stripes of a pushbroom: what a detector element adds to all it sees, found against the rest of the spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_OUTLIER_ERRORS: Final = 4.5
_UNSTEADY: Final = 0.67
_TUKEY_ERRORS: Final = 3.0
_STEPS: Final = 8
_LEAST_ROWS: Final = 8
BANDS_PER_SPECTRUM: Final = 3
"""Bands that it takes for each spectrum of the signal to tell stripes from it."""
_RIDGE: Final = 1e-4
_CHUNK: Final = 1 << 23


@dataclass(frozen=True, eq=False)
class ColumnSums:
    """What of a cube was added up along its columns; parts of a track, added, are those of the track."""

    total: Tensor
    """(2, bands, W): sum of what counts, on the first and the second half of the track."""
    count: Tensor
    """(2, bands, W): how many they are."""
    rows: int
    """Of the track."""

    @classmethod
    def of(cls, residual: Tensor, valid: Tensor, split: int | None = None) -> ColumnSums:
        """Add up a residual (bands, H, W) where it is valid; from ``split`` on (the middle) is the second half."""
        middle = residual.shape[1] // 2 if split is None else min(max(split, 0), residual.shape[1])
        halves = (slice(None, middle), slice(middle, None))
        total = torch.stack([(residual[:, rows] * valid[:, rows]).sum(1) for rows in halves])
        return cls(total, torch.stack([valid[:, rows].sum(1) for rows in halves]), residual.shape[1])

    @property
    def mean(self) -> Tensor:
        """(bands, W): over the whole track; 0 where nothing counts."""
        return self.total.sum(0) / self.count.sum(0).clamp_min(1)

    def __add__(self, other: ColumnSums) -> ColumnSums:
        return ColumnSums(self.total + other.total, self.count + other.count, self.rows + other.rows)


def column_offsets(residual: Tensor, valid: Tensor, spectra: Tensor, sigma: Tensor) -> Tensor:
    """Return the offset of each detector element (bands, W) of a cube: `stripe_offsets` of its columns.

    Parameters
    ----------
    residual : (bands, H, W) tensor
        What the signal does not explain, columns across track.
    valid : (bands, H, W) bool
        What holds a measurement.
    spectra, sigma : tensor
        As there.
    """
    return stripe_offsets(ColumnSums.of(residual, valid), spectra, sigma)


def stripe_offsets(sums: ColumnSums, spectra: Tensor, sigma: Tensor) -> Tensor:
    """Return the offset of each detector element.

    Parameters
    ----------
    sums : ColumnSums
        Of what the signal does not explain.
    spectra : (bands, r) tensor
        Of the signal.
    sigma : (bands,) tensor
        Noise of each band; infinity for a band that is not to be trusted.

    Returns
    -------
    (bands, W) tensor
        Zero where a column does not differ from its band by more than 4.5 standard errors of its mean, and where it
        does so on one half of the track only: that is the scene. What all columns of a band share is no stripe.

    Notes
    -----
    The mean of a column along track, over all bands, is a spectrum plus few stripes plus little noise:

    m_bj = (S d_j)_b + e_b + c_bj + N(0, sigma_b^2 / n_bj)                                                        (1)

    d_j is fitted with Tukey's weights, to which stripes are outliers; so what of them leaked into the signal returns.
    e_b, the median over the columns, is where the fit misses the band as a whole.
    """
    bands, rank = spectra.shape
    count = sums.count.sum(0)
    if sums.rows < _LEAST_ROWS or bands < BANDS_PER_SPECTRUM * (rank + 1):
        return torch.zeros_like(sums.total[0])
    mean = sums.mean
    error = sigma[:, None] / count.clamp_min(1).sqrt()
    trusted = (count >= _LEAST_ROWS) & torch.isfinite(error) & (error > 0)
    weight = first = torch.where(trusted, error, torch.inf) ** -2
    rest = mean
    level = mean.new_zeros(bands, 1)
    for _ in range(_STEPS):
        fitted, _ = weighted_fit(mean - level, weight, spectra)
        rest = mean - spectra @ fitted
        level = rest.masked_fill(~trusted, torch.nan).nanmedian(1, keepdim=True).values.nan_to_num()
        rest = rest - level  # (1)
        distance = torch.where(trusted, rest / error / _TUKEY_ERRORS, 0.0).square()
        weight = first * (1 - distance).clamp_min(0).square()
    halves = sums.total / sums.count
    steady = ((halves[0] - halves[1]) / 2).nan_to_num(torch.inf).abs() <= _UNSTEADY * rest.abs()
    return torch.where(trusted & steady & (rest.abs() > _OUTLIER_ERRORS * error), rest, 0.0)


def weighted_fit(values: Tensor, weight: Tensor, spectra: Tensor) -> tuple[Tensor, Tensor]:
    """Fit spectra to each pixel.

    Parameters
    ----------
    values, weight : (bands, n) tensor
        Pixels, and the inverse variance of each value; 0 where it does not count.
    spectra : (bands, r) tensor
        What is fitted.

    Returns
    -------
    (r, n) tensor
        The coefficients of least squares.
    (r, r) tensor
        Their mean covariance.
    """
    rank, pixels = spectra.shape[1], values.shape[1]
    ridge = torch.diag(_RIDGE * (weight.mean(1) @ spectra.square()).clamp_min(1e-12))  # where there is little to go by
    most = weight.amax(1)
    inverse = torch.linalg.inv((spectra * most[:, None]).T @ spectra + ridge)
    fitted = inverse @ ((spectra * most[:, None]).T @ values)  # right where every value counts, as it does for most
    partly = torch.nonzero((weight < most[:, None]).any(0)).flatten()
    covariance = inverse * (pixels - len(partly))
    products = (spectra[:, :, None] * spectra[:, None, :]).flatten(1)
    for here in partly.split(max(1, _CHUNK // rank**2)):
        inverse = torch.linalg.inv((weight[:, here].T @ products).view(-1, rank, rank) + ridge)
        right = (weight[:, here] * values[:, here]).T @ spectra
        fitted[:, here] = (inverse @ right[..., None])[..., 0].T
        covariance += inverse.sum(0)
    return fitted, covariance / pixels
