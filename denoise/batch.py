"""Many files, one after the other: what goes where, and what is told of each.

One file is read, its noise chosen, denoised by the engine, checked, written, and described in a sidecar.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from denoise.denoiser import Denoiser
from denoise.engine import Engine
from denoise.errors import UsageError, nearest
from denoise.fidelity import check_fidelity
from denoise.images import Image, Photo, RawImage
from denoise.io import READERS, read, write
from denoise.io.exif import ExifTool
from denoise.io.files import atomic_target, make_folder
from denoise.noise_source import choose_noise
from denoise.repair import remove_fixed_pattern
from denoise.version import __version__
from denoise.weights import load_model, resolve_model
from noise_models.level import NoiseLevel
from noise_models.profile import CameraProfile
from noise_models.profile_shelf import answers_to, load_profile, profile_of

FORMATS: Final = {"dng": ".dng", "tiff": ".tif", "png": ".png", "jpeg": ".jpg"}
_LOG = logging.getLogger(__name__)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """How files are denoised."""

    model: str = "auto"
    """Id, method, path of weights, or "auto"."""
    noise: str = "auto"
    """"auto", "file", "profile", "blind" or "SHOT,READ"."""
    profile: str = ""
    """Path or id of a camera profile; "auto" for the one of the photograph's make and model; empty for none."""
    strength: float = 1.0
    """1 removes all that the model removes, 0 nothing; in between, 1 - strength sigma of noise is left."""
    format: str | None = None
    """Key of `FORMATS`; None for DNG from RAW and the input's own format for photographs."""
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
    sidecar: bool = True
    """Whether ``OUT.json`` is written."""
    seed: int = 0
    """Of stochastic models."""


