"""Models for a camera's own noise on the crops of real photographs of PolyU, against NLM (cv2) and BM3D at their best.

Protocol: 48 crops of 512x512, one noisy JPEG each, the mean of many shots as reference; results rounded to 8 bit for
everybody; PSNR over all channels, peak 255, mean over crops. The classics are run at each of several strengths, and the
one with the highest mean is taken: chosen with the reference, in their favour. cbsn's training scenes are the scenes
of these crops, without any reference: its figures say how well it does on images that it could learn from.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from denoise.engine.device import keep_memory
from denoise.manifests import data_root, find_pairs
from denoise.metrics import psnr_db
from denoise.training.sources.crops import load_photos
from denoise.views import VIEWS, ViewsAveraged
from denoise.weights import load_model

Pixels = npt.NDArray[np.uint8]
NLM_STRENGTHS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
BM3D_SIGMAS = (14.0, 16.0, 18.0, 20.0)


def main() -> None:
    """Print the table, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--models", nargs="+", default=["cbsn.photo", "blind-unet.camera-jpegs"])
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one crop in N")
    parser.add_argument("--views", type=int, default=1, choices=VIEWS, help="mirrored views to average")
    parser.add_argument("--times", type=float, default=1.0, help="the noise, as a darker scene or smaller sensor has")
    parser.add_argument(
        "--bm3d", type=float, nargs="*", metavar="SIGMA", help="run BM3D too, half a minute for each crop and sigma"
    )
    arguments = parser.parse_args()
    sigmas = arguments.bm3d if arguments.bm3d is None else arguments.bm3d or BM3D_SIGMAS
    keep_memory()
    models = {name: ViewsAveraged(load_model(name), arguments.views) for name in arguments.models}
    scores: dict[str, list[float]] = defaultdict(list)
    shifts: dict[str, list[float]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    for pair in find_pairs("polyu-crops", data_root(arguments.data_root))[:: arguments.every]:
        noisy, clean = (photo.permute(1, 2, 0).numpy() for photo in load_photos([pair.noisy, pair.clean]))
        if arguments.times != 1:
            noise = noisy.astype(np.float32) - clean
            noisy = np.clip(np.rint(clean + arguments.times * noise), 0, 255).astype(np.uint8)
        scores["noisy"].append(score(noisy, clean))
        tensor = torch.from_numpy(noisy.transpose(2, 0, 1).copy()).float()[None] / 255
        for name, model in models.items():
            begun = time.perf_counter()
            with torch.inference_mode():
                result = model.denoise(tensor, None)[0].permute(1, 2, 0).numpy()
            seconds[name].append(time.perf_counter() - begun)
            denoised = rounded(result)
            shifts[name].append(float(np.abs(denoised.mean((0, 1)) - noisy.mean((0, 1))).max()))
            scores[name].append(score(denoised, clean))
        for strength in NLM_STRENGTHS:
            begun = time.perf_counter()
            cleaned = cv2.fastNlMeansDenoisingColored(noisy, None, strength, strength, 7, 21)
            seconds["nlm"].append(time.perf_counter() - begun)
            scores[f"nlm {strength:g}"].append(score(cleaned, clean))
        for sigma in sigmas or ():
            import bm3d

            begun = time.perf_counter()
            cleaned = rounded(bm3d.bm3d_rgb(noisy.astype(np.float64) / 255, sigma / 255))
            seconds["bm3d"].append(time.perf_counter() - begun)
            scores[f"bm3d {sigma:g}"].append(score(cleaned, clean))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    for name, mean in means.items():
        print(f"{name:24} {mean:7.3f} dB")
    results: dict[str, dict[str, float]] = {"noisy": {"db": means["noisy"]}}
    for name in models:
        gains = np.array(scores[name]) - np.array(scores["noisy"])
        results[name] = {
            "db": means[name], "worst_gain_db": float(gains.min()), "largest_colour_shift_of_255": max(shifts[name]),
        }  # fmt: skip
    for kind in ("nlm", "bm3d"):
        if best := [value for name, value in means.items() if name.startswith(kind)]:
            results[kind] = {"db": max(best)}
    for name, values in seconds.items():
        results[name]["s_per_crop"] = float(np.median(values))
    rounded_off = {name: {key: round(value, 3) for key, value in row.items()} for name, row in results.items()}
    print(json.dumps(rounded_off))


def rounded(image: npt.NDArray[np.floating]) -> Pixels:
    """Return 8-bit pixels, rounded and not cut off."""
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)


def score(image: Pixels, clean: Pixels) -> float:
    """Return the PSNR of 8-bit pixels [dB]."""
    return psnr_db(image / 255, clean / 255)


if __name__ == "__main__":
    main()
