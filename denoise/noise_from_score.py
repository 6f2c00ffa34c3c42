"""What noise an image has, asked of the score of noisy images: how much, and of which family.

Where the picture is certain, the score falls by one over the noise's variance for each step of a pixel. So a small
perturbation of every pixel, and the change of the score that follows, show the variance pixel by pixel [1]. With
perturbations of equal size and random sign a pixel's own answer is hardly disturbed by its neighbours'.

References
----------
.. [1] K. Kim, T. Kwon, J. C. Ye, "Noise distribution adaptive self-supervised image denoising using Tweedie
   distribution and score matching", CVPR 2022.
.. [2] K. Kim, J. C. Ye, "Noise2Score: Tweedie's approach to self-supervised image denoising without clean images",
   NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from denoise.errors import DenoiseError, nearest
from denoise.tweedie import Score, gamma_mean, gaussian_mean, poisson_mean
from noise_models.level import NoiseLevel

Family = Literal["gaussian", "poisson", "gamma"]
FloatArray = npt.NDArray[np.float64]

INDICES: Final[dict[Family, float]] = {"gaussian": 0.0, "poisson": 1.0, "gamma": 2.0}
"""How the variance grows with the signal: V = dispersion x^index."""
_PERTURBATION: Final = 2e-3
_BLOCK: Final = 8
_EVEN: Final = 0.125
_ANSWERING: Final = 0.7
_DARKEST, _BRIGHTEST = 0.03, 0.95
_BINS: Final = 12
_FEWEST_BLOCKS: Final = 12
_FEWEST_BINS: Final = 4
_LEAST_SPAN: Final = 2.0
_SURE: Final = 0.25
_WORST_FIT: Final = 0.3
_CHARBONNIER: Final = 1e-6
_LEAST_VALID: Final = 0.9


@dataclass(frozen=True)
class Response:
    """A noisy image, its score, and how the score answered a perturbation."""

    noisy: Tensor
    """(B, C, H, W), house units."""
    score: Tensor
    """At ``noisy``."""
    slope: Tensor
    """Change of the score over the perturbation, pixel by pixel: about -1 / variance."""


@dataclass(frozen=True)
class FamilyEstimate:
    """Which family of noise an image has, if it can be told."""

    family: Family | Literal["shot-and-read"] | None
    """None where the image does not say."""
    index: float
    """Exponent of the signal in the variance; NaN where it could not be measured."""
    reason: str
    """One line for a user."""


def respond(score: Score, noisy: Tensor, *, generator: torch.Generator) -> Response:
    """Perturb every pixel by the same small amount up or down, and see how the score answers.

    Parameters
    ----------
    score : callable
        Maps (B, C, H, W) to the score.
    noisy : (B, C, H, W) tensor
        House units; its sides are what the network takes.
    generator : torch.Generator
        Of the signs.
    """
    signs = torch.randint(0, 2, noisy.shape, generator=generator, device=noisy.device).to(noisy) * 2 - 1
    before = score(noisy)
    slope = (score(noisy + _PERTURBATION * signs) - before) / (_PERTURBATION * signs)
    return Response(noisy, before, slope)


def estimate_parameter(response: Response, family: Family) -> float:
    """Return sigma, zeta or k of a family: where Tweedie's formula does not feel the nudge.

    In each block of 8 x 8 the median over its pixels. Uncertain texture pretends to more noise, so of all blocks the
    quantile of one eighth is taken: the even areas of the picture.

    Raises
    ------
    DenoiseError
        If the family is not known, or too few blocks say anything.

    Notes
    -----
    c = -1 / slope, pixel by pixel
    sigma^2 = c                                                                                       (1)
    zeta = -y + sqrt(y^2 + 2 c)                                                                       (2)
    1 / k = 1 / (1 + y^2 / c)                                                                         (3)
    """
    if family not in INDICES:
        raise DenoiseError(f"Noise family '{family}' is not known. {nearest(family, INDICES)}")
    y, slope = _blocks(response.noisy), _blocks(response.slope)
    mean = y.mean(1)
    known = (slope < 0).float().mean(1) > _ANSWERING
    if family != "gaussian":
        known &= (mean > _DARKEST) & (mean < _BRIGHTEST)
    if int(known.sum()) < _FEWEST_BLOCKS:
        raise DenoiseError(
            f"The {family} noise of an image was to be estimated, but only {int(known.sum())} blocks of it answer. "
            "Give the noise level, or a larger image."
        )
    y, c = y[known], -1 / slope[known].clamp_max(-1e-9)
    if family == "gaussian":
        return float(_even(c).sqrt())  # (1)
    if family == "poisson":
        return float(_even(torch.sqrt(y.square() + 2 * c) - y))  # (2)
    return float(1 / _even(1 / (1 + y.square() / c)))  # (3)


def estimate_shot_and_read(response: Response) -> NoiseLevel:
    """Return the line var(x) = shot x + read through the variance of the even blocks, bin by bin of brightness.

    Raises
    ------
    DenoiseError
        If the image does not span enough brightness to tell the two apart.
    """
    from scipy.optimize import nnls  # slow to load, and not needed to denoise

    brightness, variance = _by_brightness(response)
    if len(variance) < _FEWEST_BINS or brightness[-1] / brightness[0] < _LEAST_SPAN:
        raise DenoiseError(
            "Shot and read noise were to be told apart, but the image is too even. Give the noise level: --noise "
            "SHOT,READ."
        )
    (shot, read), _ = nnls(
        np.stack([brightness, np.ones_like(brightness)], 1) / variance[:, None], np.ones(len(variance))
    )
    return NoiseLevel(np.array([shot]), np.array([read]), "the score")


def _even(values: Tensor) -> Tensor:
    """Return the quantile of the most certain blocks of their medians; values (N, 64)."""
    return values.median(1).values.quantile(_EVEN)


def _blocks(planes: Tensor) -> Tensor:
    """Cut (B, C, H, W) into blocks (N, 64), float64."""
    rows, columns = (size // _BLOCK for size in planes.shape[2:])
    whole = planes[:, :, : rows * _BLOCK, : columns * _BLOCK].double()
    return whole.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK).reshape(-1, _BLOCK**2)


def detect_family(response: Response) -> FamilyEstimate:
    """Tell the family by how the variance grows with brightness; refuse where that is not clear.

    In blocks of 8 x 8 the mean slope gives the variance; bins of brightness give its least eighth, where the picture
    is even; a straight line through their logarithms gives the exponent: near 0, 1 or 2 it is a family, between 0 and 1
    it is shot and read noise.
    """
    brightness, variance = _by_brightness(response)
    if len(variance) < _FEWEST_BINS or brightness[-1] / brightness[0] < _LEAST_SPAN:
        span = brightness[-1] / brightness[0] if len(variance) else 1.0
        reason = f"brightness spans a factor {span:.1f} only, which does not tell one family from another"
        return FamilyEstimate(None, float("nan"), reason)
    design = np.stack([np.log(brightness), np.ones_like(brightness)], 1)
    line = np.linalg.lstsq(design, np.log(variance), rcond=None)[0]
    index, scatter = float(line[0]), float(np.std(np.log(variance) - design @ line))
    said = f"the variance grows as brightness to the power {index:.2f}"
    if scatter > _WORST_FIT:
        return FamilyEstimate(None, index, f"{said}, but with a scatter of {scatter:.2f}: no one law fits")
    for family, expected in INDICES.items():
        if abs(index - expected) < _SURE:
            return FamilyEstimate(family, index, said)
    if 0 < index < 1:
        return FamilyEstimate("shot-and-read", index, said)
    return FamilyEstimate(None, index, f"{said}, which is no family that is served")


def _by_brightness(response: Response) -> tuple[FloatArray, FloatArray]:
    """Return brightness and variance of the even blocks of the bins that hold enough blocks, darkest first."""
    mean, slope = (_blocks(part).mean(1).cpu().numpy() for part in (response.noisy, response.slope))
    usable = (slope < 0) & (mean > _DARKEST) & (mean < _BRIGHTEST)
    mean, variance = mean[usable], -1 / slope[usable]
    if mean.size < 4 * _FEWEST_BLOCKS:
        return np.empty(0), np.empty(0)
    edges = np.geomspace(mean.min(), mean.max() * (1 + 1e-9), _BINS + 1)
    number = np.digitize(mean, edges)
    bins = [number == n for n in range(1, _BINS + 1) if (number == n).sum() >= _FEWEST_BLOCKS]
    return (
        np.array([np.median(mean[chosen]) for chosen in bins]),
        np.array([np.quantile(variance[chosen], _EVEN) for chosen in bins]),
    )


def search_parameter(noisy: Tensor, score: Tensor, family: Family) -> float:
    """Return the parameter whose result looks best by a penalty that knows no truth: a second opinion.

    Total variation for Gaussian noise; the likelihood of the noise with some of it for Poisson and gamma.

    Parameters
    ----------
    noisy, score : (B, C, H, W) tensors
        House units.
    family : str
        "gaussian": sigma of 2 to 80 of 255; "poisson": zeta of 0.001 to 0.12; "gamma": k of 20 to 250.

    Raises
    ------
    DenoiseError
        If the family is not known, or no candidate leaves nine tenths of the pixels above black.
    """
    if family not in INDICES:
        raise DenoiseError(f"Noise family '{family}' is not known. {nearest(family, INDICES)}")
    candidates, formula, penalty = {
        "gaussian": (np.geomspace(2 / 255, 80 / 255, 120), lambda p: gaussian_mean(noisy, score, p * p), _variation),
        "poisson": (np.geomspace(0.001, 0.12, 120), lambda p: poisson_mean(noisy, score, p), _poisson_penalty),
        "gamma": (np.geomspace(20, 250, 100), lambda p: gamma_mean(noisy, score, p), _gamma_penalty),
    }[family]
    best, least = float("nan"), float("inf")
    for candidate in candidates:
        result = formula(float(candidate))
        valid = result > 0
        if family != "gaussian" and float(valid.float().mean()) < _LEAST_VALID:
            continue
        value = float(penalty(noisy, result, valid))
        if value < least:
            best, least = float(candidate), value
    if not np.isfinite(best):
        raise DenoiseError(f"No {family} parameter gives a picture: nearly all of it falls below black.")
    return best


def _variation(_: Tensor, result: Tensor, __: Tensor) -> Tensor:
    down, across = result.diff(dim=2), result.diff(dim=3)
    return (down.square() + _CHARBONNIER**2).sqrt().mean() + (across.square() + _CHARBONNIER**2).sqrt().mean()


def _poisson_penalty(noisy: Tensor, result: Tensor, valid: Tensor) -> Tensor:
    fit = (result - noisy * result.clamp_min(1e-6).log())[valid].mean()
    return 0.1 * _variation(noisy, result.clamp_min(0), valid) + fit


def _gamma_penalty(noisy: Tensor, result: Tensor, valid: Tensor) -> Tensor:
    kept = result[valid]
    ratio = noisy[valid] / kept
    return _variation(noisy, result, valid) + kept.log().mean() + ratio.mean() + ratio.square().mean()
