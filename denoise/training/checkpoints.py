"""Checkpoints of a training on disk: whole or not there, the newest few kept."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, Final

import torch

from denoise.errors import FileFormatError, RecipeError
from denoise.io.files import atomic_target

_NAME: Final = re.compile(r"checkpoint-(\d{8})\.pt")


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return (step, path) of the checkpoints in a folder, oldest first."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*.pt"))
    return sorted((int(match.group(1)), path) for match, path in found if match)


def write_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write a checkpoint atomically, and remove all but the newest ``keep``.

    Raises
    ------
    FileFormatError
        If it cannot be written.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    try:
        with atomic_target(path) as target:
            torch.save(state, target)
    except RuntimeError as error:  # torch's word for a full disk
        raise FileFormatError(
            f"Cannot write {path}: {error}. Free some space, then go on with --resume, or train in another folder."
        ) from error
    for _, old in list_checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the newest checkpoint of a folder; tensors come to the CPU.

    Raises
    ------
    RecipeError
        If there is none, or it is damaged.
    """
    found = list_checkpoints(folder)
    if not found:
        raise RecipeError(f"--resume was asked, but {folder} holds no checkpoint. Train without --resume.")
    path = found[-1][1]
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise RecipeError(
            f"The checkpoint {path} is damaged and cannot be read. Remove it; --resume then takes the one before."
        ) from error
