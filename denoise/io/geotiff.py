"""Cubes in GeoTIFF, through rasterio, with what a plain copy would lose: wavelengths, band names, scales, masks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import tifffile

from denoise.cubes.cube import CubeMetadata, Georeference, HyperspectralCube
from denoise.cubes.pixels import Stored, hold_if_small
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.images import Photo
from denoise.io.bands import finish_cube, refuse_one_band, to_nanometres, widths_to_nanometres
from denoise.io.enmap import describe_enmap, find_enmap_metadata
from denoise.io.extras import need
from denoise.io.files import atomic_target
from denoise.io.photo import alpha_kind, read_photo
from denoise.io.tiff_tags import PLACE

_logger = logging.getLogger("denoise")


_GDAL_METADATA_TAG: Final = 42112
_GREY, _RGB = 1, 2
_PICTURES: Final = ((_GREY, 1, False), (_GREY, 2, True), (_RGB, 3, False), (_RGB, 4, True))
"""Photometric interpretation, samples, and whether the last one is alpha, of what is surely a picture."""
_MOST_SAMPLES_OF_A_PHOTO: Final = 4
_CACHE_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 32 << 20
_HISTORY: Final = "DENOISE_HISTORY"
_STRUCTURE_TAGS: Final = ("AREA_OR_POINT",)


class RasterPixels:
    """Values of a raster file, which is opened for each window."""

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], mask: bool = False) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(np.uint8) if mask else dtype
        self.mask = mask

    @property
    def held_bytes(self) -> int:
        """Nothing: the file is read anew."""
        return 0

    def read(self, top: int, bottom: int, left: int, right: int) -> Stored:
        """Return all bands of [top:bottom, left:right] as a new array (bands, h, w); of a mask, 1 where nothing is."""
        with open_raster(self.path) as raster:
            window = ((top, bottom), (left, right))
            try:
                if self.mask:
                    return (raster.dataset_mask(window=window) == 0).astype(np.uint8)[None]
                return raster.read(window=window)
            except need("rasterio.errors", "geo", self.path).RasterioError as error:
                raise FileFormatError(
                    f"{self.path} cannot be read ({error}). Copy it again from its source."
                ) from error


@contextmanager
def open_raster(path: Path, mode: str = "r", **profile: Any) -> Iterator[Any]:
    """Open a raster file with a small cache, and without a word about files that have no place on Earth."""
    rasterio = need("rasterio", "geo", path)
    errors = need("rasterio.errors", "geo", path)
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", errors.NotGeoreferencedWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterio's own use of affine
        try:
            raster = rasterio.open(path, mode, **profile)
        except errors.RasterioError as error:
            raise FileFormatError(f"{path} cannot be opened as GeoTIFF ({error}). Copy it again.") from error
        with raster:
            yield raster


def is_cube(path: Path) -> bool:
    """Return whether a TIFF is a cube: more samples than a picture, wavelengths, or a map that is no picture.

    A map of whole numbers, grey or RGB with or without alpha, is a photograph that keeps its place.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            samples = int(page.samplesperpixel)
            words = str(page.tags.valueof(_GDAL_METADATA_TAG) or "").lower()
            placed = any(code in page.tags for code in PLACE)
            dtype = page.dtype
            kind = (int(page.photometric), samples, bool(alpha_kind(page)))
            alone = len(tiff.pages) == 1
    except (OSError, ValueError, IndexError, KeyError, TypeError, RuntimeError):
        return False
    if samples > _MOST_SAMPLES_OF_A_PHOTO or (samples > 1 and "wavelength" in words):
        return True
    if placed and dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return True
    bands = samples > 1 and kind[0] in (_GREY, _RGB) and kind not in _PICTURES
    return bands and (placed or (alone and kind[0] == _GREY and samples != 3))


def read_tiff(path: Path) -> HyperspectralCube | Photo:
    """Read a TIFF: a cube, or a photograph.

    Raises
    ------
    FileFormatError, UnsupportedInputError
        As `read_geotiff` and `denoise.io.photo.read_photo`.
    """
    return read_geotiff(path) if path.is_file() and is_cube(path) else read_photo(path)


