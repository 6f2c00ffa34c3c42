"""How near an image is to the truth."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from denoise.errors import ShapeError


def psnr_db(image: npt.ArrayLike, clean: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio against ``clean``, with a peak of 1, of values cut to 0..1 [dB].

    Parameters
    ----------
    image, clean : array
        Of one shape, house units.

    Raises
    ------
    ShapeError
        If the shapes differ.

    Notes
    -----
    PSNR = -10 log10(mean((image - clean)**2))                                                        (1)
    """
    image, clean = np.asarray(image, np.float64), np.asarray(clean, np.float64)
    if image.shape != clean.shape:
        raise ShapeError(f"PSNR compares images of one shape, but got {image.shape} and {clean.shape}.")
    error = float(np.square(np.clip(image, 0, 1) - np.clip(clean, 0, 1)).mean())  # (1)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: npt.ArrayLike, clean: npt.ArrayLike) -> float:
    """Structural similarity as scikit-image defines it, of values cut to 0..1, mean over the planes [1].

    Windows of 7x7 pixels of equal weight, sample covariance (divided by N - 1), data range 1, K1 = 0.01, K2 = 0.03: the
    defaults of ``skimage.metrics.structural_similarity``. Papers that weigh with a Gaussian get other numbers.

    Parameters
    ----------
    image, clean : (C, H, W) array
        Of one shape, H and W at least 7, house units.

    Raises
    ------
    ShapeError
        If the shapes differ, or are not three-dimensional, or smaller than the window.

    References
    ----------
    .. [1] Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    image, clean = np.asarray(image, np.float64), np.asarray(clean, np.float64)
    if image.shape != clean.shape or image.ndim != 3 or min(image.shape[1:]) < 7:
        raise ShapeError(
            f"SSIM compares planes (C, H, W) of one shape and at least 7x7, but got {image.shape} and {clean.shape}."
        )
    from skimage.metrics import structural_similarity  # half a second to load

    value = structural_similarity(np.clip(image, 0, 1), np.clip(clean, 0, 1), data_range=1.0, channel_axis=0)
    return float(value)  # pyright: ignore[reportArgumentType]  a number, unless maps are asked for


def illuminance_scalar(image: npt.ArrayLike, clean: npt.ArrayLike) -> float:
    """Return the one factor on ``image`` that brings it nearest to ``clean`` [1].

    Low-light benchmarks multiply a result by it before they compare, for lamps and shutters differ a little between
    two exposures. It hides an error in brightness, so state every figure without it too.

    Raises
    ------
    ShapeError
        If the shapes differ.

    Notes
    -----
    g = <image, clean> / <image, image> over values of ``clean`` below 1, ``image`` cut to 0..1              (1)

    References
    ----------
    .. [1] K. Wei et al., "Physics-based noise modeling for extreme low-light photography", TPAMI 44(11), 2022.
    """
    image, clean = np.asarray(image, np.float64), np.asarray(clean, np.float64)
    if image.shape != clean.shape:
        raise ShapeError(f"Brightness is compared of images of one shape, but got {image.shape} and {clean.shape}.")
    seen = clean < 1
    part = np.clip(image[seen], 0, 1)
    power = float(part @ part)
    return float(part @ clean[seen]) / power if power > 0 else 1.0  # (1)
