"""Photographs as a camera's own software would have saved them: demosaiced, smoothed, sharpened, compressed.

Noise that was independent in the sensor leaves that software blotchy: neighbours share it, colours differ from
brightness, and it depends on what lies beneath. The clean image goes through the same steps, but for the compression,
so that a network learns to take the noise away and to leave the camera's look alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from denoise.denoiser import Batch
from denoise.methods.cbsn import STRONGEST
from denoise.training.sources.crops import Crops, log_uniform, trim
from denoise.training.sources.exposures import Exposure, VirtualCameras, longest_ratio
from denoise.training.sources.noisy_sources import NoisyBatch
from denoise.unprocess import CameraLook, mosaic_planes, process, unprocess
from denoise.weights import load_model
from noise_models.level import NoiseLevel

Picture = npt.NDArray[Any]
"""(H, W, 3) float32 sRGB, 0 to 1."""

_EDGE: Final = 12
"""Around a patch, cut off after demosaicing and smoothing [px]."""
_MID_GREY: Final = 0.1
_LEAST: Final = 0.0015
"""Standard deviation of linear mid-grey, before the software brightens it."""
_MOST: Final = 0.05
_MOST_SMOOTHED: Final = 0.15
"""The same where software smooths: what is left of strong noise is coarse."""
_CAMERAS: Final = 512
_SCALES: Final = (0.4, 1.6)
"""Of crops: with these, and few busy ones, clean pictures have the spectrum of PolyU's, saved at 100 %."""
_RECOLOURED: Final = 0.4
"""Share of the crops: demosaicing relies on what colours have in common, so few may lose it."""
_LARGEST_SHIFT: Final = 2 / 255
"""Of a patch's mean colour: where much noise is cut off at black, the clean picture is no answer."""
_CROSS = ((0, 0, -1, 0, 0), (0, 0, 2, 0, 0), (-1, 2, 4, 2, -1), (0, 0, 2, 0, 0), (0, 0, -1, 0, 0))
_ALONG = ((0, 0, 0.5, 0, 0), (0, -1, 0, -1, 0), (-1, 4, 5, 4, -1), (0, -1, 0, -1, 0), (0, 0, 0.5, 0, 0))
_ACROSS = ((0, 0, -1.5, 0, 0), (0, 2, 0, 2, 0), (-1.5, 0, 6, 0, -1.5), (0, 2, 0, 2, 0), (0, 0, -1.5, 0, 0))
_INTERPOLATION: Final = torch.tensor((_CROSS, _ALONG, tuple(zip(*_ALONG, strict=True)), _ACROSS)) / 8
"""Green at red and blue; a colour where its neighbours stand along the row, along the column, and across."""


@dataclass(frozen=True)
class CameraSoftware:
    """What a camera does to a picture after demosaicing."""

    chroma_blur: float
    """Standard deviation of a Gaussian over the colour differences [px]; 0: none."""
    smoothing: float
    """Share of the brightness's noise that is smoothed away from edges, 0 to 1; the picture itself stays."""
    reach: float
    """Standard deviation of that smoothing [px]."""
    sharpening: float
    """Amount of an unsharp mask of the brightness."""
    radius: float
    """Of that mask [px]."""

    @staticmethod
    def draw(generator: torch.Generator) -> CameraSoftware:
        """Draw a camera's settings.

        Ranges hold what 48 crops of five cameras show (PolyU): from one pixel to the next, noise of the brightness is
        correlated by -0.02 to 0.8, that of colours by 0.8 to 0.95.
        """
        dice = torch.rand(8, generator=generator).tolist()
        return CameraSoftware(
            chroma_blur=1.0 + 3.0 * dice[1] if dice[0] < 0.85 else 0.0,
            smoothing=1.0 - 0.4 * dice[3] ** 2 if dice[2] < 0.85 else 0.0,
            reach=0.9 + 2.2 * dice[4] ** 2,
            sharpening=0.6 * dice[6] if dice[5] < 0.5 else 0.0,
            radius=0.6 + 1.0 * dice[7],
        )

    def __call__(self, noisy: Picture, clean: Picture) -> tuple[Picture, Picture]:
        """Treat a picture with and without its noise."""
        apart = [cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb) for picture in (noisy, clean)]
        if self.smoothing:
            apart[0][..., 0] = apart[1][..., 0] + self._smoothed(apart[0][..., 0] - apart[1][..., 0], apart[1][..., 0])
        noisy, clean = (self._finished(parts) for parts in apart)
        return noisy, clean

    def _smoothed(self, noise: Picture, brightness: Picture) -> Picture:
        """Smooth noise where the brightness is even, by its own strength."""
        step = (brightness - cv2.GaussianBlur(brightness, (0, 0), self.reach)) / (10 * noise.std() + 1e-6)
        return noise + self.smoothing * np.exp(-(step**2)) * (cv2.GaussianBlur(noise, (0, 0), self.reach) - noise)

    def _finished(self, parts: Picture) -> Picture:
        """Sharpen brightness and blur colours (H, W, YCrCb); returns sRGB."""
        if self.sharpening:
            soft = cv2.GaussianBlur(parts[..., 0], (0, 0), self.radius)
            parts[..., 0] += self.sharpening * (parts[..., 0] - soft)
        if self.chroma_blur:
            parts[..., 1:] = cv2.GaussianBlur(parts[..., 1:], (0, 0), self.chroma_blur)
        return np.clip(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB), 0, 1)


