"""A small denoiser, trained on pairs from one source of noise, and judged on noisy pictures."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from short_exposures import CASES, IsoBatch, ShortExposures
from torch import Tensor, nn
from unusual_camera import ISOS

from denoise.denoiser import Batch
from denoise.metrics import psnr_db
from denoise.networks.unet import ResidualUNet
from denoise.training.loop import Loop
from denoise.training.settings import LoopSettings
from noise_models.profile import CameraProfile

FROM_NOTHING = LoopSettings.model_validate(
    {"steps": 400, "learning_rate": 0.02, "warm_up": 50, "steady": 0.4, "ema": 0.99}
)
"""How a network is begun."""
FROM_A_START = LoopSettings.model_validate(
    {"steps": 200, "learning_rate": 0.01, "warm_up": 20, "steady": 0.3, "ema": 0.99}
)
"""How it goes on with another source."""
_LEAST_SIGMA = 0.01


class PlainDenoiser(nn.Module):
    """A small network from noisy to clean planes in linear light, and nothing around it.

    The toolkit's own denoiser returns the coarse mean of what it removed; here that would bring black-level error and
    banding back, whatever the network had learned of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ResidualUNet(channels=4, maps=2 + len(ISOS), widths=(16, 32, 64, 128), blocks=1)

    def denoise(self, batch: IsoBatch) -> Tensor:
        """Return the clean planes (B, 4, H, W) that the network sees in the noisy ones.

        It is told the read noise, the shot noise, and the read noise once more in the map of its ISO.
        """
        assert batch.noise is not None
        shot = torch.tensor(batch.noise.shot.mean(-1, keepdims=True), dtype=torch.float32)
        sigma = _sigma(batch)[:, None]
        told = torch.cat([sigma, shot, sigma * (batch.iso[:, None] == torch.tensor(ISOS))], 1)[:, :, None, None]
        return batch.noisy + self.network(batch.noisy, told.expand(-1, -1, *batch.noisy.shape[2:])).float()

    def loss(self, batch: IsoBatch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute error, in units of the image's read noise, so that the noisiest do not learn for all."""
        assert batch.clean is not None
        error = (self.denoise(batch) - batch.clean).abs().mean((1, 2, 3))
        return {"total": (error / (_sigma(batch) + _LEAST_SIGMA)).mean()}


def _sigma(batch: Batch) -> Tensor:
    """Return the read noise of each image, (B,)."""
    assert batch.noise is not None
    return torch.tensor(np.sqrt(batch.noise.read.mean(-1)), dtype=torch.float32)


def network(seed: int) -> PlainDenoiser:
    """Return the small denoiser, the same for the same seed."""
    torch.manual_seed(seed)
    return PlainDenoiser().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def train(start: PlainDenoiser, source: ShortExposures, settings: LoopSettings, seed: int, name: str) -> PlainDenoiser:
    """Return a copy of a network, trained further on the pairs of one source."""
    begun = time.process_time()
    trained = copy.deepcopy(start)
    with tempfile.TemporaryDirectory(prefix="noise-sources-") as folder:
        loop = Loop(copy.deepcopy(start), source, settings, Path(folder), seed=seed, device="cpu")
        trained.load_state_dict(loop.run().weights)
    print(f"{name:18} {settings.steps} steps, {time.process_time() - begun:.0f} s of processor", flush=True)
    return trained


def judged(
    trained: PlainDenoiser, pictures: Sequence[Batch], known: CameraProfile | None = None
) -> list[tuple[float, Tensor]]:
    """Return the mean PSNR of each case [dB], and its first picture (4, H, W).

    Parameters
    ----------
    trained : PlainDenoiser
        The network.
    pictures : sequence of Batch
        One picture each, the cases in turn.
    known : CameraProfile, optional
        Whose black-level error to take off the pictures first.
    """
    scores: list[list[float]] = [[] for _ in CASES]
    first: list[Tensor] = []
    for number, batch in enumerate(pictures):
        iso, ratio = CASES[number % len(CASES)]
        assert batch.clean is not None
        noisy = batch.noisy
        if known is not None:
            level = torch.tensor([known.at(iso).bias_dn[row][column] for row, column in known.positions])
            noisy = noisy - (level * ratio / (known.white_dn - known.black_dn[0][0]))[:, None, None]
        with torch.inference_mode():
            image = trained.denoise(IsoBatch(noisy, batch.clean, batch.noise, torch.tensor([iso])))
        scores[number % len(CASES)].append(psnr_db(image.numpy(), batch.clean.numpy()))
        if number < len(CASES):
            first.append(image[0])
    return [(float(np.mean(values)), picture) for values, picture in zip(scores, first, strict=True)]
