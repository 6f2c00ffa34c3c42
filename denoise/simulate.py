"""A RAW file made from a photograph, as a calibrated camera would have written it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from denoise.errors import ShapeError
from denoise.images import RawImage, RawMetadata
from denoise.unprocess import CameraLook, mosaic_planes, unprocess
from noise_models.base import SensorSettings
from noise_models.profile import CameraProfile
from noise_models.simulate import simulate_mosaic

_D65 = 21


def simulate_raw(
    photo: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    profile: CameraProfile,
    iso: float,
    ratio: float = 1.0,
    *,
    seed: int = 0,
    model: str = "eld",
    exposure_s: float = 1 / 60,
) -> tuple[RawImage, npt.NDArray[np.float32]]:
    """Make a RAW of a photograph: unprocess it to linear light, and spoil that as a camera would.

    Parameters
    ----------
    photo : (H, W, 3) uint8 or uint16
        sRGB; an odd row or column at the end is left out.
    profile : CameraProfile
        The camera, of a Bayer sensor.
    iso : float
        Sensitivity [ISO].
    ratio : float
        How many times too short the exposure is; the file asks its converter to brighten by as much.
    seed : int
        Of the noise.
    model : str
        Key of `noise_models.NOISE_MODELS`.
    exposure_s : float
        What the file will say [s].

    Returns
    -------
    RawImage
        With the colour matrix and white balance that give the photograph's colours back, and its NoiseProfile.
    (4, H/2, W/2) float32
        The clean planes, at the exposure of the file.

    Raises
    ------
    ShapeError
        If the photograph is not (H, W, 3), or smaller than 2x2.
    ProfileError, NoiseModelError
        If the profile does not cover the ISO, or the model is not known.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or min(photo.shape[:2]) < 2:
        raise ShapeError(f"A colour photograph (H, W, 3) was expected, but got {photo.shape}. Give an RGB picture.")
    height, width = (size // 2 * 2 for size in photo.shape[:2])
    values = photo[:height, :width].transpose(2, 0, 1) / np.float32(np.iinfo(photo.dtype).max)
    look = _daylight()
    clean = mosaic_planes(unprocess(torch.from_numpy(np.ascontiguousarray(values)), look))
    generator = torch.Generator().manual_seed(seed)
    mosaic = simulate_mosaic(clean, profile, iso, ratio, generator=generator, model=model, exposure_s=exposure_s)
    metadata = RawMetadata(
        make=profile.make,
        model=profile.model,
        unique_model=f"{profile.make} {profile.model} (simulated by denoise-toolkit)",
        color_matrices=(look.xyz_to_camera.double().numpy(),),
        illuminants=(_D65,),
        as_shot_neutral=(1 / look.red_gain, 1.0, 1 / look.blue_gain),
        baseline_exposure=float(np.log2(look.rgb_gain * ratio)),
    )
    image = RawImage(
        mosaic,
        profile.cfa,
        np.asarray(profile.black_dn),
        profile.white_dn,
        SensorSettings(iso, exposure_s),
        replace(profile.noise_level(iso), source="DNG NoiseProfile"),
        metadata,
        (f"simulated from a photograph: {profile.id}, ISO {iso:g}, {ratio:g} times too dark, noise model {model}",),
    )
    return image, (clean / ratio).numpy()


def _daylight() -> CameraLook:
    """Return the look of a daylight photograph."""
    matrix = [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]]
    return CameraLook(torch.tensor(matrix), red_gain=2.0, blue_gain=1.7, rgb_gain=1.25)
