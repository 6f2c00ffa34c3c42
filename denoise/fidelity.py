"""Is what was removed what the noise model predicts? A verdict for each image.

Noise has no picture in it: what a denoiser took away must have the predicted variance at every brightness, be white,
have no mean, and be no stronger on edges than in flat areas. Where it is not, either the noise level is wrong or the
denoiser changed the picture, and a photographer should hear of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from denoise.errors import DenoiseError, ShapeError
from denoise.images import Image
from noise_models.blocks import (
    BLOCK,
    FLAT_DENOISED,
    Extremes,
    FloatArray,
    FloatPlanes,
    Window,
    block_mean,
    fold,
    haar_energies,
    sample_windows,
)
from noise_models.level import NoiseLevel

BRIGHTNESS: Final = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0)
"""Edges of the brightness bins, in stops [house units]."""

LIMITS: Final[dict[str, float]] = {
    "variance_low": 0.60,
    "variance_high": 1.50,
    "bin_low": 0.50,
    "bin_high": 1.80,
    "correlation": 0.15,
    "banding": 0.03,
    "bias_sigma": 0.15,
    "shift": 0.01,
    "shift_sigma": 0.03,
    "unchanged_share": 0.75,
    "edge_excess": 0.35,
    "noise_left": 0.30,
    "noise_left_in_texture": 0.80,
    "texture_factor": 1.35,
    "checked_share": 0.01,
}
"""Where "ok" ends.

Measured on photographs made into mosaics at 3 and 24 DN per electron. True noise under a near-perfect denoiser and
under non-local means: variance 0.92 to 1.25 of the predicted, correlation up to 0.07, banding 0.003, bias 0.03 sigma,
93 % of blocks unchanged, no excess on edges. A noise level wrong by 1.4 either way: variance 0.47 and 1.9. A blur by
one pixel: edge excess 1.7 and more. A cast of one percent: shift 0.01, 75 % unchanged. Bands of 0.3 sigma: banding
0.08. Blotchy noise: correlation 0.58. The visible counts, not the provable: a mean moved by a tenth of sigma is found
in any picture, but seen in none.
"""

_SPAN: Final = 4 * BLOCK
_MARGIN_SIGMA: Final = 3.0
_FEWEST_BLOCKS: Final = 64


@dataclass(frozen=True)
class BrightnessBin:
    """Removed variance at one brightness."""

    low: float
    """Lower edge [house units]."""
    high: float
    """Upper edge [house units]."""
    variance_ratio: float
    """Removed over predicted variance in flat areas [1]."""
    pixels: int
    """What it was measured on."""


@dataclass(frozen=True)
class FidelityReport:
    """What was removed, compared with what the noise model predicts."""

    verdict: Literal["ok", "warn"]
    """Whether every figure lies within `LIMITS`."""
    reasons: tuple[str, ...]
    """One line for each figure outside, in words; empty for "ok"."""
    strength: float
    """The strength that was asked for."""
    variance_ratio: tuple[float, ...]
    """Removed over predicted variance in flat areas, by plane [1]."""
    by_brightness: tuple[BrightnessBin, ...]
    """The same by brightness, all planes together."""
    correlation: tuple[float, float, float]
    """Lag-one correlation of the residual in flat areas: along rows, along columns, along diagonals [1]."""
    banding: tuple[float, float]
    """Share of the residual's variance that whole rows, whole columns have in common [1]."""
    bias_sigma: tuple[float, ...]
    """Mean of the residual over the noise's standard deviation, by plane [1]."""
    shift: tuple[float, ...]
    """The same over the mean signal, by plane: darker or brighter by this part [1]."""
    unchanged_share: float
    """Part of all 32x32 blocks whose mean changed by less than two standard errors [1]."""
    edge_excess: float
    """How much more variance was removed on edges than in flat areas, over the predicted [1]."""
    edge_correlation: float
    """Rank correlation of edge strength and removed variance over blocks [1]."""
    noise_left: float
    """Standard deviation of the noise in the result, over the predicted noise of the input [1]."""
    checked_share: float
    """Part of the sampled picture that is not clipped and was checked [1]."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; a figure that could not be measured is None."""
        return _plain(asdict(self))


