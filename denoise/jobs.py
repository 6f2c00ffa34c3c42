"""What goes where: the inputs of a call, found and paired with their outputs."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from denoise.errors import UsageError, nearest
from denoise.io import ENVI_SUFFIXES, READERS, WRITERS, read, reader_of
from denoise.io.envi import ENVI_DATA_SUFFIXES, find_header, read_envi
from denoise.io.raw import read_raw

if TYPE_CHECKING:
    from denoise.cubes.cube import HyperspectralCube
    from denoise.images import Photo, RawImage

FORMATS: Final = {"dng": ".dng", "tiff": ".tif", "png": ".png", "jpeg": ".jpg", "envi": ".hdr", "npy": ".npy"}
_SPELLINGS: Final = ((".tif", ".tiff"), (".jpg", ".jpeg"), ENVI_SUFFIXES)
"""Suffixes of one format."""
_NOT_WRITTEN: Final = (
    ".avif", ".bmp", ".exr", ".fits", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".pgm", ".ppm", ".psd", ".tga", ".webp",
)  # fmt: skip
"""Of pictures that nothing here writes: meant for a file, never for a folder."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """How files are denoised."""

    model: str = "auto"
    """Id, method, path of weights, or "auto"."""
    noise: str = "auto"
    """"auto", "file", "profile", "blind" or "SHOT,READ"."""
    profile: str = ""
    """Path or id of a camera profile, "auto" or "none"; empty for the user's own of the photograph's camera."""
    strength: float = 1.0
    """1 removes all that the model removes, 0 nothing; in between, 1 - strength sigma of noise is left."""
    format: str | None = None
    """Key of `FORMATS`; None for DNG from RAW and the input's own format for photographs and cubes."""
    device: str = "auto"
    """Where to compute."""
    precision: str = "auto"
    """Of the network."""
    tile: str = "auto"
    """Or the largest side of a tile [pixels of a plane]."""
    max_memory: int | None = None
    """Most memory to hold [bytes]."""
    compression: str = "lossless-jpeg"
    """Of the DNG; or "none"."""
    variable: str = ""
    """Which array of a file that holds several."""
    band_axis: str = "auto"
    """"first", "last" or "auto": where an array without names has its bands."""
    sidecar: bool = True
    """Whether ``OUT.json`` is written."""
    seed: int = 0
    """Of stochastic models."""
    views: int = 1
    """Mirrored views whose results are averaged: 1, 2 or 4."""


@dataclass(frozen=True)
class Job:
    """One input and where its output goes."""

    source: Path
    """The file to denoise."""
    target: Path
    """The file to write."""

    @property
    def writes(self) -> tuple[Path, ...]:
        """The target, and the header beside it where it is the data of an ENVI cube."""
        is_data = self.target.suffix.lower() in ENVI_DATA_SUFFIXES
        return (self.target, self.target.with_suffix(".hdr")) if is_data else (self.target,)


def read_input(source: Path, options: Options) -> RawImage | Photo | HyperspectralCube:
    """Read a file as the options say; raises as `denoise.io.read`."""
    return read(source, variable=options.variable, band_axis=options.band_axis)


