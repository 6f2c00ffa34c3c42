"""What a training writes down as it goes: one JSON line a step, and TensorBoard's events where it is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from denoise.errors import FileFormatError
from denoise.io.files import atomic_target

_LOG = logging.getLogger(__name__)


class TrainingLog:
    """``metrics.jsonl`` of a training: a line a step, and a line a validation.

    Parameters
    ----------
    folder : Path
        Of the training.
    step : int
        Where it goes on; lines of later steps, from a run that was stopped after its last checkpoint, are removed.
    tensorboard : bool
        Whether to write the folder ``tensorboard`` too.

    Raises
    ------
    FileFormatError
        If they cannot be written; `write` and the end of the block raise it as well.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool = False) -> None:
        self._path = folder / "metrics.jsonl"
        with _writing(self._path):
            _cut_after(self._path, step)
            self._stream = self._path.open("a", encoding="utf-8")
            self._board = _summary_writer(folder / "tensorboard", step) if tensorboard else None

    def __enter__(self) -> TrainingLog:
        """Begin to write."""
        return self

    def __exit__(self, *error: object) -> None:
        """Finish the files."""
        with _writing(self._path):
            self._stream.close()
            if self._board is not None:
                self._board.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write one line of numbers."""
        with _writing(self._path):
            self._stream.write(json.dumps({"step": step, **values}) + "\n")
            self._stream.flush()
            if self._board is not None:
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileFormatError(
            f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder, then go on "
            "with --resume."
        ) from error


def _cut_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    lines = [line for line in path.read_text("utf-8").splitlines() if _step_of(line) <= step]
    with atomic_target(path) as target:
        target.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut by a crash


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _LOG.info("no TensorBoard events: pip install 'denoise-toolkit[train]'")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
