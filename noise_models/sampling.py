"""How chance is drawn fast: photons and Tukey-lambda noise, in place, a cache-full of pixels at a time.

`noise_models.components` states the laws; here is only how they are drawn, and how far from the law that is.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy.special import pdtr
from torch import Tensor

from noise_models.tukey_lambda import quantile, scale_from_sigma, sigma_from_scale

NORMAL_ABOVE_E = 10.0
"""Expected electrons from which photons are counted by a rounded normal law instead of drawn exactly [e-]."""
LAMBDA_STEPS = 512
"""Lambda is rounded to one part in this, so that tables can be kept; the standard deviation asked for is not."""
TABLE_CELLS = 1 << 14
"""Cells of the table of quantiles."""
TAIL_CELLS = 32
"""Cells at each end of the table that are drawn from the law itself."""

# Below this share of dark pixels they are picked out one by one; above it every pixel is drawn by both ways.
_MOST_DARK = 0.2
_FEW_LEVELS_PER_ROOT = 64
_FEW_CELLS = 1 << 12
_UNSURE = 255
_FLOAT_2_23 = 0x4B000000
# Pixels at a time: a megabyte, so that every pass but the first finds them in the cache.
_CHUNK = 1 << 18
_SHEPPARD = 1 / 12
_SKEW = 1 / 6


def count_photons_(signal_dn: Tensor, gain_dn_per_e: float, generator: torch.Generator, *, exact: bool = False) -> None:
    """Replace a contiguous expected signal [DN] by K times a Poisson number of mean signal / K; see `shot`."""
    for chunk in signal_dn.view(-1).split(_CHUNK):
        below = None
        least, most = (bound.item() / gain_dn_per_e for bound in torch.aminmax(chunk))
        if most <= 0:
            continue
        if least < 0:
            below = chunk.clamp(max=0.0)
            chunk.clamp_(min=0.0)
        chunk.mul_(1.0 / gain_dn_per_e)
        if exact:
            chunk.copy_(torch.poisson(chunk, generator=generator))
        elif least >= NORMAL_ABOVE_E:
            count_many_(chunk, generator)
        elif most < NORMAL_ABOVE_E:
            chunk.copy_(count_few(chunk, generator))
        else:
            _count_mixed_(chunk, generator)
        chunk.mul_(gain_dn_per_e)
        if below is not None:
            chunk.add_(below)


def _count_mixed_(expected_e: Tensor, generator: torch.Generator) -> None:
    dark = expected_e < NORMAL_ABOVE_E
    if int(dark.count_nonzero()) > _MOST_DARK * expected_e.numel():
        few = count_few(expected_e.clamp(max=NORMAL_ABOVE_E), generator)
        bright = torch.ge(expected_e, NORMAL_ABOVE_E, out=torch.empty_like(expected_e))
        count_many_(expected_e, generator)
        torch.lerp(few, expected_e, bright, out=expected_e)
        return
    where = indices_of(dark)
    few = count_few(expected_e[where], generator)
    count_many_(expected_e, generator)
    expected_e[where] = few


def count_many_(expected_e: Tensor, generator: torch.Generator) -> None:
    """Replace expected electrons, many each, by Poisson numbers: a normal law with the Poisson law's skew, rounded.

    round(n + sqrt(n - 1/12 - 1/18) z + (z**2 - 1) / 6), z standard normal; see `noise_models.components.shot`.
    """
    normal = torch.empty_like(expected_e).normal_(generator=generator)
    spread = torch.sub(expected_e, _SHEPPARD + 2 * _SKEW**2).clamp_(min=0.0).sqrt_()
    expected_e.addcmul_(spread, normal).addcmul_(normal, normal, value=_SKEW).sub_(_SKEW).round_().clamp_(min=0.0)


def count_few(expected_e: Tensor, generator: torch.Generator) -> Tensor:
    """Draw Poisson numbers of flat expected electrons, at most `NORMAL_ABOVE_E` each, from a table.

    sqrt(n) is rounded by chance to one of the two levels beside it, 1/64 apart, and the count of that level drawn
    exactly: 12 bits choose a cell of the table, and where the count is not the same all over the cell it is found from
    the law itself. Only the levels are an approximation: the mean is right to 6.2e-5 e-, the variance to 2.5e-4 of n.
    """
    device = expected_e.device
    bits = torch.empty(expected_e.shape, dtype=torch.int32, device=device).random_(generator=generator)
    # The root in steps of 1/64 with 15 more bits; 2**23 is added so that these are the low bits of the float.
    root = torch.sqrt(expected_e).mul_(_FEW_LEVELS_PER_ROOT << 15).add_(float(1 << 23)).view(torch.int32)
    level = root.sub_(_FLOAT_2_23).add_(bits.bitwise_right_shift(12).bitwise_and_(0x7FFF))
    cell = bits.bitwise_and_(_FEW_CELLS - 1)
    place = level.bitwise_right_shift_(3).bitwise_and_(-_FEW_CELLS).add_(cell)
    found = torch.index_select(_few_table(device), 0, place)
    unsure = indices_of(found == _UNSURE)
    drawn = found.to(torch.float32)
    if unsure.numel():
        share = torch.rand(unsure.numel(), dtype=torch.float64, device=device, generator=generator)
        share.add_(cell[unsure]).mul_(1 / _FEW_CELLS)
        cumulated = _few_cumulated(device)[place[unsure].bitwise_right_shift(12)]
        drawn[unsure] = (share[:, None] >= cumulated).sum(1).to(torch.float32)
    return drawn


@functools.lru_cache(maxsize=4)
def _few_cumulated(device: torch.device) -> Tensor:
    """Return P(count <= k) for k from 0 to 47 at every level, (L, 48) float64; the rest is below 1e-15."""
    levels = int(np.sqrt(NORMAL_ABOVE_E) * _FEW_LEVELS_PER_ROOT) + 3
    expected = (np.arange(levels) / _FEW_LEVELS_PER_ROOT) ** 2
    return torch.from_numpy(pdtr(np.arange(48)[None], expected[:, None])).to(device)


@functools.lru_cache(maxsize=4)
def _few_table(device: torch.device) -> Tensor:
    """Return the count in each cell of each level, flat uint8, `_UNSURE` where a cell holds more than one."""
    cumulated = _few_cumulated(torch.device("cpu")).numpy()
    edges = np.arange(_FEW_CELLS + 1) / _FEW_CELLS
    table = np.empty((len(cumulated), _FEW_CELLS), np.uint8)
    for row, levels in zip(table, cumulated, strict=True):
        first = np.searchsorted(levels, edges[:-1], side="right")
        last = np.searchsorted(levels, edges[1:], side="left")
        row[:] = np.where(first == last, first, _UNSURE)
    return torch.from_numpy(table.reshape(-1)).to(device)


def add_tukey_lambda_(noisy_dn: Tensor, scale_dn: float, shape: float, generator: torch.Generator) -> None:
    """Add Tukey-lambda noise to a contiguous tensor [DN], in place; see `add_tukey_lambda_read`."""
    sigma_dn = sigma_from_scale(scale_dn, shape)
    rounded = max(round(shape * LAMBDA_STEPS), 1 - LAMBDA_STEPS // 2) / LAMBDA_STEPS
    scale_dn = scale_from_sigma(sigma_dn, rounded)
    for chunk in noisy_dn.view(-1).split(_CHUNK):
        chunk.add_(draw_tukey_lambda(chunk.numel(), rounded, generator, chunk.device), alpha=scale_dn)


@functools.lru_cache(maxsize=256)
def _table(shape: float, device: torch.device) -> Tensor:
    centres = (np.arange(TABLE_CELLS) + 0.5) / TABLE_CELLS
    return torch.from_numpy(quantile(centres, shape).astype(np.float32)).to(device)


def draw_tukey_lambda(
    count: int, shape: float, generator: torch.Generator, device: torch.device | None = None
) -> Tensor:
    """Draw ``count`` numbers of the law of scale 1 and this lambda, (count,) float32."""
    device = device or generator.device
    padded = -(-count // 16) * 16
    pairs = torch.empty(padded // 2, dtype=torch.int32, device=device).random_(generator=generator)
    index = pairs.view(torch.int16).bitwise_and_(TABLE_CELLS - 1)  # two draws of 14 bits in each
    folded = torch.add(index, TAIL_CELLS).bitwise_and_(TABLE_CELLS - 1)  # the lower tail in the upper half of the first
    tail = indices_of(folded < 2 * TAIL_CELLS)
    drawn = torch.index_select(_table(shape, device), 0, index.to(torch.int32))
    # Exact tails, both from the lower one by symmetry, where ln u keeps all its digits.
    share = torch.rand(tail.numel(), dtype=torch.float64, device=device, generator=generator)
    value = quantile_tensor((share + 2.0**-54) * (TAIL_CELLS / TABLE_CELLS), shape)
    drawn[tail] = torch.where(index[tail] < TABLE_CELLS // 2, value, -value).to(torch.float32)
    return drawn[:count]


def quantile_tensor(probability: Tensor, shape: float) -> Tensor:
    """Return the quantiles of the law of scale 1 for float64 probabilities below 1; see `tukey_lambda.quantile`."""
    below, above = torch.log(probability), torch.log1p(-probability)
    if abs(shape) < 1e-12:
        return below - above
    return (torch.expm1(shape * below) - torch.expm1(shape * above)) / shape


def indices_of(mask: Tensor) -> Tensor:
    """Return where a flat mask is true, by looking at eight pixels at once: most of them are false."""
    if mask.numel() % 8:
        return mask.nonzero().view(-1)
    words = mask.view(torch.int64).nonzero().view(-1)
    lanes = mask.view(-1, 8)[words].nonzero()
    return words[lanes[:, 0]] * 8 + lanes[:, 1]
