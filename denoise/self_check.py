"""What can be said without any truth: of noise, whether its pixels are independent; of a result, whether it is sound.

Noise is looked at where the picture is flattest. A result is looked at by what was taken away: it should be as white as
the noise was, and know nothing of the picture's edges; and two halves of the pixels should lead to the same picture.

References
----------
.. [1] T. Huang et al., "Neighbor2Neighbor: self-supervised denoising from single noisy images", CVPR 2021 (the halves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from denoise.errors import ShapeError

FloatArray = npt.NDArray[np.float64]

REACH: Final = 6
"""How far autocorrelation is measured [px]."""
_BLOCK: Final = 16
_FLATTEST: Final = 0.05
_DEEP_SHADOW: Final = 0.04
_ENOUGH_LIT: Final = 0.25  # of the blocks; a RAW may be dark as a whole
_FEWEST_BLOCKS: Final = 8
_LEAST_SIGMA: Final = 0.5 / 255
_INDEPENDENT: Final = 0.15
_TOO_FAR: Final = 0.35


@dataclass(frozen=True)
class NoiseCorrelation:
    """How far the noise of an image reaches from pixel to pixel, and which method that fits."""

    sigma: float
    """Standard deviation in the flattest blocks, after a slope of brightness is taken out [house units]."""
    along: tuple[float, ...]
    """Correlation with the next 1 to `REACH` pixels of the row [1]."""
    down: tuple[float, ...]
    """Correlation with the next 1 to `REACH` pixels of the column [1]."""
    method: Literal["noise2score", "cbsn"] | None
    """What fits; None where neither does."""
    reason: str
    """One line for a user."""


@dataclass(frozen=True)
class SelfCheck:
    """Figures of one result, without truth."""

    removed_sigma: float
    """Standard deviation of what was taken away [house units]."""
    whiteness: float
    """Largest absolute autocorrelation of what was taken away, 1 to `REACH` pixels along rows and columns [1]."""
    excess: float
    """How much larger that is than the noise's own in the flattest blocks [1]: structure of the picture was taken."""
    edges: float
    """Rank correlation over blocks of what was taken away and of the result's edge strength [1]."""
    disagreement: float | None
    """Of the results of two halves of the pixels, over the difference of the halves [1]; None where not asked."""

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values, for a log."""
        return {name: None if value is None else round(value, 5) for name, value in vars(self).items()}


def middle_window(sides: Sequence[int], most: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the middle of an image (H, W), at most ``most`` on a side."""
    (top, bottom), (left, right) = (((side - min(side, most)) // 2, (side + min(side, most)) // 2) for side in sides)
    return top, bottom, left, right


def middle(planes: Tensor, most: int) -> Tensor:
    """Return the middle of (C, H, W), at most ``most`` on a side."""
    top, bottom, left, right = middle_window(planes.shape[1:], most)
    return planes[:, top:bottom, left:right]


def noise_correlation(noisy: Tensor) -> NoiseCorrelation:
    """Measure the spatial correlation of an image's noise, and say which self-supervised method fits.

    Parameters
    ----------
    noisy : (C, H, W) tensor
        House units.

    Raises
    ------
    ShapeError
        If the image is smaller than four blocks of 16 x 16.

    Notes
    -----
    Blocks of 16 x 16 that are clipped do not count, nor those in deep shadow, where a tone curve hides the noise,
    unless three quarters of the image are. A plane is taken out of each of the flattest twentieth of the others;
    correlation is mean(r r') / mean(r^2), with the 3 / 16^2 put back that taking out a plane costs every lag.
    """
    blocks = _flattest(noisy)
    if len(blocks) < _FEWEST_BLOCKS:
        return NoiseCorrelation(
            0.0, (), (), None, "there are too few even areas, free of clipping, to see the noise in"
        )
    sigma = float(np.sqrt(blocks.var(axis=(1, 2)).mean() * _BLOCK**2 / (_BLOCK**2 - 3)))
    along = tuple(_correlation(blocks, lag) for lag in range(1, REACH + 1))
    down = tuple(_correlation(blocks.swapaxes(1, 2), lag) for lag in range(1, REACH + 1))
    method, reason = _advise(sigma, along, down)
    return NoiseCorrelation(sigma, along, down, method, reason)


def _advise(
    sigma: float, along: tuple[float, ...], down: tuple[float, ...]
) -> tuple[Literal["noise2score", "cbsn"] | None, str]:
    near = max(abs(value) for value in along[:2] + down[:2])
    far = max(abs(value) for value in along[2:] + down[2:])
    said = f"noise of sigma {255 * sigma:.1f} of 255, correlation {near:.2f} nearby, {far:.2f} from 3 pixels on"
    if sigma < _LEAST_SIGMA:
        return None, f"{said}: there is hardly any noise, and nothing to learn from"
    if near < _INDEPENDENT:
        return "noise2score", f"{said}: independent, which noise2score needs"
    if far < _TOO_FAR:
        return "cbsn", f"{said}: correlated, as in a camera's JPEG, which cbsn is made for"
    return None, (
        f"{said}: it reaches too far for cbsn, as after enlarging or a strong denoiser. "
        "Use the images as they came from the camera, or make them smaller"
    )


def self_check(
    noisy: Tensor, denoised: Tensor, *, denoise: Callable[[Tensor], Tensor] | None = None, halves_multiple: int = 16
) -> SelfCheck:
    """Judge a result by what was taken away.

    Parameters
    ----------
    noisy, denoised : (C, H, W) tensors
        House units.
    denoise : callable, optional
        Maps (1, C, h, w) to its result: for the comparison of two halves.
    halves_multiple : int
        Sides of the halves are multiples of this.

    Raises
    ------
    ShapeError
        If the shapes differ, or the image is too small.
    """
    if noisy.shape != denoised.shape:
        raise ShapeError(f"A self-check compares an image with its result, but got {noisy.shape} and {denoised.shape}.")
    removed = (noisy - denoised).double().cpu().numpy()
    blocks = _blocks(removed)
    blocks = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    lags = [_correlation(view, lag) for view in (blocks, blocks.swapaxes(1, 2)) for lag in range(1, REACH + 1)]
    own = noise_correlation(noisy)
    expected = own.along + own.down if own.along else (0.0,) * len(lags)
    return SelfCheck(
        removed_sigma=float(removed.std()),
        whiteness=max(abs(value) for value in lags),
        excess=max(abs(value) - abs(noise) for value, noise in zip(lags, expected, strict=True)),
        edges=_edges(blocks, denoised),
        disagreement=None if denoise is None else _disagreement(noisy, denoise, halves_multiple),
    )


def _edges(removed: FloatArray, denoised: Tensor) -> float:
    """Rank correlation over blocks of removed energy and the energy of the result's differences."""
    from scipy.stats import rankdata  # slow to load, and not needed to denoise

    planes = denoised.double().cpu().numpy()
    steps = np.hypot(np.diff(planes, axis=1, append=planes[:, -1:]), np.diff(planes, axis=2, append=planes[:, :, -1:]))
    strength = _blocks(steps).mean(axis=(1, 2))
    energy = (removed**2).mean(axis=(1, 2))
    if strength.std() == 0 or energy.std() == 0:
        return 0.0
    return float(np.corrcoef(rankdata(strength), rankdata(energy))[0, 1])


def _disagreement(noisy: Tensor, denoise: Callable[[Tensor], Tensor], multiple: int) -> float:
    """Denoise the two diagonals of all 2 x 2 cells apart; noise differs in them, the picture hardly does."""
    height, width = (size // (2 * multiple) * 2 * multiple for size in noisy.shape[1:])
    whole = noisy[None, :, :height, :width]
    halves = [0.5 * (whole[..., 0::2, first::2] + whole[..., 1::2, 1 - first :: 2]) for first in (0, 1)]
    results = [denoise(half.contiguous()) for half in halves]
    before = (halves[0] - halves[1]).square().mean()
    return float(((results[0] - results[1]).square().mean() / before.clamp_min(1e-12)).sqrt())


def _blocks(planes: npt.NDArray[np.float64]) -> FloatArray:
    """Cut (C, H, W) into (N, 16, 16)."""
    channels, height, width = planes.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    if rows * columns < 4:
        raise ShapeError(
            f"An image of {width}x{height} was to be checked, but it needs four blocks of {_BLOCK}x{_BLOCK}."
        )
    cut = planes[:, : rows * _BLOCK, : columns * _BLOCK].reshape(channels, rows, _BLOCK, columns, _BLOCK)
    return cut.transpose(0, 1, 3, 2, 4).reshape(-1, _BLOCK, _BLOCK)


def _flattest(noisy: Tensor) -> FloatArray:
    """Return the blocks of each plane with the least energy at low frequencies, a plane taken out of each."""
    planes = noisy.double().cpu().numpy()
    chosen = []
    for plane in planes:
        blocks = _blocks(plane[None])
        low, high = np.quantile(plane, (0.001, 0.999))
        clear = (blocks.min(axis=(1, 2)) > min(low, 0.004)) & (blocks.max(axis=(1, 2)) < max(high, 0.98))
        lit = clear & (blocks.mean(axis=(1, 2)) > _DEEP_SHADOW)
        blocks = _without_slope(blocks[lit if lit.sum() >= _ENOUGH_LIT * len(blocks) else clear])
        if not len(blocks):
            continue
        coarse = functional.avg_pool2d(torch.from_numpy(blocks)[:, None], 8).square().mean((1, 2, 3)).numpy()
        busy = blocks.var(axis=(1, 2))
        score = np.argsort(np.argsort(coarse)) + 2 * np.argsort(np.argsort(busy))
        count = max(_FEWEST_BLOCKS, int(_FLATTEST * len(blocks)))
        chosen.append(blocks[np.argsort(score)[:count]])
    return np.concatenate(chosen) if chosen else np.empty((0, _BLOCK, _BLOCK))


def _without_slope(blocks: FloatArray) -> FloatArray:
    """Take the best plane out of each block."""
    ramp = np.arange(_BLOCK) - (_BLOCK - 1) / 2
    ramp /= np.sqrt((ramp**2).sum() * _BLOCK)
    across, down = np.broadcast_to(ramp, (_BLOCK, _BLOCK)), np.broadcast_to(ramp[:, None], (_BLOCK, _BLOCK))
    result = blocks - blocks.mean(axis=(1, 2), keepdims=True)
    for shape in (across, down):
        result = result - (result * shape).sum(axis=(1, 2), keepdims=True) * shape
    return result


def _correlation(blocks: FloatArray, lag: int) -> float:
    """Correlate pixels ``lag`` apart in the rows of all blocks, each counted by its interior."""
    products = (blocks[:, :, lag:] * blocks[:, :, :-lag]).mean()
    return float(products / max(float((blocks**2).mean()), 1e-30)) + 3 / _BLOCK**2