def draw_told(batch: int, generator: torch.Generator) -> NoiseLevel:
    """Draw what teachers and student are told: standard deviations from 0 to `STRONGEST`, one for each picture."""
    strength = STRONGEST * torch.rand(batch, generator=generator)
    return NoiseLevel(np.zeros((batch, 3)), strength.square()[:, None].expand(-1, 3).numpy(), "told")


class CameraJpegs:
    """Patches of photographs with the noise of virtual cameras, as the cameras' own software would have saved them.

    Some are the plain photograph under white noise instead, as what was made smaller since looks like.

    Parameters
    ----------
    photos, held_out : sequence of (3, H, W) uint8 tensor
        For training, and for validation.
    patch : int
        Side of a patch [px].
    white : float
        Share of the patches under white noise.
    busy : float
        See `Crops`.
    teachers : sequence of str
        Models that a camera's noisy picture passes one after the other, so that their result takes the place of the
        clean picture; under white noise that stays. Those that need a noise level are told one (`draw_told`), and
        the batch tells the student.
    """

    cases = ("camera-jpegs",)

    def __init__(
        self,
        photos: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        patch: int = 128,
        white: float = 0.15,
        busy: float = 0.15,
        teachers: Sequence[str] = (),
    ) -> None:
        self.crops = Crops(photos, patch + 2 * _EDGE, scales=_SCALES, busy=busy, recolour=_RECOLOURED)
        self.held_out, self.white = held_out, white
        self.teachers = [load_model(name, kind="photo") for name in teachers]
        self.cameras = VirtualCameras(_CAMERAS, without=("bias",))

    def draw(self, batch: int, *, generator: torch.Generator) -> NoisyBatch:
        """Return ``batch`` patches (B, 3, patch, patch)."""
        pairs: list[tuple[Tensor, Tensor, Tensor]] = []
        while len(pairs) < batch:
            dither = torch.rand(self.crops.side, self.crops.side, generator=generator).sub_(0.5).div_(255)
            photo = (self.crops.draw(generator) + dither).clamp_(0, 1)
            is_white = torch.rand((), generator=generator) < self.white
            pair = _under_white_noise(photo, generator) if is_white else self._shot(photo, generator)
            if float((pair[0] - pair[1]).mean((1, 2)).abs().max()) < _LARGEST_SHIFT:
                pairs.append((*pair, is_white))
        noisy, clean, white = (torch.stack(part) for part in zip(*pairs, strict=True))
        told = draw_told(batch, generator)
        if self.teachers:
            clean = torch.where(white.view(-1, 1, 1, 1), clean, self._taught(noisy, told))
        return NoisyBatch(noisy, clean, told, torch.full((batch,), 1 / 255))

    def validation(self) -> Iterator[Batch]:
        """Yield every photograph held out, each by another camera, with the same noise at every call."""
        generator = torch.Generator().manual_seed(20)
        for photo in self.held_out:
            sides = trim(photo, 16)
            noisy, clean = self._shot(sides.float() / 255, generator)
            multiple = (trim(noisy, 16)[None], trim(clean, 16)[None])
            yield Batch(*multiple, None)

    def _taught(self, noisy: Tensor, told: NoiseLevel) -> Tensor:
        """Return what the teachers make of pictures (B, 3, H, W)."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for teacher in self.teachers:
                noisy = teacher.denoise(noisy, told if teacher.card.noise == "required" else None)
        return noisy.clone()

    def _shot(self, photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the noisy and the clean picture of a photograph (3, H, W), smaller by `_EDGE` on every side.

        A lens is softer than the photographs, which were made smaller: their edges are blurred a little.
        """
        look, software = CameraLook.draw(generator), CameraSoftware.draw(generator)
        exposure = self._draw_exposure(_MOST_SMOOTHED if software.smoothing else _MOST, generator)
        softness = 0.4 + 0.4 * float(torch.rand((), generator=generator))
        light = cv2.GaussianBlur(unprocess(photo, look).permute(1, 2, 0).numpy(), (0, 0), softness)
        planes = mosaic_planes(torch.from_numpy(light).permute(2, 0, 1))
        shot = exposure.shoot(planes, generator).clamp_max(1.0)
        noisy, clean = software(_developed(shot, look), _developed(planes, look))
        return _saved(_inside(noisy), generator), _as_tensor(_inside(clean))

    def _draw_exposure(self, most: float, generator: torch.Generator) -> Exposure:
        """Draw a camera's exposure, and the ratio that gives it a log-uniform standard deviation at mid-grey."""
        wanted = float(log_uniform(_LEAST, most, 1, generator))
        while True:
            exposure = self.cameras.draw(generator)
            level = exposure.unit_level
            ratio = longest_ratio(replace(level, shot=level.shot * _MID_GREY), wanted**2)
            if ratio >= 1:
                return exposure.brightened(ratio)


