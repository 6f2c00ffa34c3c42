"""A RAW from file to DNG, as a user runs it: time, memory, the network's share, and its speed against the chip.

Protocol: `denoise run` as a process of its own, warm file cache, the fastest of --runs; peak as the system reports it
for that process. The chip's peak: three 3x3 convolutions of 64 channels on 256x256 in bfloat16, channels last, measured
in this run, best of many. The network's speed counts the multiplications of the pixels of the image, overlap included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from denoise.engine.device import keep_memory
from denoise.manifests import data_root
from denoise.weights import load_model


def chip_peak_gmacs() -> float:
    """Return the bfloat16 convolution peak of all threads [GMAC/s]."""
    layers = nn.Sequential(*(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(3))).bfloat16()
    layers = layers.to(memory_format=torch.channels_last)
    features = torch.randn(1, 64, 256, 256, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    best = 1e9
    with torch.inference_mode():
        for _ in range(40):
            begun = time.perf_counter()
            layers(features)
            best = min(best, time.perf_counter() - begun)
    return 3 * 64 * 64 * 9 * 256**2 / best / 1e9


def main() -> None:
    """Print the figures, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", type=Path, nargs="?", help="default: the ARW of the data root")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="auto")
    arguments = parser.parse_args()
    raw = arguments.raw or data_root(arguments.data_root) / "raw" / "sony_a7r3_iso3200.ARW"
    keep_memory()
    peak = chip_peak_gmacs()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.runs):
            target = Path(folder) / "out.dng"
            begun = time.perf_counter()
            command = [sys.executable, "-m", "cli.main", "run", str(raw), "-o", str(target), "--overwrite", "--quiet"]
            command += ["--model", arguments.model]
            process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ})
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.perf_counter() - begun
            if process.returncode:
                raise SystemExit(f"denoise run failed with {process.returncode}")
            record = json.loads(target.with_name("out.dng.json").read_text())
            runs.append((seconds, usage.ru_maxrss / 1024**2, record))
    seconds, _, record = min(runs, key=lambda run: run[0])
    plan, timings = record["plan"], record["timings"]
    model = load_model(arguments.model)
    pixels = plan["tile"][0] * plan["tile"][1] * plan["tiles"][0] * plan["tiles"][1]
    speed = pixels * model.macs_per_pixel / timings["network_s"] / 1e9  # pyright: ignore[reportAttributeAccessIssue]
    figures = {
        "wall_s": round(seconds, 2),
        "peak_gib": round(max(run[1] for run in runs), 3),
        "network_s": round(timings["network_s"], 2),
        "network_share_of_wall": round(timings["network_s"] / seconds, 3),
        "network_gmacs": round(speed, 1),
        "chip_peak_gmacs": round(max(peak, chip_peak_gmacs()), 1),
        "laps": timings,
        "children_max_gib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2, 3),
    }
    figures["network_share_of_chip"] = round(speed / figures["chip_peak_gmacs"], 3)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
