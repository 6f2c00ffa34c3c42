"""Convolutions that rectify or add while their result is still in the cache: on a CPU, without gradients.

PyTorch's own compiler calls these operators of oneDNN; eager mode has no function for them. A residual block of few
features spends a fifth of its time on reading and writing what its convolutions wrote, which this saves. Where the
operators are missing or do something else than expected, `works` is false and plain convolutions serve.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_AROUND = ([1, 1], [1, 1], [1, 1], 1)  # padding, stride, dilation, groups


def serves(features: Tensor) -> bool:
    """Whether `convolve_and_rectify` and `convolve_and_add` may be called with these features (B, C, H, W)."""
    return (
        features.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and not torch.compiler.is_compiling()
        and works(features.dtype)
    )


def convolve_and_rectify(features: Tensor, weight: Tensor) -> Tensor:
    """Return max(weight * features, 0), of 3 x 3 taps and as large as the features."""
    return _operators()._convolution_pointwise(features, weight.to(features.dtype), None, *_AROUND, "relu", [], "")


def convolve_and_add(features: Tensor, weight: Tensor, to: Tensor) -> Tensor:
    """Add weight * features, of 3 x 3 taps, to a tensor, in place; returns it."""
    added = _operators()._convolution_pointwise_.binary
    return added(to, features, weight.to(features.dtype), None, *_AROUND, "add", 1.0, None, [], None)


@lru_cache(maxsize=8)
def works(dtype: torch.dtype) -> bool:
    """Whether the operators are there, and compute in this type what plain convolutions do: tried once."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        chance = torch.Generator().manual_seed(0)
        features, first, second = (
            torch.randn(shape, generator=chance) for shape in ((1, 4, 6, 7), *[(4, 4, 3, 3)] * 2)
        )
        expected = functional.relu_(functional.conv2d(features, first, padding=1))
        expected = functional.conv2d(expected, second, padding=1) + features
        try:
            shown = features.to(dtype).contiguous(memory_format=torch.channels_last)
            found = convolve_and_add(convolve_and_rectify(shown, first), second, shown.clone())
        except (AttributeError, RuntimeError, TypeError):
            return False
        tolerance = 1e-4 if dtype == torch.float32 else 0.05
        return bool(((found.float() - expected).abs() <= tolerance * expected.abs().max()).all())


def _operators() -> Any:
    return torch.ops.mkldnn
