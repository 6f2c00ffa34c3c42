"""The tags of a DNG, from what an image knows of itself."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import Any, Final
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from denoise.images import RawImage
from denoise.io.raw_color import D65, XYZ_TO_SRGB
from denoise.io.raw_tags import PROFILE_TAGS, RAW_TAGS
from denoise.version import __version__

Tag = tuple[int, int, int, Any]
"""Code, TIFF type, count, value, as tifffile takes them."""

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12

_D65_XYZ: Final = np.array([0.95047, 1.0, 1.08883])
_SHORT_NAMES: Final = {"LGE", "DJI", "HMD", "HTC", "ZTE", "OM"}


def color_matrices(image: RawImage) -> tuple[tuple[npt.NDArray[np.float64], ...], tuple[int, ...]]:
    """Return the matrices (3, 3) XYZ to camera and their illuminants.

    The colours of a camera that nobody knows count as sRGB's under D65, as LibRaw counts them too.
    """
    metadata = image.metadata
    known = [
        (matrix, light)
        for matrix, light in zip(metadata.color_matrices, (*metadata.illuminants, D65, D65), strict=False)
        if matrix.shape == (3, 3)
    ]
    if not known:
        return (XYZ_TO_SRGB,), (D65,)
    return tuple(matrix for matrix, _ in known), tuple(light or D65 for _, light in known)


def neutral(image: RawImage) -> tuple[float, float, float]:
    """Return the as-shot neutral; daylight through the colour matrix if the file does not say it."""
    if image.metadata.as_shot_neutral is not None:
        return image.metadata.as_shot_neutral
    camera = color_matrices(image)[0][-1] @ _D65_XYZ
    if camera.min() <= 0:
        return 1.0, 1.0, 1.0
    return float(camera[0] / camera[1]), 1.0, float(camera[2] / camera[1])


def unique_camera_model(image: RawImage) -> str:
    """Return "Maker Model" as converters look it up: "SONY" "ILCE-7RM3" is "Sony ILCE-7RM3"."""
    metadata = image.metadata
    if metadata.unique_model:
        return metadata.unique_model
    maker = metadata.make.split()[0] if metadata.make.split() else ""
    model = re.sub(rf"^{re.escape(maker)}\s+", "", metadata.model, flags=re.IGNORECASE) if maker else metadata.model
    if maker.isupper() and maker not in _SHORT_NAMES:
        maker = maker.capitalize()
    return f"{maker} {model}".strip() or "Unknown camera"


def fractions(values: npt.ArrayLike, limit: int = 1_000_000) -> tuple[int, ...]:
    """Return numbers as numerators and denominators in turn."""
    pairs = [Fraction(float(value)).limit_denominator(limit) for value in np.asarray(values, np.float64).ravel()]
    return tuple(number for pair in pairs for number in (pair.numerator, pair.denominator))


def profile_tags(image: RawImage, original_name: str) -> list[Tag]:
    """Return the tags of the first IFD: camera, colour, exposure offset, names, history."""
    metadata = image.metadata
    mono = image.cfa == "MONO"
    needs_1_3 = any(code in metadata.dng_tags for code in (51008, 51009, 51022))
    tags: list[Tag] = [
        (274, SHORT, 1, metadata.orientation),
        (50706, BYTE, 4, bytes((1, 4, 0, 0))),
        (50707, BYTE, 4, bytes((1, 3 if needs_1_3 else 1, 0, 0))),
        (50708, ASCII, 0, unique_camera_model(image)),
        (50730, SRATIONAL, 1, fractions([metadata.baseline_exposure], 10000)),
    ]
    for code, text in ((271, metadata.make), (272, metadata.model), (306, metadata.date_time)):
        if text:
            tags.append((code, ASCII, 0, text.encode("ascii", "replace").decode()))
    if original_name:
        name = original_name.encode("utf-8", "replace") + b"\x00"
        tags.append((50827, BYTE, len(name), name))
    if not mono:
        matrices, illuminants = color_matrices(image)
        if matrices[0] is XYZ_TO_SRGB:
            logging.getLogger(__name__).warning(
                "The colours of %s are not known: its DNG treats them as sRGB. Choose a profile in the converter.",
                unique_camera_model(image),
            )
        for index, (matrix, light) in enumerate(zip(matrices[:2], illuminants[:2], strict=True)):
            tags += [(50721 + index, SRATIONAL, 9, fractions(matrix, 10000)), (50778 + index, SHORT, 1, light)]
        tags.append((50728, RATIONAL, 3, fractions(neutral(image))))
    if image.history:
        packet = xmp_packet(image.history)
        tags.append((700, BYTE, len(packet), packet))
    return _with_carried(tags, image, PROFILE_TAGS)


def raw_tags(image: RawImage, noise_reduction: float | None) -> list[Tag]:
    """Return the tags of the raw IFD: pattern, levels, crop, noise left."""
    height, width = image.mosaic.shape
    mono = image.cfa == "MONO"
    left, top, crop_width, crop_height = image.metadata.default_crop or (0, 0, width, height)
    tags: list[Tag] = [
        (50714, RATIONAL, 1 if mono else 4, fractions(image.black_dn.ravel()[: 1 if mono else 4])),
        (50713, SHORT, 2, (1, 1) if mono else (2, 2)),
        (50717, LONG, 1, round(image.white_dn)),
        (50719, LONG, 2, (left, top)),
        (50720, LONG, 2, (crop_width, crop_height)),
        (50829, LONG, 4, (0, 0, height, width)),
    ]
    if not mono:
        tags += [
            (33421, SHORT, 2, (2, 2)),
            (33422, BYTE, 4, bytes("RGB".index(letter) for letter in image.cfa)),
            (50710, BYTE, 3, bytes((0, 1, 2))),
            (50711, SHORT, 1, 1),
        ]
    if image.noise is not None:
        level = image.noise.for_channels(image.shape[0])
        pairs = np.stack([level.shot, level.read], axis=-1).reshape(-1, 2)
        if not mono:
            pairs = np.stack([pairs[0], (pairs[1] + pairs[2]) / 2, pairs[3]])
        # Converters divide by the slope: a file without any noise left says so by a slope next to nothing.
        pairs[:, 0] = np.maximum(pairs[:, 0], 1e-12)
        tags.append((51041, DOUBLE, pairs.size, tuple(pairs.ravel().tolist())))
    if noise_reduction is not None:
        tags.append((50935, RATIONAL, 1, fractions([min(max(noise_reduction, 0.0), 1.0)], 1000)))
    return _with_carried(tags, image, RAW_TAGS)


def _with_carried(tags: list[Tag], image: RawImage, codes: frozenset[int]) -> list[Tag]:
    """Add what a DNG source said and we do not say ourselves."""
    own = {code for code, *_ in tags}
    carried = [(code, *tag) for code, tag in image.metadata.dng_tags.items() if code in codes and code not in own]
    return sorted([*tags, *carried], key=lambda tag: tag[0])


def xmp_packet(history: tuple[str, ...]) -> bytes:
    """Return an XMP packet with the history, oldest first."""
    agent = quoteattr(f"denoise {__version__}")
    events = "".join(
        f'<rdf:li stEvt:action="edited" stEvt:softwareAgent={agent} stEvt:parameters={quoteattr(_printable(entry))}/>'
        for entry in history
    )
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" '
        'xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#">'
        f"<xmpMM:History><rdf:Seq>{events}</rdf:Seq></xmpMM:History>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
