"""Variance stabilisation: make shot and read noise even, and return without a bias.

The generalised Anscombe transform turns a signal x with ``var(x) = a x + s^2`` (a = shot, s^2 = read) into one whose
noise has unit variance, so that a denoiser for white noise serves every camera. The square root is concave, hence the
mean of the stabilised signal lies below the stabilised mean; that bias is known, and taken out before or after.

Everything is written so that it stays exact in float32 from pure Poisson noise (read = 0) to pure Gaussian noise
(shot = 0): the transform is shifted to send black to 0, and no two large numbers are subtracted.

References
----------
.. [1] M. Makitalo, A. Foi, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise",
   IEEE TIP 22(1), 2013.
.. [2] H. Feng et al., "YOND: Practical Blind Raw Image Denoising Free from Camera-Specific Data Dependency", 2025.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from denoise.errors import DenoiseError, ShapeError, nearest
from noise_models.level import NoiseLevel

Inverse = Literal["algebraic", "closed-form", "unbiased"]
"""How to return: see `Stabiliser.inverse`."""

FloatArray = npt.NDArray[np.float64]

_NODES: Final = 2049
_SERIES_FROM: Final = 64.0
_REACH_SIGMA: Final = 9.0
_READ_ONLY_FROM: Final = 1e6
_LEAST_VARIANCE: Final = (1 / 65535) ** 2 / 12


class Stabiliser:
    """The generalised Anscombe transform of one noise level, on the device and in the dtype of a tensor.

    Parameters
    ----------
    noise : NoiseLevel
        (C,), or (B, C) for a batch whose images differ; C = 1 serves any number of planes.
    like : tensor
        Gives device and dtype (float32 or float64; shorter ones compute in float32).

    Raises
    ------
    ShapeError
        If the level has more than two dimensions.

    Notes
    -----
    With c = 3 a^2 / 8 + s^2::

        f(x) = 2 / a (sqrt(max(a x + c, 0)) - sqrt(c)) = 2 x / (sqrt(a x + c) + sqrt(c))                (1)
        f^-1(z) = a z^2 / 4 + sqrt(c) z,  z >= -2 sqrt(c) / a                                           (2)

    The second form of (1) has the limit x / s for a -> 0. A level without any noise (shot = read = 0) is taken as the
    rounding noise of a 16-bit file, (1 / 65535)^2 / 12: nothing divides by zero, and training may draw sigma = 0.
    """

    def __init__(self, noise: NoiseLevel, like: Tensor) -> None:
        if noise.shot.ndim > 2:
            raise ShapeError(f"A noise level is (C,) or (B, C), but got shape {noise.shot.shape}.")
        shot = noise.shot
        read = np.maximum(noise.read, _LEAST_VARIANCE - shot)
        root = np.sqrt(0.375 * shot**2 + read)
        with np.errstate(divide="ignore"):
            self._ratio = np.sqrt(read) / shot
            black_x, black_z = -(root**2) / shot, -2 * root / shot
        self._dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
        self._device = like.device
        self._shot, self._root, self._square, self._least_x, self._least_z = (
            self._spread(values) for values in (shot, root, root**2, black_x, black_z)
        )
        self._tables: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor, *, corrected: bool = False) -> Tensor:
        """Stabilise: noise of unit variance, black at 0.

        Parameters
        ----------
        x : (B, C, H, W) tensor
            House units, negative values kept.
        corrected : bool
            Take the bias at ``max(x, 0)`` out now, so that the mean of z is f of the mean and the algebraic inverse
            is right after a linear denoiser: the "pre" mode of [2].

        Returns
        -------
        (B, C, H, W) tensor
            In units of the noise's standard deviation.
        """
        x = x.to(self._dtype)
        root = torch.addcmul(self._square, self._shot, x).clamp_min_(0.0).sqrt_()
        stable = x.clamp(min=self._least_x).mul_(2.0) / (root + self._root)  # (1)
        return stable.sub_(self.bias(x)) if corrected else stable

    def inverse(self, z: Tensor, kind: Inverse = "algebraic") -> Tensor:
        """Return from the stabilised domain.

        Parameters
        ----------
        z : (B, C, H, W) tensor
            Stabilised and denoised.
        kind : str
            "algebraic": (2), the inverse of `forward` as a function. Right where z estimates f(x): a network trained
            towards f(clean), or ``forward(corrected=True)``.
            "unbiased": the exact inverse of x -> E[f(noisy) | x], from a table. Right where z is a mean of f(noisy):
            non-local means, BM3D, wavelets, any average.
            "closed-form": its approximation by [1], without a table; within 0.04 shot (a twenty-fifth of an electron).

        Returns
        -------
        (B, C, H, W) tensor
            House units; below the stabilised black it continues smoothly into negative values.

        Raises
        ------
        DenoiseError
            If the kind is not known.
        """
        z = z.to(self._dtype)
        if kind == "unbiased":
            least = self._tabulated()[2]
            z = z - self._look_up(self._reciprocal(z, least).mul_(least), 1)
        elif kind not in ("algebraic", "closed-form"):
            kinds = ("algebraic", "unbiased", "closed-form")
            raise DenoiseError(f"Inverse '{kind}' is not known. {nearest(kind, kinds)}")
        floored = torch.maximum(z, self._least_z)
        x = (floored * self._shot).mul_(0.25).add_(self._root).mul_(floored)  # (2)
        if kind != "closed-form":
            return x
        w = self._reciprocal(z, torch.ones_like(self._root)).mul_(
            self._shot / (2 * self._root)
        )  # 1 / unshifted z, of [1]
        tail = w * (0.625 * math.sqrt(1.5))
        tail.sub_(11 / 8).mul_(w).add_(0.25 * math.sqrt(1.5)).mul_(w).add_(0.25)
        return x.add_(tail.mul_(self._shot))

    def bias(self, x: Tensor) -> Tensor:
        """Return E[f(noisy) | x] - f(x), in standard deviations; a signal below black counts as black.

        Parameters
        ----------
        x : (B, C, H, W) tensor
            House units, without noise.

        Returns
        -------
        (B, C, H, W) tensor
            Between -0.19 and 0; about -shot / (4 sigma) at black where read noise rules.
        """
        x = x.to(self._dtype)
        place = torch.addcmul(torch.ones_like(self._shot), self._shot / self._square, x.clamp_min(0.0)).rsqrt_()
        return self._look_up(place, 0)

    def _spread(self, values: FloatArray) -> Tensor:
        """Return (C,) or (B, C) as a tensor (1 or B, C, 1, 1)."""
        planes = torch.as_tensor(np.array(np.atleast_2d(values)), dtype=self._dtype, device=self._device)
        return planes[:, :, None, None]

    def _reciprocal(self, z: Tensor, least: Tensor) -> Tensor:
        """Return stabilised black over unshifted z, within (0, 1 / least]."""
        shifted = (z * (self._shot / (2 * self._root))).add_(1.0)
        return torch.maximum(shifted, least).reciprocal_()

    def _tabulated(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tables of each plane (1 or B, C, nodes), and the mean of z over z at black, both unshifted."""
        if self._tables is None:
            pairs = [_tables(float(ratio)) for ratio in self._ratio.ravel()]
            shape = (*np.atleast_2d(self._ratio).shape, _NODES)
            bias, returned = (
                torch.as_tensor(np.stack(rows), dtype=self._dtype, device=self._device).reshape(shape)
                for rows in zip(*pairs, strict=True)
            )
            least = 1 + bias[..., -1:, None] * self._shot / (2 * self._root)
            self._tables = bias, returned, least
        return self._tables

    def _look_up(self, place: Tensor, table: int) -> Tensor:
        """Interpolate a bias table of each plane at ``place`` (B, C, H, W) in [0, 1]."""
        nodes = self._tabulated()[table]
        planes = torch.broadcast_to(nodes, (*place.shape[:2], _NODES))
        single = nodes.shape[0] == nodes.shape[1] == 1
        result = torch.empty_like(place)
        for image in range(1 if single else place.shape[0]):
            for plane in range(1 if single else place.shape[1]):
                part = place if single else place[image, plane]
                position = part * (_NODES - 1)
                left = position.to(torch.int32).clamp_(0, _NODES - 2)
                row = planes[image, plane]
                start = row[left]
                value = torch.lerp(start, row[left + 1], position.sub_(left))
                if single:
                    return value
                result[image, plane] = value
        return result