@dataclass(frozen=True)
class Job:
    """One input and where its output goes."""

    source: Path
    """The file to denoise."""
    target: Path
    """The file to write."""


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
    return int(float(number) * (1024 if binary else 1000) ** power)


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
        If there is nothing to do, two inputs would become one output, or the format is not known.
    """
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(f"Format '{options.format}' is not known. {nearest(options.format, FORMATS)}")
    found = list(dict.fromkeys(_expand(inputs, suffix)))
    if not found:
        raise UsageError(f"No image was found in {', '.join(inputs)}. Name files, or folders that hold some.")
    names_a_file = output is not None and output.suffix.lower() in (*READERS, ".dng") and not output.is_dir()
    if names_a_file and len(found) > 1:
        raise UsageError(f"-o {output} is one file, but {len(found)} inputs were given. Name a folder.")
    if output is not None and names_a_file:
        return [Job(found[0][0], output)]
    jobs = [Job(path, _target(path, root, output, options, suffix, keep_tree)) for path, root in found]
    owners: dict[Path, Path] = {}
    for job in jobs:
        other = owners.setdefault(job.target, job.source)
        if other != job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}. Pass --keep-tree, or run them apart."
            )
    return jobs


class Runner:
    """Denoises files with one engine, one model in memory, and one exiftool."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.engine = Engine(
            options.device, options.precision, options.tile, max_memory=options.max_memory, seed=options.seed
        )
        self.exiftool = ExifTool()
        self._models: dict[str, Denoiser] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.exiftool.close()

    def plan(self, job: Job) -> dict[str, Any]:
        """Say how a file would be denoised, without doing it."""
        image, profile = self._read(job.source)
        model = self._model(image)
        noise = self._noise(image, model, profile)
        plan = self.engine.plan(image, model)
        return {"event": "planned", **_what(job, model, noise), "plan": plan.to_dict()}

    def run(self, job: Job, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Denoise a file; returns what its sidecar says.

        Raises
        ------
        DenoiseError, NoiseModelError
            Whatever keeps it from being read, denoised, checked or written.
        """
        clock = _Clock()
        image, profile = self._read(job.source)
        model = self._model(image)
        clock.lap("read_s")
        noise = self._noise(image, model, profile)
        clock.lap("noise_s")
        strength = self.options.strength
        plan = self.engine.plan(image, model)
        denoised = self.engine.denoise(image, model, noise=noise, strength=strength, plan=plan, progress=progress)
        clock.lap("denoise_s")
        fidelity = check_fidelity(image, denoised, noise, strength=strength)
        clock.lap("check_s")
        self._write(job, image, denoised, noise)
        clock.lap("write_s")
        record = {
            "event": "done",
            **_what(job, model, noise),
            "strength": strength,
            "plan": (self.engine.last_plan or plan).to_dict(),
            "fidelity": fidelity.to_dict(),
            "history": list(denoised.history),
            "input_sha256": _sha256(job.source),
            "version": __version__,
            "timings": {**clock.laps, **self.engine.last_timings, "total_s": clock.total()},
        }
        if self.options.sidecar:
            with atomic_target(job.target.with_name(job.target.name + ".json")) as target:
                target.write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        return record

    def _model(self, image: Image) -> Denoiser:
        key = resolve_model(self.options.model, image.kind, image.shape[0])
        if key not in self._models:
            self._models[key] = load_model(key)
        return self._models[key]

    def _read(self, source: Path) -> tuple[RawImage | Photo, CameraProfile | None]:
        """Read a file; with a profile of its camera, its fixed pattern is taken out."""
        image = read(source)
        if not self.options.profile or not isinstance(image, RawImage):
            return image, None
        named = self.options.profile != "auto"
        make, model = image.metadata.make, image.metadata.model
        profile = load_profile(self.options.profile) if named else profile_of(make, model)
        if named and not answers_to(profile, make, model):
            _LOG.warning("The profile %s is of another camera than %s %s.", profile.id, make, model)
        return remove_fixed_pattern(image, profile), profile

    def _noise(self, image: Image, model: Denoiser, profile: CameraProfile | None) -> NoiseLevel:
        return choose_noise(image, self.options.noise, model, self.engine, profile)

    def _write(self, job: Job, image: Image, denoised: Image, noise: NoiseLevel) -> None:
        make_folder(job.target.parent)
        if isinstance(denoised, Photo):
            write(job.target, denoised)
            return
        strength = self.options.strength
        denoised = replace(denoised, noise=noise.left(1 - strength))
        ending = job.target.suffix.lower()
        keywords: dict[str, Any] = {"exiftool": self.exiftool} if ending in (".dng", ".tif", ".tiff") else {}
        if ending == ".dng":
            keywords |= {
                "source": replace(image, noise=noise),
                "compression": self.options.compression,
                "noise_reduction": strength,
            }
        write(job.target, denoised, **keywords)


class _Clock:
    """Laps of a run [s]."""

    def __init__(self) -> None:
        self.begun = self.last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self.last, 3)
        self.last = now

    def total(self) -> float:
        return round(time.perf_counter() - self.begun, 3)


def _expand(inputs: Iterable[str], suffix: str) -> Iterable[tuple[Path, Path]]:
    """Yield (file, the folder it was found under) for every input."""
    for text in inputs:
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
    """Whether a file found by search is an image, and not an output of an earlier run."""
    ours = bool(suffix) and path.stem.endswith(suffix)
    return path.suffix.lower() in READERS and not path.name.startswith(".") and not ours and path.is_file()


def _target(path: Path, root: Path, output: Path | None, options: Options, suffix: str, keep_tree: bool) -> Path:
    if options.format is not None:
        ending = FORMATS[options.format]
    else:
        reader = READERS.get(path.suffix.lower())
        ending = path.suffix if reader is READERS[".png"] else ".dng"
    folder = path.parent if output is None else output
    if output is not None and keep_tree:
        folder = output / path.parent.relative_to(root)
    return folder / f"{path.stem}{suffix}{ending}"


def _what(job: Job, model: Denoiser, noise: NoiseLevel) -> dict[str, Any]:
    """Describe a job, its model and its noise as JSON can hold it."""
    card = model.card
    return {
        "input": str(job.source),
        "output": str(job.target),
        "model": {"id": card.id, "sha256": card.sha256, "licence_weights": card.licence_weights},
        "noise": {
            "source": noise.source,
            "shot": noise.shot.tolist(),
            "read": noise.read.tolist(),
            "text": describe_noise(noise),
        },
    }


def describe_noise(noise: NoiseLevel) -> str:
    """Return a noise level as a line for people."""
    shot, read = (", ".join(dict.fromkeys(f"{value:.3g}" for value in part)) for part in (noise.shot, noise.read))
    return f"{noise.source}: shot {shot}, read {read}"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
