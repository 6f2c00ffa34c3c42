"""Noise2Score on Kodak24: Gaussian, Poisson and gamma noise, parameters known and estimated, beside a supervised twin.

Protocol: noise of seed 25 on photographs in 0..1, not cut, not rounded; whole images through the network in float32;
PSNR over all channels of values cut to 0..1, peak 1, mean over images. "estimated" takes the noisy image alone and
the family; "search" the parameter of the quality penalty; "told" the part of images whose family was recognised.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoise.engine.device import keep_memory
from denoise.manifests import data_root, find_files
from denoise.metrics import psnr_db
from denoise.noise_from_score import Family, detect_family, estimate_parameter, respond, search_parameter
from denoise.strength import keep_mean
from denoise.training.sources.crops import load_photos
from denoise.training.sources.noisy_sources import spoil
from denoise.tweedie import Score, gamma_mean_by_logarithm, mean_by_stabilising
from denoise.weights import load_model
from noise_models.level import NoiseLevel

CASES: tuple[tuple[Family, float], ...] = (
    ("gaussian", 15 / 255), ("gaussian", 25 / 255), ("gaussian", 50 / 255), ("poisson", 0.01), ("poisson", 0.05),
    ("gamma", 50.0), ("gamma", 100.0),
)  # fmt: skip


def clean_up(noisy: Tensor, score: Score, family: Family, parameter: float) -> Tensor:
    """Return Tweedie's estimate for a family and its parameter."""
    if family == "gamma":
        return gamma_mean_by_logarithm(score, noisy, parameter)
    gaussian = family == "gaussian"
    level = NoiseLevel(np.full(3, 0.0 if gaussian else parameter), np.full(3, parameter**2 if gaussian else 0.0))
    return keep_mean(noisy, mean_by_stabilising(score, noisy, level), level)


def main() -> None:
    """Print the table, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="noise2score.photo")
    parser.add_argument("--twin", help="weights of noise2score_twin.toml")
    parser.add_argument("--images", type=int, default=24)
    arguments = parser.parse_args()
    keep_memory()
    score: Score = load_model(arguments.model).score  # type: ignore[attr-defined]
    twin = load_model(arguments.twin) if arguments.twin else None
    photos = load_photos(find_files("kodak24", data_root(arguments.data_root)))[: arguments.images]
    results: dict[str, float] = {}
    for family, parameter in CASES:
        generator = torch.Generator().manual_seed(25)
        found: dict[str, list[float]] = defaultdict(list)
        for photo in photos:
            clean = photo.float()[None] / 255
            noisy = spoil(clean, family, parameter, generator).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                response = respond(score, noisy, generator=generator)
                estimate = estimate_parameter(response, family)
                searched = search_parameter(noisy, response.score, family)
                for name, value in (("known", parameter), ("estimated", estimate), ("search", searched)):
                    found[f"{name}_db"].append(psnr_db(clean_up(noisy, score, family, value), clean))
                if twin is not None:
                    found["twin_db"].append(psnr_db(twin.denoise(noisy, None), clean))
            found["noisy_db"].append(psnr_db(noisy, clean))
            found["estimate_ratio"].append(estimate / parameter)
            found["search_ratio"].append(searched / parameter)
            found["told"].append(float(detect_family(response).family == family))
        name = f"kodak24/{family}{parameter * 255 if family == 'gaussian' else parameter:g}"
        means = {key: float(np.mean(values)) for key, values in sorted(found.items())}
        print(f"{name:24}", "  ".join(f"{key} {value:7.3f}" for key, value in means.items()), flush=True)
        results |= {f"{name}/{key}": round(value, 3) for key, value in means.items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main()
