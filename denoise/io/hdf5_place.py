"""Where the pixels of a cube in HDF5 or NetCDF-4 lie: CF's grid mapping and coordinates, as GDAL and xarray read them.

References
----------
.. [1] CF conventions 1.11, section 5.6: grid_mapping, crs_wkt.
.. [2] GDAL, netCDF raster driver: spatial_ref, GeoTransform.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from denoise.cubes.cube import Georeference
from denoise.io.extras import GEOGRAPHIC, as_wkt
from denoise.io.hdf5_pixels import text_of

Transform = tuple[float, float, float, float, float, float]

_MAPPING: Final = "spatial_ref"
_EVEN: Final = 1e-3
"""Steps of coordinates that are even to this part of themselves are those of a grid; float32 gives no more."""
_PROJECTED: Final = (("projection_x_coordinate", "m"), ("projection_y_coordinate", "m"))
_GEOGRAPHIC: Final = (("longitude", "degrees_east"), ("latitude", "degrees_north"))


def read_place(dataset: Any, rows: int, columns: int) -> Georeference | None:
    """Return where a cube lies, None if its file does not say; ``rows`` and ``columns`` are axes of the dataset.

    Coordinates count before a stated grid: they lie beside the rows as these are stored.
    """
    name = text_of(dataset.attrs.get("grid_mapping", "")).split(":")[0].strip()
    mapping = dataset.parent.get(name) if name else None
    if mapping is None:
        return None
    crs = text_of(mapping.attrs.get("crs_wkt", mapping.attrs.get("spatial_ref", "")))
    words = text_of(mapping.attrs.get("GeoTransform", "")).split()
    try:
        c, a, b, f, d, e = (float(word) for word in words)
        stated: Transform | None = (a, b, c, d, e, f)
    except ValueError:
        stated = None
    across, down = (_regular(dataset, axis) for axis in (columns, rows))
    transform = stated
    turned = stated is not None and (stated[1] or stated[3])
    if across is not None and down is not None and not turned:
        transform = (across[1], 0.0, across[0] - across[1] / 2, 0.0, down[1], down[0] - down[1] / 2)
        if stated is not None and _same_grid(stated, transform):
            transform = stated  # with all its digits
    return Georeference(crs, transform) if crs or transform else None


def _same_grid(one: Transform, other: Transform) -> bool:
    """Whether two grids are one; they are two where GDAL states the grid from the top and stores it from below."""
    (a, _, c, _, e, f), (step_x, _, left, _, step_y, top) = one, other
    near = abs(c - left) < abs(step_x) / 4 and abs(f - top) < abs(step_y) / 4
    return near and np.allclose((a, e), (step_x, step_y), rtol=_EVEN, atol=0)


def write_place(file: Any, cube: Any, place: Georeference) -> None:
    """State where ``cube``, a dataset (wavelength, y, x) with these coordinates, lies."""
    mapping = file.create_dataset(_MAPPING, data=np.int32(0))
    cube.attrs["grid_mapping"] = _MAPPING
    wkt = as_wkt(place.crs)
    if wkt:
        mapping.attrs["spatial_ref"] = wkt
        if "[" in wkt:
            mapping.attrs["crs_wkt"] = wkt
    if place.transform is None:
        return
    a, b, c, d, e, f = place.transform
    mapping.attrs["GeoTransform"] = " ".join(f"{value:.17g}" for value in (c, a, b, f, d, e))
    if b or d:
        return  # a turned grid has no coordinates of one axis alone
    kinds = _GEOGRAPHIC if wkt.upper().startswith(GEOGRAPHIC) else _PROJECTED
    for name, (standard_name, units), begin, step in zip("xy", kinds, (c, f), (a, e), strict=True):
        axis = file[name]
        axis[...] = begin + step * (np.arange(axis.shape[0]) + 0.5)
        axis.attrs.update(standard_name=standard_name, units=units)


def _regular(dataset: Any, axis: int) -> tuple[float, float] | None:
    """Return first value and step of the coordinates of an axis; None where they are missing or uneven."""
    for scale in dataset.dims[axis].values():
        counts = text_of(scale.attrs.get("units", "")) == "1"
        if counts or scale.shape != (dataset.shape[axis],) or scale.shape[0] < 2 or scale.dtype.kind not in "iuf":
            continue
        values = np.asarray(scale[()], np.float64)
        steps = np.diff(values)
        if steps[0] and np.allclose(steps, steps.mean(), rtol=_EVEN, atol=0):
            return float(values[0]), float(steps.mean())
    return None