def check_fidelity(
    noisy: Image,
    denoised: Image,
    noise: NoiseLevel,
    *,
    strength: float = 1.0,
    windows: Sequence[Window] | None = None,
) -> FidelityReport:
    """Compare what was removed with what the noise model predicts.

    Parameters
    ----------
    noisy : Image
        What came in, (C, H, W) by windows.
    denoised : Image
        What went out, of the same shape; its levels may differ, house units are the same.
    noise : NoiseLevel
        (C,) or (1,); of ``noisy``.
    strength : float
        What was asked for: (1 - strength) of the noise's standard deviation was left in on purpose.
    windows : sequence of (top, bottom, left, right), optional
        Where to look, in pixels of a plane; default up to 25 windows of 256 x 256.

    Returns
    -------
    FidelityReport
        Verdict, reasons and figures.

    Raises
    ------
    ShapeError
        If the two images differ in shape.
    DenoiseError
        If the strength lies outside 0 to 1.

    Notes
    -----
    With residual r = (noisy - denoised) / strength, clean estimate x = noisy - r and v = shot max(x, 0) + read::

        variance ratio = mean(r^2 / v) over flat blocks                                                 (1)
        t = mean(r) / sqrt(mean(v) / 32^2) over a block of 32 x 32; unchanged if |t| < 2                (2)

    A block of 8 x 8 is flat if the Haar energies of x lie below 0.1, 0.3 and 1 times v from fine to coarse. Blocks
    within three standard deviations of a clipping level are left out: there the noise is cut and its mean moves.
    """
    if noisy.shape != denoised.shape:
        raise ShapeError(
            f"A fidelity check was asked of images of shape {noisy.shape} and {denoised.shape}, but they must be the "
            "same picture. Give the noisy image and its own result."
        )
    if not 0.0 <= strength <= 1.0:
        raise DenoiseError(f"Strength {strength:g} was asked for, but it lies between 0 (nothing) and 1 (all).")
    planes, height, width = noisy.shape
    level = noise.for_channels(planes)
    if strength == 0.0 or min(height, width) < BLOCK or not (level.shot + level.read).min() > 0:
        return _unchecked(strength, planes, "" if strength == 0.0 else _too_little(0.0))
    windows = sample_windows(noisy.shape, most=25) if windows is None else windows
    clips = _clipping(noisy, windows)
    parts = [_look(noisy, denoised, level, strength, clips, window) for window in windows]
    return _judge(parts, strength, planes)


@dataclass(frozen=True, eq=False)
class _Part:
    """The blocks of one window, each figure (C, rows, columns)."""

    mean: FloatArray
    """Of the clean estimate."""
    usable: npt.NDArray[np.bool_]
    """Whether every pixel lies clear of the clipping levels."""
    variance: FloatArray
    """Predicted."""
    power: FloatArray
    """Mean of r^2 / v."""
    lags: FloatArray
    """Mean products with the next pixel along the row, the column, the diagonal, (3, C, rows, columns)."""
    change: FloatArray
    """Mean of r."""
    texture: FloatArray
    """Haar energies of the clean estimate over v, over the flatness limits; flat if at most 1."""
    left: FloatArray
    """Diagonal variance of the result over v."""
    bands: FloatArray
    """Share of common rows and columns: sum of excess and sum of weights, (2, 2, C)."""


def _clipping(noisy: Image, windows: Sequence[Window]) -> tuple[float, float]:
    """Return the levels at which the file clips darkness and light, -inf and at most 0.98 if it does not."""
    extremes = Extremes()
    for window in windows:
        extremes.see(noisy.window(*window))
    return extremes.floor(), min(extremes.ceiling(), 0.98)


