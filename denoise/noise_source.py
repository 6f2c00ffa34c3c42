"""Which profile and noise level an image is denoised with: as the file or the user says, or as the image shows."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from denoise.denoiser import Denoiser
from denoise.engine import Engine, Plan
from denoise.engine.run import run_batch
from denoise.errors import ShapeError, UsageError, WeightsError
from denoise.images import Image, Photo, RawImage
from denoise.io.tag_reader import read_exif_iso
from denoise.repair import iso_of
from denoise.self_check import NoiseCorrelation, middle_window, noise_correlation
from noise_models.base import NoiseModelError
from noise_models.blind import BlindEstimate, NothingToMeasureError, measure, sample_windows
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import answers_to, find_profile, load_profile, profile_of

_LOG = logging.getLogger(__name__)
_LOOKED_AT: Final = 1024
"""Side of the middle of a photograph by which it is told what kind of noise it has [px]."""
_HIGH_ISO: Final = 400.0
_LEAST_READ: Final = 1e-12

FloatPlanes = npt.NDArray[np.float32]


def choose_profile(image: RawImage, wish: str = "") -> CameraProfile | None:
    """Return the camera profile that serves a photograph.

    Parameters
    ----------
    image : RawImage
        As shot.
    wish : str
        "": the one in the user's folder that was measured of this make and model, if it knows the shot's ISO.
        "auto": the same, else the one that ships. "none". Or a path or an id.

    Returns
    -------
    CameraProfile or None
        None if none is wished, or, with "", none fits; why a profile of this camera does not fit is logged.

    Raises
    ------
    ProfileError
        If the profile that was wished by name or by "auto" does not exist or is not sound.

    Notes
    -----
    A profile that ships is never chosen unasked. It was published of another body of that model, whose read noise may
    differ by a tenth, and of some cameras only straight lines are known, which single ISOs miss by a fourth; the file's
    own NoiseProfile, or the photograph itself, says more of the camera that took it.
    """
    make, model = image.metadata.make, image.metadata.model
    if wish == "none":
        return None
    if wish == "auto":
        return profile_of(make, model)
    if wish:
        profile = load_profile(wish)
        if not answers_to(profile, make, model):
            _LOG.warning("The profile %s is of another camera than %s %s.", profile.id, make, model)
        return profile
    try:
        profile = find_profile(make, model, own_only=True)
        if profile is not None:
            profile.noise_level(iso_of(image))
    except NoiseModelError as error:
        _LOG.warning("No profile of your folder is used: %s", error)
        return None
    return profile


def choose_noise(
    image: Image, wish: str, model: Denoiser, engine: Engine, profile: CameraProfile | None = None
) -> NoiseLevel:
    """Return the noise level to denoise with, spelled out for every plane.

    Parameters
    ----------
    image : Image
        The noisy image.
    wish : str
        "auto": the profile where one is given, else what the file says, else blind. "file", "profile", "blind": only
        that. Or "SHOT,READ".
    model : Denoiser
        Gives the first result of which the blind estimate is refined.
    engine : Engine
        Says on which device and in which precision.
    profile : CameraProfile, optional
        Of the image's camera.

    Raises
    ------
    UsageError
        If the wish is none of these, or "profile" without one.
    WeightsError
        If "file" is wished and the file says nothing.
    ProfileError
        If the profile does not know the photograph's ISO, or its gain.
    NoiseModelError
        If the numbers are not a noise level, or the image is too small for a blind estimate.

    Notes
    -----
    An image that is flat or clipped all over, of which nothing can be measured, is taken for free of noise, with a
    warning.
    """
    channels = image.shape[0]
    if wish == "auto":
        wish = "profile" if profile is not None else "blind" if image.noise is None else "file"
    if wish == "profile":
        if profile is None or not isinstance(image, RawImage):
            raise UsageError(
                "--noise profile was asked, but there is no profile. Pass --profile camera.json and a RAW."
            )
        return profile.noise_level(iso_of(image)).for_channels(channels)
    if wish == "file":
        if image.noise is None:
            raise WeightsError(
                "--noise file was asked, but the file states no noise level. Pass --noise blind or --noise SHOT,READ."
            )
        return image.noise.for_channels(channels)
    if wish == "blind":
        try:
            return blind_estimate(image, model, engine).level.for_channels(channels)
        except NothingToMeasureError as error:
            _LOG.warning("%s Taken for free of noise.", error)
            return NoiseLevel(np.zeros(channels), np.full(channels, _LEAST_READ), "blind")
    return parse_noise(wish).for_channels(channels)


def look_at_noise(photo: Photo) -> NoiseCorrelation:
    """Measure whether neighbours share a photograph's noise, in the middle of it.

    A photograph too small to tell is answered with no method.
    """
    try:
        return noise_correlation(torch.from_numpy(photo.window(*middle_window(photo.shape[1:], _LOOKED_AT))))
    except ShapeError:
        return NoiseCorrelation(0.0, (), (), None, "the image is too small to see the noise in")


def is_camera_jpeg(photo: Photo) -> bool:
    """Whether a colour photograph came from a camera at high ISO, and neighbours share its noise.

    Fine texture looks like such noise too. So a photograph whose EXIF does not state an ISO of 400 or more is not
    taken for one.
    """
    iso = read_exif_iso(photo.metadata.exif) if photo.metadata.exif else None
    if photo.shape[0] != 3 or photo.noise is not None or iso is None or iso < _HIGH_ISO:
        return False
    return look_at_noise(photo).method == "cbsn"


def parse_noise(text: str) -> NoiseLevel:
    """Turn "SHOT,READ" into a level.

    Raises
    ------
    UsageError
        If it is not two numbers.
    NoiseModelError
        If they are not a noise level.
    """
    try:
        shot, read = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--noise '{text}' was given, but auto, file, profile, blind or SHOT,READ was expected: two numbers with "
            "var(x) = SHOT*x + READ and x from 0 (black) to 1 (white), such as 0.0004,1e-6."
        ) from None
    return NoiseLevel(np.array([shot]), np.array([read]), "given")


def blind_estimate(image: Image, model: Denoiser | None = None, engine: Engine | None = None) -> BlindEstimate:
    """Measure the noise from the image alone; with a model, once more from its first result.

    That of a photograph is taken for even, as photographs' noise is commonly described, unless it surely follows the
    light.

    Raises
    ------
    NoiseModelError
        If the image is too small, flat, or clipped all over.
    """
    first = measure(image, white=None if image.kind == "photo" else False)
    white = image.kind == "photo" and not first.level.shot.any()
    if model is None or engine is None or not first.level.variance(1.0).all():
        return first
    windows = sample_windows(image.shape, most=9, side=128)
    plan = engine.plan(image, model)
    result = _FirstResult(image, model.to(torch.device(plan.device)), plan, first.level.for_channels(image.shape[0]))
    return measure(image, result, white=white, windows=windows)


@dataclass(frozen=True)
class _FirstResult:
    """The image denoised under a first noise level, computed window by window when it is looked at."""

    image: Image
    model: Denoiser
    plan: Plan
    level: NoiseLevel

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows, columns."""
        return self.image.shape

    def window(self, top: int, bottom: int, left: int, right: int) -> FloatPlanes:
        """Denoise planes [top:bottom, left:right]; (C, h, w)."""
        noisy = self.image.window(top, bottom, left, right)
        step = self.model.card.multiple_of
        pad = [(0, 0), *((0, -size % step) for size in noisy.shape[1:])]
        padded = torch.from_numpy(np.pad(noisy, pad, mode="symmetric"))[None]
        padded = padded.to(self.plan.device, memory_format=torch.channels_last)
        denoised = run_batch(self.model, padded, self.level, precision=self.plan.precision)
        return denoised[0, :, : noisy.shape[1], : noisy.shape[2]].cpu().numpy()
