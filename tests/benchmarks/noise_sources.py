"""Which noise to train on: the same denoiser from four sources of noise, and from the true one, on unseen noisy images.

`UnusualCamera` is outside every model's family. The calibration sees its dark frames and flats only. Then small
networks go on from the same start for the same steps on the pairs of each source, and all are judged on the same noisy
pictures under the true noise. Why the setting is what it is:

- ISO and ratio: 800 to 3200, and as many times too short as leaves white some 120 electrons, so that in most of a
  picture the noise is the sensor's and not the light's; two of the three ratios are those of the ELD dataset;
- a photograph's pixel covers 2x2 of the sensor's: RAW files oversample what their lens resolves, photographs scaled
  down do not;
- the network is told what a RAW file tells: the noise level as calibrated, and which ISO it is; it is a plain one in
  linear light, as the toolkit's own returns the coarse mean of what it removes, and with it black level and banding;
- ELD and PNNP spoil as measured: what their trainings vary around that (`scatter`) is for a camera that differs from
  its calibration, and costs a little on one that does not;
- the start is a network that has learned Poisson-Gaussian pairs: two networks begun from nothing differ by a tenth of a
  dB through chance alone, more than the sources do. There are several starts, each its own network with its own
  photographs; from each all sources go on, with the same crops and the same ratios, and what they differ by is stated
  with its standard error over the starts;
- the step length was chosen by Poisson-Gaussian pairs under Poisson-Gaussian's score alone; the number of steps by
  the time that the whole may take.

Training: manifest "photos", test: "kodak24"; without a data root a few pictures of scikit-image. PSNR over the four
planes, values cut to 0..1, mean over pictures and starts. "black subtracted" is the network of Poisson-Gaussian pairs
on pictures from which the calibrated black-level error was taken: what of the differences is not that error alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from short_exposures import CASES, PATCH, ShortExposures, photographs
from small_denoiser import FROM_A_START, FROM_NOTHING, PlainDenoiser, judged, network, train
from torch import Tensor
from unusual_camera import ISOS, UnusualCamera

from denoise.denoiser import Batch
from denoise.engine.device import keep_memory
from denoise.proxy import train_proxy
from denoise.training.settings import LoopSettings
from denoise.training.sources.exposures import OneCamera
from denoise.training.sources.raw_pairs import CameraPairs
from noise_models.base import NoiseModel
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.decouple import pixel_noise
from noise_models.calibration.estimate import calibrate
from noise_models.calibration.frames import FrameStack, group
from noise_models.dark_frames import DarkFrameNoise
from noise_models.eld import EldNoise
from noise_models.pnnp import PnnpNoise
from noise_models.poisson_gaussian import PoissonGaussianNoise
from noise_models.profile import CameraProfile

AS_MEASURED = ("scatter",)
"""What ELD and PNNP leave out: how a training varies around what was measured."""
SUBTRACTED = "black subtracted"


def calibrated(camera: UnusualCamera) -> tuple[CameraProfile, list[FrameStack]]:
    """Calibrate the camera from its frames; returns its profile and its stacks of dark frames."""
    stacks = group(camera.frames(), camera)
    profile = calibrate(stacks, maps=False).profile
    return profile, [stack for stack in stacks if stack.kind == "dark"]


def pnnp(profile: CameraProfile, darks: Sequence[FrameStack], steps: int, seed: int) -> PnnpNoise:
    """Train a noise proxy on the dark frames."""
    noises = [pixel_noise(sum_darks(stack), profile.gain_mode(stack.iso), seed=seed) for stack in darks]
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="noise-sources-") as folder:
        proxy = train_proxy(profile, noises, Path(folder) / "proxy", steps=steps, seed=seed)
    print(f"{'proxy':18} {time.perf_counter() - begun:.1f} s", flush=True)
    return PnnpNoise(profile, AS_MEASURED, proxy=proxy)


Scores = dict[str, dict[str, list[float]]]
"""PSNR by case and source, one for each start [dB]."""


class Comparison:
    """One camera, calibrated, and what is trained and tested on.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, seed = arguments, arguments.seed
        camera = UnusualCamera(seed)
        self.photos, held_out = photographs(arguments.data_root, arguments.images)
        self.profile, darks = calibrated(camera)
        _tell(self.profile, camera)
        self.models: dict[str, NoiseModel] = {
            "poisson-gaussian": PoissonGaussianNoise(self.profile),
            "eld": EldNoise(self.profile, AS_MEASURED),
            "dark-frames": DarkFrameNoise(self.profile, {s.iso: [frame.mosaic for frame in s] for s in darks}),
            "pnnp": pnnp(self.profile, darks, arguments.proxy_steps, seed),
            "true": camera,
        }
        judge = OneCamera(self.profile, camera, ISOS)
        test = CameraPairs(self.photos, held_out, patch=PATCH, cameras=judge, cases=CASES, judge=judge)
        self.cases, self.pictures = test.cases, list(test.validation())

    def run(self) -> tuple[Scores, dict[str, Tensor]]:
        """Train on every source from every start; returns all scores, and the first picture of the last case."""
        scores: Scores = {case: {} for case in self.cases}
        seen: dict[str, Tensor] = {}
        for number in range(self.arguments.starts):
            seed = 1000 * self.arguments.seed + number
            start, settings = network(seed), FROM_NOTHING
            if self.arguments.start_steps:
                start = self._train(start, "poisson-gaussian", FROM_NOTHING, self.arguments.start_steps, seed)
                settings = FROM_A_START
            for name in self.arguments.sources or self.models:
                trained = self._train(start, name, settings, self.arguments.steps, seed + 500)
                found = judged(trained, self.pictures)
                seen.setdefault(name, found[-1][1])
                self._keep(scores, name, [score for score, _ in found])
                if name == "poisson-gaussian":
                    level = judged(trained, self.pictures, self.profile)
                    self._keep(scores, SUBTRACTED, [score for score, _ in level])
        return scores, _first(self.pictures[len(CASES) - 1]) | seen

    def _train(self, start: PlainDenoiser, name: str, settings: LoopSettings, steps: int, seed: int) -> PlainDenoiser:
        source = ShortExposures(self.photos, self.profile, self.models[name])
        return train(start, source, settings.model_copy(update={"steps": steps}), seed, name)

    def _keep(self, scores: Scores, name: str, found: Sequence[float]) -> None:
        for case, score in zip(self.cases, found, strict=True):
            scores[case].setdefault(name, []).append(score)
        print(f"{name:18} {'  '.join(f'{case} {scores[case][name][-1]:.3f} dB' for case in self.cases)}", flush=True)


