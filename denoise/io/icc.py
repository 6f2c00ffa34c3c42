"""A colour profile for linear sRGB, written by hand: a matrix, a straight line, a name."""

from __future__ import annotations

import struct
from typing import Final

# Primaries of sRGB, adapted to D50 (Bradford), as ICC profiles want them.
_PRIMARIES: Final = {
    b"rXYZ": (0.4360747, 0.2225045, 0.0139322),
    b"gXYZ": (0.3850649, 0.7168786, 0.0971045),
    b"bXYZ": (0.1430804, 0.0606169, 0.7141733),
}
_D50: Final = (0.9642, 1.0, 0.8249)


def linear_srgb_profile() -> bytes:
    """Return an ICC profile (version 2.1, matrix and curve) of linear values with sRGB's primaries.

    References
    ----------
    .. [1] ICC.1:2001-04, File Format for Color Profiles.
    """
    name = b"Linear sRGB\x00"
    blocks = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text" + bytes(4) + b"No copyright, use freely\x00",
        b"wtpt": _xyz(_D50),
        **{tag: _xyz(primary) for tag, primary in _PRIMARIES.items()},
        b"TRC ": b"curv" + bytes(8),  # no entries: output = input
    }
    places: dict[bytes, tuple[int, int]] = {}
    tags = [b"desc", b"cprt", b"wtpt", *_PRIMARIES, b"rTRC", b"gTRC", b"bTRC"]
    at, body = 128 + 4 + 12 * len(tags), b""
    for tag, block in blocks.items():
        places[tag] = (at + len(body), len(block))
        body += block + bytes(-len(block) % 4)
    table = struct.pack(">I", len(tags))
    for tag in tags:
        table += tag + struct.pack(">II", *places[b"TRC " if tag.endswith(b"TRC") else tag])
    header = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), bytes(4), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(_D50) + bytes(48)
    return header + table + body


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: tuple[float, float, float]) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
