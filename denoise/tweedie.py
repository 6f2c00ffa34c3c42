"""Tweedie's formula: the posterior mean of a clean image from the score of its noisy version, by kind of noise.

Every formula takes the noisy image y and s(y) = grad_y log p(y), the score of the density of noisy images, in house
units. No formula cuts its result to 0..1.

References
----------
.. [1] B. Efron, "Tweedie's formula and selection bias", JASA 2011.
.. [2] K. Kim, J. C. Ye, "Noise2Score: Tweedie's approach to self-supervised image denoising without clean images",
   NeurIPS 2021.
.. [3] K. Kim, T. Kwon, J. C. Ye, "Noise distribution adaptive self-supervised image denoising using Tweedie
   distribution and score matching", CVPR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from denoise.errors import DenoiseError
from denoise.vst import Stabiliser
from noise_models.level import NoiseLevel

Score = Callable[[Tensor], Tensor]
"""Maps noisy images (B, C, H, W) to grad log p, of the same shape."""

_LEAST_DENOMINATOR: Final = 1e-3
_GREATEST_EXPONENT: Final = 4.0
_NEAR_ONE: Final = 1e-3
_LIFT: Final = 0.4
_GAMMA_ROUNDS: Final = 2


def gaussian_mean(noisy: Tensor, score: Tensor, variance: float | Tensor) -> Tensor:
    """Return E[x | y] for y = x + n, n normal with ``variance``: exact.

    Notes
    -----
    x = y + sigma^2 s                                                                                 (1)
    """
    return noisy + variance * score  # (1)


def poisson_mean(noisy: Tensor, score: Tensor, zeta: float | Tensor) -> Tensor:
    """Return the posterior mean for y = zeta Poisson(x / zeta), whose variance is zeta x.

    It is the exponential of the posterior mean of log x: a little below E[x | y] where the posterior is wide.

    Notes
    -----
    x = (y + zeta / 2) exp(zeta s)                                                                    (1)
    """
    return (noisy + zeta / 2) * torch.exp((zeta * score).clamp(-_GREATEST_EXPONENT, _GREATEST_EXPONENT))  # (1)


def gamma_mean(noisy: Tensor, score: Tensor, k: float) -> Tensor:
    """Return the posterior mean for y = x g, g of gamma law with shape k and mean 1, whose variance is x^2 / k.

    It is the inverse of E[1 / x | y]: a little below E[x | y] where the posterior is wide. Where the score is so wrong
    that the denominator comes near 0, it is held at a thousandth.

    Notes
    -----
    x = k y / max(k - 1 - y s, k / 1000)                                                              (1)
    """
    return noisy / (1 - 1 / k - noisy * score / k).clamp_min(_LEAST_DENOMINATOR)  # (1)


def tweedie_mean(noisy: Tensor, score: Tensor, index: float, dispersion: float) -> Tensor:
    """Return the posterior mean for noise whose variance is a power of the signal, V = dispersion x^index.

    Parameters
    ----------
    noisy, score : tensors of one shape
        Where ``noisy`` is not positive, and the index not 0, nothing is known: it is taken as a thousandth.
    index : float
        0 Gaussian, 1 Poisson, 2 gamma; between 1 and 2 compound Poisson.
    dispersion : float
        sigma^2, zeta, 1 / k.

    Raises
    ------
    DenoiseError
        If the index lies outside 0 to 2, or the dispersion is negative.

    Notes
    -----
    alpha = dispersion y^(index - 1) (index / (2 y) + s)                                              (1)
    x = y (1 + (1 - index) alpha)^(1 / (1 - index)),  y exp(alpha) for index 1                        (2)
    """
    if not 0 <= index <= 2 or dispersion < 0:
        raise DenoiseError(
            f"A Tweedie law of index {index:g} and dispersion {dispersion:g} was asked for, but the index lies between "
            "0 (Gaussian) and 2 (gamma), and the dispersion is not negative."
        )
    if index == 0:
        return gaussian_mean(noisy, score, dispersion)
    positive = noisy.clamp_min(1e-3)
    alpha = dispersion * positive ** (index - 1) * (index / (2 * positive) + score)  # (1)
    if abs(1 - index) < _NEAR_ONE:
        return positive * torch.exp(alpha.clamp(-_GREATEST_EXPONENT, _GREATEST_EXPONENT))
    base = (1 + (1 - index) * alpha).clamp_min(_LEAST_DENOMINATOR)
    return positive * base ** (1 / (1 - index))  # (2)


def mean_by_stabilising(score: Score, noisy: Tensor, noise: NoiseLevel) -> Tensor:
    """Return the posterior mean for a sensor's noise, var(x) = shot x + read, of a stabilised image.

    A formula for shot noise multiplies the score by a noise that only the noisy pixel tells, and its errors with it.
    So the image is stabilised first (`denoise.vst`), which makes its noise even and nearly Gaussian, and Gaussian's
    formula holds: on photographs that comes closer by 0.7 dB and more, though of a density that is known exactly
    Poisson's formula is closer. Without shot noise nothing is to be stabilised.

    Parameters
    ----------
    score : callable
        Maps images (B, C, H, W) to their score; it is asked for that of the stabilised image, scaled to 0..1.
    noisy : (B, C, H, W) tensor
        House units.
    noise : NoiseLevel
        (C,) or (B, C).

    Notes
    -----
    u = f(y) / f(1), f the generalised Anscombe transform                                             (1)
    x = g(f(1) u + s(u) / f(1)), g its unbiased inverse                                               (2)
    """
    stabiliser = Stabiliser(noise, noisy)
    white = stabiliser.forward(noisy.new_ones(1, noisy.shape[1], 1, 1))
    shown = stabiliser.forward(noisy) / white  # (1)
    return stabiliser.inverse(white * shown + score(shown) / white, "unbiased")  # (2)


def gamma_mean_by_logarithm(score: Score, noisy: Tensor, k: float) -> Tensor:
    """Return the posterior mean for gamma noise of shape k by way of a logarithm, which makes its noise nearly even.

    Of the plain logarithm the dark parts would be most of the image, so black is lifted by two fifths of white. What is
    uneven of the noise then is known from the image: from the noisy one, and again from the first result.

    Parameters
    ----------
    score : callable
        As of `mean_by_stabilising`.
    noisy : (B, C, H, W) tensor
        House units; negative values count as 0.
    k : float
        Shape: the variance is x^2 / k.

    Notes
    -----
    u = log(1 + y / c) / log(1 + 1 / c), c = 2 / 5                                                    (1)
    The noise of log(c + y) has the variance w^2 / k and the mean -w^2 / 2 k, w = x / (x + c)         (2)
    x = c (exp(log(1 + 1 / c) u + w^2 s(u) / (k log(1 + 1 / c)) + w^2 / 2 k) - 1)                     (3)
    """
    dark = noisy.clamp_min(0) / _LIFT
    span = math.log1p(1 / _LIFT)
    logarithm = dark.log1p()
    toward = score(logarithm / span)  # (1)
    for _ in range(_GAMMA_ROUNDS):
        variance = (dark / (1 + dark)).square() / k  # (2)
        exponent = logarithm + variance * (toward / span + 0.5)
        dark = exponent.clamp_max(_GREATEST_EXPONENT).expm1().clamp_min(0)  # (3)
    return _LIFT * dark
