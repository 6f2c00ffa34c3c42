"""How chance is drawn fast: photons and Tukey-lambda noise, in place, a cache-full of pixels at a time.

`noise_models.components` states the laws; here is only how they are drawn, and how far from the law that is.

Every law is split in two: a table of equally likely values, from which nearly all pixels draw by random bits alone, and
a rest (the tails, or the counts that a table rounds away) that a few pixels draw exactly. Which pixels those are is
chance too, so that no pass over the image has to look for them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri, pdtr
from torch import Tensor

from noise_models.tukey_lambda import quantile, scale_from_sigma, sigma_from_scale

FloatArray = npt.NDArray[np.float64]

NORMAL_ABOVE_E = 10.0
"""Expected electrons from which photons are counted by a rounded normal law instead of drawn exactly [e-]."""
LAMBDA_STEPS = 512
"""Lambda is rounded to one part in this, so that tables can be kept; the standard deviation asked for is not."""
TABLE_CELLS = 1 << 14
"""Values in the table of a continuous law."""
LEVELS_PER_ROOT = 64
"""Levels of expected electrons in the table of counts, for each step of 1 of their root."""
COUNT_CELLS = 1 << 12
"""Values in the table of counts, for each level."""
REST_SHARE = 1 / 256
"""Of a table's law, drawn from the law itself: half in either tail, or the counts that the table rounds away."""

# Pixels at a time: a megabyte, so that every pass but the first finds them in the cache.
_PIECE = 1 << 18
_MOST_COUNTS = 48
_SHEPPARD = 1 / 12
_SKEW = 1 / 6
_NEARLY_ZERO = 1e-9


