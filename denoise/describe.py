"""What a file and a machine are, in words for ``denoise info`` and ``denoise doctor``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path
from typing import Any, Final

import torch

from denoise.batch import describe_noise
from denoise.cubes.cube import HyperspectralCube
from denoise.describe_cube import describe_cube
from denoise.engine.device import GIB, choose_device, report_device
from denoise.images import Photo, RawImage
from denoise.io import read
from denoise.noise_source import blind_estimate, look_at_noise
from denoise.version import __version__
from denoise.weights import list_models

_PACKAGES: Final = ("torch", "rawpy", "tifffile", "imagecodecs", "opencv-python-headless", "scikit-image", "kornia")
_EXTRAS: Final = {"h5py": "cubes", "rasterio": "geo"}
_TOOLS: Final = ("exiftool", "dcraw", "rawtherapee-cli", "darktable-cli")


def describe(path: Path, *, blind: bool = False, variable: str = "", band_axis: str = "auto") -> dict[str, Any]:
    """Return the facts of a file by name; ``variable`` and ``band_axis`` as in `denoise.read`.

    Raises
    ------
    FileFormatError
        If it cannot be read.
    """
    image = read(path, variable=variable, band_axis=band_axis)
    if isinstance(image, HyperspectralCube):
        return {"file": str(path), **describe_cube(image)}
    facts = _describe_raw(image) if isinstance(image, RawImage) else _describe_photo(image)
    facts["noise in the file"] = describe_noise(image.noise) if image.noise is not None else "not stated"
    if blind:
        facts["noise estimated"] = describe_noise(blind_estimate(image).level)
        if isinstance(image, Photo):
            facts["noise looks like"] = look_at_noise(image).reason
    return {"file": str(path), **facts}


def describe_machine() -> dict[str, Any]:
    """Return the facts of this machine by name: versions, devices, precision, tools, models."""
    report = report_device(choose_device("auto"))
    free = "not known" if report.available_bytes is None else f"{report.available_bytes / GIB:.1f} GiB"
    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    facts: dict[str, Any] = {
        "denoise": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        **{name: _version_of(name, extra) for name, extra in _EXTRAS.items()},
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "CUDA": ", ".join(cards) or ("built in, but no card" if torch.version.cuda else "not in this torch"),
        "device": report.kind,
        "free memory": free,
        **{tool: shutil.which(tool) or "not installed" for tool in _TOOLS},
        "models": ", ".join(list_models()),
    }
    if not shutil.which("exiftool"):
        facts["exiftool"] = (
            "not installed: lens data and maker notes will not be copied (Debian: libimage-exiftool-perl)"
        )
    return facts


def _version_of(name: str, extra: str) -> str:
    if importlib.util.find_spec(name) is None:
        return f"not installed: pip install 'denoise-toolkit[{extra}]'"
    return importlib.metadata.version(name)


def _describe_raw(image: RawImage) -> dict[str, Any]:
    metadata, settings = image.metadata, image.settings
    return {
        "kind": f"RAW, {'monochrome' if image.cfa == 'MONO' else 'Bayer ' + image.cfa}",
        "size": f"{image.mosaic.shape[1]} x {image.mosaic.shape[0]}",
        "camera": f"{metadata.make} {metadata.model}".strip() or "not stated",
        "ISO": f"{settings.iso:g}" if settings else "not stated",
        "exposure": f"{settings.exposure_s:.6g} s" if settings else "not stated",
        "date": metadata.date_time or "not stated",
        "orientation": metadata.orientation,
        "black by position": ", ".join(f"{value:g}" for value in image.black_dn.ravel()),
        "white": f"{image.white_dn:g}",
        "as-shot neutral": ", ".join(f"{value:.4f}" for value in metadata.as_shot_neutral or ()) or "not stated",
        "colour matrices": len(metadata.color_matrices),
    }


def _describe_photo(image: Photo) -> dict[str, Any]:
    height, width, channels = image.pixels.shape
    return {
        "kind": f"photograph, {'grey' if channels == 1 else 'RGB'}{' with alpha' if image.alpha is not None else ''}",
        "size": f"{width} x {height}",
        "depth": str(image.pixels.dtype),
        "colour profile": f"{len(image.metadata.icc_profile)} bytes" if image.metadata.icc_profile else "none",
        "EXIF": f"{len(image.metadata.exif)} bytes" if image.metadata.exif else "none",
    }
