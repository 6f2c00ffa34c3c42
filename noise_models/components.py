"""The parts of which sensor noise is made, one pure function each.

All work in sensor geometry: float32 (B, C, H, W) in DN above black, before a mosaic is packed, with ``[0, 0]`` at an
even row and an even column of the sensor. Every function that draws asks for the generator, so nothing depends on
global state; the same seed gives the same noise. Parameters may be one number, or one for each image of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from noise_models.base import NoiseModelError
from noise_models.gain_point import ByPosition
from noise_models.sampling import NORMAL_ABOVE_E, add_tukey_lambda_, count_photons_

__all__ = [
    "NORMAL_ABOVE_E",
    "add_bias",
    "add_columns",
    "add_dark_current",
    "add_gaussian_read",
    "add_rows",
    "add_tukey_lambda_read",
    "clip_to_converter",
    "quantise",
    "quantise_uniform",
    "report_",
    "respond",
    "shade",
    "shot",
]

Numbers = float | Sequence[float] | Tensor
"""One number for the batch, or one for each image."""


def each(values: Numbers, count: int, name: str) -> list[float]:
    """Return one number for each of ``count`` images.

    Raises
    ------
    NoiseModelError
        If there are neither one nor ``count`` numbers, or one is not finite.
    """
    listed = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
    if len(listed) == 1:
        listed = listed * count
    if len(listed) != count:
        raise NoiseModelError(
            f"{name} was given {len(listed)} times for {count} images; give one number, or one for each image."
        )
    if not all(np.isfinite(listed)):
        raise NoiseModelError(f"{name} is {listed}, but must be finite.")
    return listed


def _not_negative(values: Numbers, count: int, name: str) -> list[float]:
    listed = each(values, count, name)
    if min(listed, default=0.0) < 0:
        raise NoiseModelError(f"{name} is {min(listed):g}, but must not be negative.")
    return listed


def shot(clean_dn: Tensor, gain_dn_per_e: Numbers, *, generator: torch.Generator, exact: bool = False) -> Tensor:
    """Count photons: K times a Poisson number of mean clean / K.

    Parameters
    ----------
    clean_dn : (B, C, H, W) float32
        Expected signal [DN]. What lies below black holds no photons and passes unchanged.
    gain_dn_per_e : float or (B,)
        Gain K [DN/e-].
    generator : torch.Generator
        Source of chance.
    exact : bool
        Draw every pixel from the Poisson law itself.

    Returns
    -------
    (B, C, H, W) float32
        Mean ``clean_dn``, variance ``K * clean_dn`` [DN].

    Raises
    ------
    NoiseModelError
        If a gain is not above 0.

    Notes
    -----
    noisy = K * Poisson(clean / K)                                                                                (1)

    Unless ``exact``, pixels of at least 10 electrons are counted by the Cornish-Fisher expansion of the Poisson law,
    rounded to whole electrons with Sheppard's correction,

    count = round(n + sqrt(n - 1/12 - 1/18) * z + (z**2 - 1) / 6), n = clean / K, z standard normal               (2)

    whose total-variation distance from the Poisson law is at most 2.3e-3 at n = 10 and falls as 0.02 / n; the mean is
    right to 2e-6 of n and the variance to 3e-5. Darker pixels are drawn from the Poisson law at levels of sqrt(n) 1/64
    apart, chosen by chance between the two beside n: the mean is right to 6.2e-5 e-, the variance to 2.5e-4 of n.
    z is one of 2**14 equally likely values, or, at 1 pixel in 256, one of the tails, drawn from the law itself.

    References
    ----------
    .. [1] E. A. Cornish, R. A. Fisher, "Moments and cumulants in the specification of distributions", 1938.
    """
    gains = each(gain_dn_per_e, clean_dn.shape[0], "The gain [DN/e-]")
    if min(gains, default=1.0) <= 0:
        raise NoiseModelError(f"The gain is {min(gains):g} DN/e-, but must be above 0: calibrate with flat frames.")
    noisy = clean_dn.clone(memory_format=torch.contiguous_format)
    count_photons_(noisy, gains, generator, exact=exact)  # (1) (2)
    return noisy


def _normal_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty(tensor.shape, dtype=torch.float32, device=tensor.device).normal_(generator=generator)


def add_gaussian_read(noisy_dn: Tensor, sigma_dn: Numbers, *, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of this standard deviation [DN], independent in every pixel; (B, C, H, W) float32."""
    sigmas = _not_negative(sigma_dn, noisy_dn.shape[0], "The read noise [DN]")
    return torch.addcmul(noisy_dn, _normal_like(noisy_dn, generator), _column(sigmas, noisy_dn))


