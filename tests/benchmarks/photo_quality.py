"""White Gaussian noise on Kodak24 (colour) and Set12 (grey): models against BM3D, on the same inputs, in one run.

Protocol: noise of sigma/255 (seed 25) added to the photographs in 0..1, not cut, not rounded; PSNR over all channels of
values cut to 0..1, peak 1, mean over the images. The noise level is known to every method.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from denoise.crops import load_photos
from denoise.engine.device import keep_memory
from denoise.manifests import data_root, find_files
from denoise.metrics import psnr_db
from denoise.weights import load_model
from noise_models.level import NoiseLevel


def main() -> None:
    """Print the table, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="supervised-unet.photo")
    parser.add_argument("--sigmas", type=int, nargs="*", default=[15, 25, 50])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--bm3d", action="store_true", help="run (C)BM3D too: about a minute an image")
    arguments = parser.parse_args()
    keep_memory()
    model = load_model(arguments.model)
    reduced = "bfloat16" in model.card.precisions
    results: dict[str, float] = {}
    for dataset in ("kodak24", "set12"):
        photos = load_photos(find_files(dataset, data_root(arguments.data_root)))[: arguments.images]
        if dataset == "set12":
            photos = [photo[:1] for photo in photos]
        for sigma in arguments.sigmas:
            generator = torch.Generator().manual_seed(25)
            level = NoiseLevel(np.zeros(1), np.array([(sigma / 255) ** 2]), "given")
            scores, peers, seconds = [], [], 0.0
            for photo in photos:
                clean = photo.float()[None] / 255
                noisy = clean + sigma / 255 * torch.randn(clean.shape, generator=generator)
                begun = time.perf_counter()
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                    denoised = model.denoise(noisy.contiguous(memory_format=torch.channels_last), level).float()
                seconds += time.perf_counter() - begun
                scores.append(psnr_db(denoised, clean))
                if arguments.bm3d:
                    import bm3d

                    peer = bm3d.bm3d_rgb if clean.shape[1] == 3 else bm3d.bm3d
                    planes = noisy[0].permute(1, 2, 0).squeeze(-1).double().numpy()
                    peers.append(psnr_db(peer(planes, sigma / 255), clean[0].permute(1, 2, 0).squeeze(-1)))
            name = f"{dataset}/sigma{sigma}"
            results[f"{name}/psnr_db"] = round(float(np.mean(scores)), 3)
            text = f"{name:18} {np.mean(scores):7.3f} dB  {seconds / len(scores):6.3f} s/image"
            if peers:
                results[f"{name}/bm3d_psnr_db"] = round(float(np.mean(peers)), 3)
                text += f"   bm3d {np.mean(peers):7.3f} dB"
            print(text, flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
