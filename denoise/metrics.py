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