@lru_cache(maxsize=512)
def _tables(ratio: float) -> tuple[FloatArray, FloatArray]:
    """Return the bias at uniform nodes, by signal and by stabilised mean, for sigma / shot = ``ratio``.

    The node variable is q = sqrt(c / (a x + c)) (c as in `Stabiliser`): 1 at black, 0 at infinity, so that one table
    reaches over all signals; the bias is nearly straight in q. The second table holds it by the mean of z instead:
    q = (mean at black) / (mean), both without the shift, for the inverse.
    """
    nodes = np.linspace(0.0, 1.0, _NODES)
    if ratio > _READ_ONLY_FROM:
        return np.zeros(_NODES), np.zeros(_NODES)
    least = 0.375 + ratio**2
    bias = np.zeros(_NODES)
    bias[1:] = expected_bias(least * (nodes[1:] ** -2 - 1), ratio)
    black = 2 * math.sqrt(least)
    place = np.zeros(_NODES)
    place[1:] = (black + bias[-1]) / (black / nodes[1:] + bias[1:])
    return bias, np.interp(nodes, place, bias)


def expected_bias(signal: npt.ArrayLike, ratio: float) -> FloatArray:
    """Integrate the bias of the transform over Poisson-Gaussian noise, in float64.

    Parameters
    ----------
    signal : (N,) array_like
        x / shot: expected electrons, not negative.
    ratio : float
        sigma / shot: read noise in electrons; finite.

    Returns
    -------
    (N,) float64 array
        E[f(noisy)] - f(x), in standard deviations of the stabilised noise; accurate to 1e-6.

    Notes
    -----
    E[f] = sum_k Poisson(k; y) G(k), with G(k) the mean of 2 sqrt(max(k + 3/8 + s^2 + s n, 0)) over normal n. Where the
    kink lies within nine standard deviations, G is integrated over the square root itself, which makes the integrand
    smooth and the trapezoidal rule exact; elsewhere over n. Where y + 3/8 + s^2 exceeds 64, the Taylor series in the
    central moments serves (the card's, two orders further).
    """
    y = np.atleast_1d(np.asarray(signal, np.float64))
    shifted = y + 0.375 + ratio**2
    bias = np.empty_like(y)
    large = shifted >= _SERIES_FROM
    bias[large] = _series(y[large], ratio)
    small = ~large
    if small.any():
        from scipy.special import gammaln, xlogy  # slow to load, and not needed to denoise with a network

        counts = np.arange(int(_SERIES_FROM + 12 * math.sqrt(_SERIES_FROM)), dtype=np.float64)
        mean = _mean_root(counts + 0.375 + ratio**2, ratio)
        weights = np.exp(xlogy(counts, y[small, None]) - y[small, None] - gammaln(counts + 1))
        bias[small] = weights @ mean - 2 * np.sqrt(shifted[small])
    return bias


