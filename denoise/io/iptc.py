"""Captions and keywords as press agencies write them (IPTC-IIM), in Photoshop's image resources of JPEG and TIFF.

References
----------
.. [1] IPTC-NAA Information Interchange Model, version 4.2; Adobe Photoshop File Formats, "Image Resources".
"""

from __future__ import annotations

import struct
from typing import Final

_SIGNATURE: Final = b"8BIM"
_IPTC: Final = 0x0404


def iptc_of_resources(block: bytes) -> bytes | None:
    """Return the IPTC record among image resources; None if there is none, or the block is damaged."""
    position = 0
    while block[position : position + 4] == _SIGNATURE and position + 12 <= len(block):
        (kind,) = struct.unpack_from(">H", block, position + 4)
        name = 1 + block[position + 6]
        begin = position + 6 + name + name % 2
        if begin + 4 > len(block):
            return None
        (size,) = struct.unpack_from(">I", block, begin)
        content = block[begin + 4 : begin + 4 + size]
        if kind == _IPTC:
            return content if content and len(content) == size else None
        position = begin + 4 + size + size % 2
    return None


def resources_of_iptc(iptc: bytes) -> bytes:
    """Return image resources that hold an IPTC record and nothing else."""
    return _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
