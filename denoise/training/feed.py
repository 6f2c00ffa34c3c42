"""Batches for the training loop: each step's own chance, drawn ahead of time, shared between processes.

What a step sees depends on the seed and its number alone, never on what was drawn before: so a resumed training needs
no other position in the data than the step, and drawing ahead changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from denoise.errors import RecipeError


class Source(Protocol):
    """Where a training gets its batches."""

    def draw(self, batch: int, *, generator: torch.Generator) -> Any:
        """Return ``batch`` examples as a `Batch`, or what the learner takes; the same generator state, the same batch.

        A dataclass, tuple or dictionary of tensors whose first axis runs over the examples.
        """
        ...


@dataclass(frozen=True)
class Share:
    """What one process does of every step: some of its passes, or a slice of one.

    Parameters
    ----------
    batch : int
        Examples of a step, over all processes.
    passes : int
        Forward-backward passes of a step, over all processes.
    processes, rank : int
        How many processes there are, and which one this is.

    Raises
    ------
    RecipeError
        If passes and examples cannot be shared evenly.
    """

    batch: int
    passes: int
    processes: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        shared = self.processes % self.passes == 0 or self.passes % self.processes == 0
        if not shared or self.batch % max(self.passes, self.processes):
            raise RecipeError(
                f"A step of batch {self.batch} in accumulate = {self.passes} passes was asked for on {self.processes} "
                "processes, but it cannot be shared evenly. Choose a batch that both divide, and one of the two a "
                "multiple of the other."
            )

    @property
    def mine(self) -> range:
        """The passes that this process takes part in."""
        if self.processes > self.passes:
            only = self.rank // (self.processes // self.passes)
            return range(only, only + 1)
        return range(self.rank, self.passes, self.processes)

    @property
    def examples(self) -> int:
        """Examples of a whole pass."""
        return self.batch // self.passes

    @property
    def window(self) -> slice:
        """The examples of a pass that this process takes."""
        split = max(1, self.processes // self.passes)
        size = self.examples // split
        start = self.rank % split * size
        return slice(start, start + size)


def seeded(*words: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator whose seed is a hash of all ``words``, such as (seed, step, pass)."""
    seed = np.random.SeedSequence(words).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(seed) & 0x7FFFFFFFFFFFFFFF)


class Feed:
    """Batches of one process, the next step's drawn by a thread while the network computes.

    Parameters
    ----------
    source : Source
        Where they come from.
    share : Share
        What of each step is this process's.
    seed : int
        Of everything drawn.
    steps : int
        The training's length; nothing is drawn beyond.
    """

    def __init__(self, source: Source, share: Share, seed: int, steps: int) -> None:
        self.source, self.share, self.seed, self.steps = source, share, seed, steps
        self._ahead: dict[int, Future[list[Any]]] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="draw")

    def __enter__(self) -> Feed:
        """Begin to draw."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop drawing."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def at(self, step: int) -> list[Any]:
        """Return this process's batches of a step, one a pass, and have the next step's drawn."""
        ready = self._ahead.pop(step, None) or self._pool.submit(self.draw, step)
        self._ahead.clear()
        if step + 1 < self.steps:
            self._ahead[step + 1] = self._pool.submit(self.draw, step + 1)
        return ready.result()

    def draw(self, step: int) -> list[Any]:
        """Draw this process's batches of a step."""
        size, window = self.share.examples, self.share.window
        batches = [self.source.draw(size, generator=seeded(self.seed, step, part)) for part in self.share.mine]
        return [batch if window == slice(0, size) else examples_of(batch, window, size) for batch in batches]


def examples_of(batch: Any, window: slice, count: int) -> Any:
    """Return some examples of a batch of ``count``: whatever runs over the examples is cut, the rest kept."""

    def cut(value: Any) -> Any:
        return value[window] if value.ndim and value.shape[0] == count else value

    return _changed(batch, cut, arrays=True)


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    if device.type == "cpu":
        return batch
    return _changed(batch, lambda value: value.to(device, non_blocking=True), arrays=False)


def _changed(value: Any, change: Callable[[Any], Any], *, arrays: bool) -> Any:
    """Apply ``change`` to every tensor (and numpy array) of dataclasses, tuples, lists and dictionaries."""
    if isinstance(value, Tensor) or (arrays and isinstance(value, np.ndarray)):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(
            value, **{name: _changed(item, change, arrays=arrays) for name, item in fields.items()}
        )
    if isinstance(value, tuple | list):
        return type(value)(_changed(item, change, arrays=arrays) for item in value)
    if isinstance(value, dict):
        return {key: _changed(item, change, arrays=arrays) for key, item in value.items()}
    return value