def _look(
    noisy: Image, denoised: Image, level: NoiseLevel, strength: float, clips: tuple[float, float], window: Window
) -> _Part:
    """Reduce one window to its blocks."""
    top, bottom, left, right = window
    grid = _SPAN if min(bottom - top, right - left) >= _SPAN else BLOCK
    bottom, right = bottom - (bottom - top) % grid, right - (right - left) % grid
    before = noisy.window(top, bottom, left, right)
    result = denoised.window(top, bottom, left, right)
    removed = before - result
    if strength != 1.0:
        removed *= np.float32(1 / strength)
    clean: FloatPlanes = np.subtract(before, removed) if strength != 1.0 else result
    shot, read = (values.astype(np.float32)[:, None, None] for values in (level.shot, level.read))
    predicted = np.maximum(clean, 0) * shot + read
    sigma = np.sqrt(predicted)
    scaled = removed / sigma
    variance = block_mean(predicted, BLOCK)
    sigma *= np.float32(_MARGIN_SIGMA)
    usable = (fold(clean - sigma, BLOCK, np.minimum) > clips[0]) & (fold(clean + sigma, BLOCK, np.maximum) < clips[1])
    mean, diagonal, energy = haar_energies(clean, BLOCK)
    texture = (energy / (variance[..., None] * np.array(FLAT_DENOISED))).max(-1)
    power, flat = block_mean(scaled * scaled, BLOCK), usable & (texture <= 1)
    turned = scaled.swapaxes(1, 2), power.swapaxes(1, 2), flat.swapaxes(1, 2)
    if strength != 1.0:
        diagonal = haar_energies(result, BLOCK)[1]
    return _Part(
        mean,
        usable,
        variance,
        power,
        np.stack([_lag(scaled, 0, 1), _lag(scaled, 1, 0), _lag(scaled, 1, 1)]),
        block_mean(removed, BLOCK),
        texture,
        diagonal / variance,
        np.stack([_common(scaled, power, flat), _common(*turned)]),
    )


def _lag(scaled: npt.NDArray[Any], down: int, right: int) -> FloatArray:
    """Return the mean product of each pixel with its neighbour, by block; the window's last ones count as zero."""
    product = np.zeros_like(scaled)
    height, width = scaled.shape[1:]
    np.multiply(
        scaled[:, : height - down, : width - right],
        scaled[:, down:, right:],
        out=product[:, : height - down, : width - right],
    )
    return block_mean(product, BLOCK)


def _common(scaled: npt.NDArray[Any], power: FloatArray, flat: npt.NDArray[Any]) -> FloatArray:
    """Return, summed over rows, the excess square of a row's mean over that of white noise, and the row count (2, C).

    Only flat blocks count, and rows of at least 64 such pixels.
    """
    rows = scaled.reshape(*scaled.shape[:2], -1, BLOCK).sum(-1)
    weight = np.repeat(flat, BLOCK, axis=1)
    count = weight.sum(-1) * BLOCK
    used = count >= 64
    mean = (rows * weight).sum(-1, dtype=np.float64) / np.maximum(count, 1)
    centre = (mean * used).sum(-1, keepdims=True) / np.maximum(used.sum(-1, keepdims=True), 1)
    white = ((power * flat).sum((1, 2)) / np.maximum(flat.sum((1, 2)), 1))[:, None]
    spread = used * ((mean - centre) ** 2 - white / np.maximum(count, 1))
    return np.stack([spread.sum(-1), used.sum(-1)])


