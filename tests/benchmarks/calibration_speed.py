"""How long ``denoise calibrate`` takes as a process, and how much memory it holds, on large simulated frames.

Run it by hand: ``python tests/benchmarks/calibration_speed.py --darks 200 --flats 40``. The frames are uncompressed
DNG, every one of its own noise, in a temporary folder that is removed; with ``--keep FOLDER`` they stay there, and the
next run uses them again. The page cache may hold what fits into memory: a slow disk adds its own time. ISOs share the
darks and flats evenly. 240 frames of 24 megapixels take 11.5 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from found_again import write_frame

from denoise.io.frames import CameraFrameReader
from noise_models.base import SensorSettings
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_dark, simulate_flat

ISOS = (100, 400, 1600, 3200, 12800)


def write_frames(folder: Path, darks: int, flats: int, shape: tuple[int, int], isos: tuple[int, ...]) -> None:
    """Write darks, and flats of brightnesses from 5 to 65 % of saturation in pairs, of a Sony A7S2."""
    camera = load_profile("sony-a7s2")
    generator = torch.Generator().manual_seed(0)
    span = camera.white_dn - camera.black_dn[0][0]
    for kind in ("darks", "flats"):
        (folder / kind).mkdir(parents=True)
    for number in range(darks):
        iso = float(isos[number * len(isos) // darks])
        mosaic = simulate_dark(camera, iso, shape, generator=generator)
        write_frame(folder / "darks" / f"{number:04d}.dng", mosaic, camera, SensorSettings(iso, 1 / 60))
    levels = max(1, flats // (2 * len(isos)))
    for number in range(flats):
        iso = float(isos[number * len(isos) // flats])
        level = round(0.05 + 0.6 * ((number // 2) % levels) / max(levels - 1, 1), 3)
        mosaic = simulate_flat(camera, iso, level * span / camera.gain_dn_per_e(iso), shape, generator=generator)
        write_frame(folder / "flats" / f"{number:04d}.dng", mosaic, camera, SensorSettings(iso, level))


def main() -> None:
    """Print wall time, processor time and peak memory of the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--darks", type=int, default=200)
    parser.add_argument("--flats", type=int, default=40)
    parser.add_argument("--megapixels", type=float, default=24.0)
    parser.add_argument("--isos", type=int, default=len(ISOS), help="Number of ISOs, from 1 to 5.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Frames stay here; those that are here are used.")
    arguments = parser.parse_args()
    height = round((arguments.megapixels * 1e6 / 1.5) ** 0.5 / 2) * 2
    shape = (height, round(1.5 * height / 2) * 2)
    with tempfile.TemporaryDirectory(prefix="denoise-speed-") as place:
        folder = arguments.keep or Path(place)
        if not (folder / "darks").exists():
            write_frames(folder, arguments.darks, arguments.flats, shape, ISOS[: arguments.isos])
        command = (
            sys.executable, "-m", "cli.main", "calibrate", "--quiet", "--darks", folder / "darks",
            "--flats", folder / "flats", "-o", Path(place) / "camera.json", "--report", Path(place) / "page.html",
        )  # fmt: skip
        begun = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command])
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        darks, flats = (sorted((folder / kind).iterdir()) for kind in ("darks", "flats"))
        height, width = CameraFrameReader().describe(darks[0]).shape
    print(
        f"{len(darks)} darks, {len(flats)} flats of {width}x{height}: "
        f"exit {os.waitstatus_to_exitcode(status)}, {seconds:.0f} s, "
        f"{used.ru_utime:.0f} + {used.ru_stime:.0f} s of processor, peak {used.ru_maxrss / 2**20:.2f} GiB"
    )


if __name__ == "__main__":
    main()
