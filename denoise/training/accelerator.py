"""Which device trains, in which precision, and with how many other processes: asked of Hugging Face `accelerate`."""

from __future__ import annotations

import os
from typing import Any, Final

import torch

from denoise.errors import DeviceError, UsageError

_MIXED: Final = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(precision: str, device: str = "auto") -> Any:
    """Return an `accelerate.Accelerator`: alone, or as one of those that ``accelerate launch`` or ``torchrun`` began.

    Raises
    ------
    DeviceError
        If the device does not compute in the precision.
    UsageError
        If `accelerate` is not installed, or the processes that were begun do not find each other.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise UsageError(
            "Training was asked for, but the package accelerate is not installed. "
            "Run: pip install 'denoise-toolkit[train]'"
        ) from error
    AcceleratorState._reset_state()  # one process may train twice, in two precisions
    # Without a card accelerate has to be told that processes share their steps on the CPU.
    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    accelerator = Accelerator(mixed_precision=_MIXED[precision], cpu=on_cpu)
    begun = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != begun:
        raise UsageError(
            f"{begun} processes were begun to train together, but accelerate joins {accelerator.num_processes}. "
            "Begin them with torchrun --nproc_per_node N, or train in one."
        )
    if precision == "float16" and accelerator.device.type == "cpu":
        raise DeviceError(
            "Training in float16 was asked for, but a CPU has no scaled half precision. "
            "Pass --set precision=bfloat16 or float32."
        )
    return accelerator
