"""LibRaw and libjpeg print to the standard error stream from C; here their lines are caught."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final

_MARKS: Final = (b": data corrupted at", b": Unexpected end of file", b"Premature end of JPEG", b"Corrupt JPEG data")
_LOGGER: Final = logging.getLogger(__name__)


class _Catcher:
    """Turns the process's standard error stream aside while at least one decoder runs, whatever the thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stream: int | None = None
        self._caught: IO[bytes] | None = None

    def enter(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            with suppress(OSError):  # no standard error stream, or no place for a temporary file: let it be
                self._caught = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `leave`)
                self._stream = os.dup(2)
                os.dup2(self._caught.fileno(), 2)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._stream is None or self._caught is None:
                return
            os.dup2(self._stream, 2)
            os.close(self._stream)
            self._caught.seek(0)
            content = self._caught.read()
            self._caught.close()
            self._stream = self._caught = None
        for line in content.splitlines(keepends=True):
            if any(mark in line for mark in _MARKS):
                _LOGGER.debug("%s", line.decode("utf-8", "replace").strip())
            else:
                with suppress(OSError):
                    os.write(2, line)


_CATCHER: Final = _Catcher()


@contextmanager
def libraw_messages_caught() -> Iterator[None]:
    """Keep LibRaw's own lines about damaged data from the standard error stream; what else is written passes.

    The damage itself becomes an error of ours, which says it once and says what to do.
    """
    _CATCHER.enter()
    try:
        yield
    finally:
        _CATCHER.leave()