class Dice:
    """A fast stream of chance that begins at a number drawn from a torch generator."""

    def __init__(self, generator: torch.Generator) -> None:
        seed = torch.empty((), dtype=torch.int64, device=generator.device).random_(generator=generator)
        self.device = generator.device
        self._generator = generator
        self._stream = np.random.SFC64(int(seed))
        self._numbers = np.random.Generator(self._stream)

    def halves(self, count: int) -> Tensor:
        """Return 16 random bits for each of ``count`` pixels, (count,) int16."""
        words = -(-count // 4)
        if self.device.type == "cpu":
            return torch.from_numpy(self._stream.random_raw(words).view(np.int16)[:count])
        bits = torch.empty(words, dtype=torch.int64, device=self.device)
        return bits.random_(-(2**63), None, generator=self._generator).view(torch.int16)[:count]

    def few(self, count: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Choose each of ``count`` pixels with chance `REST_SHARE`; return which, and a number from 0 to 1 for each.

        A Poisson number of hits, each anywhere, strikes every pixel independently; one struck twice is listed twice.
        """
        hits = self._numbers.poisson(-np.log1p(-REST_SHARE) * count)
        return self._numbers.integers(count, size=hits), self._numbers.random(hits)


def count_photons_(
    signal_dn: Tensor, gains_dn_per_e: Sequence[float], generator: torch.Generator, *, exact: bool = False
) -> None:
    """Replace a contiguous expected signal (B, ...) [DN] by K times a Poisson number of mean signal / K; see `shot`."""
    dice = Dice(generator)
    gains = torch.tensor(gains_dn_per_e, dtype=torch.float32, device=signal_dn.device)[:, None]
    for images, piece in _pieces(signal_dn):
        gain = gains[images]
        piece.div_(gain)
        least, most = (bound.item() for bound in torch.aminmax(piece))
        if most <= 0:  # no light, no photons
            piece.mul_(gain)
            continue
        below = None
        if least < 0:  # what lies below black holds no photons and returns at the end
            below = piece.clamp(max=0.0)
            piece.clamp_(min=0.0)
        flat = piece.view(-1)
        if exact:
            flat.copy_(torch.poisson(flat, generator=generator))
        elif least >= NORMAL_ABOVE_E:
            count_many_(flat, dice)
        elif most < NORMAL_ABOVE_E:
            count_few_(flat, dice)
        else:
            _count_mixed_(flat, dice)
        if below is not None:
            piece.add_(below)
        piece.mul_(gain)


def _pieces(images: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield which images, and (images, pixels) of them: several whole ones, or a part of one."""
    flat = images.view(len(images), -1)
    together = max(1, _PIECE // max(1, flat.shape[1]))
    for first in range(0, len(flat), together):
        chosen = slice(first, first + together)
        for piece in flat[chosen].split(_PIECE, dim=1):
            yield chosen, piece


def _count_mixed_(expected_e: Tensor, dice: Dice) -> None:
    """Count all pixels as most of them are to be counted, and then the others, dark or bright, as they are."""
    dark = torch.from_numpy(expected_e.numpy() < NORMAL_ABOVE_E) if _on_cpu(expected_e) else expected_e < NORMAL_ABOVE_E
    mostly_dark = 2 * int(dark.count_nonzero()) > len(dark)
    where = _indices(dark.logical_not_() if mostly_dark else dark)
    others = torch.index_select(expected_e, 0, where)
    if mostly_dark:
        count_many_(others, dice)
        count_few_(expected_e.clamp_(max=NORMAL_ABOVE_E), dice)
    else:
        count_few_(others, dice)
        count_many_(expected_e, dice)
    _put(expected_e, where, others)


def _indices(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if _on_cpu(mask) else mask.nonzero().view(-1)


def _put(drawn: Tensor, where: npt.NDArray[np.int64] | Tensor, values: npt.NDArray[np.generic] | Tensor) -> None:
    if _on_cpu(drawn):
        drawn.numpy()[np.asarray(where)] = np.asarray(values)
    else:
        at = torch.as_tensor(where, device=drawn.device)
        drawn[at] = torch.as_tensor(values, dtype=drawn.dtype, device=drawn.device)


def _on_cpu(tensor: Tensor) -> bool:
    """Return whether numpy sees the tensor as it is: it compares, finds and puts several times faster."""
    return tensor.device.type == "cpu"


def count_many_(expected_e: Tensor, dice: Dice) -> None:
    """Replace flat expected electrons, many each, by Poisson numbers: normal ones with the law's skew, rounded.

    round(n + sqrt(n - 1/12 - 1/18) z + (z**2 - 1) / 6), z standard normal; see `noise_models.components.shot`.
    """
    normal = torch.index_select(_normal_table(dice.device), 0, _cells(dice.halves(len(expected_e))))
    where, share = dice.few(len(normal))
    tail, side = _of_tails(share)
    _put(normal, where, side * ndtri(tail))
    spread = torch.sub(expected_e, _SHEPPARD + 2 * _SKEW**2).clamp_(min=0.0).sqrt_()
    expected_e.addcmul_(spread, normal).addcmul_(normal, normal, value=_SKEW).sub_(_SKEW).round_().clamp_(min=0.0)


def count_few_(expected_e: Tensor, dice: Dice) -> None:
    """Replace flat expected electrons, at most `NORMAL_ABOVE_E` each, by Poisson numbers.

    sqrt(n) is rounded by chance to one of the two levels beside it, 1/64 apart, and the count of that level is drawn
    exactly: from a table of 2**12 counts, or, at 1 pixel in 256, from what is left of the law beside the table. Only
    the levels are an approximation: the mean is right to 6.2e-5 e-, the variance to 2.5e-4 of n.
    """
    chance, cell = dice.halves(2 * len(expected_e)).split(len(expected_e))
    level = expected_e.sqrt_().mul_(LEVELS_PER_ROOT).add_(0.5)
    level.add_(chance.to(torch.float32), alpha=2.0**-16)  # from -1/2 to 1/2
    row = level.to(torch.int32)
    place = cell.bitwise_and(COUNT_CELLS - 1).to(torch.int32).add_(row, alpha=COUNT_CELLS)
    expected_e.copy_(torch.index_select(_count_table(dice.device), 0, place))
    where, share = dice.few(len(expected_e))
    level_of = row[torch.from_numpy(where).to(dice.device)].cpu().numpy()
    _put(expected_e, where, np.searchsorted(_rest_ends(), level_of + share, side="right") - level_of * _MOST_COUNTS)


def add_tukey_lambda_(
    noisy_dn: Tensor, scales_dn: Sequence[float], shapes: Sequence[float], generator: torch.Generator
) -> None:
    """Add Tukey-lambda noise to a contiguous tensor (B, ...) [DN], in place; see `add_tukey_lambda_read`."""
    dice = Dice(generator)
    lowest = 1 - LAMBDA_STEPS // 2
    rounded = [max(round(shape * LAMBDA_STEPS), lowest) / LAMBDA_STEPS for shape in shapes]
    sigmas = map(sigma_from_scale, scales_dn, shapes)
    scales = torch.tensor(list(map(scale_from_sigma, sigmas, rounded)), dtype=torch.float32, device=noisy_dn.device)
    for images, piece in _pieces(noisy_dn):
        piece.addcmul_(draw_tukey_lambda(piece.shape[1], rounded[images], dice), scales[images, None])


def draw_tukey_lambda(count: int, shapes: Sequence[float], dice: Dice) -> Tensor:
    """Draw ``count`` numbers of the law of scale 1 for each lambda, (len(shapes), count) float32."""
    kinds = list(dict.fromkeys(shapes))
    tables = [_tukey_lambda_table(shape, dice.device) for shape in kinds]
    cell = _cells(dice.halves(len(shapes) * count)).view(len(shapes), count)
    if len(kinds) > 1:
        first = torch.tensor([kinds.index(shape) * TABLE_CELLS for shape in shapes], dtype=torch.int32)
        cell.add_(first[:, None].to(dice.device))
    drawn = torch.index_select(torch.cat(tables) if len(kinds) > 1 else tables[0], 0, cell.view(-1))
    where, share = dice.few(drawn.numel())
    tail, side = _of_tails(share)
    shape = np.array([value or _NEARLY_ZERO for value in shapes])[where // count]
    _put(drawn, where, side * (np.expm1(shape * np.log(tail)) - np.expm1(shape * np.log1p(-tail))) / shape)
    return drawn.view(len(shapes), count)


def _cells(bits: Tensor) -> Tensor:
    return bits.bitwise_and(TABLE_CELLS - 1).to(torch.int32)


def _of_tails(share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Turn numbers from 0 to 1 into probabilities of the lower tail, where ln keeps its digits, and the side's sign."""
    upper = share >= 0.5
    return (np.where(upper, 1 - share, share) + 2.0**-54) * REST_SHARE, np.where(upper, -1.0, 1.0)


@functools.lru_cache(maxsize=256)
def _tukey_lambda_table(shape: float, device: torch.device) -> Tensor:
    return torch.from_numpy(quantile(_body(), shape).astype(np.float32)).to(device)


@functools.lru_cache(maxsize=4)
def _normal_table(device: torch.device) -> Tensor:
    return torch.from_numpy(ndtri(_body()).astype(np.float32)).to(device)


def _body() -> FloatArray:
    """Return the probabilities of a table's values: the middles of equal cells between the tails."""
    return REST_SHARE / 2 + (np.arange(TABLE_CELLS, dtype=np.float64) + 0.5) * ((1 - REST_SHARE) / TABLE_CELLS)


@functools.lru_cache(maxsize=1)
def _count_laws() -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the law of each level, P(count) (L, 48) float64, and in how many of its cells each count stands."""
    levels = int(np.sqrt(NORMAL_ABOVE_E) * LEVELS_PER_ROOT) + 3
    expected = (np.arange(levels) / LEVELS_PER_ROOT) ** 2
    law = np.diff(pdtr(np.arange(_MOST_COUNTS)[None], expected[:, None]), axis=1, prepend=0.0)
    cells = np.floor(law * (COUNT_CELLS / (1 - REST_SHARE))).astype(np.int64)
    # Rounded down they are still too many; the usual count gives way, and the rest makes up for it.
    cells[np.arange(levels), law.argmax(1)] -= cells.sum(1) - COUNT_CELLS
    return law, cells


@functools.lru_cache(maxsize=4)
def _count_table(device: torch.device) -> Tensor:
    """Return the count in each cell of each level, flat uint8."""
    cells = _count_laws()[1]
    counts = np.tile(np.arange(_MOST_COUNTS, dtype=np.uint8), len(cells))
    return torch.from_numpy(np.repeat(counts, cells.reshape(-1))).to(device)


@functools.lru_cache(maxsize=1)
def _rest_ends() -> FloatArray:
    """Return where the part of each count ends in the rest of each level, levels one after the other, flat."""
    law, cells = _count_laws()
    rest = (law - cells * ((1 - REST_SHARE) / COUNT_CELLS)) / REST_SHARE
    ends = np.minimum(np.cumsum(rest, axis=1), 1.0)
    ends[:, -1] = 1.0
    return np.asarray(ends + np.arange(len(law))[:, None], np.float64).reshape(-1)
