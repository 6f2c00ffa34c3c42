"""Whether calibration finds cameras again: simulated darks and flats, written as DNG, read from disk, many seeds.

Run it by hand: ``python tests/benchmarks/found_again.py --seeds 40``. For every camera and parameter it prints the
truth, the mean and the spread of what was found, the worst error beside the one allowed, and how often the truth lay
within three standard errors of what was found.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from denoise.calibration import calibrate_files
from denoise.images import RawImage, RawMetadata
from denoise.io.dng import append_exif_ifd, core_exif, write_structure
from noise_models.base import SensorSettings
from noise_models.gain_point import GainPoint
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import load_profile
from noise_models.sampling import LAMBDA_STEPS
from noise_models.simulate import simulate_dark, simulate_flat

# The mean of a position's pixels is uncertain by row sigma / sqrt(rows / 2 * darks), beside what the pixels bring: over
# 512 rows and 24 darks that alone is 0.01 DN for these cameras. Sensors have thousands of rows: here is a strip of one.
SHAPE, DARKS = (2816, 384), 33
LEVELS = (0.03, 0.08, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65)
CASES = (
    ("sony-a7s2", 800),
    ("sony-a7s2", 3200),
    ("nikon-d850", 800),
    ("nikon-d850", 3200),
    ("xiaomi-redmi-k30", 1600),
    ("xiaomi-redmi-k30", 6400),
)


@dataclass(frozen=True)
class Found:
    """One parameter in one calibration."""

    name: str
    truth: float
    value: float
    error: float
    allowed: float


def write_frame(path: Path, mosaic: np.ndarray, profile: CameraProfile, settings: SensorSettings) -> None:
    """Write a mosaic as the DNG that a camera would have written."""
    metadata = RawMetadata(
        make=profile.make, model=profile.model, color_matrices=(np.eye(3),), illuminants=(21,),
        as_shot_neutral=(1.0, 1.0, 1.0),
    )  # fmt: skip
    image = RawImage(
        mosaic, profile.cfa, np.asarray(profile.black_dn), profile.white_dn, settings=settings, metadata=metadata
    )
    write_structure(path, image, "", None, "none")
    append_exif_ifd(path, core_exif(image))


def write_frames(folder: Path, profile: CameraProfile, iso: float, seed: int) -> None:
    """Write the darks and flats of one ISO below ``folder``."""
    generator = torch.Generator().manual_seed(seed)
    span = profile.white_dn - profile.black_dn[0][0]
    for kind in ("darks", "flats"):
        (folder / kind).mkdir()
    for number in range(DARKS):
        mosaic = simulate_dark(profile, iso, SHAPE, generator=generator)
        write_frame(folder / "darks" / f"{number:03d}.dng", mosaic, profile, SensorSettings(iso, 1 / 60))
    for level in LEVELS:
        electrons = level * span / profile.gain_dn_per_e(iso)
        settings = SensorSettings(iso, round(level, 3))
        for number in range(2):
            mosaic = simulate_flat(profile, iso, electrons, SHAPE, generator=generator)
            write_frame(folder / "flats" / f"{level:.3f}_{number}.dng", mosaic, profile, settings)


def compare(truth: GainPoint, found: GainPoint) -> Iterator[Found]:
    """Set what was found beside the truth and the error that is allowed."""
    errors, gain = found.errors, truth.gain_dn_per_e or 0.0
    yield Found("K [DN/e-]", gain, found.gain_dn_per_e or 0.0, errors.gain_dn_per_e or 0.0, 0.01 * gain)
    sigma = truth.read_sigma_dn
    yield Found("read sd [DN]", sigma, found.read_sigma_dn, errors.read_sigma_dn or 0.0, 0.02 * sigma)
    drawn = round(truth.read_lambda * LAMBDA_STEPS) / LAMBDA_STEPS  # the frames' own lambda, see noise_models.sampling
    yield Found("lambda", drawn, found.read_lambda, errors.read_lambda or 0.0, 0.02)
    row = truth.row_sigma_dn
    yield Found("row sd [DN]", row, found.row_sigma_dn, errors.row_sigma_dn or 0.0, 0.05 * row)
    for at in ((0, 0), (0, 1), (1, 0), (1, 1)):
        true, seen = truth.bias_dn[at[0]][at[1]], found.bias_dn[at[0]][at[1]]
        yield Found(f"bias {at[0]}{at[1]} [DN]", true, seen, errors.bias_dn or 0.0, 0.02)


def find_again(name: str, iso: float, seeds: int) -> list[list[Found]]:
    """Simulate, calibrate and compare, once for each seed."""
    profile, rounds = load_profile(name), []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory(prefix="denoise-found-again-") as place:
            folder = Path(place)
            write_frames(folder, profile, iso, seed)
            found = calibrate_files(darks=[str(folder / "darks")], flats=[str(folder / "flats")])
        rounds.append(list(compare(profile.at(iso), found.profile.points[0])))
    return rounds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--cases", nargs="*", default=[f"{name}:{iso}" for name, iso in CASES], metavar="PROFILE:ISO")
    arguments = parser.parse_args()
    print(f"{DARKS} darks, {2 * len(LEVELS)} flats of {SHAPE[1]}x{SHAPE[0]}, {arguments.seeds} seeds")
    print(f"{'camera':28s}{'parameter':>14s}{'truth':>10s}{'mean':>10s}{'r.m.s.':>10s}{'s.e.':>10s}"
          f"{'worst':>10s}{'allowed':>10s}{'within':>8s}{'in 3 s.e.':>11s}")  # fmt: skip
    for case in arguments.cases:
        name, iso = case.split(":")
        for column in zip(*find_again(name, float(iso), arguments.seeds), strict=True):
            off = np.array([item.value - item.truth for item in column])
            errors = np.array([item.error for item in column])
            first = column[0]
            print(
                f"{case:28s}{first.name:>14s}{first.truth:10.4f}{first.truth + off.mean():10.4f}"
                f"{np.sqrt((off**2).mean()):10.4f}{errors.mean():10.4f}{np.abs(off).max():10.4f}{first.allowed:10.4f}"
                f"{(np.abs(off) <= first.allowed).mean():8.0%}{(np.abs(off) <= 3 * errors).mean():11.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
