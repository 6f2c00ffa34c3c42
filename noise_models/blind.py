"""The noise of one image, measured from the image itself.

Two estimates of the line ``var(x) = shot * x + read``: from the noisy image alone, and, better, from the noisy image
with a first denoised version of it. Both look at small blocks, spread over the image by windows, so that a large file
never stands in memory as floating point.

Which blocks are flat, their coarse Haar coefficients say; what noise they hold, the finest diagonal ones. The two are
independent in noise, so that choosing quiet blocks does not pull the variance down.

References
----------
.. [1] A. Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP
   17(10), 2008.
.. [2] H. Feng et al., "YOND: Practical Blind Raw Image Denoising Free from Camera-Specific Data Dependency", 2025.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from noise_models.base import NoiseModelError
from noise_models.blocks import (
    BLOCK,
    FLAT_DENOISED,
    LEVELS,
    Extremes,
    FloatArray,
    FloatPlanes,
    PlanesByWindow,
    Window,
    as_image,
    fold,
    haar_energies,
    sample_windows,
)
from noise_models.level import NoiseLevel

_TEXTURE_SHARE: Final = 0.5
"""How much of the fine structure of a denoised image counts as picture; the rest is noise that it left in."""
_BRIGHTEST: Final = 0.9
_MARGIN_SIGMA: Final = 3.0
_FEWEST_BLOCKS: Final = 64
_ROUNDS: Final = 8
_SURELY: Final = 10.0
_MOSTLY: Final = 2.0
_LEAST_SHOT: Final = 5e-4


class NothingToMeasureError(NoiseModelError):
    """No block of an image tells of its noise: it is flat, or clipped all over."""


@dataclass(frozen=True, eq=False)
class BlindEstimate:
    """A noise level measured from one image, and how well."""

    level: NoiseLevel
    """(C,), source "blind"."""
    shot_error: FloatArray
    """Standard error (C,) of ``level.shot`` [1]."""
    read_error: FloatArray
    """Standard error (C,) of ``level.read`` [1]."""
    pixels: int
    """Pixels, of all planes, in the flat blocks that were used."""
    flat_share: float
    """Which part of the unclipped blocks was flat [1]."""
    message: str
    """One line for a user where the estimate is doubtful; empty where it is not."""

    @property
    def follows_light(self) -> bool:
        """Whether the noise surely grows with the light: photons, or a scanner's or microscope's noise.

        The slope is 10 standard errors, twice as much as the rest at mid-grey, and 4 of 255 there. On six images of
        Kodak24 with even noise of sigma 0 to 50 of 255 the slope reached a fourth of the rest where it was not nearly
        clean; with Poisson noise of zeta 0.0025 and 0.01 it was 9 times the rest at least, and 11 standard errors.
        """
        shot, read, error = (float(part.max()) for part in (self.level.shot, self.level.read, self.shot_error))
        return shot >= max(_LEAST_SHOT, _SURELY * error) and 0.5 * shot > _MOSTLY * read


def estimate(
    image: FloatPlanes | PlanesByWindow,
    denoised: FloatPlanes | PlanesByWindow | None = None,
    *,
    pooled: bool = True,
    white: bool = False,
) -> NoiseLevel:
    """Estimate the noise level of an image; `measure` without its evidence.

    Returns
    -------
    NoiseLevel
        (C,), source "blind".

    Raises
    ------
    NoiseModelError
        If the image is too small or has no unclipped block.
    """
    return measure(image, denoised, pooled=pooled, white=white).level


def measure(
    image: FloatPlanes | PlanesByWindow,
    denoised: FloatPlanes | PlanesByWindow | None = None,
    *,
    pooled: bool = True,
    white: bool | None = False,
    windows: Sequence[Window] | None = None,
) -> BlindEstimate:
    """Measure the noise of an image by itself, or with a denoised version of it.

    Parameters
    ----------
    image : (C, H, W) float32 array or image
        The noisy one; 0 black, 1 white, negative values kept.
    denoised : (C, H, W) float32 array or image, optional
        A first result of any good denoiser, even under a poor noise level: flat blocks are then found in it, and
        what texture it shows is taken off the variance. It may compute its windows when asked.
    pooled : bool
        One line for all planes, as a sensor has: the gain does not know the colour filter. False where planes were
        scaled apart.
    white : bool, optional
        Variance without slope: ``shot`` = 0, as rendered photographs are commonly described. None: so, unless the
        noise surely follows the light.
    windows : sequence of (top, bottom, left, right), optional
        Where to look; default `sample_windows`.

    Returns
    -------
    BlindEstimate
        The level, its standard errors, what it stands on.

    Raises
    ------
    NoiseModelError
        If the image is smaller than 16 x 16 pixels a plane.
    NothingToMeasureError
        If every block of it is clipped or flat.

    Notes
    -----
    A block counts as flat if at each Haar level l the mean square E_l of its coefficients is no more than white noise
    explains, one standard error allowed::

        E_l <= v(m) (1 + sqrt(2 / n_l))                                                                 (1)

    where v is the present line, m the block's mean, n_l the number of coefficients. The line follows by least squares,
    weighted with the known scatter of a variance, read >= (rounding step)^2 / 12, and (1) is asked again. Unlike [2]_
    the variance is not that of the box itself, which holds every gradient and shade and made sigma come out as zero.

    With a denoised image, those flat blocks are kept whose own E_l lies below 0.1, 0.3 and 1 times v from fine to
    coarse, or the calmer half, and the variance is::

        v = var(noisy) - var(denoised) / 2                                                              (2)

    in the finest diagonal. All of it, as in [2]_, takes the noise that the denoiser left for picture (measured: up to
    30 % too low a sigma under a weak denoiser); none of it takes the picture for noise.
    """
    noisy = as_image(image)
    first = None if denoised is None else as_image(denoised)
    planes, height, width = noisy.shape
    if first is not None and first.shape != noisy.shape:
        raise NoiseModelError(
            f"A blind estimate was asked from an image of shape {noisy.shape} and a denoised one of shape "
            f"{first.shape}, but they must be the same picture. Give two images of one shape."
        )
    if min(height, width) < 16:
        raise NoiseModelError(
            f"A blind noise estimate was asked of planes of {width}x{height} pixels, but needs at least 16x16 to tell "
            "noise from picture. Give the noise level: --noise SHOT,READ."
        )
    windows = sample_windows(noisy.shape) if windows is None else windows
    blocks = _gather(noisy, first, windows)
    if white is not None:
        return _estimate(blocks, planes, pooled, white)
    sloped = _estimate(blocks, planes, pooled, False)
    return sloped if sloped.follows_light else _estimate(blocks, planes, pooled, True)


def _estimate(blocks: _Blocks, planes: int, pooled: bool, white: bool) -> BlindEstimate:
    """Fit the line of each group of planes."""
    groups = [np.arange(planes)] if pooled else [np.array([plane]) for plane in range(planes)]
    fits = [_fit(blocks.of(group), white) for group in groups]
    spread = [fits[0 if pooled else plane] for plane in range(planes)]
    level = NoiseLevel(np.array([fit.shot for fit in spread]), np.array([fit.read for fit in spread]), "blind")
    messages = [fit.message for fit in fits if fit.message]
    return BlindEstimate(
        level,
        np.array([fit.shot_error for fit in spread]),
        np.array([fit.read_error for fit in spread]),
        sum(fit.used for fit in fits) * BLOCK**2,
        float(np.mean([fit.share for fit in fits])),
        messages[0] if messages else "",
    )


@dataclass(frozen=True, eq=False)
class _Blocks:
    """What is known of N blocks."""

    plane: npt.NDArray[np.int64]
    """Which plane, (N,)."""
    mean: FloatArray
    """Of the denoised image if there is one, (N,)."""
    variance: FloatArray
    """Of the finest diagonal coefficients, less that of the denoised image, (N,)."""
    energy: FloatArray
    """E_l of the noisy image, fine to coarse, (N, levels)."""
    texture: FloatArray | None
    """E_l of the denoised image, (N, levels)."""
    lowest: FloatArray
    """Smallest noisy value, (N,)."""
    highest: FloatArray
    """Largest noisy value, (N,)."""
    step: float
    """Rounding step of the file, house units."""
    floor: float
    """Value at which the file clips darkness; -inf if it does not."""
    ceiling: float
    """Value at which it clips light; inf if it does not."""

    def of(self, planes: npt.NDArray[np.int64]) -> _Blocks:
        """Return the blocks of some planes."""
        keep = np.isin(self.plane, planes)
        texture = None if self.texture is None else self.texture[keep]
        return _Blocks(
            self.plane[keep], self.mean[keep], self.variance[keep], self.energy[keep], texture, self.lowest[keep],
            self.highest[keep], self.step, self.floor, self.ceiling,
        )  # fmt: skip


def _gather(noisy: PlanesByWindow, denoised: PlanesByWindow | None, windows: Sequence[Window]) -> _Blocks:
    """Reduce the windows to their blocks."""
    side = BLOCK
    extremes = Extremes()
    rows: list[tuple[FloatArray, ...]] = []
    for top, bottom, left, right in windows:
        bottom, right = bottom - (bottom - top) % side, right - (right - left) % side
        if bottom == top or right == left:
            continue
        part = noisy.window(top, bottom, left, right)
        extremes.see(part)
        mean, diagonal, energy = haar_energies(part, side)
        lowest, highest = fold(part, side, np.minimum), fold(part, side, np.maximum)
        texture = np.zeros_like(energy)
        if denoised is not None:
            mean, own, texture = haar_energies(denoised.window(top, bottom, left, right), side)
            diagonal = diagonal - _TEXTURE_SHARE * own  # (2)
        plane = np.broadcast_to(np.arange(part.shape[0])[:, None, None], mean.shape)
        rows.append((
            plane.ravel(), mean.ravel(), diagonal.ravel(), energy.reshape(-1, LEVELS),
            texture.reshape(-1, LEVELS), lowest.ravel(), highest.ravel(),
        ))  # fmt: skip
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    step = min(extremes.steps)
    return _Blocks(
        columns[0].astype(np.int64), columns[1], columns[2], columns[3], None if denoised is None else columns[4],
        columns[5], columns[6], step, extremes.floor(), extremes.ceiling(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """A fitted line and what it stands on."""

    shot: float
    read: float
    shot_error: float
    read_error: float
    used: int
    share: float
    message: str

    def at(self, mean: FloatArray) -> FloatArray:
        """Variance at a signal."""
        return self.shot * np.maximum(mean, 0.0) + self.read


def _fit(blocks: _Blocks, white: bool) -> _Line:
    """Find the flat blocks and the line through their variances, in turns."""
    floor = max(blocks.step**2 / 12, 1e-12)
    sound = (blocks.lowest > blocks.floor) & (blocks.highest < min(blocks.ceiling, 0.98))
    sound &= blocks.mean < _BRIGHTEST
    if not sound.any():
        raise NothingToMeasureError(
            f"A blind noise estimate was asked, but {_why_none(blocks)}. Give the noise level: --noise SHOT,READ."
        )
    line = _first_line(blocks, sound, white, floor)
    for _ in range(_ROUNDS):
        line = _next_line(blocks, sound, line, white, floor)
    return line


def _why_none(blocks: _Blocks) -> str:
    """Say why no block of an image tells of its noise."""
    most = float(blocks.highest.max())
    if (blocks.lowest == blocks.highest).all():
        return f"the image is flat: in no block of {BLOCK}x{BLOCK} pixels does a value vary"
    if most > 1:
        return f"every block of the image is clipped or too bright: values above 1, which is white, go up to {most:g}"
    return "every block of the image holds clipped pixels"


def _first_line(blocks: _Blocks, sound: npt.NDArray[np.bool_], white: bool, floor: float) -> _Line:
    """Start from the blocks of each brightness whose coarse coefficients are smallest."""
    where = np.flatnonzero(sound)
    ordered = where[np.argsort(blocks.mean[where], kind="stable")]
    coarse = (blocks.energy if blocks.texture is None else blocks.texture)[:, 1:].max(1)
    chosen = []
    for part in np.array_split(ordered, max(1, min(24, len(ordered) // 16))):
        chosen.append(part[np.argsort(coarse[part], kind="stable")[: max(4, len(part) // 8)]])
    kept = np.concatenate(chosen)
    variance = np.maximum(blocks.variance[kept], floor)
    rough = np.full(len(kept), float(np.median(variance)))
    line = _solve(blocks.mean[kept], variance, rough, white, floor, len(kept) / len(where), "")
    for _ in range(3):
        # Texture only adds, so blocks far above the line are left out from the start.
        v = line.at(blocks.mean[kept])
        near = variance < 2 * v
        if near.sum() < 4:
            break
        line = _solve(blocks.mean[kept][near], variance[near], v[near], white, floor, len(kept) / len(where), "")
    return line


def _next_line(blocks: _Blocks, sound: npt.NDArray[np.bool_], line: _Line, white: bool, floor: float) -> _Line:
    """Ask again which blocks are flat, and fit again."""
    v = line.at(blocks.mean)
    reach = _MARGIN_SIGMA * np.sqrt(v)
    usable = sound & (blocks.mean - reach > blocks.floor) & (blocks.mean + reach < min(blocks.ceiling, 0.98))
    if usable.sum() < _FEWEST_BLOCKS // 4:
        usable = sound
    counts = BLOCK**2 * np.array([0.5, 3 / 16, 3 / 64])
    score = (blocks.energy / (v[:, None] * (1 + np.sqrt(2 / counts)))).max(1)  # (1)
    where = np.flatnonzero(usable)
    flat = where[score[where] <= 1]
    message = ""
    if len(flat) < min(_FEWEST_BLOCKS, len(where)):
        fewest = min(len(where), max(_FEWEST_BLOCKS // 4, len(where) // 200))
        found = len(flat)
        flat = where[np.argsort(score[where], kind="stable")[: max(fewest, found)]]
        message = (
            f"Only {found} of {len(where)} blocks of the picture are flat, so the noise estimate is doubtful: it may "
            "hold texture. Give --noise SHOT,READ if you know it."
        )
    if blocks.texture is not None:
        texture = (blocks.texture[flat] / (v[flat, None] * np.array(FLAT_DENOISED))).max(1)
        calmest = np.argsort(texture, kind="stable")
        flat = flat[calmest[: max(int((texture <= 1).sum()), len(flat) // 2, _FEWEST_BLOCKS)]]
    scatter = np.sqrt(2 / (BLOCK**2 / 4))
    inside = flat[blocks.variance[flat] < v[flat] * (1 + 4 * scatter)]
    if len(inside) < max(4, len(flat) // 4):
        inside = flat
    share = len(flat) / len(where)
    return _solve(blocks.mean[inside], blocks.variance[inside], v[inside], white, floor, share, message)


def _solve(
    mean: FloatArray, variance: FloatArray, present: FloatArray, white: bool, floor: float, share: float,
    message: str,
) -> _Line:  # fmt: skip
    """Fit by weighted least squares, shot >= 0 and read >= floor; a variance of n values scatters by v sqrt(2 / n)."""
    weight = (BLOCK**2 / 4) / (2 * np.maximum(present, floor) ** 2)
    mean = np.maximum(mean, 0.0)
    total, first, second = weight.sum(), (weight * mean).sum(), (weight * mean**2).sum()
    value, slope = (weight * variance).sum(), (weight * mean * variance).sum()
    determinant = total * second - first**2
    shot, read = 0.0, value / total
    line = not white and determinant > 1e-9 * total * second
    if line:
        shot, read = (total * slope - first * value) / determinant, (second * value - first * slope) / determinant
        if shot < 0:
            shot, read = 0.0, value / total
        elif read < floor:
            shot, read = (slope - floor * first) / second, floor
    read = max(read, floor)
    shot = max(shot, 0.0)
    excess = max(1.0, float((weight * (variance - shot * mean - read) ** 2).mean())) ** 0.5
    shot_error = float(np.sqrt(total / determinant)) * excess if line else 0.0
    read_error = float(np.sqrt(second / determinant if line else 1 / total)) * excess
    return _Line(float(shot), float(read), shot_error, read_error, len(mean), share, message)
