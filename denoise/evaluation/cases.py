"""What is evaluated: clean pictures spoilt by a stated protocol, or real pairs; always the same for the same seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from denoise.errors import FileFormatError, ManifestError, UsageError, nearest
from denoise.images import Image, Photo, RawImage
from denoise.io import read
from denoise.io.files import open_to_read
from denoise.manifests import Pair
from denoise.unprocess import CameraLook, mosaic_planes, unprocess
from noise_models.base import SensorSettings
from noise_models.level import NoiseLevel
from noise_models.profile_shelf import load_profile
from noise_models.simulate import simulate_mosaic

FloatPlanes = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

_EXPOSURE_S: Final = 0.01


@dataclass(frozen=True, eq=False)
class Sample:
    """A noisy image, its truth, and how the two are compared."""

    name: str
    """Of the file."""
    noisy: RawImage | Photo
    """What a method gets."""
    clean: FloatPlanes
    """(C, H, W), house units at the exposure of the truth."""
    noise: NoiseLevel | None
    """The true level; None where only the image can tell."""
    ratio: float
    """What a result is multiplied with before it is compared."""
    show: Callable[[FloatPlanes], Picture]
    """Makes a picture (H, W, 3) for the eye of planes at the exposure of the truth."""


@dataclass(frozen=True)
class WhiteNoise:
    """White Gaussian noise on a photograph."""

    sigma: float
    """Standard deviation, in 255ths of white."""

    @property
    def name(self) -> str:
        """As in tables and file names."""
        return f"sigma{self.sigma:g}"

    @property
    def protocol(self) -> str:
        """How inputs are made, in one sentence."""
        return (
            f"white Gaussian noise of sigma {self.sigma:g}/255, drawn for each image from the seed, its name and the "
            "case, added to the photograph in 0..1, not cut and not rounded"
        )

    def make(self, path: Path, seed: int) -> Sample:
        """Read a photograph and spoil it."""
        clean = torch.from_numpy(_photo(path))
        sigma = self.sigma / 255
        noisy = clean + sigma * torch.randn(clean.shape, generator=_generator(seed, self.name, path))
        level = NoiseLevel(np.zeros(len(clean)), np.full(len(clean), sigma**2), "given")
        pixels = np.ascontiguousarray(noisy.numpy().transpose(1, 2, 0))
        return Sample(path.name, Photo(pixels, noise=level), clean.numpy(), level, 1.0, show_photo)


@dataclass(frozen=True)
class CameraNoise:
    """The noise of a calibrated camera on a photograph turned back into RAW."""

    iso: float
    """Sensitivity [ISO]."""
    ratio: float = 1.0
    """How many times less light there is than in the truth."""
    profile: str = "sony-a7s2"
    """Of the camera."""

    @property
    def name(self) -> str:
        """As in tables and file names."""
        camera = "" if self.profile == CameraNoise.profile else f"{Path(self.profile).stem}-"
        return f"{camera}iso{self.iso:g}x{self.ratio:g}"

    @property
    def protocol(self) -> str:
        """How inputs are made, in one sentence."""
        return (
            f"each photograph is unprocessed to linear camera RGB (Brooks et al. 2019) with a look drawn from the seed "
            f"and its name, sampled RGGB, given 1/{self.ratio:g} of its light, and spoilt by the noise model 'eld' "
            f"of profile {self.profile} at ISO {self.iso:g} (shot, Tukey-lambda read noise, rows, columns and "
            "black-level error where the profile has them, rounding and the converter's range; no scatter of "
            "parameters); results are multiplied by the ratio and "
            "compared as four packed planes"
        )

    def make(self, path: Path, seed: int) -> Sample:
        """Read a photograph, unprocess and spoil it."""
        photo = torch.from_numpy(_photo(path))
        if len(photo) != 3 or min(photo.shape[1:]) < 2:
            raise ManifestError(
                f"{path} was to be turned into a RAW, but it is not a colour photograph. Pass --case sigma=25 for it."
            )
        profile = load_profile(self.profile)
        look = CameraLook.draw(_generator(seed, "look", path))
        height, width = (size // 2 * 2 for size in photo.shape[1:])
        clean = mosaic_planes(unprocess(photo[:, :height, :width], look))
        mosaic = simulate_mosaic(
            clean, profile, self.iso, self.ratio, generator=_generator(seed, self.name, path), exposure_s=_EXPOSURE_S
        )
        level = profile.noise_level(self.iso).for_channels(len(clean))
        noisy = RawImage(
            mosaic, profile.cfa, np.asarray(profile.black_dn), profile.white_dn,
            SensorSettings(self.iso, _EXPOSURE_S), level,
        )  # fmt: skip
        return Sample(path.name, noisy, clean.numpy(), level, self.ratio, _shower(look))


@dataclass(frozen=True)
class RealPairs:
    """Noisy and clean files as a set holds them."""

    name: str = "pairs"
    protocol: str = (
        "real pairs as the set holds them, whole images; the noise level is what `denoise run` takes: the file's own, "
        "or else estimated from the noisy image alone; a RAW result is multiplied by the ratio of ISO times exposure "
        "and compared as packed planes"
    )

    def make(self, pair: Pair, seed: int) -> Sample:
        """Read a pair; nothing is drawn."""
        noisy, clean = (read(path) for path in (pair.noisy, pair.clean))
        if type(noisy) is not type(clean) or noisy.shape != clean.shape or not isinstance(noisy, RawImage | Photo):
            raise ManifestError(
                f"{pair.noisy.name} ({noisy.kind}, {noisy.shape}) and {pair.clean.name} ({clean.kind}, {clean.shape}) "
                "were given as a pair, but they do not have one shape. Correct the manifest."
            )
        truth = np.clip(clean.to_tensor().numpy(), 0, 1)
        if isinstance(noisy, Photo):
            return Sample(pair.noisy.name, noisy, truth, None, 1.0, show_photo)
        return Sample(pair.noisy.name, noisy, truth, None, _exposure_ratio(pair, noisy, clean), _shower(None))


Case = WhiteNoise | CameraNoise | RealPairs

DEFAULT_CASES: Final[dict[str, tuple[Case, ...]]] = {
    "raw": (CameraNoise(3200), CameraNoise(12800, 4), CameraNoise(25600, 8), CameraNoise(1600, 100)),
    "photo": (WhiteNoise(15), WhiteNoise(25), WhiteNoise(50)),
    "pairs": (RealPairs(),),
}
"""What is evaluated if nothing else is asked, by the model's domain, and for sets of pairs."""


