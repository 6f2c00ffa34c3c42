"""RAW quality under shot and Gaussian read noise alone, on Kodak24: models against the same stabilisation with BM3D.

Protocol: every photograph is unprocessed with a random look (seed 24), mosaiced RGGB, and given Poisson-Gaussian noise
of a Sony A7S2 (14 bit: white - black = 15871 DN) at ISO 3200, 12800 and 25600, rounding not simulated, nothing cut.
PSNR over the four planes, values cut to 0..1, peak 1, mean over the images. The noise level is known to every method.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from denoise.denoiser import Denoiser
from denoise.engine.device import keep_memory
from denoise.manifests import data_root, find_files
from denoise.metrics import psnr_db
from denoise.training.sources.crops import load_photos
from denoise.unprocess import CameraLook, mosaic_planes, unprocess
from denoise.vst import Stabiliser
from denoise.weights import load_model
from noise_models.level import NoiseLevel

RANGE_DN = 15871.0
CASES = {"iso3200": (3.06, 3.9), "iso12800": (12.2, 14.2), "iso25600": (24.5, 25.9)}
"""Case to K [DN/e-] and read noise [DN]."""


def make_cases(photos: list[torch.Tensor]) -> dict[str, list[tuple[torch.Tensor, torch.Tensor, NoiseLevel]]]:
    """Return (noisy, clean, level) of every photograph for every case; planes (4, H, W)."""
    generator = torch.Generator().manual_seed(24)
    cases: dict[str, list[tuple[torch.Tensor, torch.Tensor, NoiseLevel]]] = {name: [] for name in CASES}
    for photo in photos:
        clean = mosaic_planes(unprocess(photo.float() / 255, CameraLook.draw(generator)))
        for name, (gain_dn_per_e, sigma_dn) in CASES.items():
            shot, sigma = gain_dn_per_e / RANGE_DN, sigma_dn / RANGE_DN
            noisy = torch.poisson(clean / shot, generator=generator) * shot
            noisy += sigma * torch.randn(clean.shape, generator=generator)
            cases[name].append((noisy, clean, NoiseLevel(np.full(4, shot), np.full(4, sigma**2), "given")))
    return cases


def load(name: str) -> Denoiser:
    """Load a model, its weights laid out as the engine lays them out."""
    model = load_model(name)
    if isinstance(model, torch.nn.Module):
        torch.nn.Module.to(model, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def with_model(model: Denoiser, noisy: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
    """Denoise whole planes in bfloat16, as the engine does where the chip has it."""
    reduced = "bfloat16" in model.card.precisions
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        batch = noisy[None].contiguous(memory_format=torch.channels_last)
        return model.denoise(batch, level).float()[0]


def with_bm3d(noisy: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
    """Stabilise, BM3D on each plane with sigma 1, exact unbiased inverse."""
    import bm3d

    stabiliser = Stabiliser(level, like=noisy)
    stable = stabiliser.forward(noisy[None])[0].numpy()
    planes = []
    for plane in stable:
        low, high = float(plane.min()), float(plane.max())
        scaled = (plane - low) / (high - low)
        planes.append(bm3d.bm3d(scaled, sigma_psd=1 / (high - low)) * (high - low) + low)
    denoised = torch.from_numpy(np.stack(planes).astype(np.float32))
    return stabiliser.inverse(denoised[None], "unbiased")[0]


def main() -> None:
    """Print the table, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--models", nargs="*", default=["supervised-unet.virtual-cameras", "classical"])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--bm3d-images", type=int, default=24, help="0 leaves BM3D out")
    arguments = parser.parse_args()
    keep_memory()
    files = find_files("kodak24", data_root(arguments.data_root))[: arguments.images]
    cases = make_cases(load_photos(files))
    methods = {name: (partial(with_model, load(name)), arguments.images) for name in arguments.models}
    if arguments.bm3d_images:
        methods["vst+bm3d"] = (with_bm3d, arguments.bm3d_images)
    results: dict[str, dict[str, float]] = {}
    for case, pairs in cases.items():
        results[case] = {"noisy": float(np.mean([psnr_db(noisy, clean) for noisy, clean, _ in pairs]))}
        for name, (method, count) in methods.items():
            method(pairs[0][0], pairs[0][2])
            begun = time.perf_counter()
            denoised = [method(noisy, level) for noisy, _, level in pairs[:count]]
            seconds = (time.perf_counter() - begun) / len(denoised)
            scores = [psnr_db(image, clean) for image, (_, clean, _) in zip(denoised, pairs, strict=False)]
            results[case][name] = round(float(np.mean(scores)), 3)
            results[case][f"{name}/s"] = round(seconds, 4)
            print(f"{case:9} {name:24} {np.mean(scores):7.3f} dB  {seconds:8.3f} s/image", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
