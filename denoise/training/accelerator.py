"""Which device trains, in which precision, and with how many other processes: asked of Hugging Face `accelerate`."""

from __future__ import annotations

from typing import Any, Final

from denoise.errors import DeviceError, UsageError

_MIXED: Final = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(precision: str, device: str = "auto") -> Any:
    """Return an `accelerate.Accelerator`: alone, or as one of those that ``accelerate launch`` or ``torchrun`` began.

    Raises
    ------
    DeviceError
        If the device does not compute in the precision.
    UsageError
        If `accelerate` is not installed.
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
    accelerator = Accelerator(mixed_precision=_MIXED[precision], cpu=device == "cpu")
    if precision == "float16" and accelerator.device.type == "cpu":
        raise DeviceError(
            "Training in float16 was asked for, but a CPU has no scaled half precision. "
            "Pass --set precision=bfloat16 or float32."
        )
    return accelerator
