"""Hyperspectral cubes under the field's noise cases: PSNR, SSIM, spectral angle, ERGAS and time, beside peers.

Run: python tests/benchmarks/cube_quality.py --data-root DATA [--cases gaussian-30,mixture] [--scenes abu-urban-5]

abu-urban-5 was not learned from, but checkpoints were chosen on it; the others (`abu-train`) cube-diffusion knows.
The reference is the real scene, scaled to 0..1 as a whole. It carries its own noise: no figure is of a perfect truth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cube_peers import PEERS
from scipy.io import loadmat

from denoise.cubes.metrics import band_psnr_db, band_ssim, ergas, sam_deg, steady_stripe_energy, stripe_energy
from denoise.training.sources.cube_noise import spoil_as_finch
from denoise.weights import load_model
from noise_models.cube_cases import spoil_cube

Planes = npt.NDArray[np.float32]
CASES = "gaussian-2,gaussian-30,gaussian-50,non-iid,stripe,mixture"
SCENES = "abu-urban-5"


def read_scene(root: Path, name: str) -> Planes:
    """Return a scene (bands, H, W), scaled to 0..1."""
    stored = np.load(name) if name.endswith(".npy") else loadmat(next((root / "hsi").glob(f"*/{name}.mat")))["data"]
    planes = stored.astype(np.float32).transpose(2, 0, 1)
    return np.ascontiguousarray((planes - planes.min()) / (planes.max() - planes.min()))


def run_model(name: str) -> Callable[[Planes], Planes]:
    """Return a model of ours as a function of the noisy cube alone."""
    model = load_model(name, kind="cube")

    def denoise(noisy: Planes) -> Planes:
        with torch.inference_mode():
            return model.denoise(torch.from_numpy(noisy)[None], None)[0].numpy()

    return denoise


def spoil(clean: torch.Tensor, case: str, generator: torch.Generator) -> torch.Tensor:
    """Spoil a cube by a standard case, or as the FINCH satellite would."""
    return spoil_as_finch(clean, generator) if case == "finch" else spoil_cube(clean, case, generator=generator)


def compare_case(root: Path, scenes: list[str], case: str, methods: dict[str, Callable[[Planes], Planes]]) -> None:
    """Print what each method makes of a case: mean over the scenes, and by scene.

    "Blocks" is the error of the mean spectra of 10x10 blocks over that of the noisy cube, rms, median of the bands.
    """
    rows: dict[str, list[list[float]]] = {"noisy": [], **{name: [] for name in methods}}
    for number, scene in enumerate(scenes):
        clean = read_scene(root, scene)
        noisy = spoil(torch.from_numpy(clean), case, torch.Generator().manual_seed(number)).numpy()
        noise_of_blocks = rms(block_means(noisy - clean))
        for name, denoise in {"noisy": lambda cube: cube, **methods}.items():
            begun, worked = time.perf_counter(), time.process_time()
            result = denoise(noisy)
            clocks = [time.perf_counter() - begun, time.process_time() - worked]
            psnr = float(band_psnr_db(result, clean).mean())
            quality = [psnr, float(band_ssim(result, clean).mean()), sam_deg(result, clean), ergas(result, clean)]
            blocks = float(np.median(rms(block_means(result - clean)) / noise_of_blocks))
            rows[name].append([*quality, blocks, *clocks])
    for name, values in rows.items():
        psnr, ssim, sam, error, blocks, wall, cpu = np.mean(values, 0)
        scenes_db = " ".join(f"{row[0]:.2f}" for row in values)
        print(
            f"{case:12s} {name:12s} {psnr:6.2f} dB  SSIM {ssim:.4f}  SAM {sam:5.2f} deg  ERGAS {error:7.2f} %  "
            f"blocks {blocks:.2f}  {wall:5.1f} s ({cpu:.1f} s of processor)  by scene {scenes_db}",
            flush=True,
        )


def check_real(root: Path, scene: str, methods: dict[str, Callable[[Planes], Planes]]) -> None:
    """Print what becomes of real stripes, and of the mean spectra of 10x10 blocks.

    A band is striped where what its columns show is there on both halves of the track, beyond four standard errors, and
    stronger than white noise. Block means move by noise that neighbours share as well: what they should move by is
    told by the contrast between the quarters of the blocks. Spikes do not count.
    """
    noisy = read_scene(root, scene)
    model: Any = load_model("subspace")
    with torch.inference_mode():
        first = model.first_estimate(torch.from_numpy(noisy)[None], None)
    sigma, valid = first.sigma[0].numpy(), first.valid[0].numpy()
    before, error = steady_stripe_energy(noisy)
    floor = 1.5 * sigma**2 / noisy.shape[1]  # of white noise
    across = np.median(stripe_energy(noisy) / floor)
    rows = np.median(stripe_energy(noisy.transpose(0, 2, 1)) / (1.5 * sigma**2 / noisy.shape[2]))
    striped = [band for band in np.argsort(-before / floor) if before[band] > max(4 * error[band], floor[band])]
    print(f"{scene}: {len(striped)} striped bands; energy over noise, median: columns {across:.1f}, rows {rows:.1f}")
    for name, denoise in methods.items():
        result = denoise(noisy)
        after, error_after = steady_stripe_energy(result)
        words = ", ".join(
            f"{band}: {before[band] / floor[band]:.1f} / {before[band] / max(after[band], error_after[band]):.0f}"
            for band in striped
        )
        print(f"{scene} {name}: steady stripes over noise / times weaker afterwards, by band: {words or 'none'}")
        moved, own = block_motion(np.where(valid, result - noisy, 0.0) / sigma[:, None, None])
        print(
            f"{scene} {name}: block means moved by {np.median(moved):.2f} of what white noise would, "
            f"{np.median(moved / own):.2f} of what their own noise would (rms, medians of the bands)"
        )


def block_motion(removed: Planes) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the rms of block means and of the contrast between their quarters, by band, in sigma/10."""
    height, width = (size // 10 * 10 for size in removed.shape[1:])
    quarters = removed[:, :height, :width].reshape(len(removed), height // 10, 2, 5, width // 10, 2, 5).mean((3, 6))
    upper, lower = quarters[:, :, 0], quarters[:, :, 1]
    contrast = (upper[..., 0] - upper[..., 1] - lower[..., 0] + lower[..., 1]) / 4
    means = quarters.mean((2, 4))
    moved, own = (10 * np.sqrt(np.square(part).mean((1, 2))) for part in (means, contrast))
    return moved, own


def block_means(cube: Planes) -> Planes:
    """Return the means of the 10x10 blocks of each band."""
    height, width = (size // 10 * 10 for size in cube.shape[1:])
    return cube[:, :height, :width].reshape(len(cube), height // 10, 10, width // 10, 10).mean((2, 4))


def rms(planes: Planes) -> npt.NDArray[Any]:
    """Return the root mean square of each band."""
    return np.sqrt(np.square(planes).mean((1, 2)))


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True, help="folder that holds hsi/")
    parser.add_argument("--scenes", default=SCENES, help="names of hsi/*/NAME.mat, or .npy files (H, W, bands)")
    parser.add_argument("--cases", default=CASES, help="noise cases, or finch")
    parser.add_argument("--models", default="subspace", help="ids of ours")
    parser.add_argument("--peers", default="prototype", help=f"of {', '.join(PEERS)}")
    parser.add_argument("--real", default="abu-urban-3", help="striped scenes without a truth; empty for none")
    options = parser.parse_args()
    methods = {name: PEERS[name] for name in filter(None, options.peers.split(","))}
    methods |= {name: run_model(name) for name in options.models.split(",")}
    print(f"{torch.get_num_threads()} threads; scenes {options.scenes}")
    for case in filter(None, options.cases.split(",")):
        compare_case(options.data_root, options.scenes.split(","), case, methods)
    for scene in filter(None, options.real.split(",")):
        check_real(options.data_root, scene, methods)


if __name__ == "__main__":
    main()