def demosaic(planes: Tensor) -> Tensor:
    """Demosaic white-balanced planes (4, H, W) into RGB (3, 2 H, 2 W): linear, corrected by gradients as in [1]_.

    Parameters
    ----------
    planes : (4, H, W) float tensor
        Red, green of the red rows, green of the blue rows, blue.

    References
    ----------
    .. [1] H. S. Malvar, L. He, R. Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color
       images", ICASSP 2004.
    """
    mosaic = functional.pixel_shuffle(planes[None], 2)
    filtered = functional.conv2d(functional.pad(mosaic, (2, 2, 2, 2), mode="reflect"), _INTERPOLATION[:, None])[0]
    green, along, down, across = filtered
    colours = mosaic[0].repeat(3, 1, 1)
    colours[1, 0::2, 0::2], colours[1, 1::2, 1::2] = green[0::2, 0::2], green[1::2, 1::2]
    for plane, row in ((0, 0), (2, 1)):  # red lies on even rows and columns, blue on odd ones
        colours[plane, row::2, 1 - row :: 2] = along[row::2, 1 - row :: 2]
        colours[plane, 1 - row :: 2, row::2] = down[1 - row :: 2, row::2]
        colours[plane, 1 - row :: 2, 1 - row :: 2] = across[1 - row :: 2, 1 - row :: 2]
    return colours


def _developed(planes: Tensor, look: CameraLook) -> Picture:
    """Return the sRGB picture (H, W, 3) of planes: white-balanced before demosaicing, as the correction needs."""
    gains = torch.tensor([look.red_gain, 1.0, 1.0, look.blue_gain])[:, None, None] * look.rgb_gain
    balanced = replace(look, red_gain=1.0, blue_gain=1.0, rgb_gain=1.0)
    return process(demosaic(planes * gains), balanced).numpy().transpose(1, 2, 0)


def _under_white_noise(photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    sigma = float(log_uniform(1 / 255, 30 / 255, 1, generator))
    noisy = photo + sigma * torch.randn(photo.shape, generator=generator)
    noisy, clean = (_inside(each.permute(1, 2, 0).numpy()) for each in (noisy, photo))
    return _saved(noisy, generator), _as_tensor(clean)


def _saved(picture: Picture, generator: torch.Generator) -> Tensor:
    """Return what is left of (H, W, 3) after rounding to 8 bit, and mostly after a JPEG of quality 80 to 100."""
    pixels = np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)
    compressed, quality, finely = torch.rand(3, generator=generator).tolist()
    if compressed < 0.75:
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if finely < 0.4 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        options = [cv2.IMWRITE_JPEG_QUALITY, int(80 + 21 * quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        stored = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)[1]
        pixels = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR))[..., ::-1]
    return _as_tensor(pixels.astype(np.float32) / 255)


def _inside(picture: Picture) -> Picture:
    return picture[_EDGE:-_EDGE, _EDGE:-_EDGE]


def _as_tensor(picture: Picture) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32))
