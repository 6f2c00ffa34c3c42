"""When a training saves and scores, how fast it goes, and when it is told to stop."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from denoise.training.settings import LoopSettings


@dataclass(frozen=True)
class Progress:
    """How far a training is."""

    step: int
    """Steps done."""
    steps: int
    """Steps to do in all."""
    total: float
    """Loss of the last step."""
    step_s: float
    """Time of the last step [s]."""
    samples_per_s: float
    """Examples a second, averaged over the last steps [1/s]."""
    seconds_left: float
    """Estimate [s]."""
    score: float
    """Best so far; NaN before the first validation."""


class Clock:
    """When what is due, and how fast it goes."""

    def __init__(self, settings: LoopSettings, before_s: float) -> None:
        self._settings, self._before_s = settings, before_s
        self._begun = self._last = self._validated = self._saved = time.monotonic()
        self._pace_s = self._step_s = math.nan

    @property
    def total(self) -> float:
        """Seconds over all runs."""
        return self._before_s + time.monotonic() - self._begun

    def tick(self) -> float:
        """Return the seconds since the last step's end."""
        now = time.monotonic()
        seconds, self._last = max(now - self._last, 1e-9), now
        self._step_s = seconds
        self._pace_s = seconds if math.isnan(self._pace_s) else 0.95 * self._pace_s + 0.05 * seconds
        return seconds

    def progress(self, step: int, total: float, score: float) -> Progress:
        """Return how far it is."""
        settings, left = self._settings, (self._settings.steps - step) * self._pace_s
        return Progress(step, settings.steps, total, self._step_s, settings.batch / self._pace_s, left, score)

    def validation_is_due(self, step: int) -> bool:
        """Whether it is time to score."""
        if self._settings.validate_steps is not None:
            return step % self._settings.validate_steps == 0
        return time.monotonic() - self._validated > 60 * self._settings.validate_minutes

    def checkpoint_is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved > 60 * self._settings.checkpoint_minutes

    def saved(self, *, validated: bool) -> None:
        """Note that all is on disk; what it took is no step's time."""
        self._saved = self._last = time.monotonic()
        if validated:
            self._validated = self._saved


@contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event, so that a step is finished and saved; a second signal does as always."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        told.set()
        signal.signal(number, before[number])

    try:
        for number in before:
            signal.signal(number, note)
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