def add_tukey_lambda_read(noisy_dn: Tensor, scale_dn: Numbers, shape: Numbers, *, generator: torch.Generator) -> Tensor:
    """Add Tukey-lambda noise, independent in every pixel.

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal [DN].
    scale_dn : float or (B,)
        Scale of the law [DN]; not its standard deviation, see `noise_models.tukey_lambda.sigma_from_scale`.
    shape : float or (B,)
        Lambda, above -0.5 [1]; 0 is the logistic law.
    generator : torch.Generator
        Source of chance.

    Returns
    -------
    (B, C, H, W) float32
        Same mean [DN].

    Raises
    ------
    NoiseModelError
        If a scale is negative or a lambda not above -0.5.

    Notes
    -----
    noise = s * Q(u), Q(u) = (u**lam - (1 - u)**lam) / lam, u uniform                                             (1)

    Q is read from a table of 2**14 equally likely values; the tails (1 pixel in 512 at either end) are drawn from (1)
    itself, so they reach as far as the law's. Lambda is rounded to 1/512, the standard deviation is not.

    References
    ----------
    .. [1] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
    """
    count = noisy_dn.shape[0]
    scales = _not_negative(scale_dn, count, "The read noise's scale [DN]")
    shapes = each(shape, count, "Lambda")
    noisy = noisy_dn.clone(memory_format=torch.contiguous_format)
    add_tukey_lambda_(noisy, scales, shapes, generator)  # (1)
    return noisy


def add_rows(noisy_dn: Tensor, sigma_dn: Numbers, *, generator: torch.Generator) -> Tensor:
    """Add one Gaussian value to every sensor row.

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal before packing [DN], so that red and green of one sensor row share their value.
    sigma_dn : float or (B,)
        Standard deviation of that value [DN].
    generator : torch.Generator
        Source of chance.

    Returns
    -------
    (B, C, H, W) float32
        Same mean [DN].

    Raises
    ------
    NoiseModelError
        If a standard deviation is negative.
    """
    batch, channels, height, _ = noisy_dn.shape
    sigmas = _not_negative(sigma_dn, batch, "The row noise [DN]")
    rows = torch.randn((batch, channels, height, 1), generator=generator, device=noisy_dn.device)
    return noisy_dn + rows * _column(sigmas, noisy_dn)


def add_columns(noisy_dn: Tensor, sigma_dn: Numbers, *, generator: torch.Generator) -> Tensor:
    """Add one Gaussian value of this standard deviation [DN] to every sensor column; see `add_rows`."""
    batch, channels, _, width = noisy_dn.shape
    sigmas = _not_negative(sigma_dn, batch, "The column noise [DN]")
    columns = torch.randn((batch, channels, 1, width), generator=generator, device=noisy_dn.device)
    return noisy_dn + columns * _column(sigmas, noisy_dn)