def read_geotiff(path: Path) -> HyperspectralCube:
    """Read a cube from a GeoTIFF; an EnMAP product with the bands that stand in its METADATA.XML.

    Raises
    ------
    FileFormatError
        If the file is damaged, or not a GeoTIFF.
    UnsupportedInputError
        If it has one band or complex values, or rasterio is missing.
    """
    with open_raster(path) as raster:
        shape = (raster.count, raster.height, raster.width)
        refuse_one_band(path, shape)
        dtype = np.dtype(raster.dtypes[0])
        if dtype.kind not in "iuf":
            raise UnsupportedInputError(f"{path.name} holds {dtype} values, but whole or real numbers are served.")
        cube = _describe(path, raster, shape, dtype)
    product = find_enmap_metadata(path)
    if product is not None:
        cube = describe_enmap(cube, product)
    return finish_cube(cube, path)


def write_geotiff(path: Path, cube: HyperspectralCube) -> None:
    """Write a cube as GeoTIFF; layout, compression, tags and masks of a GeoTIFF source are kept.

    Raises
    ------
    FileFormatError
        If the file cannot be written.
    UnsupportedInputError
        If rasterio is missing.
    """
    entries = cube.metadata.entries if cube.metadata.format == "geotiff" else {}
    bands, height, width = cube.shape
    profile = {
        "interleave": "band", **entries.get("profile", {}), "driver": "GTiff", "count": bands, "height": height,
        "width": width, "dtype": cube.stored.dtype.name, "nodata": cube.nodata, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if cube.georeference is not None:
        profile |= _place(path, cube.georeference)
    with atomic_target(path) as target, open_raster(target, "w", **profile) as raster:
        _write_tags(raster, cube, entries)
        step = _rows_a_block(cube, int(raster.block_shapes[0][0]))
        for top in range(0, height, step):
            bottom = min(top + step, height)
            window = ((top, bottom), (0, width))
            raster.write(cube.stored.read(top, bottom, 0, width), window=window)
            if isinstance(cube.dead, RasterPixels):
                raster.write_mask(cube.dead.read(top, bottom, 0, width)[0] == 0, window=window)


def _describe(path: Path, raster: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> HyperspectralCube:
    bands = [{**raster.tags(number, ns="IMAGERY"), **raster.tags(number)} for number in raster.indexes]
    bands = [{key.lower(): value for key, value in tags.items()} for tags in bands]
    wavelengths, widths = _wavelengths(bands)
    good = _numbers([tags.get("bbl") for tags in bands])
    flags = need("rasterio.enums", "geo", path).MaskFlags
    masked = any(flags.per_dataset in kinds for kinds in raster.mask_flag_enums)
    tags = raster.tags()
    profile = {
        key: value for key, value in raster.profile.items() if key not in ("width", "height", "crs", "transform")
    }
    predictor = raster.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR")
    if predictor is not None:
        profile["predictor"] = predictor
    if not profile.get("tiled"):
        profile.pop("blockxsize", None)
        profile.pop("tiled", None)
    entries = {
        "profile": profile,
        "tags": {key: value for key, value in tags.items() if key not in (*_STRUCTURE_TAGS, _HISTORY)},
        "band_tags": [raster.tags(number) for number in raster.indexes],
        "imagery_tags": [raster.tags(number, ns="IMAGERY") for number in raster.indexes],
        "units": raster.units,
        "colorinterp": raster.colorinterp,
        "gcps": raster.gcps,
        "rpcs": raster.rpcs,
        "area_or_point": tags.get("AREA_OR_POINT"),
    }
    placed = raster.crs is not None or not raster.transform.is_identity
    names = tuple(name or "" for name in raster.descriptions)
    return HyperspectralCube(
        hold_if_small(RasterPixels(path, shape, dtype)),
        wavelengths_nm=wavelengths,
        fwhm_nm=widths,
        good_bands=None if good is None else good != 0,
        nodata=None if raster.nodata is None else float(raster.nodata),
        dead=RasterPixels(path, shape, dtype, mask=True) if masked else None,
        quantity=next((unit for unit in raster.units if unit), ""),
        scale=np.array(raster.scales, np.float64),
        offset=np.array(raster.offsets, np.float64),
        band_names=names if any(names) else (),
        acquired=tags.get("TIFFTAG_DATETIME", raster.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", "")),
        georeference=_georeference(raster) if placed else None,
        metadata=CubeMetadata(path, "geotiff", entries),
        history=tuple(line for line in tags.get(_HISTORY, "").split("\n") if line),
    )


def _wavelengths(bands: list[dict[str, str]]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return centres and widths [nm] from the tags of the bands; None where one band lacks it."""
    micrometres = _numbers([tags.get("central_wavelength_um") for tags in bands])
    centres, units = _numbers([tags.get("wavelength") for tags in bands]), bands[0].get("wavelength_units", "")
    if centres is None:
        centres, units = micrometres, "um"
    if centres is None:
        return None, None
    widths = _numbers([tags.get("fwhm") for tags in bands])
    if widths is not None:
        return to_nanometres(centres, units), widths_to_nanometres(widths, centres, units)
    widths = _numbers([tags.get("fwhm_um") for tags in bands])
    return to_nanometres(centres, units), None if widths is None else 1e3 * widths


def _numbers(texts: list[str | None]) -> np.ndarray | None:
    try:
        return np.array([float(text) for text in texts])  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return None


def _georeference(raster: Any) -> Georeference:
    transform = raster.transform
    numbers = (transform.a, transform.b, transform.c, transform.d, transform.e, transform.f)
    return Georeference("" if raster.crs is None else raster.crs.to_wkt(), None if transform.is_identity else numbers)


def _place(path: Path, georeference: Georeference) -> dict[str, Any]:
    rasterio = need("rasterio", "geo", path)
    place: dict[str, Any] = {}
    if georeference.crs:
        try:
            place["crs"] = rasterio.crs.CRS.from_user_input(georeference.crs)
        except rasterio.errors.CRSError:
            _logger.warning(
                "%s: the reference system %.60r is not understood, and is left out.", path.name, georeference.crs
            )
    if georeference.transform is not None:
        place["transform"] = rasterio.Affine(*georeference.transform)
    return place


def _write_tags(raster: Any, cube: HyperspectralCube, entries: dict[str, Any]) -> None:
    """State what is known of the cube and its bands, and repeat what a GeoTIFF source stated beside."""
    bands = cube.shape[0]
    tags = dict(entries.get("tags", {}))
    if entries.get("area_or_point"):
        tags["AREA_OR_POINT"] = entries["area_or_point"]
    if cube.history:
        tags[_HISTORY] = "\n".join(cube.history)
    if cube.acquired:
        tags.setdefault("TIFFTAG_DATETIME", cube.acquired)
    raster.update_tags(**tags)
    for band, own in enumerate(entries.get("band_tags", [{}] * bands)):
        raster.update_tags(band + 1, **{**_band_tags(cube, band), **own})
    for band, own in enumerate(entries.get("imagery_tags", [])):
        if own:
            raster.update_tags(band + 1, ns="IMAGERY", **own)
    for band, name in enumerate(cube.band_names):
        if name:
            raster.set_band_description(band + 1, name)
    if np.any(cube.scale != 1) or np.any(cube.offset):
        raster.scales = tuple(np.broadcast_to(cube.scale, bands).tolist())
        raster.offsets = tuple(np.broadcast_to(cube.offset, bands).tolist())
    if any(entries.get("units", ())):
        raster.units = tuple(unit or "" for unit in entries["units"])
    elif cube.quantity:
        raster.units = (cube.quantity,) * bands
    if "colorinterp" in entries:
        raster.colorinterp = entries["colorinterp"]
    if entries.get("gcps") and entries["gcps"][0]:
        raster.gcps = entries["gcps"]
    if entries.get("rpcs"):
        raster.rpcs = entries["rpcs"]


def _band_tags(cube: HyperspectralCube, band: int) -> dict[str, str]:
    tags = {}
    if cube.wavelengths_nm is not None:
        tags |= {"wavelength": f"{cube.wavelengths_nm[band]:.10g}", "wavelength_units": "Nanometers"}
    if cube.fwhm_nm is not None:
        tags["fwhm"] = f"{cube.fwhm_nm[band]:.10g}"
    if cube.good_bands is not None:
        tags["bbl"] = str(int(cube.good_bands[band]))
    return tags


def _rows_a_block(cube: HyperspectralCube, block_rows: int) -> int:
    """Return a number of rows that fills whole blocks of the file, so that none is compressed twice."""
    bands, height, width = cube.shape
    rows = _BLOCK_BYTES // max(1, bands * width * cube.stored.dtype.itemsize)
    return min(height, max(1, rows // block_rows) * block_rows)
