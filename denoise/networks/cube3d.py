"""3-D networks of hyperspectral cubes: an autoencoder, and the network that finds clean latents.

A cube (B, bands, H, W) of any number of bands, or of images that stand for them, becomes features
(B, bands / 2, H / 4, W / 4, C): space is pooled more than the spectrum, which few networks may blur. A 3-D convolution
is a 3 x 3 one in space and one of 3 along the spectrum, both run as 2-D convolutions on views of features that lie
channels last: no copy, and near a CPU's peak where conv3d is not.

No layer has a bias, so every network is homogeneous: f(a x) = a f(x). A dark cube and a bright one, a clean one and a
noisy one, differ by a factor only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

SPATIAL_STEP: Final = 4
"""Pixels of a cube a side of a latent voxel."""
SPECTRAL_STEP: Final = 2
"""Bands of a latent voxel."""
_FOLD: Final = 2


class SpatialConvolution(nn.Conv2d):
    """3 x 3 pixels of every band; features (B, D, H, W, C)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, D, H, W, inputs) to (B, D, H, W, outputs)."""
        batch, bands = input.shape[:2]
        seen = super().forward(input.flatten(0, 1).movedim(-1, 1))
        return seen.movedim(1, -1).unflatten(0, (batch, bands))


class SpectralConvolution(nn.Conv2d):
    """Three bands of every pixel; features (B, D, H, W, C)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (3, 1), padding=(1, 0), bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, D, H, W, inputs) to (B, D, H, W, outputs)."""
        place = input.shape[2:4]
        seen = super().forward(input.flatten(2, 3).movedim(-1, 1))
        return seen.movedim(1, -1).unflatten(2, place)


class CubeBlock(nn.Module):
    """A convolution in space, a rectifier, a convolution along the spectrum, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = SpatialConvolution(width, width)
        self.spectral = SpectralConvolution(width, width)
        nn.init.kaiming_normal_(self.spatial.weight, nonlinearity="relu")
        nn.init.normal_(self.spectral.weight, std=0.1 * (2 / (3 * width)) ** 0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, H, W, width) to the same shape."""
        return features + self.spectral(functional.relu(self.spatial(features)))


class Down(nn.Linear):
    """Two bands by two rows by two columns become one voxel."""

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__(8 * fine, coarse, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, D, H, W, fine) to (B, D / 2, H / 2, W / 2, coarse)."""
        batch, bands, height, width, channels = input.shape
        cells = input.reshape(batch, bands // 2, 2, height // 2, 2, width // 2, 2, channels)
        return super().forward(cells.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4))


class Up(nn.Linear):
    """One voxel becomes two bands by two rows by two columns."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__(coarse, 8 * fine, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, D, H, W, coarse) to (B, 2 D, 2 H, 2 W, fine)."""
        batch, bands, height, width, _ = input.shape
        cells = super().forward(input).view(batch, bands, height, width, 2, 2, 2, -1)
        return cells.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, 2 * bands, 2 * height, 2 * width, -1)


