"""Datasets by name: reads the folder ``data_manifests/`` and finds the files under a data root."""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from denoise.errors import ManifestError, nearest
from denoise.shipped_files import shipped_folder

SUFFIX: Final = ".toml"


class PairRule(BaseModel):
    """How the noisy and the clean files of a set belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    """In words."""
    noisy: str = ""
    """Glob of the noisy files within the folder; empty where names alone do not tell."""
    clean: str = ""
    """Glob of the clean files within the folder."""
    key: str = ""
    """Regular expression over the path within the folder: files whose groups agree are a pair."""


class Manifest(BaseModel):
    """What a dataset is, whose it is, where it lies and what may be done with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Kebab-case; the name of the file."""
    summary: str
    """One line for people."""
    licence: str
    """Terms of the images; "not known" where we do not know them."""
    origin: str
    """Where the public can get it."""
    split: Literal["train", "validation", "test", "calibration", "undivided"]
    """What it is for; "undivided" if its authors did not say and we have not either."""
    kind: Literal["photo", "raw", "cube"]
    """The kind of image."""
    holds: Literal["clean", "noisy", "pairs", "frames", "figures"]
    """Clean images, noisy images alone, pairs of both, frames of a sensor, or figures without images."""
    folder: str
    """Path under the data root."""
    files: str
    """Glob of its files within the folder."""
    count: int | None = None
    """Number of files; None if not known."""
    url: str = ""
    """Direct address of one file, its name written ``{file}``; empty if there is none."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Checksum of each file by its path within the folder; empty if not known."""
    leave_out: tuple[str, ...] = ()
    """Files of the folder that `find_files` never returns; `notes` says why."""
    overlaps: tuple[str, ...] = ()
    """Sets that show the same scenes."""
    pairs: PairRule | None = None
    """Only of sets of pairs."""
    notes: str = ""
    """What else a user must know."""


class Pair(BaseModel):
    """A noisy file and the clean one it is compared with."""

    model_config = ConfigDict(frozen=True)

    noisy: Path
    """The input."""
    clean: Path
    """The truth, or what stands for it."""


def list_manifests() -> list[str]:
    """Return the names of all datasets that are described."""
    return sorted(path.stem for path in shipped_folder("data_manifests").glob(f"*{SUFFIX}"))


def load_manifest(name: str) -> Manifest:
    """Read one description.

    Parameters
    ----------
    name : str
        Of a described set, or the path of a ``.toml`` file of one's own.

    Raises
    ------
    ManifestError
        If there is none of that name, or it is not valid.
    """
    path = Path(name) if name.endswith(SUFFIX) else shipped_folder("data_manifests") / f"{name}{SUFFIX}"
    if not path.is_file():
        raise ManifestError(f"Dataset '{name}' is not described. {nearest(name, list_manifests())}")
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path.name} is not TOML: {error}.") from error
    except ValidationError as error:
        raise ManifestError(_first_problem(error, path.name)) from error


def data_root(given: Path | None = None) -> Path:
    """Return the folder that holds the datasets: the one given, else ``DENOISE_DATA``, else ``data``."""
    return given or Path(os.environ.get("DENOISE_DATA", "data"))


def find_files(name: str, root: Path) -> list[Path]:
    """Return the files of a dataset under ``root``, in order of name.

    Raises
    ------
    ManifestError
        If the folder is not there or holds another number of files than the manifest says.
    """
    manifest = load_manifest(name)
    folder = root / manifest.folder
    files = _all_files(manifest, root)
    if not files or manifest.count not in (None, len(files)):
        raise ManifestError(
            f"Dataset '{manifest.name}' should be {manifest.count or 'some'} files '{manifest.files}' in {folder}, but "
            f"{len(files)} were found. {how_to_get(manifest)}"
        )
    return _without_left_out(manifest, files, root)


