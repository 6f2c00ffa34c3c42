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

from typing import Final

import torch
from torch import Tensor

from denoise.errors import DenoiseError
from noise_models.level import NoiseLevel

_LEAST_DENOMINATOR: Final = 1e-3
_GREATEST_EXPONENT: Final = 4.0
_NEAR_ONE: Final = 1e-3


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


def shot_and_read_mean(noisy: Tensor, score: Tensor, shot: float | Tensor, read: float | Tensor) -> Tensor:
    """Return the posterior mean for a sensor's noise, var(x) = shot x + read.

    Shot and read noise together are taken as the Poisson noise of a signal that stands read / shot higher: the same
    mean and variance at every signal. A score does not change when the image is shifted, so the Poisson formula holds
    there; taken back, it has the limits it should have, Gaussian for shot -> 0 and Poisson for read = 0.

    Notes
    -----
    x + b = (y + b + shot / 2) exp(shot s),  b = read / shot                                          (1)
    x = (y + shot / 2) exp(shot s) + read expm1(shot s) / shot                                        (2)
    """
    shot = torch.as_tensor(shot, dtype=noisy.dtype, device=noisy.device).clamp_min(1e-12)
    exponent = (shot * score).clamp(-_GREATEST_EXPONENT, _GREATEST_EXPONENT)
    return (noisy + shot / 2) * torch.exp(exponent) + read * torch.expm1(exponent) / shot  # (2)


def posterior_mean(noisy: Tensor, score: Tensor, noise: NoiseLevel) -> Tensor:
    """Return the posterior mean of (B, C, H, W) for a level of (C,) or (B, C), by `shot_and_read_mean`."""
    shot, read = (
        torch.as_tensor(part.copy(), dtype=noisy.dtype, device=noisy.device).reshape(-1, part.shape[-1], 1, 1)
        for part in (noise.shot, noise.read)
    )
    return shot_and_read_mean(noisy, score, shot, read)