def parse_size(text: str | None) -> int | None:
    """Turn "2GiB", "900MB" or "1500000" into bytes.

    Raises
    ------
    UsageError
        If it is not a size.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"A size such as 2GiB or 900MB was expected, but '{text}' was given.")
    number, prefix, binary = match.groups()
    power = " KMGT".index(prefix.upper()) if prefix else 0
    size = int(float(number) * (1024 if binary else 1000) ** power)
    if size < 1:
        raise UsageError(f"A size such as 2GiB or 900MB was expected, but '{text}' is less than one byte.")
    return size


def plan_jobs(
    inputs: Sequence[str], output: Path | None, options: Options, *, suffix: str = "_dn", keep_tree: bool = False
) -> list[Job]:
    """Say which file goes where.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (searched through), glob patterns, or ``@list.txt`` with one of these a line.
    output : Path or None
        A file for a single input, a folder, or None for beside the input.
    options : Options
        ``format`` chooses the suffix.
    suffix : str
        Added to each name.
    keep_tree : bool
        Repeat the folders below an input folder within ``output``.

    Returns
    -------
    list of Job
        In order, each input once.

    Raises
    ------
    UsageError
        If there is nothing to do, two inputs would become one output, the format is not known, or ``output`` is of
        another one.
    """
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(f"Format '{options.format}' is not known. {nearest(options.format, FORMATS)}")
    if output is not None:
        _check_output(output, options.format)
    found = _without_twins(_expand(inputs, suffix))
    if not found:
        raise UsageError(f"No image was found in {', '.join(inputs)}. Name files, or folders that hold some.")
    if output is not None and _names_a_file(output):
        if len(found) > 1:
            raise UsageError(f"-o {output} is one file, but {len(found)} inputs were given. Name a folder.")
        return [Job(found[0][0], output)]
    jobs = [Job(path, _target(path, root, output, options, suffix, keep_tree)) for path, root in found]
    owners: dict[Path, Path] = {}
    for job in jobs:
        other = owners.setdefault(job.writes[-1], job.source)
        if other != job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}. Pass --keep-tree, or run them apart."
            )
    return jobs


def _names_a_file(output: Path) -> bool:
    return output.suffix.lower() in (*READERS, ".dng") and not output.is_dir()


def _check_output(output: Path, wish: str | None) -> None:
    """Raise `UsageError` if an output is named as a picture that is not written here, or not of the format wished."""
    suffix = output.suffix.lower()
    if suffix in _NOT_WRITTEN and not output.is_dir():
        written = ", ".join(dict.fromkeys(known for _, known in WRITERS))
        raise UsageError(f"-o {output} was given, but '{suffix}' is not written. Name a folder, or one of {written}.")
    if wish is None or not _names_a_file(output):
        return
    ending = FORMATS[wish]
    if suffix not in next((spelled for spelled in _SPELLINGS if ending in spelled), (ending,)):
        raise UsageError(
            f"-o {output} and --format {wish} were given, but the name ends in '{suffix}', the format in '{ending}'. "
            "Leave one out, or let them agree."
        )


def _without_twins(found: Iterable[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Keep each file once, with its folder; a header and its data, both named, are one cube: the header stays."""
    roots: dict[Path, Path] = {}
    for path, root in found:
        roots.setdefault(path, root)
    data: dict[Path, list[Path]] = {}
    for path in roots:
        header = find_header(path) if path.is_file() and reader_of(path) is read_envi else None
        if header is not None and header != path and header in roots:
            data.setdefault(header, []).append(path)
    twins = {paths[0] for paths in data.values() if len(paths) == 1}  # of several, the header tells not which is meant
    return [(path, root) for path, root in roots.items() if path not in twins]


def _expand(inputs: Iterable[str], suffix: str) -> Iterator[tuple[Path, Path]]:
    """Yield (file, the folder it was found under) for every input."""
    for text in inputs:
        if not text.strip():
            raise UsageError("An empty name was given as an input. Name a file, or a folder: '.' is the present one.")
        path = Path(text)
        if text.startswith("@") and Path(text[1:]).is_file():
            lines = Path(text[1:]).read_text("utf-8").splitlines()
            yield from _expand([line.strip() for line in lines if line.strip()], suffix)
        elif path.is_dir():
            yield from ((file, path) for file in sorted(path.rglob("*")) if _is_input(file, suffix))
        elif path.exists() or not glob.has_magic(text):
            yield path, path.parent
        else:
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207  the pattern may be absolute
            files = [file for file in matches if _is_input(file, suffix)]
            yield from ((file, file.parent) for file in files or [path])


def _is_input(path: Path, suffix: str) -> bool:
    """Whether a file found by search is an image, and not an output of an earlier run, nor the data of a header."""
    ours = bool(suffix) and path.stem.endswith(suffix)
    known = path.suffix.lower() in READERS and path.suffix.lower() not in ENVI_DATA_SUFFIXES
    data_of_a_header = path.suffix.lower() == ".raw" and reader_of(path) is not read_raw
    return known and not data_of_a_header and not path.name.startswith(".") and not ours and path.is_file()


def _target(path: Path, root: Path, output: Path | None, options: Options, suffix: str, keep_tree: bool) -> Path:
    if options.format is not None:
        ending = FORMATS[options.format]
    else:
        reader = reader_of(path)
        ending = ".dng" if reader is read_raw or reader is None else path.suffix
        if reader is read_envi and path.suffix.lower() not in ENVI_SUFFIXES:
            ending = ".hdr"
    folder = path.parent if output is None else output
    if output is not None and keep_tree:
        folder = output / path.parent.relative_to(root)
    return folder / f"{path.stem}{suffix}{ending}"