def _judge(parts: Sequence[_Part], strength: float, planes: int) -> FidelityReport:
    """Reduce the blocks to figures, and the figures to a verdict."""
    usable = np.concatenate([part.usable.ravel() for part in parts])
    checked = float(usable.mean())
    if usable.sum() < _FEWEST_BLOCKS // 4:
        return _unchecked(strength, planes, _too_little(checked))
    plane = np.concatenate([np.repeat(np.arange(planes), part.mean[0].size) for part in parts])
    mean, variance, power, change, texture, left = (
        np.concatenate([getattr(part, name).ravel() for part in parts])
        for name in ("mean", "variance", "power", "change", "texture", "left")
    )
    flat = usable & (texture <= 1)
    textured = bool(flat.sum() < _FEWEST_BLOCKS)
    if textured:
        limit = np.quantile(texture[usable], min(1.0, max(0.05, _FEWEST_BLOCKS / usable.sum())))
        flat = usable & (texture <= limit)
    lags = np.concatenate([part.lags.reshape(3, -1) for part in parts], 1)
    bands = np.stack([part.bands.sum(-1) for part in parts]).sum(0)
    ratio = float(power[flat].mean())
    lag_means = (lags[:, flat].mean(1) / max(ratio, 1e-12)).tolist()
    shares = (bands[:, 0] / np.maximum(bands[:, 1], 1) / max(ratio, 1e-12)).tolist()
    edge_excess, edge_correlation = _edges(power[usable], texture[usable], ratio)
    bias, shift = [], []
    for index in range(planes):
        which = usable & (plane == index)
        bias.append(float((change[which] / np.sqrt(variance[which])).mean()) if which.any() else float("nan"))
        signal = max(float(mean[which].mean()), 1e-6) if which.any() else float("nan")
        shift.append(float(-change[which].mean()) / signal if which.any() else float("nan"))
    of_plane = [flat & (plane == index) for index in range(planes)]
    report = FidelityReport(
        "ok",
        (),
        strength,
        tuple(float(power[which].mean()) if which.any() else float("nan") for which in of_plane),
        _by_brightness(mean[flat], power[flat]),
        (lag_means[0], lag_means[1], lag_means[2]),
        (shares[0], shares[1]),
        tuple(bias),
        tuple(shift),
        _unchanged(parts),
        edge_excess,
        edge_correlation,
        float(np.sqrt(max(left[flat].mean(), 0.0))),
        checked,
    )
    reasons = tuple(_reasons(report, ratio, textured))
    return FidelityReport(**{**report.__dict__, "verdict": "warn" if reasons else "ok", "reasons": reasons})


def _unchanged(parts: Sequence[_Part]) -> float:
    """Return the share of 32 x 32 blocks whose mean changed by less than two standard errors (2)."""
    small = count = 0
    for part in parts:
        side = _SPAN // BLOCK
        if part.mean.shape[1] % side or part.mean.shape[2] % side:
            continue
        whole = fold(part.usable, side, np.logical_and)
        t = block_mean(part.change, side) / np.sqrt(block_mean(part.variance, side) / _SPAN**2)
        small += int((whole & (np.abs(t) < 2)).sum())
        count += int(whole.sum())
    return small / count if count else float("nan")


def _edges(power: FloatArray, texture: FloatArray, ratio: float) -> tuple[float, float]:
    """Return the excess of removed variance in the most structured tenth, and its rank correlation with structure."""
    strong = texture >= np.quantile(texture, 0.9)
    excess = float(power[strong].mean() - ratio) if (texture[strong] > 1).any() else 0.0
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (power, texture)]
    return excess, float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _by_brightness(mean: FloatArray, power: FloatArray) -> tuple[BrightnessBin, ...]:
    """Average the removed variance by brightness, where at least 64 blocks say so."""
    index = np.clip(np.searchsorted(BRIGHTNESS, mean, side="right") - 1, 0, len(BRIGHTNESS) - 2)
    bins = []
    for place, (low, high) in enumerate(itertools.pairwise(BRIGHTNESS)):
        inside = index == place
        if inside.sum() >= _FEWEST_BLOCKS:
            bins.append(BrightnessBin(low, high, float(power[inside].mean()), int(inside.sum()) * BLOCK**2))
    return tuple(bins)


