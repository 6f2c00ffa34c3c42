"""Dark frames taken apart: what never changes, what a row or a column shares, what each pixel has of its own.

References
----------
.. [1] H. Feng et al., "Physics-guided noise neural proxy for practical low-light raw image denoising",
   arXiv 2310.09126, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from noise_models.calibration.dark import residuals
from noise_models.calibration.dark_sums import DarkSums
from noise_models.pnnp_losses import EmpiricalLaw, dither
from noise_models.pnnp_training import PixelNoise

FloatArray = npt.NDArray[np.float32]

_MOST_VALUES: Final = 2**24


@dataclass(frozen=True, eq=False)
class Decoupled:
    """The parts of m dark frames on R sampled rows of W pixels; their sum is the frames again [DN above offset]."""

    frame_dn: FloatArray
    """(R, W) mean frame: black, shading, hot pixels."""
    rows_dn: FloatArray
    """(m, R) what a row of one frame shares beyond that."""
    columns_dn: FloatArray
    """(m, W) what a column of one frame shares beyond frame and rows."""
    pixel_dn: FloatArray
    """(m, R, W) what is left."""


def decouple(sums: DarkSums) -> Decoupled:
    """Take the sampled frames of one ISO apart.

    Parameters
    ----------
    sums : DarkSums
        Of at least two frames.

    Returns
    -------
    Decoupled
        Row and column parts come from whole rows and columns, not from the sampled ones alone.

    Notes
    -----
    dark = frame + band + pixel, frame = mean over time, band = row means, then column means of the rest          (1)
    """
    frames = len(sums.sample_dn)
    rows = sums.row_means_dn[:frames] - sums.row_means_dn[:frames].mean(axis=0)
    columns = sums.column_means_dn[:frames] - sums.column_means_dn[:frames].mean(axis=0)
    columns = (columns - columns.mean(axis=1, keepdims=True)).astype(np.float32)
    rows = rows[:, sums.sample_rows].astype(np.float32)
    frame = sums.sample_dn.mean(axis=0)
    return Decoupled(frame, rows, columns, sums.sample_dn - frame - rows[:, :, None] - columns[:, None, :])  # (1)


def pixel_noise(sums: DarkSums, mode: int, *, seed: int = 0) -> PixelNoise:
    """Return the pixel part of dark frames as a proxy learns it.

    Parameters
    ----------
    sums : DarkSums
        Of at least two frames of one ISO.
    mode : int
        Number of the ISO's gain mode.
    seed : int
        Of the dither.

    Returns
    -------
    PixelNoise
        Hot pixels left out, variance corrected for what the means took; whole numbers are dithered.
    """
    residual, kept = residuals(sums)
    values = residual[:, kept].ravel()
    thinned = values[:: max(1, -(-values.size // _MOST_VALUES))]
    pixels = torch.from_numpy(np.ascontiguousarray(thinned))
    if sums.whole_numbers:
        pixels = dither(pixels, torch.Generator().manual_seed(seed))
    return PixelNoise(
        iso=sums.iso,
        mode=mode,
        law=EmpiricalLaw.of(pixels),
        sigma_dn=float(pixels.double().std()),
        frames=len(sums.sample_dn),
        rounded=sums.whole_numbers,
        lines=sum(1 / side for side in sums.mean_dn.shape),
    )
