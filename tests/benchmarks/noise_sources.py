"""Which noise to train on: the same denoiser from four sources of noise, and from the true one, on unseen noisy images.

A camera outside every model's family is simulated: before the amplifier two kinds of pixels, most of little noise and
some of much; after it Gaussian noise; so the shape of the noise depends on ISO. Rows, columns and a black level that
drifts from frame to frame come on top. The calibration sees its dark frames and flats only. Then one small network is
trained for the same steps from the same start on the pairs of each source, and all are judged on the same noisy
pictures under the true noise, exposed up to 120 times too short: at white a pixel gets a
few hundred electrons, so that in most of the picture the noise is the sensor's and not the light's.

Training: manifest "photos", test: "kodak24"; without a data root a few pictures of scikit-image. The noise level that
the networks are told is the calibrated one. PSNR over the four planes, values cut to 0..1, mean over the pictures.
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
from torch import Tensor, nn

from denoise.denoiser import Batch
from denoise.errors import ManifestError
from denoise.manifests import data_root, find_files
from denoise.metrics import psnr_db
from denoise.networks.unet import ResidualUNet
from denoise.proxy import train_proxy
from denoise.training.loop import Loop, Progress
from denoise.training.settings import LoopSettings
from denoise.training.sources.crops import load_photos
from denoise.training.sources.exposures import OneCamera
from denoise.training.sources.raw_pairs import CameraPairs
from noise_models.base import NoiseModel, SensorSettings
from noise_models.calibration.dark_sums import sum_darks
from noise_models.calibration.decouple import pixel_noise
from noise_models.calibration.estimate import calibrate
from noise_models.calibration.frames import Frame, FrameFile, FrameInfo, FrameStack, group
from noise_models.components import add_bias, add_columns, add_rows, clip_to_converter, shot
from noise_models.dark_frames import DarkFrameNoise
from noise_models.eld import EldNoise
from noise_models.pnnp import PnnpNoise
from noise_models.poisson_gaussian import PoissonGaussianNoise
from noise_models.profile import CameraProfile

BLACK_DN, WHITE_DN = 512.0, 16383.0
ISOS = (800.0, 1600.0, 3200.0, 6400.0, 12800.0)
CASES = ((1600.0, 120.0), (3200.0, 80.0), (6400.0, 40.0))
"""ISO and ratio of the test."""
RATIOS = (20.0, 150.0)
"""Of the training."""
_LEAST_SIGMA = 0.01
FRAME = (512, 512)
DARKS = 12
FLATS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.65)


class SimulatedCamera:
    """A sensor outside the family of every noise model here; gives frames to the calibration, and spoils images.

    Parameters
    ----------
    seed : int
        Of the camera's parameters and of its frames; another seed is another camera.
    """

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng((seed, 1)).uniform
        self.gain_per_iso = draw(2.2e-4, 3.0e-4)
        self.quiet_e = draw(9.0, 12.0)
        self.loud_share, self.loud_e = draw(0.04, 0.08), self.quiet_e * draw(3.5, 4.5)
        self.after_dn = draw(2.0, 4.0)
        self.row_share, self.column_share = draw(0.2, 0.3), draw(0.1, 0.15)
        self.drift_share = draw(0.02, 0.04)
        self.bias_dn = {iso: draw(-1.5, 1.5) + draw(-0.3, 0.3, (2, 2)) for iso in ISOS}
        self._generator = torch.Generator().manual_seed(seed)

    def sigma_dn(self, iso: float) -> float:
        """Return the standard deviation of a pixel's own noise without light [DN]."""
        before_e2 = (1 - self.loud_share) * self.quiet_e**2 + self.loud_share * self.loud_e**2
        return float(np.hypot(self.gain_per_iso * iso * np.sqrt(before_e2), self.after_dn))

    def __call__(self, clean_dn: Tensor, settings: Sequence[SensorSettings], *, generator: torch.Generator) -> Tensor:
        """Spoil (B, 1, H, W) [DN above black] by the true noise."""
        isos = [exposure.iso for exposure in settings]
        gains = [self.gain_per_iso * iso for iso in isos]
        sigmas = [self.sigma_dn(iso) for iso in isos]
        noisy = shot(clean_dn, gains, generator=generator)
        loud = torch.rand(noisy.shape, generator=generator) < self.loud_share
        spread_e = torch.where(loud, self.loud_e, self.quiet_e)
        normal = torch.randn((2, *noisy.shape), generator=generator)
        noisy += torch.tensor(gains, dtype=torch.float32).view(-1, 1, 1, 1) * spread_e * normal[0]
        noisy += self.after_dn * normal[1]
        noisy = add_rows(noisy, [self.row_share * sigma for sigma in sigmas], generator=generator)
        noisy = add_columns(noisy, [self.column_share * sigma for sigma in sigmas], generator=generator)
        drift = self.drift_share * torch.tensor(sigmas) * torch.randn(len(isos), generator=generator)
        levels = torch.stack([torch.as_tensor(self.bias_dn[iso]) for iso in isos]) + drift[:, None, None]
        return clip_to_converter(torch.round(add_bias(noisy, levels)), BLACK_DN, WHITE_DN)

    def describe(self, path: Path) -> FrameInfo:
        """Return what the frame of this name is: kind, ISO, electrons, number."""
        black = ((BLACK_DN, BLACK_DN), (BLACK_DN, BLACK_DN))
        iso = float(path.name.split("_")[1])
        return FrameInfo(FRAME, "RGGB", black, WHITE_DN, 14, iso, 0.01, make="Simulated", model="Camera")

    def read(self, path: Path) -> Frame:
        """Expose a frame of an even light."""
        _, iso, electrons, _ = path.name.split("_")
        light = torch.full((1, 1, *FRAME), float(electrons) * self.gain_per_iso * float(iso))
        noisy = self(light, [SensorSettings(float(iso), 0.01)], generator=self._generator)
        return Frame((noisy[0, 0] + BLACK_DN).numpy().astype(np.uint16), self.describe(path))

    def frames(self) -> list[FrameFile]:
        """Return the names of the frames that a calibration needs."""
        full_e = {iso: (WHITE_DN - BLACK_DN) / (self.gain_per_iso * iso) for iso in ISOS}
        darks = [FrameFile(Path(f"dark_{iso}_0_{number}"), "dark") for iso in ISOS for number in range(DARKS)]
        flats = [
            FrameFile(Path(f"flat_{iso}_{level * full_e[iso]}_{number}"), "flat", photons_per_pixel=level * full_e[iso])
            for iso in ISOS
            for level in FLATS
            for number in range(2)
        ]
        return darks + flats