def _reasons(report: FidelityReport, ratio: float, textured: bool) -> list[str]:
    """Say in words which figures lie outside `LIMITS`."""
    reasons = []
    slack = LIMITS["texture_factor"] if textured else 1.0  # fewer flat blocks, and none quite flat
    if not LIMITS["variance_low"] / slack <= ratio <= LIMITS["variance_high"] * slack:
        more = "more" if ratio > 1 else "less"
        left = report.noise_left > 1 - report.strength + LIMITS["noise_left"]
        weak = "noise is left in the picture, or it is of another kind than" if left else "the noise may be weaker than"
        hint = "detail may be lost, or the noise is stronger than" if ratio > 1 else weak
        reasons.append(
            f"In flat areas {np.sqrt(ratio):.2f} times the predicted noise was removed, {more} than expected: {hint} "
            "the noise level says."
        )
    else:
        off = [part for part in report.by_brightness
               if not LIMITS["bin_low"] / slack <= part.variance_ratio <= LIMITS["bin_high"] * slack]  # fmt: skip
        for part in off[:1]:
            reasons.append(
                f"Between {100 * part.low:g} and {100 * part.high:g} % of white, {np.sqrt(part.variance_ratio):.2f} "
                "times the predicted noise was removed: the noise level does not fit at this brightness."
            )
    strongest = max(report.correlation, key=abs)
    if abs(strongest) > LIMITS["correlation"] * slack**2:
        reasons.append(
            f"What was removed is not fine grain: neighbouring pixels agree by {100 * strongest:.0f} %. The picture "
            "was smoothed, or its noise is blotchy (sharpened, scaled or compressed before)."
        )
    for name, share in zip(("rows", "columns"), report.banding, strict=True):
        if share > LIMITS["banding"]:
            reasons.append(f"What was removed holds banding: whole {name} make {100 * share:.0f} % of its power.")
    for bias, shift in sorted(zip(report.bias_sigma, report.shift, strict=True), key=lambda pair: -abs(pair[1])):
        visible = abs(shift) > LIMITS["shift"] and abs(bias) > LIMITS["shift_sigma"]
        if visible or abs(bias) > LIMITS["bias_sigma"]:
            reasons.append(
                f"Brightness or colour moved: one colour became {100 * abs(shift):.1f} % "
                f"{'brighter' if shift > 0 else 'darker'} on average ({abs(bias):.2f} of its noise)."
            )
            break
    if report.unchanged_share < LIMITS["unchanged_share"]:
        reasons.append(
            f"Local brightness moved: only {100 * report.unchanged_share:.0f} % of the areas kept their mean within "
            "what noise explains (95 % expected)."
        )
    if report.edge_excess > LIMITS["edge_excess"] * max(ratio, 1.0):
        reasons.append(
            f"Edges show in what was removed: {report.edge_excess:.2f} times the noise's power above flat areas. "
            "Fine detail was lost; try a lower strength."
        )
    most_left = LIMITS["noise_left_in_texture" if textured else "noise_left"]  # texture counts as noise there
    if report.noise_left > 1 - report.strength + most_left:
        reasons.append(
            f"Noise is left: {report.noise_left:.2f} of it, where strength {report.strength:g} leaves "
            f"{1 - report.strength:.2f}. The noise is stronger than the noise level says."
        )
    if report.checked_share < LIMITS["checked_share"]:
        reasons.append(_too_little(report.checked_share))
    return reasons


def _too_little(share: float) -> str:
    """Say that the check has nothing to stand on."""
    return f"Only {100 * share:.1f} % of the picture could be checked: the rest is clipped, black or too small."


def _unchecked(strength: float, planes: int, reason: str) -> FidelityReport:
    """Return the report of an image in which nothing was removed, or nothing can be measured."""
    nan = float("nan")
    return FidelityReport(
        "warn" if reason else "ok", (reason,) if reason else (), strength, (nan,) * planes, (), (nan, nan, nan),
        (nan, nan), (nan,) * planes, (nan,) * planes, nan, nan, nan, nan, 0.0,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Turn tuples into lists and NaN into None, through all depths."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