def _series(y: FloatArray, ratio: float) -> FloatArray:
    """Return the bias for many electrons, to sixth order in the noise."""
    v, u = y + ratio**2, y + 0.375 + ratio**2
    third, fourth = y, y + 3 * v**2
    fifth, sixth = y + 10 * y * v, y + 10 * y**2 + 15 * y * v + 15 * v**3
    terms = (-v / 8, third / 16, -5 * fourth / 128, 7 * fifth / 256, -21 * sixth / 1024)
    return 2 * np.sqrt(u) * sum(term / u**order for order, term in enumerate(terms, 2))


def _mean_root(means: FloatArray, sigma: float) -> FloatArray:
    """Return E[2 sqrt(max(mean + sigma n, 0))] over normal n."""
    if sigma == 0:
        return 2 * np.sqrt(means)
    result = np.empty_like(means)
    near = means < _REACH_SIGMA * sigma
    roots = np.linspace(0.0, math.sqrt(2 * _REACH_SIGMA * sigma), 800)
    density = np.exp(-0.5 * ((roots**2 - means[near, None]) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    result[near] = (4 * roots**2 * density).sum(1) * (roots[1] - roots[0])
    normal = np.linspace(-_REACH_SIGMA + 0.05, _REACH_SIGMA - 0.05, 360)
    density = np.exp(-0.5 * normal**2) / math.sqrt(2 * math.pi) * (normal[1] - normal[0])
    result[~near] = 2 * np.sqrt(np.maximum(means[~near, None] + sigma * normal, 0.0)) @ density
    return result
