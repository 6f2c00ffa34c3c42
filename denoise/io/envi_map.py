"""Where an ENVI cube lies on Earth: "map info" and "coordinate system string"."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from denoise.cubes.cube import Georeference
from denoise.io.envi_header import EnviHeader
from denoise.io.extras import GEOGRAPHIC, as_wkt

_PARTS: Final = 7
_NORTH_AMERICA: Final = {"north america 1983": 26900, "north america 1927": 26700}
_NORTH_AMERICAN_ZONES: Final = 22


def parse_map(header: EnviHeader) -> Georeference | None:
    """Return the georeference of a header; None if it states none that can be understood."""
    words = header.words("map info")
    crs = header.entries.get("coordinate system string", "")
    transform = _transform(words)
    if transform is None:
        return Georeference(crs) if crs else None
    return Georeference(crs or _named(words), transform)


def format_map(georeference: Georeference) -> Iterator[tuple[str, str]]:
    """Yield the entries that state a georeference."""
    crs, transform = georeference.crs, georeference.transform
    wkt = as_wkt(crs)
    if transform is not None:
        a, b, c, d, e, f = transform
        width, height = math.hypot(a, d), math.hypot(b, e)
        corner = f"1, 1, {c:.12g}, {f:.12g}, {width:.12g}, {height:.12g}"
        rotation = math.degrees(math.atan2(d, a))
        turned = f", rotation={rotation:.10g}" if abs(rotation) > 1e-9 else ""
        zone = _zone(crs)
        if zone is not None:
            name = f"UTM, {corner}, {zone[0]}, {zone[1]}, WGS-84, units=Meters"
        elif wkt.upper().startswith(GEOGRAPHIC) or crs.upper() == "EPSG:4326":
            name = f"Geographic Lat/Lon, {corner}, WGS-84, units=Degrees"
        else:
            name = f"Arbitrary, {corner}, 0, North"
        yield "map info", "{" + name + turned + "}"
    if "[" in wkt:
        yield "coordinate system string", "{" + wkt + "}"


def _transform(words: tuple[str, ...]) -> tuple[float, float, float, float, float, float] | None:
    if len(words) < _PARTS:
        return None
    try:
        column, row, x, y, width, height = (float(word) for word in words[1:_PARTS])
        turns = [word.split("=")[1] for word in words if word.lower().replace(" ", "").startswith("rotation=")]
        angle = math.radians(float(turns[0])) if turns else 0.0
    except ValueError:
        return None
    a, b = width * math.cos(angle), height * math.sin(angle)
    d, e = width * math.sin(angle), -height * math.cos(angle)
    return a, b, x - (column - 1) * a - (row - 1) * b, d, e, y - (column - 1) * d - (row - 1) * e


def _named(words: tuple[str, ...]) -> str:
    """Return the EPSG code of what "map info" names: degrees on WGS-84, or a UTM zone; empty for anything else."""
    lower = [word.lower() for word in words]
    if lower[0].startswith("geographic"):
        return "EPSG:4326" if "wgs-84" in lower else ""
    if lower[0] != "utm" or len(words) <= _PARTS + 1 or not words[_PARTS].isdigit():
        return ""
    zone, south = int(words[_PARTS]), lower[_PARTS + 1].startswith("s")
    if "wgs-84" in lower:
        return f"EPSG:{(32700 if south else 32600) + zone}"
    base = next((code for datum, code in _NORTH_AMERICA.items() if datum in lower), None)
    return "" if base is None or south or zone > _NORTH_AMERICAN_ZONES else f"EPSG:{base + zone}"


def _zone(crs: str) -> tuple[int, str] | None:
    """Return zone and hemisphere if a reference system is UTM on WGS-84."""
    text = crs.upper()
    if text.startswith("EPSG:32") and len(text) == 10 and text[7] in "67":
        return int(text[8:]), "North" if text[7] == "6" else "South"
    name = text.split('"')[1] if '"' in text else ""
    tail = name.rpartition("ZONE ")[2].replace("_", " ")
    if "WGS 84 / UTM" in name and tail[:-1].strip().isdigit():
        return int(tail[:-1]), "North" if tail.endswith("N") else "South"
    return None