def files_there(manifest: Manifest, root: Path) -> list[Path]:
    """Return what is there of a dataset under ``root``, in order of name, be it complete or not."""
    return _without_left_out(manifest, _all_files(manifest, root), root)


def find_pairs(name: str, root: Path) -> list[Pair]:
    """Return the pairs of a dataset under ``root``, in order of the noisy files' names.

    Raises
    ------
    ManifestError
        If it is not a set of pairs, names alone do not tell its pairs, or a file is not where it should be.
    """
    manifest, files = load_manifest(name), find_files(name, root)
    rule = manifest.pairs
    if rule is None:
        raise ManifestError(f"Dataset '{manifest.name}' was asked for pairs, but it holds {manifest.holds} images.")
    if not rule.key:
        raise ManifestError(
            f"Dataset '{manifest.name}' forms its pairs otherwise than by name: {rule.rule}. Lay out the pairs in a "
            "folder of your own, and describe it in a .toml with [pairs] noisy, clean and key."
        )
    folder = root / manifest.folder
    noisy, clean = ([path for path in sorted(folder.glob(glob)) if path in files] for glob in (rule.noisy, rule.clean))
    truth: dict[tuple[str | None, ...], Path] = {}
    for path in clean:
        first = truth.setdefault(_key(rule, folder, path), path)
        if first != path:
            raise ManifestError(
                f"Dataset '{manifest.name}' has two clean files of one scene, {first.name} and {path.name}, so that "
                "its pairs are not certain. Remove one, or make the key of its manifest finer."
            )
    alone = [path for path in noisy if _key(rule, folder, path) not in truth]
    if alone or not noisy:
        which = f"{alone[0].name} has no '{rule.clean}' beside it" if alone else f"no '{rule.noisy}' is in {folder}"
        raise ManifestError(f"Dataset '{manifest.name}' is not complete: {which}. {how_to_get(manifest)}")
    return [Pair(noisy=path, clean=truth[_key(rule, folder, path)]) for path in noisy]


def how_to_get(manifest: Manifest) -> str:
    """Return what a user should do to have a set, as the end of a message."""
    download = "Pass --download to fetch it, or get" if manifest.url and manifest.sha256 else "Get"
    return (
        f"{download} it from {manifest.origin}, put it into '{manifest.folder}' under the data root, and pass "
        f"--data-root (or set DENOISE_DATA). Licence: {manifest.licence}."
    )


def altered_files(manifest: Manifest, files: Iterable[Path], root: Path) -> list[str]:
    """Return the files, by path within the folder, whose sha256 is not the manifest's; those without one pass."""
    altered = []
    for path in files:
        name = path.relative_to(root / manifest.folder).as_posix()
        known = manifest.sha256.get(name)
        if known is not None and hashlib.sha256(path.read_bytes()).hexdigest() != known:
            altered.append(name)
    return altered


def _all_files(manifest: Manifest, root: Path) -> list[Path]:
    folder = root / manifest.folder
    return sorted(path for path in folder.glob(manifest.files) if path.is_file()) if folder.is_dir() else []


def _without_left_out(manifest: Manifest, files: Iterable[Path], root: Path) -> list[Path]:
    folder = root / manifest.folder
    return [path for path in files if path.relative_to(folder).as_posix() not in manifest.leave_out]


def _key(rule: PairRule, folder: Path, path: Path) -> tuple[str | None, ...]:
    """Return what a path has in common with its partner; its own name where the rule does not fit."""
    found = re.search(rule.key, path.relative_to(folder).as_posix())
    return found.groups() if found else (str(path),)


def _first_problem(error: ValidationError, file: str) -> str:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    hint = ""
    if first["type"] == "extra_forbidden":
        known = PairRule.model_fields if place[0] == "pairs" else Manifest.model_fields
        hint = nearest(place[-1], known)
    return f"{file} is not a valid manifest at '{'.'.join(place)}': {first['msg']}. {hint}".strip()
