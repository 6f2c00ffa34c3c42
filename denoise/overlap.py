"""No image may be both learned from and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from denoise.errors import ManifestError
from denoise.manifests import Manifest, find_files, list_manifests, load_manifest

Fingerprints = npt.NDArray[np.float32]

_SIDE: Final = 16
_SAME_BITS: Final = 64
"""Of 512: a photograph and its copy differ in at most 51 (a third of the size, JPEG quality 50 to 95; Kodak24 and 30
others), unrelated ones in at least 106 (532 photographs, every two)."""


def sets_for_tests() -> list[str]:
    """Return the names of all described sets that are for tests alone."""
    return [name for name in list_manifests() if load_manifest(name).split == "test"]


def refuse_overlap(train: Sequence[str], test: Sequence[str] = (), root: Path | None = None) -> None:
    """Refuse to train on what is tested on.

    A set of noisy images alone may be trained on although its scenes are tested on: it does not hold the truth.

    Parameters
    ----------
    train : sequence of str
        Names of the manifests to learn from.
    test : sequence of str
        Names of further manifests that must stay unseen, such as those that choose the checkpoint. Every described set
        whose split is "test" is looked at without being named.
    root : Path, optional
        Data root. Where given, the pictures of photographs are compared too, as far as they are there.

    Raises
    ------
    ManifestError
        If a set is in both, a manifest says that two of them show the same scenes, or two files show one picture.
    """
    unseen = {name: load_manifest(name) for name in [*test, *sets_for_tests()]}
    learned = {name: manifest for name in train if (manifest := load_manifest(name)).holds != "noisy"}
    for manifest in learned.values():
        for other in unseen.values():
            if manifest.name == other.name or manifest.name in other.overlaps or other.name in manifest.overlaps:
                why = "it is the same set" if manifest.name == other.name else "its manifest says so"
                raise ManifestError(
                    f"Training on '{manifest.name}' was asked, but '{other.name}' ({other.split}) shows the same "
                    f"scenes ({why}): figures measured there would mean nothing. Train on another set."
                )
    if root is not None:
        _refuse_same_pictures(learned, unseen, root)


def _refuse_same_pictures(learned: Mapping[str, Manifest], unseen: Mapping[str, Manifest], root: Path) -> None:
    known = {name: _look(name, manifest, root) for name, manifest in learned.items()}
    for name, manifest in unseen.items():
        files, prints = _look(name, manifest, root)
        for own_name, (own, own_prints) in known.items():
            if not files or not own:
                continue
            differing = (own_prints.shape[1] - own_prints @ prints.T) / 2
            row, column = np.unravel_index(int(differing.argmin()), differing.shape)
            if differing[row, column] <= _SAME_BITS:
                raise ManifestError(
                    f"Training on '{own_name}' was asked, but its {own[row].name} shows the picture of "
                    f"{files[column].name} in '{manifest.name}' ({manifest.split}). Name the file in leave_out of the "
                    "manifest to train on, or train on another set."
                )


def _look(name: str, manifest: Manifest, root: Path) -> tuple[list[Path], Fingerprints]:
    """Return the pictures of a set that are there, and their fingerprints (N, 512) of -1 and 1."""
    files: list[Path] = []
    if manifest.kind == "photo":
        with suppress(ManifestError):  # a set that is not there cannot be compared; its manifest was
            files = find_files(name, root)
    seen = [(path, found) for path in files if (found := _fingerprint(path)) is not None]
    prints = np.array([found for _, found in seen], np.float32).reshape(-1, 2 * _SIDE**2)
    return [path for path, _ in seen], prints


def _fingerprint(path: Path) -> Fingerprints | None:
    """Return whether each of 16x16 cells is brighter than its neighbour beside and below, as 512 values of -1 or 1."""
    grey = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        return None
    cells = cv2.resize(grey, (_SIDE + 1, _SIDE + 1), interpolation=cv2.INTER_AREA).astype(np.int16)
    beside = cells[:_SIDE, 1:] > cells[:_SIDE, :-1]
    below = cells[1:, :_SIDE] > cells[:-1, :_SIDE]
    return np.where(np.concatenate((beside.ravel(), below.ravel())), 1, -1).astype(np.float32)