def calibrated(camera: SimulatedCamera) -> tuple[CameraProfile, list[FrameStack]]:
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
    return PnnpNoise(profile, proxy=proxy)


def photographs(root: Path | None, images: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return photographs to train on and to test on, (3, H, W) uint8."""
    try:
        folder = data_root(root)
        return load_photos(find_files("photos", folder)), load_photos(find_files("kodak24", folder)[:images])
    except ManifestError:
        from skimage import data

        pictures = [data.astronaut(), data.coffee(), data.chelsea()]
        tensors = [torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))) for picture in pictures]
        return tensors[:2], tensors[2:]


class PlainDenoiser(nn.Module):
    """A small network from noisy to clean planes in linear light, and nothing around it.

    The toolkit's own denoiser returns the coarse mean of what it removed; here that would bring black-level error and
    banding back, whatever the network had learned of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = ResidualUNet(channels=4, maps=1, widths=(16, 32, 64), blocks=1)

    def denoise(self, batch: Batch) -> Tensor:
        """Return the clean planes (B, 4, H, W) that the network sees in the noisy ones."""
        assert batch.noise is not None
        sigma = torch.tensor(np.sqrt(batch.noise.read.mean(-1)), dtype=torch.float32).view(-1, 1, 1, 1)
        level = sigma.expand(-1, 1, *batch.noisy.shape[2:])
        return batch.noisy + self.network(batch.noisy, level).float()

    def loss(self, batch: Batch, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean absolute error, in units of the image's read noise, so that the noisiest do not learn for all."""
        assert batch.clean is not None
        assert batch.noise is not None
        sigma = torch.tensor(np.sqrt(batch.noise.read.mean(-1)), dtype=torch.float32)
        error = (self.denoise(batch) - batch.clean).abs().mean((1, 2, 3))
        return {"total": (error / (sigma + _LEAST_SIGMA)).mean()}


def network(seed: int) -> PlainDenoiser:
    """Return the small denoiser, the same for the same seed."""
    torch.manual_seed(seed)
    return PlainDenoiser().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def train(source: CameraPairs, steps: int, seed: int, name: str) -> PlainDenoiser:
    """Train the small denoiser on the pairs of one source."""
    settings = LoopSettings.model_validate({"steps": steps, "batch": 8, "warm_up": 50, "steady": 0.4, "ema": 0.995})
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
    camera = SimulatedCamera(arguments.seed)
    photos, held_out = photographs(arguments.data_root, arguments.images)
    profile, darks = calibrated(camera)
    for point in profile.points:
        print(f"ISO {point.iso:6g}: K {point.gain_dn_per_e:.3f} DN/e-, read {point.read_sigma_dn:.2f} DN (true "
              f"{camera.sigma_dn(point.iso):.2f}), lambda {point.read_lambda:.3f}, row {point.row_sigma_dn:.2f}, "
              f"column {point.column_sigma_dn:.2f}, drift {point.bias_sigma_dn:.2f} DN", flush=True)  # fmt: skip
    models: dict[str, Callable[[], NoiseModel]] = {
        "poisson-gaussian": lambda: PoissonGaussianNoise(profile),
        "eld": lambda: EldNoise(profile),
        "dark-frames": lambda: DarkFrameNoise(profile, {s.iso: [frame.mosaic for frame in s] for s in darks}),
        "pnnp": lambda: pnnp(profile, darks, arguments.proxy_steps, arguments.seed),
        "true": lambda: camera,
    }
    judge = OneCamera(profile, camera, ISOS)
    results: dict[str, dict[str, float]] = {}
    pictures: dict[str, Tensor] = {}
    for name in arguments.sources or models:
        noise = models[name]()
        source = CameraPairs(photos, held_out, patch=32, ratio=RATIOS, well_exposed=0.0, cut_at_black=0.0,
                             cameras=OneCamera(profile, noise, ISOS), cases=CASES, judge=judge)  # fmt: skip
        trained = train(source, arguments.steps, arguments.seed, name)
        scores: dict[str, list[float]] = {case: [] for case in source.cases}
        for number, batch in enumerate(source.validation()):
            case, clean = source.cases[number % len(CASES)], batch.clean
            assert clean is not None
            with torch.inference_mode():
                image = trained.denoise(batch)
            scores[case].append(psnr_db(image.numpy(), clean.numpy()))
            if number == len(CASES) - 1:
                pictures = {"clean": clean[0], "noisy": batch.noisy[0]} | pictures | {name: image[0]}
        for case, values in scores.items():
            results.setdefault(case, {})[name] = round(float(np.mean(values)), 3)
        print(f"{name:18} {'  '.join(f'{case} {results[case][name]:.3f} dB' for case in results)}", flush=True)
    return results, pictures


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
    parser.add_argument("--steps", type=int, default=3000, help="of each denoiser")
    parser.add_argument("--proxy-steps", type=int, default=3000)
    parser.add_argument("--images", type=int, default=12, help="to test on")
    parser.add_argument("--sources", nargs="*", help="only these")
    parser.add_argument("--threads", type=int, default=2)
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