def add_bias(noisy_dn: Tensor, bias_dn: Tensor) -> Tensor:
    """Add the black-level error of each position of the 2x2 cell.

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal [DN].
    bias_dn : (2, 2) or (B, 2, 2)
        Dark mean minus nominal black, by (row, column) [DN].

    Returns
    -------
    (B, C, H, W) float32
        [DN].
    """
    batch, _, height, width = noisy_dn.shape
    cell = torch.as_tensor(bias_dn, dtype=torch.float32, device=noisy_dn.device).expand(batch, 2, 2)
    tiled = cell.repeat(1, 1, -(-width // 2))[:, :, :width].repeat(1, -(-height // 2), 1)[:, :height]
    return noisy_dn + tiled[:, None]


def add_dark_current(
    noisy_dn: Tensor, expected_e: Numbers, gain_dn_per_e: Numbers, *, generator: torch.Generator
) -> Tensor:
    """Add the electrons that heat frees in the dark: Poisson of mean current times exposure, times the gain.

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal [DN].
    expected_e : float or (B,)
        Dark current times exposure [e-].
    gain_dn_per_e : float or (B,)
        Gain K [DN/e-].
    generator : torch.Generator
        Source of chance.

    Returns
    -------
    (B, C, H, W) float32
        Mean raised by ``K * expected_e``, variance by ``K**2 * expected_e`` [DN].

    Raises
    ------
    NoiseModelError
        If a number of electrons is negative or a gain not above 0.
    """
    electrons = _not_negative(expected_e, noisy_dn.shape[0], "The dark signal [e-]")
    gains = each(gain_dn_per_e, noisy_dn.shape[0], "The gain [DN/e-]")
    expected_dn = _column([count * gain for count, gain in zip(electrons, gains, strict=True)], noisy_dn)
    dark_dn = expected_dn.expand(noisy_dn.shape).contiguous()
    return noisy_dn + shot(dark_dn, gains, generator=generator)


def respond(clean_dn: Tensor, prnu: Tensor, dead: Tensor | None = None) -> Tensor:
    """Let every pixel answer to light in its own way, before photons are counted.

    Parameters
    ----------
    clean_dn : (B, C, H, W) float32
        Expected signal [DN].
    prnu : (H, W) or (B, 1, H, W)
        Response minus 1 [1].
    dead : bool, same shape as ``prnu``, optional
        Pixels that do not answer.

    Returns
    -------
    (B, C, H, W) float32
        Expected signal of each pixel [DN].
    """
    response = prnu.to(clean_dn) + 1.0
    if dead is not None:
        response = response * ~dead.to(clean_dn.device)
    return clean_dn * response


def shade(noisy_dn: Tensor, dark_shading_dn: Tensor) -> Tensor:
    """Add the part of the dark signal that no frame is without, (H, W) or (B, 1, H, W) [DN]; hot pixels stand in it."""
    return noisy_dn + dark_shading_dn.to(noisy_dn)


def quantise(noisy_dn: Tensor) -> Tensor:
    """Round to the whole DN that the converter reports; adds a variance of 1/12 where the noise exceeds 1/2 DN."""
    return torch.round(noisy_dn)


def quantise_uniform(noisy_dn: Tensor, *, generator: torch.Generator) -> Tensor:
    """Add the converter's rounding error as noise, uniform from -1/2 to 1/2 DN, where whole DN are not wanted."""
    error = torch.rand(noisy_dn.shape, generator=generator, device=noisy_dn.device, dtype=torch.float32)
    return noisy_dn + error.sub_(0.5)


def clip_to_converter(noisy_dn: Tensor, black_dn: Numbers, white_dn: Numbers) -> Tensor:
    """Keep what the converter can report: from 0 to white, that is from -black to white - black [DN].

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal [DN above black].
    black_dn, white_dn : float or (B,)
        Black and saturation of the converter [DN].

    Returns
    -------
    (B, C, H, W) float32
        [DN above black].
    """
    blacks = each(black_dn, noisy_dn.shape[0], "The black level [DN]")
    whites = each(white_dn, noisy_dn.shape[0], "The white level [DN]")
    low = _column([-black for black in blacks], noisy_dn)
    high = _column([white - black for black, white in zip(blacks, whites, strict=True)], noisy_dn)
    return torch.clamp(noisy_dn, low, high)


def report_(
    noisy_dn: Tensor, black_dn: ByPosition, white_dn: float, *, rounded: bool = True, clipped: bool = True
) -> None:
    """Round and clip in place as a converter that adds its black first.

    Parameters
    ----------
    noisy_dn : (B, C, H, W) float32
        Signal [DN above black]; changed in place.
    black_dn : (2, 2)
        Black by (row, column) of the 2x2 cell; need not be whole [DN].
    white_dn : float
        Saturation [DN].
    rounded, clipped : bool
        Which of the two to do.
    """
    levels = {float(black) for row in black_dn for black in row}
    if len(levels) == 1:
        _report_(noisy_dn, levels.pop(), white_dn, rounded=rounded, clipped=clipped)
        return
    for row in range(2):
        for column in range(2):
            part = noisy_dn[..., row::2, column::2]
            _report_(part, float(black_dn[row][column]), white_dn, rounded=rounded, clipped=clipped)


def _report_(noisy_dn: Tensor, black: float, white: float, *, rounded: bool, clipped: bool) -> None:
    fraction = black - round(black)
    if rounded and fraction:
        noisy_dn.add_(fraction).round_().sub_(fraction)
    elif rounded:
        noisy_dn.round_()
    if clipped:
        noisy_dn.clamp_(-black, white - black)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1, 1)
