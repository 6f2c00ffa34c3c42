"""No image may be both learned from and tested on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from denoise.errors import ManifestError
from denoise.manifests import Manifest, files_there, list_manifests, load_manifest

Fingerprints = npt.NDArray[np.float32]

_LOG = logging.getLogger(__name__)

PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Suffixes of the photographs whose pictures are compared."""
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
        If a set is in both or its own split is "test", a manifest says that two of them show the same scenes, or two
        files show one picture.
    """
    unseen = {name: load_manifest(name) for name in [*test, *sets_for_tests()]}
    learned = {name: manifest for name in train if (manifest := load_manifest(name)).holds != "noisy"}
    for manifest in learned.values():
        for other in unseen.values():
            if _same_scenes(manifest, other):
                why = "it is the same set" if manifest.name == other.name else "its manifest says so"
                raise ManifestError(
                    f"Training on '{manifest.name}' was asked, but '{other.name}' ({other.split}) shows the same "
                    f"scenes ({why}): figures measured there would mean nothing. Train on another set."
                )
        if manifest.split == "test":
            raise ManifestError(
                f"Training on '{manifest.name}' was asked, but its manifest says split = \"test\": figures measured "
                "there would mean nothing. Train on another set, or change its split if nothing is ever measured on it."
            )
    if root is not None:
        _refuse_same_pictures(learned, unseen, root)


def warn_of_validation(names: Sequence[str], root: Path) -> None:
    """Warn where weights are chosen on what is tested on: figures measured there are too good.

    Parameters
    ----------
    names : sequence of str
        Names of the manifests that choose the weights.
    root : Path
        Data root; pictures are compared as far as they are there.
    """
    for manifest in map(load_manifest, names):
        tests = {name: load_manifest(name) for name in sets_for_tests()} | {manifest.name: manifest}
        own = _Pictures(files_there(manifest, root)) if manifest.split != "test" else None
        for other in tests.values():
            if other.split == "test" and (
                _same_scenes(manifest, other)
                or (own is not None and _shared(own, _Pictures(files_there(other, root))) is not None)
            ):
                _LOG.warning(
                    "validation names '%s', which shows pictures of '%s', a set for tests: weights that are chosen on "
                    "it look better there than they are. Choose them on another set, such as val20.",
                    manifest.name, other.name,
                )  # fmt: skip
                break


def warn_of_folder(folder: Path, files: Sequence[Path], root: Path, judged: Sequence[str] = ()) -> None:
    """Warn where a folder to learn from shows pictures that are tested on, or that choose the weights.

    Parameters
    ----------
    folder : Path
        As the user named it.
    files : sequence of Path
        What is learned from.
    root : Path
        Data root; pictures are compared with those of the sets that are there.
    judged : sequence of str
        Names of the manifests that choose the weights.
    """
    own = _Pictures(files)
    for manifest in map(load_manifest, dict.fromkeys([*judged, *sets_for_tests()])):
        if (shared := _shared(own, _Pictures(files_there(manifest, root)))) is not None:
            _LOG.warning(
                "data_folder %s holds %s, which shows the picture of %s in '%s' (%s): figures measured on that set "
                "will say nothing about other images. Remove such files from the folder, or measure on another set.",
                folder, shared[0].name, shared[1].name, manifest.name, manifest.split,
            )  # fmt: skip


def _same_scenes(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests are one, or say that they show the same scenes."""
    return one.name == other.name or one.name in other.overlaps or other.name in one.overlaps


def _refuse_same_pictures(learned: Mapping[str, Manifest], unseen: Mapping[str, Manifest], root: Path) -> None:
    known = {manifest.name: _Pictures(files_there(manifest, root)) for manifest in learned.values()}
    for manifest in unseen.values() if known else ():
        pictures = _Pictures(files_there(manifest, root))
        for name, own in known.items():
            if (shared := _shared(own, pictures)) is not None:
                raise ManifestError(
                    f"Training on '{name}' was asked, but its {shared[0].name} shows the picture of "
                    f"{shared[1].name} in '{manifest.name}' ({manifest.split}). Name the file in leave_out of the "
                    "manifest to train on, or train on another set."
                )


class _Pictures:
    """Files, and the fingerprints (N, 512) of -1 and 1 of those that are photographs."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        seen = [(path, found) for path in files if (found := _fingerprint(path)) is not None]
        self.photos = [path for path, _ in seen]
        self.prints = np.array([found for _, found in seen], np.float32).reshape(-1, 2 * _SIDE**2)


def _shared(own: _Pictures, other: _Pictures) -> tuple[Path, Path] | None:
    """Return a file of each that is the same file, or shows the same picture; None if there is none."""
    places = {path.resolve(): path for path in other.files}
    for path in own.files:
        if path.resolve() in places:
            return path, places[path.resolve()]
    if not own.photos or not other.photos:
        return None
    differing = (own.prints.shape[1] - own.prints @ other.prints.T) / 2
    row, column = np.unravel_index(int(differing.argmin()), differing.shape)
    return (own.photos[row], other.photos[column]) if differing[row, column] <= _SAME_BITS else None


def _fingerprint(path: Path) -> Fingerprints | None:
    """Return whether each of 16x16 cells is brighter than its neighbour beside and below, as 512 values of -1 or 1.

    None of what is no photograph, or shows nothing.
    """
    if path.suffix.lower() not in PICTURES or path.stat().st_size == 0:
        return None
    grey = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None or grey.min() == grey.max():
        return None
    cells = cv2.resize(grey, (_SIDE + 1, _SIDE + 1), interpolation=cv2.INTER_AREA).astype(np.int16)
    beside = cells[:_SIDE, 1:] > cells[:_SIDE, :-1]
    below = cells[1:, :_SIDE] > cells[:-1, :_SIDE]
    return np.where(np.concatenate((beside.ravel(), below.ravel())), 1, -1).astype(np.float32)
