"""Networks that do, or do not, see the pixel that they answer for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class MaskedConv2d(nn.Conv2d):
    """A convolution whose centre tap can be switched off for one call; the stored weight never changes."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, channels, size, padding=size // 2)
        around = torch.ones(1, 1, size, size)
        around[..., size // 2, size // 2] = 0
        self.around: Tensor
        self.register_buffer("around", around, persistent=False)
        nn.init.normal_(self.weight, std=(2 / (channels * size**2)) ** 0.5)
        nn.init.zeros_(self.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, blind: bool) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Convolve (B, C, H, W), blind to the centre or not."""
        weight = self.weight * self.around if blind else self.weight
        return functional.conv2d(features, weight, self.bias, padding=self.padding)


class DilatedBlock(nn.Module):
    """A dilated 3x3 and a 1x1 convolution, each rectified, added to their input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.wide = _conv(width, width, 3, dilation)
        self.point = _conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return features + functional.relu(self.point(functional.relu(self.wide(features))))


class ConditionalBlindSpot(nn.Module):
    """Two branches of dilated convolutions behind a convolution that may be blind to its centre.

    After the blind 3x3 (5x5) convolution all steps are multiples of 2 (3) pixels, which never lead back to the centre:
    so the whole network is blind to the pixel it answers for, until the switch lets the centre taps in. All other
    weights are shared between both states.

    Parameters
    ----------
    channels : int
        Planes of the image, C.
    width : int
        Features; the paper's 128.
    depth : int
        Dilated blocks of each branch; the paper's 9.

    References
    ----------
    .. [1] Y. I. Jang et al., "Self-supervised image denoising with downsampled invariance loss and conditional
       blind-spot network", ICCV 2023.
    """

    def __init__(self, channels: int, width: int = 128, depth: int = 9) -> None:
        super().__init__()
        self.reach = 2 + 3 * depth
        self.head = _conv(channels, width)
        self.masked = nn.ModuleList(MaskedConv2d(width, size) for size in (3, 5))
        self.branches = nn.ModuleList(_branch(width, depth, dilation) for dilation in (2, 3))
        half = width // 2
        self.tail = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, half), nn.ReLU(), _conv(half, half), nn.ReLU(),
            _conv(half, channels),
        )  # fmt: skip

    def forward(self, noisy: Tensor, *, blind: bool) -> Tensor:
        """Return the image (B, C, H, W) denoised, each pixel with or without a look at itself."""
        features = functional.relu(self.head(noisy))
        seen = [
            branch(functional.relu(masked(features, blind)))
            for masked, branch in zip(self.masked, self.branches, strict=True)
        ]
        return self.tail(torch.cat(seen, 1))

    def macs_per_pixel(self) -> float:
        """Multiply-accumulates for one pixel of one plane of the image."""
        return float(sum(weight.numel() for weight in self.parameters() if weight.ndim == 4))


def _branch(width: int, depth: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        _conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(),
        *(DilatedBlock(width, dilation) for _ in range(depth)),
        _conv(width, width), nn.ReLU(),
    )  # fmt: skip


def _conv(inputs: int, outputs: int, size: int = 1, dilation: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, size, padding=dilation * (size // 2), dilation=dilation)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
    return convolution


def space_to_batch(image: Tensor, stride: int) -> Tensor:
    """Lay every ``stride``-th pixel into images of their own, (B, C, H, W) -> (B stride^2, C, h, w).

    Noise of neighbours falls into different images, so that within one it is independent. Sides that are no multiple
    of the stride are reflected up to one; `batch_to_space` cuts that off.
    """
    bottom, right = (-size % stride for size in image.shape[2:])
    if bottom or right:
        image = functional.pad(image, (0, right, 0, bottom), mode="reflect")
    return torch.cat([image[:, :, i::stride, j::stride] for i in range(stride) for j in range(stride)])


def batch_to_space(parts: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Put the images of `space_to_batch` back into one of ``size`` (rows, columns)."""
    count, channels, height, width = parts.shape
    whole = parts.reshape(stride, stride, count // stride**2, channels, height, width)
    whole = whole.permute(2, 3, 4, 0, 5, 1).reshape(-1, channels, height * stride, width * stride)
    return whole[:, :, : size[0], : size[1]]


def draw_cells(image: Tensor, stride: int, *, generator: torch.Generator) -> Tensor:
    """Choose one pixel of every cell of stride x stride, by chance: (B, 1, H / stride, W / stride) indices."""
    shape = (image.shape[0], 1, image.shape[2] // stride, image.shape[3] // stride)
    return torch.randint(stride**2, shape, generator=generator, device=image.device)


def subsample(image: Tensor, cells: Tensor, stride: int) -> Tensor:
    """Take the chosen pixel of every cell, the same for all planes: (B, C, H / stride, W / stride)."""
    folded = functional.pixel_unshuffle(image, stride)
    count, _, height, width = folded.shape
    choices = folded.reshape(count, image.shape[1], stride**2, height, width)
    index = cells[:, :, None].expand(-1, image.shape[1], -1, -1, -1)
    return choices.gather(2, index)[:, :, 0]
