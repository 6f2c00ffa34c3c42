"""A RAW file made from a photograph, as a small sensor at high ISO would have written it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from denoise import cfa as cfa_layout
from denoise.images import RawImage, RawMetadata
from denoise.unprocess import CameraLook, mosaic_planes, unprocess
from noise_models.base import SensorSettings
from noise_models.level import NoiseLevel


@dataclass(frozen=True)
class SimpleSensor:
    """A sensor with shot and read noise and nothing else."""

    name: str = "Simulated small sensor"
    """Camera model, as it will stand in the file."""
    iso: float = 6400
    """What the photographer would have set."""
    gain_dn_per_e: float = 4.0
    """K [DN/e-]."""
    read_sigma_dn: float = 6.0
    """Standard deviation of the read noise [DN]."""
    black_dn: float = 256.0
    """Level of no light [DN]."""
    white_dn: float = 4095.0
    """Saturation [DN]: 12 bit."""

    @property
    def noise(self) -> NoiseLevel:
        """The noise of its files, rounding included."""
        full = self.white_dn - self.black_dn
        read = (self.read_sigma_dn**2 + 1 / 12) / full**2
        return NoiseLevel(np.array([self.gain_dn_per_e / full]), np.array([read]), "DNG NoiseProfile")


def simulate_raw(
    photo: npt.NDArray[np.uint8], sensor: SimpleSensor, *, seed: int = 0
) -> tuple[RawImage, npt.NDArray[np.float32]]:
    """Make a RAW of a photograph.

    Parameters
    ----------
    photo : (H, W, 3) uint8
        sRGB, H and W even.
    sensor : SimpleSensor
        Gain, noise and levels.
    seed : int
        Of the noise.

    Returns
    -------
    RawImage
        RGGB, with the colour matrix and white balance that give the photograph's colours back, and its NoiseProfile.
    (4, H/2, W/2) float32
        The clean planes.
    """
    look = CameraLook(
        torch.tensor([[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]]),
        2.0,
        1.7,
        1.25,
    )
    clean = mosaic_planes(unprocess(torch.from_numpy(photo.transpose(2, 0, 1) / np.float32(255)), look))
    generator = torch.Generator().manual_seed(seed)
    electrons = clean * ((sensor.white_dn - sensor.black_dn) / sensor.gain_dn_per_e)
    signal_dn = torch.poisson(electrons, generator=generator) * sensor.gain_dn_per_e
    signal_dn += sensor.read_sigma_dn * torch.randn(clean.shape, generator=generator)
    levels = (signal_dn + sensor.black_dn).round().clamp(0, sensor.white_dn).numpy().astype(np.uint16)
    metadata = RawMetadata(
        make="denoise-toolkit",
        model=sensor.name,
        unique_model=f"denoise-toolkit {sensor.name}",
        color_matrices=(look.xyz_to_camera.double().numpy(),),
        illuminants=(21,),
        as_shot_neutral=(1 / look.red_gain, 1.0, 1 / look.blue_gain),
        baseline_exposure=float(np.log2(look.rgb_gain)),
    )
    image = RawImage(
        cfa_layout.unpack(levels, "RGGB").astype(np.uint16),
        "RGGB",
        np.full((2, 2), sensor.black_dn),
        sensor.white_dn,
        SensorSettings(sensor.iso, 1 / 60),
        sensor.noise,
        metadata,
        ("simulated from a photograph",),
    )
    return image, clean.numpy()
