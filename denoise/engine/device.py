"""What the machine is and can do: which device, how much memory, which precision, and why."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Literal, cast, get_args

import torch

from denoise.card import ModelCard
from denoise.engine.tiles import round_up
from denoise.errors import DeviceError, nearest

Precision = Literal["float32", "bfloat16", "float16"]

GIB: Final = 1 << 30
_SHARE_OF_REUSABLE: Final = 0.9
_HUGE_PAGE: Final = 2 << 20
_IN_HUGE_PAGES: Final = 3 << 29  # less than what `keep_memory` lets the heap keep
_MADV_HUGEPAGE: Final = 14
_TOP_PAD: Final = 64 << 20
DTYPES: Final[dict[Precision, torch.dtype]] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class DeviceReport:
    """What a device says of itself; a plan is arithmetic over it."""

    device: str
    """"cpu", "cuda:0", "mps"."""
    name: str = ""
    """What people call it."""
    cores: int = 1
    """Threads that compute."""
    available_bytes: int | None = None
    """Memory that can still be taken; None if the system does not say."""
    resident_bytes: int = 0
    """What this process holds already (on a card: what is taken of it)."""
    native: dict[Precision, str] = field(default_factory=dict)
    """Reduced precisions that are fast here, with how we know."""
    lacking: str = "this device has no fast reduced precision"
    """Why the others are not."""

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]


def _known_devices() -> list[str]:
    known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        known.append("mps")
    return known


def choose_device(asked: str = "auto") -> torch.device:
    """Turn a word into a device that exists.

    Parameters
    ----------
    asked : str
        "auto" (a CUDA card, else Apple's, else the CPU), "cpu", "cuda", "cuda:1", "mps".

    Returns
    -------
    torch.device
        With its number, for CUDA.

    Raises
    ------
    DeviceError
        If there is no such device; names those that exist.
    """
    known = _known_devices()
    if asked == "auto":
        return torch.device(next((name for name in (*known[1:], "cpu") if name != "cpu"), "cpu"))
    wanted = "cuda:0" if asked == "cuda" else asked
    if wanted not in known:
        built = "" if torch.version.cuda or not wanted.startswith("cuda") else " This torch was built without CUDA."
        raise DeviceError(
            f"Device '{asked}' was asked for, but this machine has: {', '.join(known)}.{built} "
            "Pass --device auto or one of those."
        )
    return torch.device(wanted)


class _MallocInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    # arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, then free bytes, and keepcost.
    _fields_: ClassVar = [
        ("before", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def _reusable_bytes() -> int:
    """Return what was freed but is still held by the C library, ready for the next layer; 0 if it does not say."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _MallocInfo
        info = libc.mallinfo2()
        return int(info.fordblks) - _never_used(libc, int(info.keepcost))
    except (OSError, AttributeError, TypeError):
        return 0


def _never_used(libc: ctypes.CDLL, top: int) -> int:
    """Return how much of the last ``top`` bytes of the heap is addresses without memory [bytes]."""
    libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_size_t
    libc.mincore.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p]
    page = os.sysconf("SC_PAGE_SIZE")
    end = libc.sbrk(0)
    start = round_up(end - top, page)
    pages = ctypes.create_string_buffer(max(0, end - start) // page)
    found = libc.mincore(start, len(pages) * page, pages) == 0
    return pages.raw.count(b"\0") * page if found else top


def resident_bytes() -> int:
    """Return the memory that this process holds now and cannot use again [bytes].

    What `keep_memory` kept of an earlier image is not counted: the next one will use it.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        held = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return max(held - int(_SHARE_OF_REUSABLE * _reusable_bytes()), held // 8)
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def available_bytes() -> int | None:
    """Return the memory that this process may still take without swapping [bytes]; None if the system hides it."""
    found: list[int] = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            found.append(int(fields["MemAvailable"].split()[0]) * 1024)
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (most := limit.read_text().strip()) != "max":
        found.append(max(0, int(most) - int(used.read_text())))
    return min(found, default=None)


def _bfloat16_by_time() -> bool:
    """Time one convolution both ways; about 50 ms."""
    tile = torch.rand(1, 32, 128, 128).contiguous(memory_format=torch.channels_last)
    kernel = torch.rand(32, 32, 3, 3)
    seconds: dict[torch.dtype, float] = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            one, other = tile.to(dtype), kernel.to(dtype)
            torch.conv2d(one, other, padding=1)
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                torch.conv2d(one, other, padding=1)
                times.append(time.perf_counter() - begun)
            seconds[dtype] = min(times)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def cpu_bfloat16() -> str:
    """Say how we know that this CPU computes bfloat16 natively; empty if it does not.

    Where it does not, the type is emulated: two to eight times slower than float32.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        try:
            if torch.cpu._is_amx_tile_supported():
                return "the CPU has AMX"
            return "the CPU has AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""
        except (AttributeError, RuntimeError):
            pass  # not public: a later torch may lack them
    return "timed faster than float32 on this CPU" if _bfloat16_by_time() else ""


def report_device(device: torch.device) -> DeviceReport:
    """Ask a device for its memory and its abilities."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # kept by torch, to use again
        ampere = torch.cuda.get_device_capability(device) >= (8, 0)
        native: dict[Precision, str] = {"float16": "the card has tensor cores or fast half precision"}
        if ampere:
            native = {"bfloat16": "the card computes it natively", **native}
        name = torch.cuda.get_device_name(device)
        return DeviceReport(str(device), name, 1, free, total - free, native, "this card has no native bfloat16")
    memory = {
        "cores": torch.get_num_threads(),
        "available_bytes": available_bytes(),
        "resident_bytes": resident_bytes(),
    }
    if device.type == "mps":
        return DeviceReport(str(device), "Apple GPU", **memory, native={"float16": "the GPU computes it natively"})
    how = cpu_bfloat16()
    return DeviceReport(
        str(device),
        platform.processor() or platform.machine(),
        **memory,
        native={"bfloat16": how} if how else {},
        lacking="this CPU would only emulate reduced precision",
    )


def choose_precision(asked: str, card: ModelCard, report: DeviceReport) -> tuple[Precision, str]:
    """Choose the precision of the network's body.

    Parameters
    ----------
    asked : str
        "auto", "float32", "bfloat16" or "float16".
    card : ModelCard
        Says in which precisions the model was verified.
    report : DeviceReport
        Says which precisions are fast here.

    Returns
    -------
    tuple of str
        The precision, and the reason in words.

    Raises
    ------
    DeviceError
        If the word is not known.
    """
    if asked != "auto":
        if asked not in get_args(Precision):
            raise DeviceError(f"Precision '{asked}' is not known. {nearest(asked, ('auto', *get_args(Precision)))}")
        chosen = cast(Precision, asked)
        doubts = "" if chosen in card.precisions else f", though {card.id} was verified in {', '.join(card.precisions)}"
        if chosen != "float32" and chosen not in report.native:
            doubts += f", though {report.lacking}"
        return chosen, f"{chosen}: asked for{doubts}"
    for precision in ("bfloat16", "float16"):
        if precision in card.precisions and precision in report.native:
            return precision, f"{precision}: {card.id} was verified in it and {report.native[precision]}"
    verified = [precision for precision in card.precisions if precision != "float32"]
    why = report.lacking if verified else f"{card.id} was verified in no other precision"
    return "float32", f"float32: {why}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says, truly, that memory ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    words = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in words or "out of memory" in words)


def keep_memory() -> bool:
    """Ask the C library to keep freed memory, so that layers do not fault their pages in again and again.

    Saves 10 to 50 % of a network's time on Linux with glibc; elsewhere nothing happens. Where the kernel gives huge
    pages to those who ask, the heap, one for all threads, asks for some, which saves another fifth. It changes the
    whole process, so a program calls it, never a library on import.

    Returns
    -------
    bool
        Whether it was done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        libc = ctypes.CDLL(None)
        mmap_max, trim_threshold, top_pad, arena_max = -4, -1, -2, -8
        choices = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, _TOP_PAD), (arena_max, 1))
        done = [libc.mallopt(*choice) for choice in choices]
        _ask_for_huge_pages(libc)
    except (OSError, AttributeError):
        return False
    return all(done)


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by addresses alone, and have the kernel back them with huge pages when they are first used."""
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_size_t
    libc.free.argtypes, libc.free.restype = [ctypes.c_size_t], None
    libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
    if block := libc.malloc(_IN_HUGE_PAGES):
        libc.free(block)
        start, end = round_up(block, _HUGE_PAGE), (block + _IN_HUGE_PAGES) // _HUGE_PAGE * _HUGE_PAGE
        libc.madvise(start, end - start, _MADV_HUGEPAGE)