def _tell(profile: CameraProfile, camera: UnusualCamera) -> None:
    for point in profile.points:
        print(f"ISO {point.iso:6g}: K {point.gain_dn_per_e:.3f} DN/e-, read {point.read_sigma_dn:.2f} DN (true "
              f"{camera.sigma_dn(point.iso):.2f}), lambda {point.read_lambda:.3f}, row {point.row_sigma_dn:.2f}, "
              f"column {point.column_sigma_dn:.2f}, drift {point.bias_sigma_dn:.2f} DN", flush=True)  # fmt: skip


def _first(batch: Batch) -> dict[str, Tensor]:
    assert batch.clean is not None
    return {"clean": batch.clean[0], "noisy": batch.noisy[0]}


def print_table(scores: Scores) -> None:
    """Print the means, and what the sources differ by from ELD and from the true noise, with standard errors."""
    names = list(next(iter(scores.values())))
    print(f"\n{'case':28}" + "".join(f"{name:>18}" for name in names))
    for case, found in scores.items():
        print(f"{case:28}" + "".join(f"{np.mean(found[name]):18.3f}" for name in names))
    for other in ("eld", "true"):
        if other in names:
            for case in (*scores, None):
                print(
                    f"{(case or 'all') + ' - ' + other:28}"
                    + "".join(f"{_less(scores, case, n, other):>18}" for n in names)
                )


def _less(scores: Scores, case: str | None, name: str, other: str) -> str:
    """Return how much better a source is than another, over the starts, and the standard error of that [dB]."""
    cases = scores if case is None else (case,)
    differences = np.mean([np.subtract(scores[one][name], scores[one][other]) for one in cases], 0)
    error = np.std(differences, ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else np.nan
    return f"{np.mean(differences):+.3f} +- {error:.3f}"


def draw_pictures(pictures: dict[str, Tensor], path: Path) -> None:
    """Write one crop as every source's network leaves it, side by side, brightened for the eye."""
    import cv2

    tiles = []
    for name, picture in pictures.items():
        planes = picture[:, 40:168, 60:188]
        rgb = torch.stack([planes[0] * 2.0, (planes[1] + planes[2]) / 2, planes[3] * 1.7]) * 1.5
        tile = (rgb.clamp(0, 1) ** (1 / 2.2) * 255).byte().numpy().transpose(1, 2, 0)[..., ::-1]
        tile = cv2.resize(np.ascontiguousarray(tile), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        cv2.putText(tile, name, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(tile)
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 4)
    rows = [np.concatenate(tiles[start : start + 4], 1) for start in range(0, len(tiles), 4)]
    cv2.imwrite(str(path), np.concatenate(rows, 0), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> None:
    """Print the table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the camera, the networks and all that is drawn")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--starts", type=int, default=5, help="from each of which every source goes on")
    parser.add_argument(
        "--start-steps", type=int, default=FROM_NOTHING.steps, help="of each start; 0: begin from nothing"
    )
    parser.add_argument("--steps", type=int, default=FROM_A_START.steps, help="of each denoiser after its start")
    parser.add_argument("--proxy-steps", type=int, default=600)
    parser.add_argument("--images", type=int, default=12, help="to test on")
    parser.add_argument("--sources", nargs="*", help="only these")
    parser.add_argument("--threads", type=int, default=1, help="two gain little, and lose much beside other work")
    parser.add_argument("--picture", type=Path, help="write a crop of every result side by side (.png)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    with contextlib.redirect_stdout(io.StringIO()) if arguments.json else contextlib.nullcontext():
        scores, pictures = Comparison(arguments).run()
        print_table(scores)
    if arguments.picture:
        draw_pictures(pictures, arguments.picture)
    print(json.dumps({case: {name: round(float(np.mean(found[name])), 3) for name in found if name != SUBTRACTED}
                      for case, found in scores.items()}))  # fmt: skip


if __name__ == "__main__":
    main()
