"""EnMAP products: what METADATA.XML says of the bands of SPECTRAL_IMAGE.TIF.

References
----------
.. [1] DLR, EnMAP Ground Segment, Product Specification Document EN-PCV-ICD-2009-2.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from denoise.cubes.cube import HyperspectralCube
from denoise.errors import FileFormatError

_IMAGE: Final = re.compile(r"SPECTRAL_IMAGE(_VNIR|_SWIR)?(?:_COG)?\.TIFF?$", re.IGNORECASE)
_BANDS: Final = ".//bandCharacterisation/bandID"
_EXPECTED: Final = ".//expectedChannelsList"
_START: Final = ".//temporalCoverage/startTime"
_LEVEL: Final = ".//processingLevel"


def find_enmap_metadata(path: Path) -> Path | None:
    """Return the METADATA.XML of an EnMAP image; None for any other file."""
    match = _IMAGE.search(path.name)
    if match is None:
        return None
    named = path.with_name(path.name[: match.start()] + "METADATA.XML")
    return named if named.is_file() else None


def describe_enmap(cube: HyperspectralCube, product: Path) -> HyperspectralCube:
    """Return the cube with wavelengths, widths, gains and offsets of its product.

    Raises
    ------
    FileFormatError
        If the XML is damaged, or describes other bands than the image has.
    """
    try:
        root = ElementTree.parse(product).getroot()
        described = {int(band.get("number", "0")): band for band in root.iterfind(_BANDS)}
        listed = [int(number) for number in _text(root.find(_EXPECTED)).split(",") if number.strip()]
        chosen = _of_image(cube, described, listed, product)
        columns = [
            _column(chosen, name) for name in ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise FileFormatError(f"{product} is damaged ({error}). Copy the whole product again.") from error
    wavelengths, widths, gain, offset = columns
    level = _text(root.find(_LEVEL)).upper()
    return replace(
        cube,
        wavelengths_nm=wavelengths,
        fwhm_nm=widths,
        scale=cube.scale if gain is None else gain,
        offset=cube.offset if offset is None else offset,
        quantity="reflectance" if "L2A" in (level or product.name.upper()) else "radiance",
        acquired=_text(root.find(_START)) or cube.acquired,
    )


def _of_image(
    cube: HyperspectralCube,
    described: dict[int, ElementTree.Element],
    listed: list[int],
    product: Path,
) -> list[ElementTree.Element]:
    """Return the bands that the image has: all that are described, or those that the product expects."""
    bands = cube.shape[0]
    for numbers in (sorted(described), sorted(set(listed) & set(described))):
        if len(numbers) == bands:
            return [described[number] for number in numbers]
    side = _IMAGE.search(cube.metadata.source.name if cube.metadata.source else "")
    if side is not None and side.group(1):
        ordered = sorted(described)
        numbers = ordered[:bands] if side.group(1).upper() == "_VNIR" else ordered[-bands:]
        if len(numbers) == bands:
            return [described[number] for number in numbers]
    raise FileFormatError(
        f"{product.name} describes {len(described)} bands, but the image has {bands}. Copy the whole product again."
    )


def _column(bands: list[ElementTree.Element], name: str) -> np.ndarray | None:
    texts = [_text(band.find(name)) for band in bands]
    return np.array([float(text) for text in texts]) if all(texts) else None


def _text(element: ElementTree.Element | None) -> str:
    return (element.text or "").strip() if element is not None else ""
