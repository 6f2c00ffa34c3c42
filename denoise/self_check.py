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
from noise_models.level import NoiseLevel

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
_GROWTH: Final = 0.09
_SCATTER: Final = 0.125
_VERY_FLATTEST, _NEXT = 0.015, 0.15
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
    """Rank correlation over blocks of what was taken away and of the result's edge strength [1]: see `self_check`."""
    disagreement: float | None
    """Of the results of two halves of the pixels, over the difference of the halves [1]; None where not asked, or where
    the image is too small to be halved."""

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

    Texture correlates neighbours too. But noise does so alike wherever the picture is even; texture the more, the more
    of it there is, and in each block in its own way. So no method is advised where the next tenth of the blocks has a
    correlation of neighbours greater by 0.09 than the flattest 1.5 %, or where the deviation of that correlation from
    block to block is more than 0.125. Of crops of 512 x 512 that were called correlated without this rule, 42 of 43 of
    PolyU's camera JPEGs still are, and all 13 of its scenes (scatter 0.124 at most); of Kodak's pictures with white
    noise of sigma 5 or 10 of 255 none of 6 (growth 0.098 at least), clean or with sigma 2 still 5 of 32.
    """
    sorted_blocks = _by_flatness(noisy)
    blocks = _shares(sorted_blocks, 0.0, _FLATTEST)
    if len(blocks) < _FEWEST_BLOCKS:
        return NoiseCorrelation(
            0.0, (), (), None, "there are too few even areas, free of clipping, to see the noise in"
        )
    sigma = float(np.sqrt(blocks.var(axis=(1, 2)).mean() * _BLOCK**2 / (_BLOCK**2 - 3)))
    along = tuple(_correlation(blocks, lag) for lag in range(1, REACH + 1))
    down = tuple(_correlation(blocks.swapaxes(1, 2), lag) for lag in range(1, REACH + 1))
    method, reason = _advise(sigma, along, down, _growth(sorted_blocks), _scatter(blocks))
    return NoiseCorrelation(sigma, along, down, method, reason)


def _advise(
    sigma: float, along: tuple[float, ...], down: tuple[float, ...], growth: float, scatter: float
) -> tuple[Literal["noise2score", "cbsn"] | None, str]:
    near = max(abs(value) for value in along[:2] + down[:2])
    far = max(abs(value) for value in along[2:] + down[2:])
    said = f"noise of sigma {255 * sigma:.1f} of 255, correlation {near:.2f} nearby, {far:.2f} from 3 pixels on"
    if sigma < _LEAST_SIGMA:
        return None, f"{said}: there is hardly any noise, and nothing to learn from"
    if near < _INDEPENDENT:
        return "noise2score", f"{said}: independent, which noise2score needs"
    if growth > _GROWTH or scatter > _SCATTER:
        return None, (
            f"{said}, but not alike everywhere: cannot tell whether the noise is correlated, as that may be texture. "
            "Look at an image with even areas, such as sky"
        )
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
        Maps (1, C, h, w), of half the noise's variance (`of_halves`), to its result: for `disagreement`.
    halves_multiple : int
        Sides of the halves are multiples of this.

    Raises
    ------
    ShapeError
        If the shapes differ, or the image is too small.

    Notes
    -----
    How to read ``edges``. Where noise is white and the truth is taken for the result, it is 0. No method reaches that:
    of all estimates the best, the mean of what the picture may be, takes away sigma^2 - e of the noise's variance
    sigma^2, where e is its own mean squared error, which is largest at edges and in texture. So a good result is below
    0, as noise is left where the picture is busy; above 0 edges were taken away with the noise. On crops of six of
    Kodak's pictures with sigma 25 of 255 ``supervised`` shows -0.47 (it takes 0.896 sigma^2, and sigma^2 - e is
    0.894 sigma^2), the truth 0.02; what was taken plus e shows -0.09. Noise that grows with brightness, and clipping
    (up to 0.2 there), move it either way.
    ``disagreement`` is 1 where nothing was done; the detail by which the halves differ stays in it, with no noise left.
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
        disagreement=None if denoise is None else disagreement(noisy, denoise, halves_multiple),
    )


def of_halves(level: NoiseLevel | None) -> NoiseLevel | None:
    """Return the noise of the halves that `self_check` compares: means of two pixels, whose noise is independent."""
    return None if level is None else NoiseLevel(level.shot / 2, level.read / 2, level.source)


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


def disagreement(noisy: Tensor, denoise: Callable[[Tensor], Tensor], multiple: int) -> float | None:
    """Denoise the two diagonals of all 2 x 2 cells apart; noise differs in them, the picture hardly does.

    Returns
    -------
    float or None
        Root mean square difference of the results over that of the halves; None if the image is too small to be halved.
    """
    height, width = (size // (2 * multiple) * 2 * multiple for size in noisy.shape[1:])
    if not height or not width:
        return None
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


def _by_flatness(noisy: Tensor) -> list[FloatArray]:
    """Return the usable blocks of each plane, a plane taken out of each, first those with the least low frequencies."""
    planes = noisy.double().cpu().numpy()
    result = []
    for plane in planes:
        blocks = _blocks(plane[None])
        low, high = np.quantile(plane, (0.001, 0.999))
        clear = (blocks.min(axis=(1, 2)) > min(low, 0.004)) & (blocks.max(axis=(1, 2)) < max(high, 0.98))
        lit = clear & (blocks.mean(axis=(1, 2)) > _DEEP_SHADOW)
        blocks = _without_slope(blocks[lit if lit.sum() >= _ENOUGH_LIT * len(blocks) else clear])
        coarse = functional.avg_pool2d(torch.from_numpy(blocks)[:, None], 8).square().mean((1, 2, 3)).numpy()
        busy = blocks.var(axis=(1, 2))
        score = np.argsort(np.argsort(coarse)) + 2 * np.argsort(np.argsort(busy))
        result.append(blocks[np.argsort(score)])
    return result


def _shares(planes: list[FloatArray], first: float, last: float) -> FloatArray:
    """Return the blocks from one share of each plane to another; at least 8 if they are the first."""
    least = 0 if first else _FEWEST_BLOCKS
    return np.concatenate([blocks[int(first * len(blocks)) : max(least, int(last * len(blocks)))] for blocks in planes])


def _growth(planes: list[FloatArray]) -> float:
    """Return how much more neighbours correlate in the blocks after the flattest; 0 where there are too few to tell."""
    even, less_even = _shares(planes, 0.0, _VERY_FLATTEST), _shares(planes, _FLATTEST, _NEXT)
    if len(less_even) < len(planes) * _FEWEST_BLOCKS:
        return 0.0
    near, further = (
        (_correlation(blocks, 1) + _correlation(blocks.swapaxes(1, 2), 1)) / 2 for blocks in (even, less_even)
    )
    return further - near


def _scatter(blocks: FloatArray) -> float:
    """Return the standard deviation over blocks of the correlation of neighbours, each weighted by its energy."""
    energy = (blocks**2).mean((1, 2))
    products = ((blocks[:, :, 1:] * blocks[:, :, :-1]).mean((1, 2)) + (blocks[:, 1:] * blocks[:, :-1]).mean((1, 2))) / 2
    own = products / np.maximum(energy, 1e-30)
    mean = products.sum() / max(float(energy.sum()), 1e-30)
    return float(np.sqrt((energy * (own - mean) ** 2).sum() / max(float(energy.sum()), 1e-30)))


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
