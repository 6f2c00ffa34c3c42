"""Non-local means on stabilised planes: works on any image, needs no weights.

References
----------
.. [1] A. Buades, B. Coll, J.-M. Morel, "A non-local algorithm for image denoising", CVPR 2005.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from denoise.card import ModelCard
from denoise.denoiser import needed
from denoise.strength import MEAN_HALO, keep_mean
from denoise.vst import Stabiliser
from noise_models.level import NoiseLevel

_PATCH: Final = 5
_REACH: Final = 6

CLASSICAL_CARD: Final = ModelCard(
    id="classical",
    method="classical",
    summary="Any image with shot and read noise: non-local means after variance stabilisation; no weights.",
    halo=_REACH + _PATCH // 2 + 1 + MEAN_HALO,
    multiple_of=8,
    precisions=("float32",),
    noise="required",
    paper="A. Buades et al., A non-local algorithm for image denoising, CVPR 2005",
    limits=("Slower and weaker than the trained models; it smooths fine texture at high noise.",),
)


class ClassicalDenoiser:
    """Non-local means of scikit-image, all planes weighing patches together."""

    def __init__(self, card: ModelCard = CLASSICAL_CARD) -> None:
        self.card = card
        self.bytes_per_pixel = 200.0

    def denoise(self, noisy: Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None) -> Tensor:
        """Denoise (B, C, H, W) float32; same shape out.

        Raises
        ------
        WeightsError
            If no noise level is given.
        """
        noise = needed(noise, self.card, noisy.shape[1])
        stabiliser = Stabiliser(noise, like=noisy)
        stable = stabiliser.forward(noisy).cpu().numpy()
        cleaned = np.stack([_non_local_means(planes) for planes in stable])
        denoised = stabiliser.inverse(torch.from_numpy(cleaned).to(noisy), kind="unbiased")
        return keep_mean(noisy, denoised, noise)

    def to(self, *arguments: Any, **keywords: Any) -> ClassicalDenoiser:
        """Stay where it is: it computes on the CPU and returns to the device it was called on."""
        return self


def _non_local_means(planes: np.ndarray) -> np.ndarray:
    """Denoise (C, H, W) whose noise has unit variance."""
    from skimage.restoration import denoise_nl_means  # half a second to load, which a network's user need not wait

    return denoise_nl_means(
        planes.astype(np.float64), patch_size=_PATCH, patch_distance=_REACH, h=0.7, sigma=1.0, fast_mode=True,
        channel_axis=0,
    ).astype(np.float32)  # fmt: skip
