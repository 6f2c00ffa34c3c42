"""sRGB photographs turned back into what a sensor would have seen: clean linear mosaics.

The camera pipeline run backwards with random but plausible colour matrices and gains, so that a network for RAW can
learn from photographs.

References
----------
.. [1] T. Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

_XYZ_TO_CAMERA: Final = torch.tensor(
    [
        [[1.0234, -0.2969, -0.2266], [-0.5625, 1.6328, -0.0469], [-0.0703, 0.2188, 0.6406]],
        [[0.4913, -0.0541, -0.0202], [-0.6130, 1.3513, 0.2906], [-0.1564, 0.2151, 0.7183]],
        [[0.8380, -0.2630, -0.0639], [-0.2887, 1.0725, 0.2496], [-0.0627, 0.1427, 0.5438]],
        [[0.6596, -0.2079, -0.0562], [-0.4782, 1.3016, 0.1933], [-0.0970, 0.1581, 0.5181]],
    ]
)
_RGB_TO_XYZ: Final = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True, eq=False)
class CameraLook:
    """The pipeline that made a photograph, as far as it has to be undone."""

    xyz_to_camera: Tensor
    """(3, 3): what a DNG calls ColorMatrix."""
    red_gain: float
    """White balance of red against green."""
    blue_gain: float
    """White balance of blue against green."""
    rgb_gain: float
    """Brightening of the whole picture."""

    @property
    def rgb_to_camera(self) -> Tensor:
        """(3, 3) from linear sRGB, rows sum to one: white stays white."""
        matrix = self.xyz_to_camera @ _RGB_TO_XYZ
        return matrix / matrix.sum(1, keepdim=True)

    @staticmethod
    def draw(generator: torch.Generator) -> CameraLook:
        """Draw a random look over the ranges of [1]_, widened in white balance towards lamplight."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * float(torch.rand((), generator=generator))

        weights = torch.rand(4, generator=generator) + 1e-8
        matrix = (_XYZ_TO_CAMERA * (weights / weights.sum())[:, None, None]).sum(0)
        brightening = 1 / max(0.3, 0.8 + 0.1 * float(torch.randn((), generator=generator)))
        return CameraLook(matrix, uniform(1.4, 2.5), uniform(1.4, 2.4), brightening)


def unprocess(photo: Tensor, look: CameraLook) -> Tensor:
    """Turn a photograph into the linear light that its sensor saw.

    Parameters
    ----------
    photo : (3, H, W) float tensor
        sRGB, 0 to 1.
    look : CameraLook
        The pipeline to undo.

    Returns
    -------
    (3, H, W) tensor
        Camera RGB, 0 black to 1 saturation.
    """
    tone = 0.5 - torch.sin(torch.asin(1 - 2 * photo.clamp(0, 1)) / 3)  # inverse of the smoothstep 3x^2 - 2x^3
    linear = tone.clamp_min(1e-8).pow(2.2)
    camera = torch.einsum("ij,jhw->ihw", look.rgb_to_camera.to(photo), linear)
    gains = torch.tensor([1 / look.red_gain, 1.0, 1 / look.blue_gain]).to(photo)[:, None, None] / look.rgb_gain
    # Highlights were clipped by the gains: let them stay near white, or saturated areas would turn magenta.
    mask = ((camera.mean(0, keepdim=True) - 0.9).clamp_min(0) / 0.1).square()
    return (camera * torch.maximum(mask + (1 - mask) * gains, gains)).clamp(0, 1)


def process(camera: Tensor, look: CameraLook) -> Tensor:
    """Turn linear light into a photograph: what `unprocess` undoes, but for the highlights that it saves.

    Parameters
    ----------
    camera : (3, H, W) float tensor
        Camera RGB, 0 black to 1 saturation; what lies outside is cut off.
    look : CameraLook
        The pipeline.

    Returns
    -------
    (3, H, W) tensor
        sRGB, 0 to 1.
    """
    gains = torch.tensor([look.red_gain, 1.0, look.blue_gain]).to(camera)[:, None, None] * look.rgb_gain
    to_rgb = torch.linalg.inv(look.rgb_to_camera).to(camera)
    linear = torch.einsum("ij,jhw->ihw", to_rgb, (camera * gains).clamp(0, 1)).clamp(0, 1)
    tone = linear.pow(1 / 2.2)
    return tone.square() * (3 - 2 * tone)


def mosaic_planes(camera: Tensor) -> Tensor:
    """Sample camera RGB (3, H, W), H and W even, as an RGGB sensor would; planes (4, H/2, W/2)."""
    return torch.stack((camera[0, 0::2, 0::2], camera[1, 0::2, 1::2], camera[1, 1::2, 0::2], camera[2, 1::2, 1::2]))


def turn_planes(planes: Tensor, turn: int) -> Tensor:
    """Turn or mirror planes in one of eight ways; mirrored mosaics are the other three Bayer phases.

    Parameters
    ----------
    planes : (C, H, W) tensor, H = W
        In the order of `denoise.cfa`, C = 4, or any other number of equal planes.
    turn : int
        0 to 7: bit 0 mirrors columns, bit 1 rows, bit 2 exchanges rows and columns.
    """
    if turn & 1:
        planes = planes.flip(2)
    if turn & 2:
        planes = planes.flip(1)
    if turn & 4:
        planes = planes.transpose(1, 2)
        if planes.shape[0] == 4:
            planes = planes[[0, 2, 1, 3]]  # the green of the red row becomes the green of the red column
    return planes