class CubeEncoder(nn.Module):
    """Cubes to features of a quarter of the rows and columns and half of the bands.

    Parameters
    ----------
    inputs : int
        Cubes that are seen together.
    outputs : int
        Features.
    widths : (int, int)
        Features at half and at a quarter of the resolution.
    blocks : int
        Blocks of each.
    """

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, int] = (32, 64), blocks: int = 1) -> None:
        super().__init__()
        fine, coarse = widths
        self.head = SpatialConvolution(inputs * _FOLD**2, fine)
        self.fine = _stage(fine, blocks)
        self.down = Down(fine, coarse)
        self.coarse = _stage(coarse, blocks)
        self.tail = _mix(coarse, outputs)

    def forward(self, cubes: Tensor) -> Tensor:
        """Map (B, inputs, bands, H, W), bands even, H and W multiples of 4, to (B, D, h, w, outputs)."""
        batch, _, bands, height, width = cubes.shape
        cells = cubes.reshape(batch, -1, bands, height // _FOLD, _FOLD, width // _FOLD, _FOLD)
        features = self.head(cells.permute(0, 2, 3, 5, 1, 4, 6).flatten(4))
        return self.tail(self.coarse(self.down(self.fine(features))))


class CubeDecoder(nn.Module):
    """Latents to a cube: the mirror of `CubeEncoder`."""

    def __init__(self, inputs: int, widths: tuple[int, int] = (32, 64), blocks: int = 1) -> None:
        super().__init__()
        fine, coarse = widths
        self.head = _mix(inputs, coarse)
        self.coarse = _stage(coarse, blocks)
        self.up = Up(coarse, fine)
        self.fine = _stage(fine, blocks)
        self.tail = SpatialConvolution(fine, _FOLD**2)

    def forward(self, latents: Tensor) -> Tensor:
        """Map (B, D, h, w, inputs) to (B, 2 D, 4 h, 4 w)."""
        cells = self.tail(self.fine(self.up(self.coarse(self.head(latents)))))
        batch, bands, height, width, _ = cells.shape
        cells = cells.view(batch, bands, height, width, _FOLD, _FOLD).permute(0, 1, 2, 4, 3, 5)
        return cells.reshape(batch, bands, height * _FOLD, width * _FOLD)


class CubeAutoencoder(nn.Module):
    """A cube as latents of ``latent`` numbers per 2 bands by 4 rows by 4 columns, and back.

    Parameters
    ----------
    latent : int
        Numbers of a latent voxel, which stands for 32 values of the cube.
    widths, blocks
        As of `CubeEncoder`.
    """

    def __init__(self, latent: int = 8, widths: tuple[int, int] = (32, 64), blocks: int = 1) -> None:
        super().__init__()
        self.encoder = CubeEncoder(1, latent, widths, blocks)
        self.decoder = CubeDecoder(latent, widths, blocks)

    def encode(self, cube: Tensor) -> Tensor:
        """Map (B, bands, H, W), bands even, H and W multiples of 4, to latents (B, bands / 2, H / 4, W / 4, latent)."""
        return self.encoder(cube[:, None])

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents back to a cube."""
        return self.decoder(latents)


class LatentUNet(nn.Module):
    """Finds clean latents in a state of a diffusion chain.

    Parameters
    ----------
    latent : int
        Numbers of a latent voxel.
    condition : int
        Features that tell what is known of the cube.
    steps : int
        Length of the chain: each block weighs its features by the step, and adds nothing to them.
    widths : sequence of int
        Features of each level; each halves bands, rows and columns of the one before.
    blocks : int
        Blocks of each level, down and up again.
    """

    def __init__(
        self, latent: int, condition: int, steps: int, widths: Sequence[int] = (64, 96), blocks: int = 2
    ) -> None:
        super().__init__()
        self.multiple_of = 2 ** (len(widths) - 1)
        self.head = _mix(2 * latent + condition, widths[0])
        self.encoders = nn.ModuleList(_StepStage(width, blocks, steps) for width in widths[:-1])
        self.downs = nn.ModuleList(Down(fine, coarse) for fine, coarse in itertools.pairwise(widths))
        self.middle = _StepStage(widths[-1], blocks, steps)
        self.ups = nn.ModuleList(Up(coarse, fine) for fine, coarse in itertools.pairwise(widths))
        self.decoders = nn.ModuleList(_StepStage(width, blocks, steps) for width in widths[:-1])
        self.tail = _mix(widths[0], latent)
        nn.init.normal_(self.tail.weight, std=0.01 * widths[0] ** -0.5)

    def forward(self, state: Tensor, anchor: Tensor, condition: Tensor, step: Tensor) -> Tensor:
        """Return what leads from the anchor to the clean latents.

        Parameters
        ----------
        state, anchor : (B, D, h, w, latent) tensor
            D, h and w multiples of ``multiple_of``.
        condition : (B, D, h, w, condition) tensor
            From a `CubeEncoder`.
        step : (B,) int64 tensor
            Of the chain.
        """
        features = self.head(torch.cat((state, anchor, condition), -1))
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(features, step))
            features = down(skips[-1])
        features = self.middle(features, step)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            features = decoder(up(features) + skips.pop(), step)
        return self.tail(features)


class _StepStage(nn.Module):
    """Blocks whose features are weighed by the step of the chain."""

    def __init__(self, width: int, blocks: int, steps: int) -> None:
        super().__init__()
        self.blocks = _stage(width, blocks)
        self.weights = nn.Parameter(torch.zeros(blocks, steps, width))

    def forward(self, features: Tensor, step: Tensor) -> Tensor:
        for block, weights in zip(self.blocks, self.weights, strict=True):
            features = block(features * (1 + weights[step][:, None, None, None]).to(features.dtype))
        return features


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(CubeBlock(width) for _ in range(blocks)))


def _mix(inputs: int, outputs: int) -> nn.Linear:
    """Return a matrix that keeps the variance of features."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    return layer
