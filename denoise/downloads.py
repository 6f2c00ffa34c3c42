"""Fetching a dataset from its direct address: every file is checked before it stands in its place."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from denoise.errors import ManifestError
from denoise.io.files import make_folder
from denoise.manifests import find_files, how_to_get, load_manifest

_LOGGER: Final = logging.getLogger(__name__)


def fetch_files(name: str, root: Path) -> list[Path]:
    """Return the files of a dataset under ``root``; those that are missing are downloaded first.

    Only what has a checksum in the manifest is ever downloaded, and a file whose checksum is another one is thrown
    away. Files that are there already are not touched.

    Raises
    ------
    ManifestError
        If the set has no direct address that can be checked, the address does not answer, or what it sent is not the
        file that the manifest knows.
    """
    manifest = load_manifest(name)
    folder = root / manifest.folder
    with suppress(ManifestError):  # what is not there is what this is for
        return find_files(name, root)
    missing = [file for file in manifest.sha256 if not (folder / file).is_file()]
    if not manifest.url or not manifest.sha256:
        lacks = "checksums" if manifest.url else "a direct address"
        raise ManifestError(
            f"Dataset '{manifest.name}' was to be downloaded, but {lacks} of its files are not known, and what cannot "
            f"be checked is not fetched. {how_to_get(manifest)}"
        )
    make_folder(folder)
    _LOGGER.info("%s: downloading %d files (licence: %s)", manifest.name, len(missing), manifest.licence)
    for file in missing:
        _fetch(manifest.url.format(file=quote(file)), manifest.sha256[file], folder / file)
    return find_files(name, root)


def _fetch(url: str, sha256: str, target: Path) -> None:
    try:
        import pooch
        from requests import RequestException
    except ImportError as error:
        raise ManifestError(
            "Downloading needs pooch. Install it with: pip install 'denoise-toolkit[data]', or get the files by hand."
        ) from error
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=target.name, path=target.parent)
    except ValueError as error:
        raise ManifestError(
            f"{url} sent another file than the manifest knows (its sha256 is not {sha256[:12]}...): it was thrown "
            "away. Get the set from its authors, and compare."
        ) from error
    except (OSError, RequestException) as error:
        raise ManifestError(f"{url} could not be downloaded ({error}). Try again later, or get it by hand.") from error
