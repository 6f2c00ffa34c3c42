"""The envelopes of PNG and JPEG: colour profile, EXIF, XMP and IPTC taken out and put back.

References
----------
.. [1] W3C, Portable Network Graphics Specification, third edition.
.. [2] ITU-T T.81, JPEG; CIPA DC-008, Exif; ICC.1, embedding profiles in JFIF.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from denoise.errors import FileFormatError
from denoise.images import PhotoMetadata
from denoise.io.iptc import iptc_of_resources, resources_of_iptc

_PNG_START: Final = 8
_PNG_COLOUR_TYPE: Final = 25
_KEPT_CHUNKS: Final = (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"cICP", b"tEXt", b"zTXt", b"iTXt")
_XMP_KEYWORD: Final = b"XML:com.adobe.xmp"
_EXIF: Final = b"Exif\0\0"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_ICC: Final = b"ICC_PROFILE\0"
_PHOTOSHOP: Final = b"Photoshop 3.0\0"
_SEGMENT: Final = 65533  # the most that a segment's two-byte length leaves for its content
_START_OF_FRAME: Final = frozenset((*range(0xC0, 0xD0),)) - {0xC4, 0xC8, 0xCC}


def is_complete_png(content: bytes) -> bool:
    """Whether a PNG reaches its end chunk."""
    return content.rfind(b"IEND") >= len(content) - 4096 and b"IEND" in content[-4096:]


def is_complete_jpeg(content: bytes) -> bool:
    """Whether a JPEG reaches the end marker of its own pixels; trailers after it are allowed."""
    position = 2
    for _, body in _jpeg_segments(content):
        position += 4 + len(body)
    return content.rfind(b"\xff\xd9") > position


def read_png_metadata(content: bytes, path: Path) -> PhotoMetadata:
    """Read what a PNG says beside its pixels."""
    icc = exif = xmp = None
    kept: list[tuple[bytes, bytes]] = []
    for kind, body in _png_chunks(content, path):
        if kind == b"iCCP":
            icc = zlib.decompress(body[body.index(b"\0") + 2 :])
        elif kind == b"eXIf":
            exif = body
        elif kind == b"iTXt" and body.startswith(_XMP_KEYWORD + b"\0"):
            compressed, rest = body[len(_XMP_KEYWORD) + 1], body[len(_XMP_KEYWORD) + 3 :]
            text = rest.split(b"\0", 2)[2]
            xmp = zlib.decompress(text) if compressed else text
        elif kind in _KEPT_CHUNKS:
            kept.append((kind, body))
    return PhotoMetadata(icc, exif, xmp, path, tuple(kept))


def insert_into_png(content: bytes, metadata: PhotoMetadata) -> bytes:
    """Put metadata into a PNG, before its pixels."""
    chunks = [chunk for chunk in metadata.png_chunks if not (metadata.icc_profile and chunk[0] == b"sRGB")]
    if metadata.icc_profile:
        chunks.append((b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    header_end = _PNG_START + 12 + 13
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return content[:header_end] + packed + content[header_end:]


def read_jpeg_metadata(content: bytes, path: Path) -> PhotoMetadata:
    """Read what a JPEG says beside its pixels."""
    exif = xmp = None
    profile: dict[int, bytes] = {}
    resources = b""
    for marker, body in _jpeg_segments(content):
        if marker == 0xE1 and body.startswith(_EXIF) and exif is None:
            exif = body[len(_EXIF) :]
        elif marker == 0xE1 and body.startswith(_XMP):
            xmp = body[len(_XMP) :]
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2:
            profile[body[len(_ICC)]] = body[len(_ICC) + 2 :]
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            resources += body[len(_PHOTOSHOP) :]
    icc = b"".join(profile[index] for index in sorted(profile)) or None
    return PhotoMetadata(icc, exif, xmp, path, iptc=iptc_of_resources(resources))


def insert_into_jpeg(content: bytes, metadata: PhotoMetadata) -> bytes:
    """Put metadata into a JPEG, behind its JFIF header.

    Raises
    ------
    FileFormatError
        If the EXIF block or the profile is larger than JPEG can hold.
    """
    segments: list[bytes] = []
    if metadata.exif:
        segments.append(_segment(0xE1, _EXIF + metadata.exif))
    if metadata.xmp and len(_XMP) + len(metadata.xmp) <= _SEGMENT:
        segments.append(_segment(0xE1, _XMP + metadata.xmp))
    if metadata.icc_profile:
        room = _SEGMENT - len(_ICC) - 2
        parts = [metadata.icc_profile[start : start + room] for start in range(0, len(metadata.icc_profile), room)]
        segments += [
            _segment(0xE2, _ICC + bytes((number, len(parts))) + part) for number, part in enumerate(parts, start=1)
        ]
    if metadata.iptc:
        resources = resources_of_iptc(metadata.iptc)
        room = _SEGMENT - len(_PHOTOSHOP)
        segments += [
            _segment(0xED, _PHOTOSHOP + resources[begin : begin + room]) for begin in range(0, len(resources), room)
        ]
    start = 2
    if content[2:4] == b"\xff\xe0":
        start = 4 + struct.unpack(">H", content[4:6])[0]
    return content[:start] + b"".join(segments) + content[start:]


def png_is_grey(content: bytes) -> bool:
    """Whether a PNG's header says grey, with or without alpha."""
    return len(content) > _PNG_COLOUR_TYPE and content[_PNG_COLOUR_TYPE] in (0, 4)


def jpeg_components(content: bytes) -> int:
    """Return the number of colour components that a JPEG's frame header names, 0 if it has none."""
    for marker, body in _jpeg_segments(content):
        if marker in _START_OF_FRAME and len(body) >= 6:
            return body[5]
    return 0


def _segment(marker: int, body: bytes) -> bytes:
    if len(body) > _SEGMENT:
        raise FileFormatError(f"A block of {len(body)} bytes of metadata does not fit into JPEG. Write PNG or TIFF.")
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _png_chunks(content: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    position = _PNG_START
    while position + 12 <= len(content):
        (length,) = struct.unpack(">I", content[position : position + 4])
        kind = content[position + 4 : position + 8]
        body = content[position + 8 : position + 8 + length]
        if len(body) < length:
            raise FileFormatError(f"{path} is a PNG that ends too early. Copy it again from its source.")
        yield kind, body
        if kind in (b"IDAT", b"IEND"):
            return
        position += 12 + length


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA:
            return
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        yield marker, content[position + 4 : position + 2 + length]
        position += 2 + length
