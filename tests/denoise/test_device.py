"""What the machine says of itself, and the precision that follows from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from denoise.card import ModelCard
from denoise.engine import device as devices
from denoise.engine.device import (
    DeviceReport,
    available_bytes,
    choose_device,
    choose_precision,
    cpu_bfloat16,
    is_out_of_memory,
    report_device,
    resident_bytes,
)
from denoise.errors import DeviceError

VERIFIED = ModelCard(id="unet.test", method="x", precisions=("float32", "bfloat16"))
UNVERIFIED = ModelCard(id="unet.test", method="x")
NATIVE = DeviceReport("cpu", native={"bfloat16": "the CPU has AVX512-BF16"})
PLAIN = DeviceReport("cpu", lacking="this CPU would only emulate reduced precision")


def test_auto_finds_a_device_that_exists() -> None:
    assert str(choose_device("auto")) in devices._known_devices()
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(DeviceError, match=r"'cuda:7' was asked for, but this machine has: cpu"):
        choose_device("cuda:7")
    with pytest.raises(DeviceError, match="Pass --device auto"):
        choose_device("tpu")


def test_memory_is_reported() -> None:
    available = available_bytes()
    assert available is None or available > 0
    assert 1 << 20 < resident_bytes() < 1 << 40
    report = report_device(torch.device("cpu"))
    assert (report.device, report.kind) == ("cpu", "cpu")
    assert report.cores == torch.get_num_threads()


def test_resident_memory_grows_with_what_is_held() -> None:
    """In a process of its own: one that ran other tests may hold freed memory, and use it again."""
    program = (
        "import torch; from denoise.engine.device import resident_bytes; before = resident_bytes(); "
        "held = torch.ones(16 << 20); print((resident_bytes() - before) / held.nbytes)"
    )
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert float(grown) > 0.9


def test_bfloat16_needs_the_card_and_the_chip() -> None:
    assert choose_precision("auto", VERIFIED, NATIVE) == (
        "bfloat16",
        "bfloat16: unet.test was verified in it and the CPU has AVX512-BF16",
    )
    assert choose_precision("auto", UNVERIFIED, NATIVE)[0] == "float32"
    precision, reason = choose_precision("auto", VERIFIED, PLAIN)
    assert precision == "float32"
    assert "emulate" in reason


def test_an_explicit_precision_is_obeyed_and_doubted() -> None:
    precision, reason = choose_precision("bfloat16", UNVERIFIED, PLAIN)
    assert precision == "bfloat16"
    assert "verified in float32" in reason
    assert "emulate" in reason
    assert choose_precision("float32", VERIFIED, NATIVE) == ("float32", "float32: asked for")
    with pytest.raises(DeviceError, match="Did you mean 'bfloat16'"):
        choose_precision("bfloat", VERIFIED, NATIVE)


def test_the_chip_is_timed_where_torch_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    monkeypatch.setattr(devices, "_bfloat16_by_time", lambda: True)
    assert cpu_bfloat16() == "timed faster than float32 on this CPU"
    monkeypatch.setattr(devices, "_bfloat16_by_time", lambda: False)
    assert cpu_bfloat16() == ""


def test_timing_itself_is_short() -> None:
    assert isinstance(devices._bfloat16_by_time(), bool)


def test_only_real_out_of_memory_errors_count() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("expected 4 channels"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 48)
    assert is_out_of_memory(caught.value)


def test_memory_is_kept_without_harm() -> None:
    code = "from denoise.engine.device import keep_memory; assert keep_memory() in (True, False)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])


def test_addresses_without_memory_are_not_held() -> None:
    """The heap grows by addresses for huge pages: neither they nor what was freed count, what is alive does."""
    code = """
import torch
from denoise.engine.device import keep_memory, resident_bytes
MIB = 1 << 20
before = resident_bytes()
if keep_memory():
    assert abs(resident_bytes() - before) < 32 * MIB
    alive = torch.ones(50 * MIB)
    assert 190 * MIB < resident_bytes() - before < 232 * MIB, resident_bytes() - before
    del alive
    assert resident_bytes() - before < 60 * MIB, resident_bytes() - before
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=Path(__file__).parents[2])
