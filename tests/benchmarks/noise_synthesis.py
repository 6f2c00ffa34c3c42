"""How fast sensor noise is drawn, beside a straightforward numpy version of the same model.

Run it by hand, on one core: ``OMP_NUM_THREADS=1 python tests/benchmarks/noise_synthesis.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from noise_models.base import SensorSettings
from noise_models.eld import EldNoise
from noise_models.profile import CameraProfile, GainPoint, Provenance
from noise_models.tukey_lambda import scale_from_sigma

PIXELS, SIDES, ROUNDS = 1 << 21, (64, 128, 256, 512, 1024), 9
GAIN, SIGMA, SHAPE, ROW, BIAS = 0.9, 3.0, -0.1, 0.4, 0.5


def camera() -> CameraProfile:
    """Return a camera with one point."""
    point = GainPoint(
        iso=800,
        gain_dn_per_e=GAIN,
        read_scale_dn=scale_from_sigma(SIGMA, SHAPE),
        read_lambda=SHAPE,
        row_sigma_dn=ROW,
        bias_dn=((BIAS, BIAS), (BIAS, BIAS)),
    )
    black = ((512.0, 512.0), (512.0, 512.0))
    origin = Provenance(date="2026-01-01")
    return CameraProfile(
        make="Any", model="Camera", bit_depth=14, black_dn=black, white_dn=16383, points=(point,), provenance=origin
    )


def straightforward(clean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Spoil (B, 1, H, W) float32 as the model's equations read."""
    noisy = GAIN * random.poisson(clean / GAIN)
    share = random.random(clean.shape)
    noisy = noisy + scale_from_sigma(SIGMA, SHAPE) * (share**SHAPE - (1 - share) ** SHAPE) / SHAPE
    noisy = noisy + BIAS + ROW * random.standard_normal((*clean.shape[:3], 1), dtype=np.float32)
    return np.clip(np.round(noisy), -512, 16383 - 512).astype(np.float32)


def least_seconds(run: Callable[[], object]) -> float:
    """Return the least processor time of a few runs [s]."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def scenes(side: int) -> dict[str, torch.Tensor]:
    """Return batches (B, 1, side, side) of several kinds of light [DN], as many pixels each."""
    generator, images = torch.Generator().manual_seed(0), PIXELS // side**2
    smooth = torch.nn.functional.interpolate(
        torch.rand((images, 1, 9, 9), generator=generator), size=(side, side), mode="bicubic"
    ).clamp(0.0, 1.0)
    any_light = torch.rand((images, 1, side, side), generator=generator)
    return {
        "bright, 20 to 1000 e-": (20 + 980 * smooth) * GAIN,
        "any, 0 to 1000 e-": any_light * 1000 * GAIN,
        "scene, 0 to 1000 e-": 1000 * smooth**2.2 * GAIN,
        "dark scene, 0 to 50 e-": 50 * smooth**2.2 * GAIN,
        "black, 0 to 5 e-": 5 * smooth * GAIN,
    }


def main() -> None:
    """Print the time per pixel of both, their ratio, and their moments, for several crops and kinds of light."""
    torch.set_num_threads(1)
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    model, setting = EldNoise(camera()), SensorSettings(iso=800, exposure_s=0.01)
    print(f"{'scene':26s}{'crops':>12s}{'numpy':>10s}{'ours':>10s}{'ratio':>8s}   residual mean, sigma: numpy | ours")
    for side in SIDES:
        for name, clean in scenes(side).items():
            array, settings = clean.numpy(), [setting] * len(clean)
            theirs = least_seconds(lambda array=array: straightforward(array, random)) / PIXELS
            ours = least_seconds(lambda clean=clean, each=settings: model(clean, each, generator=generator)) / PIXELS
            one = straightforward(array, random) - array
            two = model(clean, settings, generator=generator).numpy() - array
            print(
                f"{name:26s}{len(clean):5d} x {side:<4d}{theirs * 1e9:7.1f} ns{ours * 1e9:7.1f} ns{theirs / ours:8.2f}"
                f"   {one.mean():.4f}, {one.std():.4f} | {two.mean():.4f}, {two.std():.4f}"
            )


if __name__ == "__main__":
    main()
