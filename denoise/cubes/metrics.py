"""How near a cube is to the truth: band by band, spectrum by spectrum, and how striped it is."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from denoise.errors import ShapeError

FloatArray = npt.NDArray[np.float64]

_NEIGHBOURS: Final = 4
_RIDGE: Final = 1e-9


def band_psnr_db(cube: npt.ArrayLike, clean: npt.ArrayLike) -> FloatArray:
    """Peak signal-to-noise ratio of each band, (bands,), peak 1, nothing cut [dB].

    The field's figure for a cube is the mean over its bands; a band without error is infinitely good.

    Parameters
    ----------
    cube, clean : (bands, H, W) array
        Scaled so that the clean cube lies in 0..1.

    Raises
    ------
    ShapeError
        If they are no cubes of one shape.

    Notes
    -----
    PSNR_b = -10 log10(mean((cube_b - clean_b)**2))                                                               (1)
    """
    cube, clean = _pair(cube, clean, "PSNR")
    error = np.square(cube - clean).mean((1, 2))
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)  # (1)


def band_ssim(cube: npt.ArrayLike, clean: npt.ArrayLike) -> FloatArray:
    """Structural similarity of each band, (bands,), as `denoise.metrics.ssim` defines it, but nothing cut [1].

    Raises
    ------
    ShapeError
        If they are no cubes of one shape, or smaller than 7x7.
    """
    cube, clean = _pair(cube, clean, "SSIM")
    if min(cube.shape[1:]) < 7:
        raise ShapeError(f"SSIM looks at windows of 7x7, but the bands are {cube.shape[2]}x{cube.shape[1]}.")
    from skimage.metrics import structural_similarity  # half a second to load

    pairs = zip(cube, clean, strict=True)
    return np.array([structural_similarity(band, truth, data_range=1.0) for band, truth in pairs])


def sam_deg(cube: npt.ArrayLike, clean: npt.ArrayLike) -> float:
    """Spectral angle between the spectra of a pixel, mean over all pixels [degrees].

    Papers give radians as often; a pixel without any light in either cube has no angle and does not count.

    Raises
    ------
    ShapeError
        If they are no cubes of one shape.

    Notes
    -----
    angle = arccos(<x, y> / (|x| |y|))                                                                            (1)

    References
    ----------
    .. [1] F. A. Kruse et al., "The spectral image processing system (SIPS)", Remote Sensing of Environment 44, 1993.
    """
    cube, clean = _pair(cube, clean, "The spectral angle")
    norms = np.sqrt(np.square(cube).sum(0) * np.square(clean).sum(0))
    lit = norms > 0
    if not lit.any():
        return math.nan
    cosine = (cube * clean).sum(0)[lit] / norms[lit]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())  # (1)


def ergas(cube: npt.ArrayLike, clean: npt.ArrayLike, ratio: float = 1.0) -> float:
    """Relative global error over all bands, in percent of their means; 0 is best [%].

    Parameters
    ----------
    cube, clean : (bands, H, W) array
        Of one shape. Bands whose clean mean is 0 do not count.
    ratio : float
        Pixel size of the fine image over that of the coarse one, where images were fused; 1 in denoising.

    Raises
    ------
    ShapeError
        If they are no cubes of one shape.

    Notes
    -----
    ERGAS = 100 ratio sqrt(mean_b(rmse_b^2 / mean_b^2))                                                           (1)

    References
    ----------
    .. [1] L. Wald, "Quality of high resolution synthesised images: Is there a simple criterion?", 2000.
    """
    cube, clean = _pair(cube, clean, "ERGAS")
    power = np.square(clean.mean((1, 2)))
    lit = power > 0
    if not lit.any():
        return math.nan
    error = np.square(cube - clean).mean((1, 2))[lit] / power[lit]
    return 100 * ratio * math.sqrt(error.mean())  # (1)


def stripe_energy(cube: npt.ArrayLike) -> FloatArray:
    """Power of stripes in each band (bands,): what of its column means neither smoothness nor other bands explain.

    The ratio of two cubes' energies says how much less striped one is; stripes that all bands share do not show.

    Parameters
    ----------
    cube : (bands, H, W) array
        Columns across track.

    Raises
    ------
    ShapeError
        If it is no cube of at least 3 columns.

    Notes
    -----
    With m_b the means of the columns of a band and h their second differences across track,

    energy_b = mean((h(m_b) - fit)**2), fit by h(m) of the four bands on either side, but the two beside it        (1)
    """
    return np.square(_unexplained_steps(cube)).mean(1)  # (1)


def steady_stripe_energy(cube: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Power of stripes that stay all along the track, of each band (bands,), and its standard error (bands,).

    A detector element adds the same to both halves of the track; noise, spoilt values and the scene do not. So, unlike
    that of `stripe_energy`, its mean is 0 where there are no stripes, and it may be negative.

    Parameters
    ----------
    cube : (bands, H, W) array
        Columns across track.

    Raises
    ------
    ShapeError
        If it is no cube of at least 2 rows and 3 columns.

    Notes
    -----
    With r_1, r_2 what `stripe_energy` takes the power of, in the first and the second half of the rows,

    energy_b = mean(r_1b r_2b),  its error sqrt(mean(r_1b^2) mean(r_2b^2) / W)                                    (1)
    """
    cube = np.asarray(cube, np.float64)
    if cube.ndim == 3 and cube.shape[1] < 2:
        raise ShapeError(f"Steady stripes are seen on both halves of a track, but the cube is {cube.shape}.")
    middle = cube.shape[1] // 2 if cube.ndim == 3 else 0
    first, second = _unexplained_steps(cube[:, :middle]), _unexplained_steps(cube[:, middle:])
    error = np.sqrt(np.square(first).mean(1) * np.square(second).mean(1) / first.shape[1])
    return (first * second).mean(1), error  # (1)


def _unexplained_steps(cube: npt.ArrayLike) -> FloatArray:
    """Return second differences of column means (bands, W - 2), less their fit by those of other bands."""
    cube = np.asarray(cube, np.float64)
    if cube.ndim != 3 or cube.shape[2] < 3:
        raise ShapeError(f"Stripes are columns of a cube (bands, H, W) at least 3 wide, but got {cube.shape}.")
    means = cube.mean(1)
    steps = means[:, 1:-1] - (means[:, :-2] + means[:, 2:]) / 2
    rest = np.empty_like(steps)
    for band, own in enumerate(steps):
        places = [band + side * away for side in (-1, 1) for away in range(2, _NEIGHBOURS + 2)]
        others = steps[[place for place in places if 0 <= place < len(cube)]]
        gram = others @ others.T
        gram += _RIDGE * max(float(np.trace(gram)), 1e-300) * np.eye(len(others))
        rest[band] = own - np.linalg.solve(gram, others @ own) @ others if len(others) else own
    return rest


def _pair(cube: npt.ArrayLike, clean: npt.ArrayLike, what: str) -> tuple[FloatArray, FloatArray]:
    first, second = np.asarray(cube, np.float64), np.asarray(clean, np.float64)
    if first.shape != second.shape or first.ndim != 3:
        raise ShapeError(f"{what} compares cubes (bands, H, W) of one shape, but got {first.shape} and {second.shape}.")
    return first, second
