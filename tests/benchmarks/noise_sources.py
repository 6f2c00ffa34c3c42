"""Which noise to train on: the same denoiser from four sources of noise, and from the true one, on unseen noisy images.

`UnusualCamera` is outside every model's family. The calibration sees its dark frames and flats only. Then one small
network is trained for the same steps from the same start on the pairs of each source, and all are judged on the same
noisy pictures under the true noise. Why the setting is what it is:

- ISO and ratio: 800 to 3200, and as many times too short as leaves white some 120 electrons, so that in most of a
  picture the noise is the sensor's and not the light's; two of the three ratios are those of the ELD dataset;
- a photograph's pixel covers 2x2 of the sensor's: RAW files oversample what their lens resolves, photographs scaled
  down do not;
- the network is told what a RAW file tells: the noise level as calibrated, and which ISO it is; it is a plain one in
  linear light, as the toolkit's own returns the coarse mean of what it removes, and with it black level and banding;
- ELD and PNNP spoil as measured: what their trainings vary around that (`scatter`) is for a camera that differs from
  its calibration, and costs a little on one that does not;
- the step length was chosen by Poisson-Gaussian pairs under Poisson-Gaussian's score alone; the number of steps by
  the time that the whole may take.

Training: manifest "photos", test: "kodak24"; without a data root a few pictures of scikit-image. PSNR over the four
planes, values cut to 0..1, mean over the pictures. "black subtracted" is the network of Poisson-Gaussian pairs on
pictures from which the calibrated black-level error was taken: what of the differences is not that error alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from short_exposures import CASES, PATCH, IsoBatch, ShortExposures, photographs
from torch import Tensor, nn
from unusual_camera import ISOS, UnusualCamera

from denoise.denoiser import Batch
from denoise.engine.device import keep_memory
from denoise.metrics import psnr_db
from denoise.networks.unet import ResidualUNet
from denoise.proxy import train_proxy
from denoise.training.loop import Loop, Progress
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
_LEAST_SIGMA = 0.01


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


class PlainDenoiser(nn.Module):
    """A small network from noisy to clean planes in linear light, and nothing around it.

    The toolkit's own denoiser returns the coarse mean of what it removed; here that would bring black-level error and
    banding back, whatever the network had learned of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ResidualUNet(channels=4, maps=2 + len(ISOS), widths=(16, 32, 64, 128), blocks=1)

    def denoise(self, batch: IsoBatch) -> Tensor:
        """Return the clean planes (B, 4, H, W) that the network sees in the noisy ones.

        It is told the read noise, the shot noise, and the read noise once more in the map of its ISO.
        """
        assert batch.noise is not None
        shot = torch.tensor(batch.noise.shot.mean(-1, keepdims=True), dtype=torch.float32)
        sigma = _sigma(batch)[:, None]
        told = torch.cat([sigma, shot, sigma * (batch.iso[:, None] == torch.tensor(ISOS))], 1)[:, :, None, None]
        return batch.noisy + self.network(batch.noisy, told.expand(-1, -1, *batch.noisy.shape[2:])).float()

    def loss(self, batch: IsoBatch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute error, in units of the image's read noise, so that the noisiest do not learn for all."""
        assert batch.clean is not None
        error = (self.denoise(batch) - batch.clean).abs().mean((1, 2, 3))
        return {"total": (error / (_sigma(batch) + _LEAST_SIGMA)).mean()}


def _sigma(batch: Batch) -> Tensor:
    """Return the read noise of each image, (B,)."""
    assert batch.noise is not None
    return torch.tensor(np.sqrt(batch.noise.read.mean(-1)), dtype=torch.float32)


def network(seed: int) -> PlainDenoiser:
    """Return the small denoiser, the same for the same seed."""
    torch.manual_seed(seed)
    return PlainDenoiser().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def train(source: ShortExposures, steps: int, seed: int, name: str) -> PlainDenoiser:
    """Train the small denoiser on the pairs of one source."""
    settings = LoopSettings.model_validate(
        {"steps": steps, "batch": 16, "learning_rate": 0.02, "warm_up": 50, "steady": 0.4, "ema": 0.99}
    )
    begun = time.perf_counter()

    def tell(progress: Progress) -> None:
        if progress.step % max(steps // 4, 1) == 0:
            seconds = time.perf_counter() - begun
            print(f"{name:18} step {progress.step:5} loss {progress.total:.4f}  {seconds:6.1f} s", flush=True)

    with tempfile.TemporaryDirectory(prefix="noise-sources-") as folder:
        loop = Loop(network(seed), source, settings, Path(folder), seed=seed, device="cpu")
        trained = network(seed)
        trained.load_state_dict(loop.run(tell).weights)
    return trained


def compare(arguments: argparse.Namespace) -> tuple[dict[str, dict[str, float]], dict[str, Tensor]]:
    """Train on every source, and return the PSNR by case and source [dB], and the first picture of the last case."""
    torch.set_num_threads(arguments.threads)
    keep_memory()
    camera = UnusualCamera(arguments.seed)
    photos, held_out = photographs(arguments.data_root, arguments.images)
    profile, darks = calibrated(camera)
    for point in profile.points:
        print(f"ISO {point.iso:6g}: K {point.gain_dn_per_e:.3f} DN/e-, read {point.read_sigma_dn:.2f} DN (true "
              f"{camera.sigma_dn(point.iso):.2f}), lambda {point.read_lambda:.3f}, row {point.row_sigma_dn:.2f}, "
              f"column {point.column_sigma_dn:.2f}, drift {point.bias_sigma_dn:.2f} DN", flush=True)  # fmt: skip
    models: dict[str, Callable[[], NoiseModel]] = {
        "poisson-gaussian": lambda: PoissonGaussianNoise(profile),
        "eld": lambda: EldNoise(profile, AS_MEASURED),
        "dark-frames": lambda: DarkFrameNoise(profile, {s.iso: [frame.mosaic for frame in s] for s in darks}),
        "pnnp": lambda: pnnp(profile, darks, arguments.proxy_steps, arguments.seed),
        "true": lambda: camera,
    }
    judge = OneCamera(profile, camera, ISOS)
    test = CameraPairs(photos, held_out, patch=PATCH, cameras=judge, cases=CASES, judge=judge)
    results: dict[str, dict[str, float]] = {}
    pictures: dict[str, Tensor] = {}
    for name in arguments.sources or models:
        noise = models[name]()
        trained = train(ShortExposures(photos, profile, noise), arguments.steps, arguments.seed, name)
        for case, (score, picture) in judged(trained, test).items():
            results.setdefault(case, {})[name] = score
            if case == test.cases[-1]:
                pictures |= {name: picture}
        print(f"{name:18} {'  '.join(f'{case} {results[case][name]:.3f} dB' for case in results)}", flush=True)
        if name == "poisson-gaussian":
            scores = judged(trained, test, profile)
            print(f"{'  black subtracted':18} {'  '.join(f'{case} {scores[case][0]:.3f} dB' for case in scores)}")
    last = next(batch for number, batch in enumerate(test.validation()) if number == len(CASES) - 1)
    assert last.clean is not None
    return results, {"clean": last.clean[0], "noisy": last.noisy[0]} | pictures


def judged(
    trained: PlainDenoiser, test: CameraPairs, known: CameraProfile | None = None
) -> dict[str, tuple[float, Tensor]]:
    """Return the mean PSNR of each case [dB], and its first picture (4, H, W); ``known``: black levels to subtract."""
    scores: dict[str, list[float]] = {case: [] for case in test.cases}
    first: dict[str, Tensor] = {}
    for number, batch in enumerate(test.validation()):
        case, (iso, ratio) = test.cases[number % len(CASES)], CASES[number % len(CASES)]
        assert batch.clean is not None
        noisy = batch.noisy
        if known is not None:
            level = torch.tensor([known.at(iso).bias_dn[row][column] for row, column in known.positions])
            noisy = noisy - (level * ratio / (known.white_dn - known.black_dn[0][0]))[:, None, None]
        with torch.inference_mode():
            image = trained.denoise(IsoBatch(noisy, batch.clean, batch.noise, torch.tensor([iso])))
        scores[case].append(psnr_db(image.numpy(), batch.clean.numpy()))
        first.setdefault(case, image[0])
    return {case: (round(float(np.mean(values)), 3), first[case]) for case, values in scores.items()}


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
    parser.add_argument("--steps", type=int, default=400, help="of each denoiser")
    parser.add_argument("--proxy-steps", type=int, default=600)
    parser.add_argument("--images", type=int, default=12, help="to test on")
    parser.add_argument("--sources", nargs="*", help="only these")
    parser.add_argument("--threads", type=int, default=1, help="two gain little, and lose much beside other work")
    parser.add_argument("--picture", type=Path, help="write a crop of every result side by side (.png)")
    arguments = parser.parse_args()
    if arguments.json:
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()):
            results, pictures = compare(arguments)
    else:
        results, pictures = compare(arguments)
        names = list(next(iter(results.values())))
        print(f"\n{'case':16}" + "".join(f"{name:>18}" for name in names))
        for case, scores in results.items():
            print(f"{case:16}" + "".join(f"{scores[name]:18.3f}" for name in names))
    if arguments.picture:
        draw_pictures(pictures, arguments.picture)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
