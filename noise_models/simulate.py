"""Whole frames as a camera would write them: scenes, dark frames, flat frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from noise_models import NOISE_MODELS
from noise_models.base import NoiseModel, NoiseModelError, SensorSettings
from noise_models.eld import EldNoise
from noise_models.profile import CameraProfile

_EXPOSURE_S = 0.01
# A frame is of the camera itself; the scatter of its parameters belongs to training.
_STEADY = frozenset({"scatter"})


def simulate_mosaic(
    clean: Tensor | npt.NDArray[np.floating],
    profile: CameraProfile,
    iso: float,
    ratio: float = 1.0,
    *,
    generator: torch.Generator,
    model: str | NoiseModel = "eld",
    exposure_s: float = _EXPOSURE_S,
) -> npt.NDArray[np.uint16]:
    """Expose a scene ``ratio`` times shorter than it needs, and return what the camera would write.

    Parameters
    ----------
    clean : (4, H/2, W/2) or (H, W) float32
        Linear signal, 0 is black and 1 is white: planes red, green beside red, green beside blue, blue; or the mosaic.
    profile : CameraProfile
        The camera.
    iso : float
        Sensitivity [ISO].
    ratio : float
        How many times less light than ``clean`` there is [1].
    generator : torch.Generator
        Source of chance.
    model : str or NoiseModel
        A key of `NOISE_MODELS` that is built from the profile alone ("eld", "pnnp", "poisson-gaussian"), or a model.
    exposure_s : float
        Exposure, for the dark current [s].

    Returns
    -------
    (H, W) uint16
        Mosaic in the camera's own pattern, black included [DN].

    Raises
    ------
    NoiseModelError
        If the ratio is not above 0, the shape is another one, or the model is not known.
    ProfileError
        If the ISO lies outside the profile, or its gain is not known.
    """
    if not ratio > 0:
        raise NoiseModelError(
            f"The exposure ratio is {ratio}, but must be above 0: 100 means a hundredth of the light."
        )
    mosaic = _to_mosaic(torch.as_tensor(clean, dtype=torch.float32), profile)
    black = _black_map(profile, mosaic.shape)
    expected_dn = mosaic * (profile.white_dn - black) / ratio
    spoil = _model(model, profile)
    return _expose(expected_dn, profile, SensorSettings(iso, exposure_s), spoil, generator)


def simulate_dark(
    profile: CameraProfile,
    iso: float,
    shape: tuple[int, int],
    *,
    generator: torch.Generator,
    exposure_s: float = _EXPOSURE_S,
    without: Iterable[str] = _STEADY,
) -> npt.NDArray[np.uint16]:
    """Expose with the lens capped: a frame (H, W) uint16 [DN], black included.

    A camera whose gain is not known gives dark frames too, without dark current.

    Raises
    ------
    ProfileError
        If the ISO lies outside the profile.
    """
    off = frozenset(without) | (frozenset() if profile.knows_gain else {"shot", "dark-current"})
    settings = SensorSettings(iso, exposure_s)
    return _expose(torch.zeros(shape), profile, settings, EldNoise(profile, off), generator)


def simulate_flat(
    profile: CameraProfile,
    iso: float,
    electrons: float | npt.NDArray[np.floating],
    shape: tuple[int, int],
    *,
    generator: torch.Generator,
    exposure_s: float = _EXPOSURE_S,
    without: Iterable[str] = _STEADY,
) -> npt.NDArray[np.uint16]:
    """Expose an evenly lit field.

    Parameters
    ----------
    profile : CameraProfile
        The camera; its gain must be known.
    iso : float
        Sensitivity [ISO].
    electrons : float or (H, W)
        Expected photo-electrons of each pixel [e-].
    shape : (int, int)
        Height and width of the frame [px].
    generator : torch.Generator
        Source of chance.
    exposure_s : float
        Exposure, for the dark current [s].
    without : iterable of str
        Names of `noise_models.eld.PARTS` to leave out.

    Returns
    -------
    (H, W) uint16
        Black included [DN].

    Raises
    ------
    ProfileError
        If the ISO lies outside the profile, or the gain is not known.
    """
    light = torch.as_tensor(electrons, dtype=torch.float32).expand(shape)
    expected_dn = light * profile.gain_dn_per_e(iso)
    return _expose(expected_dn, profile, SensorSettings(iso, exposure_s), EldNoise(profile, without), generator)


def _model(model: str | NoiseModel, profile: CameraProfile) -> NoiseModel:
    if not isinstance(model, str):
        return model
    if model in ("eld", "pnnp"):
        return NOISE_MODELS[model](profile, _STEADY)
    if model in ("dark-frames", "virtual"):
        raise NoiseModelError(
            f"The noise model '{model}' is not built from a profile alone. Build it, and pass the model itself."
        )
    return NOISE_MODELS[model](profile)


def _expose(
    expected_dn: Tensor,
    profile: CameraProfile,
    settings: SensorSettings,
    model: NoiseModel,
    generator: torch.Generator,
) -> npt.NDArray[np.uint16]:
    noisy = model(expected_dn[None, None].contiguous(), [settings], generator=generator)[0, 0]
    levels = noisy.add_(_black_map(profile, noisy.shape)).round_().clamp_(0.0, profile.white_dn)
    return levels.numpy().astype(np.uint16)


def _to_mosaic(clean: Tensor, profile: CameraProfile) -> Tensor:
    if clean.ndim == 2:
        return clean
    positions = profile.positions
    if clean.ndim != 3 or clean.shape[0] != len(positions):
        raise NoiseModelError(
            f"A scene of shape {tuple(clean.shape)} was given, but {profile.id} takes a mosaic (H, W) or "
            f"{len(positions)} planes."
        )
    if len(positions) == 1:
        return clean[0]
    _, height, width = clean.shape
    mosaic = clean.new_empty((2 * height, 2 * width))
    for plane, (row, column) in zip(clean, positions, strict=True):
        mosaic[row::2, column::2] = plane
    return mosaic


def _black_map(profile: CameraProfile, shape: tuple[int, ...]) -> Tensor:
    height, width = shape[-2:]
    black = torch.tensor(profile.black_dn, dtype=torch.float32)
    return black.repeat(-(-height // 2), -(-width // 2))[:height, :width]
