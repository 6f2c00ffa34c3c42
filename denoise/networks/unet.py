"""Bias-free residual U-Net of plain 3x3 convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from denoise.networks.fused import convolve_and_add, convolve_and_rectify, serves


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with one rectifier between them, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.first.weight, nonlinearity="relu")
        nn.init.normal_(self.second.weight, std=0.1 * (2 / (9 * width)) ** 0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape; without gradients the result may take the place of ``features``."""
        if serves(features):
            inner = convolve_and_rectify(features, self.first.weight)
            return convolve_and_add(inner, self.second.weight, features)
        return self.second(functional.relu_(self.first(features))).add_(features)


class ResidualUNet(nn.Module):
    """The correction that turns a noisy image into a clean one, from the image and its noise level.

    Without any bias the network is homogeneous: scaling the image and its noise level scales the answer, so that one
    network serves noise levels and exposures beyond those that it saw.

    Parameters
    ----------
    channels : int
        Planes of the image, C.
    maps : int
        Planes of the noise level.
    widths : sequence of int
        Features of each level, finest first; each level halves the resolution of the one before.
    blocks : int
        Residual blocks of each level, on the way down and again on the way up.
    fold : int
        Side of the cell that is folded into channels at the door (pixel unshuffle); 1 for packed mosaics.
    outputs : int, optional
        Planes of the answer; default as many as of the image.

    References
    ----------
    .. [1] K. Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", TPAMI 2022 (DRUNet).
    .. [2] S. Mohan et al., "Robust and interpretable blind image denoising via bias-free convolutional neural
       networks", ICLR 2020.
    """

    def __init__(
        self,
        channels: int,
        maps: int = 1,
        widths: Sequence[int] = (24, 48, 96, 192),
        blocks: int = 2,
        fold: int = 1,
        outputs: int | None = None,
    ) -> None:
        super().__init__()
        self.fold = fold
        self.multiple_of = fold * 2 ** (len(widths) - 1)
        self.head = nn.Conv2d(channels * fold**2 + maps, widths[0], 3, padding=1, bias=False)
        self.encoders = nn.ModuleList(_stage(width, blocks) for width in widths[:-1])
        self.downs = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in itertools.pairwise(widths)
        )
        self.middle = _stage(widths[-1], blocks)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in itertools.pairwise(widths)
        )
        self.decoders = nn.ModuleList(_stage(width, blocks) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], (outputs or channels) * fold**2, 3, padding=1, bias=False)
        nn.init.normal_(self.tail.weight, std=0.01 * (1 / (9 * widths[0])) ** 0.5)

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        """Return the correction (B, C, H, W) to ``noisy``.

        Parameters
        ----------
        noisy : (B, C, H, W) tensor
            H and W multiples of ``multiple_of``.
        level : (B, maps, H / fold, W / fold) tensor
            Standard deviation of the noise, in the image's units.
        """
        features = self._seen(noisy, level)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            features = encoder(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for up, decoder in zip(reversed(self.ups), reversed(self.decoders), strict=True):
            features = decoder(up(features).add_(skips.pop()))
        correction = self.tail(features)
        return functional.pixel_shuffle(correction, self.fold) if self.fold > 1 else correction

    def _seen(self, noisy: Tensor, level: Tensor) -> Tensor:
        """Return the finest features; of a folded image without making it, where no gradient is wanted.

        A convolution of folded pixels is one of the pixels themselves, its taps unfolded, at steps of a cell.
        """
        if torch.is_autocast_enabled(noisy.device.type):
            noisy, level = (part.to(torch.get_autocast_dtype(noisy.device.type)) for part in (noisy, level))
        if self.fold == 1:
            return self.head(torch.cat((noisy, level), 1))
        if torch.is_grad_enabled() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return self.head(torch.cat((functional.pixel_unshuffle(noisy, self.fold), level), 1))
        cell = self.fold**2
        image, maps = self.head.weight.split((noisy.shape[1] * cell, level.shape[1]), 1)
        maps = functional.pad(maps.unsqueeze(2), (0, 0, 0, 0, 0, cell - 1)).flatten(1, 2)  # each at its cell's first
        taps = functional.pixel_shuffle(torch.cat((image, maps), 1), self.fold)
        everywhere = level[:, :, :, None, :, None].expand(-1, -1, -1, self.fold, -1, self.fold)
        pixels = torch.cat((noisy, everywhere.reshape(*level.shape[:2], *noisy.shape[2:])), 1)
        taps = taps.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(pixels, taps, stride=self.fold, padding=self.fold)

    def macs_per_pixel(self) -> float:
        """Multiply-accumulates for one pixel of one plane of the image."""
        resolution = 1.0 / self.fold**2
        total = (self.head.weight.numel() + self.tail.weight.numel()) * resolution
        for encoder, decoder, down, up in zip(self.encoders, self.decoders, self.downs, self.ups, strict=True):
            total += (_count(encoder) + _count(decoder)) * resolution
            resolution /= 4
            total += (_count(down) + _count(up)) * resolution
        return total + _count(self.middle) * resolution

    def bytes_per_pixel(self) -> float:
        """Tensors alive at the peak, for one pixel of one plane's place, in float32: five and a half of the finest."""
        return 4.0 * 5.5 * self.head.out_channels / self.fold**2


def grow(network: nn.Module, narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Lay the weights of a narrower network out in a wider one, which then computes what the narrower did.

    The channels that it had see nothing of the new ones; the new ones keep the network's own first weights, so that
    training finds a use for them.

    Parameters
    ----------
    network : nn.Module
        Of convolutions without bias, at least as wide everywhere.
    narrow : mapping of str to tensor
        The narrower network's weights, of the same names.

    Returns
    -------
    dict of str to tensor
        To be loaded into ``network``.

    Raises
    ------
    RuntimeError
        If the names differ, a kernel does, or a weight is wider than the network's.

    References
    ----------
    .. [1] T. Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016.
    """
    wide = {name: weight.clone() for name, weight in network.state_dict().items()}
    turned = {f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.ConvTranspose2d)}
    if wide.keys() != narrow.keys():
        raise RuntimeError(f"they differ in {', '.join(sorted(wide.keys() ^ narrow.keys())[:3])}")
    for name, weight in wide.items():
        known = narrow[name]
        wider = all(old <= new for old, new in zip(known.shape, weight.shape, strict=False))
        if known.ndim != weight.ndim or not wider or known.shape[2:] != weight.shape[2:]:
            raise RuntimeError(f"{name} is {tuple(known.shape)}, {tuple(weight.shape)} was expected")
        if known.ndim > 1:
            by_output, known = (part.transpose(0, 1) if name in turned else part for part in (weight, known))
            by_output[: len(known)] = 0
            by_output[: len(known), : known.shape[1]] = known
        else:
            weight[: len(known)] = known
    return wide


def of_grey(colour: Mapping[str, Tensor], fold: int) -> dict[str, Tensor]:
    """Return the weights of a network for one channel, which does what that for three does with three equal ones.

    Parameters
    ----------
    colour : mapping of str to tensor
        Weights of a `ResidualUNet` of three channels, or of a module that holds one as its last part.
    fold : int
        Side of the cell that both fold at the door.
    """
    cell = fold**2
    grey = dict(colour)
    for name, weight in colour.items():
        if name.endswith("head.weight"):
            image, level = weight.split((3 * cell, weight.shape[1] - 3 * cell), 1)
            grey[name] = torch.cat((image.unflatten(1, (3, cell)).sum(1), level), 1)
        elif name.endswith("tail.weight"):
            grey[name] = weight.unflatten(0, (3, cell)).mean(0)
    return grey


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
