"""Exposures drawn at random: which camera, at which ISO, how many times too short."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from denoise.errors import RecipeError
from denoise.training.feed import seeded
from noise_models import NOISE_MODELS
from noise_models.base import NoiseModel, SensorSettings
from noise_models.eld import EldNoise
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile
from noise_models.virtual import draw_camera

MOST_VARIANCE: Final = 0.25
"""Of the brightened noise at white: nothing is learned where a single exposure says nothing."""
_COLOURS: Final = (0, 1, 1, 2)
_CAMERAS: Final = 4096  # begins the seeds of the virtual cameras


@dataclass(frozen=True, eq=False)
class Exposure:
    """One exposure of one camera."""

    camera: CameraProfile
    """A Bayer camera whose gain is known."""
    settings: SensorSettings
    """ISO and time."""
    noise: NoiseModel
    """How it spoils."""
    ratio: float = 1.0
    """How many times less light there is than the photograph needs; the result is brightened by as much."""

    @functools.cached_property
    def unit_level(self) -> NoiseLevel:
        """(4,), of the planes before they are brightened; the electrons that heat freed are counted as read noise.

        Notes
        -----
        shot = K / R, read = (sigma**2 + K**2 D t) / R**2, R = white - black                                  (1)
        """
        level = self.camera.noise_level(self.settings.iso)
        heat_e = (self.camera.at(self.settings.iso).dark_current_e_per_s or 0.0) * self.settings.exposure_s
        return replace(level, read=level.read + level.shot**2 * heat_e)  # (1)

    @property
    def level(self) -> NoiseLevel:
        """(4,), of the brightened planes: shot grows with the ratio, read noise with its square."""
        unit = self.unit_level
        return replace(unit, shot=unit.shot * self.ratio, read=unit.read * self.ratio**2)

    def brightened(self, ratio: float) -> Exposure:
        """Return the same exposure with another ratio."""
        other = replace(self, ratio=ratio)
        other.__dict__["unit_level"] = self.unit_level  # it does not depend on the ratio
        return other

    @property
    def span_dn(self) -> Tensor:
        """(4,), white minus black of each plane [DN]."""
        black = torch.tensor(self.camera.black_dn, dtype=torch.float32)
        return self.camera.white_dn - torch.stack([black[position] for position in self.camera.positions])

    def mosaic(self, camera_rgb: Tensor) -> Tensor:
        """Sample camera RGB (3, H, W), H and W even, as this camera's filters do; planes (4, H/2, W/2)."""
        places = zip(_COLOURS, self.camera.positions, strict=True)
        return torch.stack([camera_rgb[colour, row::2, column::2] for colour, (row, column) in places])

    def shoot(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Spoil clean planes (4, H, W), 0 black and 1 white, in the sensor's own geometry; brightened planes.

        Parameters
        ----------
        clean : (4, H, W) float32
            As `mosaic` gives them.
        generator : torch.Generator
            Source of chance.

        Returns
        -------
        (4, H, W) float32
            Same units; up to ``ratio`` where the converter saturates.
        """
        _, height, width = clean.shape
        factor = (self.span_dn / self.ratio)[:, None, None]
        frame = clean.new_empty((1, 1, 2 * height, 2 * width))
        for plane, (row, column) in zip(clean * factor, self.camera.positions, strict=True):
            frame[0, 0, row::2, column::2] = plane
        noisy = self.noise(frame, [self.settings], generator=generator)[0, 0]
        return torch.stack([noisy[row::2, column::2] for row, column in self.camera.positions]) / factor


class Cameras(Protocol):
    """Where exposures come from."""

    def draw(self, generator: torch.Generator) -> Exposure:
        """Draw a camera and an exposure, its ratio 1."""
        ...


class VirtualCameras:
    """Cameras that do not exist: what is trained on them serves any camera.

    Parameters
    ----------
    count : int
        How many there are. Each is drawn by its own number when it is first used, and kept: to draw one takes as long
        as to spoil a patch.
    without : iterable of str
        Parts of their noise to leave out, of `noise_models.eld.PARTS`.
    """

    def __init__(self, count: int = 4096, without: Iterable[str] = ()) -> None:
        self.count, self.without = count, frozenset(without)
        self._drawn: dict[int, tuple[CameraProfile, EldNoise]] = {}

    def draw(self, generator: torch.Generator) -> Exposure:
        """Draw a camera and an exposure, its ratio 1."""
        number = int(torch.randint(self.count, (), generator=generator))
        if number not in self._drawn:
            camera = draw_camera(seeded(_CAMERAS, number))
            self._drawn[number] = camera, EldNoise(camera, self.without)
        camera, noise = self._drawn[number]
        return Exposure(camera, camera.draw(generator), noise)


class OneCamera:
    """Exposures of one camera.

    Parameters
    ----------
    profile : CameraProfile
        A Bayer camera whose gain is known.
    noise : NoiseModel
        Made for it.
    isos : sequence of float, optional
        The only ISOs that the noise model knows; else any that the profile covers.

    Raises
    ------
    RecipeError
        If it is not a Bayer camera, or its gain is not known.
    """

    def __init__(self, profile: CameraProfile, noise: NoiseModel, isos: Sequence[float] = ()) -> None:
        if profile.geometry != "bayer" or not profile.knows_gain:
            found = f"a {profile.geometry} sensor" if profile.geometry != "bayer" else "of unknown gain"
            raise RecipeError(
                f"Training on the noise of {profile.id} was asked for, but it is {found}: a Bayer camera calibrated "
                "with flat frames is needed. Calibrate it with --flats, or use the default model."
            )
        self.profile, self.noise, self.isos = profile, noise, tuple(isos)

    def draw(self, generator: torch.Generator) -> Exposure:
        """Draw an exposure, its ratio 1."""
        settings = self.profile.draw(generator)
        if self.isos:
            iso = self.isos[int(torch.randint(len(self.isos), (), generator=generator))]
            settings = SensorSettings(iso, settings.exposure_s)
        return Exposure(self.profile, settings, self.noise)


def choose_cameras(noise: str, profile: CameraProfile | None = None, darks: str | None = None) -> Cameras:
    """Return where exposures come from.

    A camera's fixed pattern is left out, as ``denoise run --profile`` takes it out of a photograph; dark frames hold
    it.

    Parameters
    ----------
    noise : str
        Key of `NOISE_MODELS`.
    profile : CameraProfile, optional
        The camera; None for virtual ones.
    darks : str, optional
        Folder or glob of its dark frames, for "dark-frames".

    Raises
    ------
    RecipeError
        If a profile or dark frames are missing, or given where they do not belong.
    NoiseModelError
        If the noise model is not known, or lacks what it needs of the profile.
    """
    model = NOISE_MODELS[noise]
    if (noise == "dark-frames") != (darks is not None):
        raise RecipeError(
            f"The noise model '{noise}' was asked for {'with' if darks else 'without'} dark frames. "
            "They belong to noise = 'dark-frames', and to no other: give both, or neither."
        )
    if noise == "virtual":
        if profile is not None:
            raise RecipeError(
                f"The noise of virtual cameras was asked for together with the profile {profile.id}. "
                "Choose noise = 'eld' for that camera, or leave the profile out."
            )
        return VirtualCameras()
    if profile is None:
        raise RecipeError(f"The noise model '{noise}' needs a camera. Give its profile, or choose noise = 'virtual'.")
    if darks is not None:
        frames = read_darks(darks)
        return OneCamera(profile, model(profile, frames), sorted(frames))
    without = {"fixed-pattern"} if noise != "poisson-gaussian" else set()
    return OneCamera(profile, model(profile, without))


def read_darks(place: str) -> dict[float, list[npt.NDArray[np.generic]]]:
    """Read the dark frames of a folder or glob, by ISO.

    Raises
    ------
    RecipeError
        If a frame does not say its ISO.
    CalibrationError
        If there are none.
    """
    from denoise.io.frames import find_frames, read_frame

    frames: dict[float, list[npt.NDArray[np.generic]]] = {}
    for path in find_frames([place], "dark frames"):
        frame = read_frame(path)
        if frame.info.iso is None:
            raise RecipeError(f"The dark frame {path} does not say its ISO. Give RAW files as the camera wrote them.")
        frames.setdefault(float(frame.info.iso), []).append(np.asarray(frame.mosaic))
    return frames


def longest_ratio(level: NoiseLevel, variance: float) -> float:
    """Return the ratio at which the brightened noise of white reaches a variance.

    Parameters
    ----------
    level : NoiseLevel
        Without brightening.
    variance : float
        House units.

    Notes
    -----
    read r**2 + shot r = variance                                                                             (1)
    """
    shot, read = float(level.shot.max()), float(level.read.max())
    return 2 * variance / (shot + math.sqrt(shot**2 + 4 * read * variance))  # (1)
