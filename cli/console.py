"""What a person sees: progress, notes, and the one place where an error becomes a line and an exit code.

Standard output carries data only; everything for people goes to standard error.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

FAILED: Final = 1
USAGE: Final = 2
UNSUPPORTED: Final = 3
MODEL: Final = 4
MEMORY: Final = 5
INTERRUPTED: Final = 130


def exit_code(error: BaseException) -> int:
    """Return the documented exit code of an error."""
    from denoise.errors import OutOfMemoryError, UnsupportedInputError, UsageError, WeightsError

    codes = (
        (UsageError, USAGE), (UnsupportedInputError, UNSUPPORTED), (WeightsError, MODEL), (OutOfMemoryError, MEMORY),
    )  # fmt: skip
    return next((code for kind, code in codes if isinstance(error, kind)), FAILED)


def say(text: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def emit(record: dict[str, Any]) -> None:
    """Write one JSON record to standard output."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def one_line(error: BaseException) -> str:
    """Return the message of an error without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def is_ours(error: BaseException) -> bool:
    """Whether an error is one that our libraries raise on purpose, with a message for people."""
    from denoise.errors import DenoiseError
    from noise_models.base import NoiseModelError

    return isinstance(error, DenoiseError | NoiseModelError)


def reason(error: BaseException) -> str:
    """Return why a file failed, in one line; an error that nobody foresaw is named with its type."""
    if is_ours(error):
        return one_line(error)
    words = " ".join(str(error).split())
    kind = type(error).__name__ + (f": {words}" if words else "")
    return f"An unexpected error, {kind} (--traceback shows where)"


class Show(logging.Handler):
    """Shows the libraries' warnings as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record`` to standard error."""
        say(f"{record.levelname.lower()}: {' '.join(record.getMessage().split())}")


def start_logging(verbose: bool, quiet: bool) -> None:
    """Show warnings; with ``verbose`` the libraries' notes too; with ``quiet`` only errors."""
    handler = Show()
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    for name in ("denoise", "noise_models"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


@contextmanager
def errors_as_lines(traceback: bool = False) -> Iterator[None]:
    """Turn the errors of our libraries, and an interruption, into one line and an exit code."""
    import typer

    try:
        yield
    except KeyboardInterrupt as stop:
        say(f"interrupted: {stop}" if str(stop) else "interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if traceback or not is_ours(error):
            raise
        say(f"error: {one_line(error)}")
        raise typer.Exit(exit_code(error)) from None


def usage_error(text: str) -> Exception:
    """Say what is wrong with the call; returns what to raise."""
    import typer

    say(f"error: {text}")
    return typer.Exit(USAGE)