def parse_case(text: str) -> Case:
    """Turn ``sigma=25``, ``iso=3200`` or ``iso=1600,ratio=100,profile=sony-a7s2`` into a case.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    values: dict[str, str] = {}
    for part in text.split(","):
        key, _, values[key] = part.partition("=")
    for key in values:
        if key not in ("sigma", "iso", "ratio", "profile"):
            raise UsageError(f"--case '{text}' has '{key}'. {nearest(key, ('sigma', 'iso', 'ratio', 'profile'))}")
    try:
        if set(values) == {"sigma"}:
            return WhiteNoise(_number(values["sigma"], least=0.0))
        if "sigma" in values:
            raise ValueError(text)
        profile = values.get("profile", CameraNoise.profile)
        return CameraNoise(_number(values["iso"]), _number(values.get("ratio", "1")), profile)
    except (KeyError, ValueError):
        raise UsageError(
            f"--case '{text}' was given, but sigma=S (in 255ths) or iso=I[,ratio=R][,profile=P] was expected, such as "
            "sigma=25 or iso=12800,ratio=4."
        ) from None


def show_photo(planes: FloatPlanes) -> Picture:
    """Return a picture (H, W, 3) of a photograph's planes (1 or 3, H, W)."""
    picture = np.rint(np.clip(planes, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _shower(look: CameraLook | None) -> Callable[[FloatPlanes], Picture]:
    """Return what shows RAW planes at half the size: white balance, colour matrix and the tone curve of a look."""
    gains, matrix = np.ones(3), np.eye(3)
    if look is not None:
        gains = np.array([look.red_gain, 1.0, look.blue_gain]) * look.rgb_gain
        matrix = np.linalg.inv(look.rgb_to_camera.double().numpy())

    def show(planes: FloatPlanes) -> Picture:
        if len(planes) == 1:
            camera = np.repeat(planes, 3, 0)
        else:
            camera = np.stack((planes[0], (planes[1] + planes[2]) / 2, planes[3]))
        balanced = np.clip(camera * gains[:, None, None], 0, 1)
        linear = np.clip(np.einsum("ij,jhw->ihw", matrix, balanced), 0, 1) ** (1 / 2.2)
        return show_photo((linear**2 * (3 - 2 * linear)).astype(np.float32))

    return show


def _photo(path: Path) -> FloatPlanes:
    """Return a picture of 8 or 16 bit as planes (1 or 3, H, W), grey where the file is grey."""
    with open_to_read(path) as stream:
        content = np.frombuffer(stream.read(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise FileFormatError(f"{path} was to be evaluated as a photograph, but it is no picture of 8 or 16 bit.")
    planes = pixels[None] if pixels.ndim == 2 else pixels[..., ::-1].transpose(2, 0, 1)
    white = 255 if pixels.dtype == np.uint8 else 65535
    return planes.astype(np.float32) / np.float32(white)


def _exposure_ratio(pair: Pair, noisy: RawImage, clean: Image) -> float:
    light = [
        image.settings.iso * image.settings.exposure_s
        for image in (noisy, clean)
        if isinstance(image, RawImage) and image.settings is not None
    ]
    if len(light) != 2 or not min(light) > 0:
        raise ManifestError(
            f"{pair.noisy.name} and {pair.clean.name} were to be compared at one exposure, but their files do not "
            "state ISO and exposure time. Pairs of such files cannot be evaluated."
        )
    return light[1] / light[0]


def _generator(seed: int, what: str, path: Path) -> torch.Generator:
    """Return a generator that depends on the seed, the purpose and the file's name alone, not on what came before."""
    digest = hashlib.sha256(f"{seed}/{what}/{path.name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _number(text: str, least: float = math.ulp(0.0)) -> float:
    value = float(text)
    if not least <= value < math.inf:
        raise ValueError(text)
    return value
