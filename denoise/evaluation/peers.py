"""Well-known methods to compare with, on the same inputs: BM3D, non-local means, wavelets.

They are told the true noise. Noise that grows with the signal is made even first, and the result returns without a
bias (`denoise.vst`); white noise they get as it is.

References
----------
.. [1] K. Dabov et al., "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE TIP 2007.
.. [2] A. Buades et al., "A non-local algorithm for image denoising", CVPR 2005.
.. [3] S. G. Chang et al., "Adaptive wavelet thresholding for image denoising and compression", IEEE TIP 2000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from denoise.errors import UsageError, nearest
from denoise.vst import Stabiliser
from noise_models.level import NoiseLevel

FloatPlanes = npt.NDArray[np.float32]
FloatPicture = npt.NDArray[np.float64]
Cleaner = Callable[[FloatPicture, float], FloatPicture]
"""A picture (H, W) or (H, W, 3) of about 0..1 and the sigma of its white noise; the cleaner picture."""

_LEAST_SIGMA: Final = 1e-4


class Peer:
    """A method of others, ready to run.

    Parameters
    ----------
    name : str
        Key of `PEERS`.

    Raises
    ------
    UsageError
        If there is none of that name, or the package that it needs is not installed.
    """

    def __init__(self, name: str) -> None:
        if name not in PEERS:
            raise UsageError(f"Peer '{name}' is not known. {nearest(name, PEERS)}")
        load, self.what = PEERS[name]
        self.name = name
        try:
            self._clean = load()
        except ImportError as error:
            raise UsageError(
                f"Peer '{name}' needs the package '{error.name}'. Install it: pip install 'denoise-toolkit[peers]'"
            ) from error

    def __call__(self, planes: FloatPlanes, noise: NoiseLevel) -> FloatPlanes:
        """Denoise (C, H, W) float32 in house units; three planes are taken as one colour picture."""
        noise = noise.for_channels(planes.shape[0])
        if not noise.shot.any() and np.ptp(noise.read) == 0:
            sigma = max(float(noise.read[0]) ** 0.5, _LEAST_SIGMA)
            return self._clean_all(planes.astype(np.float64), [sigma] * len(planes)).astype(np.float32)
        stabiliser = Stabiliser(noise, like=torch.from_numpy(planes))
        stable = stabiliser.forward(torch.from_numpy(planes)[None])[0].double().numpy()
        axes = None if len(planes) == 3 else (1, 2)
        low, high = (edge(stable, axis=axes, keepdims=True) for edge in (np.min, np.max))
        height = np.broadcast_to(np.maximum(high - low, 1.0), (len(planes), 1, 1))
        cleaned = self._clean_all((stable - low) / height, (1 / height).ravel().tolist()) * height + low
        return stabiliser.inverse(torch.from_numpy(cleaned.astype(np.float32))[None], "unbiased")[0].numpy()

    def _clean_all(self, planes: FloatPicture, sigmas: list[float]) -> FloatPicture:
        if len(planes) == 3:
            return np.moveaxis(self._clean(np.moveaxis(planes, 0, 2), sigmas[0]), 2, 0)
        return np.stack([self._clean(plane, sigma) for plane, sigma in zip(planes, sigmas, strict=True)])


def _load_bm3d() -> Cleaner:
    import bm3d  # pyright: ignore[reportMissingImports]

    return lambda picture, sigma: np.asarray((bm3d.bm3d_rgb if picture.ndim == 3 else bm3d.bm3d)(picture, sigma))


def _load_nlm() -> Cleaner:
    from skimage.restoration import denoise_nl_means

    def clean(picture: FloatPicture, sigma: float) -> FloatPicture:
        return denoise_nl_means(
            picture, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True,
            channel_axis=2 if picture.ndim == 3 else None,
        )  # fmt: skip

    return clean


def _load_wavelet() -> Cleaner:
    import pywt  # noqa: F401  # pyright: ignore[reportMissingImports]  scikit-image asks for it too late
    from skimage.restoration import denoise_wavelet

    def clean(picture: FloatPicture, sigma: float) -> FloatPicture:
        colour = picture.ndim == 3
        return denoise_wavelet(
            picture, sigma=sigma, method="BayesShrink", rescale_sigma=True, convert2ycbcr=colour,
            channel_axis=2 if colour else None,
        )  # fmt: skip

    return clean


PEERS: Final[dict[str, tuple[Callable[[], Cleaner], str]]] = {
    "bm3d": (_load_bm3d, "BM3D, CBM3D for colour (package bm3d, default profile; its licence: non-commercial)"),
    "nlm": (_load_nlm, "non-local means of scikit-image, patch 5, distance 6, h = 0.8 sigma"),
    "wavelet": (_load_wavelet, "wavelet shrinkage of scikit-image, BayesShrink, YCbCr for colour"),
}
"""Name to what loads it, and to what it is."""
