"""The way of a tile to the network and back: in place on a CPU, over three streams on a CUDA card."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch

Step = Callable[[torch.Tensor], torch.Tensor]
Collect = Callable[[], torch.Tensor]


class Lane(Protocol):
    """Takes batches from the host to a device, through the network, and back."""

    depth: ClassVar[int]
    """Batches that may be under way while the next one is prepared."""

    def send(self, noisy: torch.Tensor, step: Step) -> Collect:
        """Start one batch; what is returned waits for its result and gives it as float32 on the host."""
        ...


class PlainLane:
    """One batch after the other."""

    depth: ClassVar[int] = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def send(self, noisy: torch.Tensor, step: Step) -> Collect:
        """Compute at once."""
        denoised = step(noisy.to(self.device)).to("cpu")
        return lambda: denoised


class CudaLane:
    """Uploads the next batch and downloads the last one while the card computes.

    Host memory is pinned, so that copies run beside the kernels; each direction has its own stream.
    """

    depth: ClassVar[int] = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.uploads = torch.cuda.Stream(device)
        self.downloads = torch.cuda.Stream(device)

    def send(self, noisy: torch.Tensor, step: Step) -> Collect:
        """Queue upload, computation and download; return before they are done."""
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.uploads):
            there = noisy.to(self.device, non_blocking=True)
        compute.wait_stream(self.uploads)
        there.record_stream(compute)
        denoised = step(there)
        self.downloads.wait_stream(compute)
        with torch.cuda.stream(self.downloads):
            back = torch.empty_like(denoised, device="cpu", pin_memory=True)
            back.copy_(denoised, non_blocking=True)
            denoised.record_stream(self.downloads)
            done = torch.cuda.Event()
            done.record(self.downloads)

        def collect() -> torch.Tensor:
            done.synchronize()
            return back

        return collect


def open_lane(device: torch.device) -> Lane:
    """Return the way to a device."""
    return CudaLane(device) if device.type == "cuda" else PlainLane(device)


def host_buffer(shape: tuple[int, int, int, int], device: torch.device, channels_last: bool) -> torch.Tensor:
    """Return an empty batch (B, C, h, w) float32 on the host, pinned where a card will fetch it."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=torch.float32, memory_format=layout, pin_memory=device.type == "cuda")
