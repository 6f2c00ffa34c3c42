"""Cubes in GeoTIFF, HDF5, NetCDF, MATLAB and numpy files: read as others write them, and nothing else is touched."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import scipy.io
import tifffile
import xarray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import from_origin

from denoise.cubes import pixels as cube_pixels
from denoise.cubes.cube import Georeference, HyperspectralCube
from denoise.errors import FileFormatError, UnsupportedInputError, UsageError
from denoise.images import Photo
from denoise.io import extras, read, write

pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # rasterio's own use of affine
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
BANDS, HEIGHT, WIDTH = 9, 40, 33
WAVELENGTHS_NM = np.linspace(900.0, 980.0, BANDS)


def scene(dtype: str = "uint16") -> np.ndarray:
    """Return (bands, H, W), smooth in all directions, above 0."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = 1 + 0.4 * np.sin(rows / 6) * np.cos(columns / 5)
    return ((2000 + 150 * np.arange(BANDS))[:, None, None] * picture).astype(dtype)


def stored(cube: Any) -> np.ndarray:
    return opened(cube).stored.read(0, cube.shape[1], 0, cube.shape[2])


def opened(cube: Any) -> HyperspectralCube:
    assert isinstance(cube, HyperspectralCube)
    return cube


def halved(cube: Any) -> tuple[HyperspectralCube, np.ndarray]:
    """Return a cube after a model that halves, and the values expected of it; whole ones within one step."""
    result = cube.with_tensor(cube.to_tensor() / 2)
    before = stored(cube)
    physical = before * cube.scale[:, None, None] + cube.offset[:, None, None]
    expected = (physical / 2 - cube.offset[:, None, None]) / cube.scale[:, None, None]
    return result, np.where(cube.valid, np.rint(expected) if before.dtype.kind in "iu" else expected, before)


@pytest.fixture
def geotiff(tmp_path: Path) -> Path:
    """Return a GeoTIFF with all that must survive."""
    path = tmp_path / "scene.tif"
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "int16", "count": BANDS, "height": HEIGHT, "width": WIDTH,
                               "crs": CRS.from_epsg(32633), "transform": from_origin(500000, 4600000, 30, 30),
                               "nodata": -32768, "tiled": True, "blockxsize": 16, "blockysize": 16,
                               "compress": "deflate", "predictor": 2, "interleave": "band"}  # fmt: skip
    values = scene("int16")
    values[:, :5, :5] = -32768
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(values)
        raster.scales, raster.offsets = (1e-4,) * BANDS, (0.01,) * BANDS
        raster.update_tags(TIFFTAG_DATETIME="2026:05:01 10:00:00", SENSOR="FINCH", AREA_OR_POINT="Point")
        for band in range(BANDS):
            raster.set_band_description(band + 1, f"band {band} of FINCH")
            raster.update_tags(band + 1, wavelength=str(WAVELENGTHS_NM[band] / 1000), wavelength_units="um",
                               fwhm="0.01", bbl=str(int(band != 4)), quality="good")  # fmt: skip
            raster.update_tags(band + 1, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=str(WAVELENGTHS_NM[band] / 1000))
    return path


def test_a_geotiff_keeps_all_that_a_plain_copy_loses(geotiff: Path, tmp_path: Path) -> None:
    cube = opened(read(geotiff))
    np.testing.assert_allclose(cube.wavelengths_nm, WAVELENGTHS_NM)
    np.testing.assert_allclose(cube.fwhm_nm, np.full(BANDS, 10.0))
    assert cube.good_bands is not None
    assert np.flatnonzero(~cube.good_bands).tolist() == [4]
    assert not cube.valid[:, :5, :5].any()
    result, expected = halved(cube)
    write(tmp_path / "out.tif", result)
    with rasterio.open(geotiff) as before, rasterio.open(tmp_path / "out.tif") as after:
        np.testing.assert_allclose(after.read(), expected, atol=1)
        np.testing.assert_array_equal(after.read()[:, :5, :5], -32768)
        np.testing.assert_array_equal(after.read(5), before.read(5))  # the bad band
        for name in ("crs", "transform", "nodata", "scales", "offsets", "descriptions", "block_shapes", "compression"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.tags(ns="IMAGE_STRUCTURE") == before.tags(ns="IMAGE_STRUCTURE")
        history = after.tags()
        assert "rounding error" in history.pop("DENOISE_HISTORY")
        assert history == before.tags()
        for band in range(1, BANDS + 1):
            assert after.tags(band) == before.tags(band)
            assert after.tags(band, ns="IMAGERY") == before.tags(band, ns="IMAGERY")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".xml"] == []
    assert opened(read(tmp_path / "out.tif")).history == result.history


def test_a_geotiff_by_windows_is_the_same(geotiff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = opened(read(geotiff))
    monkeypatch.setattr(cube_pixels, "HELD_BYTES", 100)
    cube = opened(read(geotiff))
    assert cube.held_bytes == 0
    np.testing.assert_array_equal(cube.window(3, 20, 2, 30), held.window(3, 20, 2, 30))


def test_a_mask_within_the_file_is_nodata(tmp_path: Path) -> None:
    path = tmp_path / "masked.tif"
    profile = {"driver": "GTiff", "dtype": "uint16", "count": BANDS, "height": HEIGHT, "width": WIDTH}
    mask = np.ones((HEIGHT, WIDTH), bool)
    mask[10:20, 10:20] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as raster:
        raster.write(scene())
        raster.write_mask(mask)
    cube = opened(read(path))
    np.testing.assert_array_equal(cube.valid.all(axis=0), mask)
    result, expected = halved(cube)
    np.testing.assert_allclose(stored(result), expected, atol=1)
    write(tmp_path / "out.tif", result)
    with rasterio.open(tmp_path / "out.tif") as after:
        np.testing.assert_array_equal(after.dataset_mask() > 0, mask)


def test_which_tiff_is_a_cube_and_which_a_photograph(tmp_path: Path) -> None:
    picture = np.zeros((8, 9, 3), np.uint8)
    tifffile.imwrite(tmp_path / "photo.tif", picture, photometric="rgb")
    assert isinstance(read(tmp_path / "photo.tif"), Photo)
    tifffile.imwrite(tmp_path / "five.tif", scene()[:5], photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(stored(read(tmp_path / "five.tif")), scene()[:5])
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "height": 9, "width": 9, "crs": "EPSG:4326"}
    with rasterio.open(tmp_path / "one.tif", "w", **profile, transform=from_origin(10, 50, 0.1, 0.1)) as raster:
        raster.write(np.ones((1, 9, 9), np.float32))
    with pytest.raises(UnsupportedInputError, match="one band"):
        read(tmp_path / "one.tif")


def place_map(path: Path, values: np.ndarray, **profile: Any) -> Path:
    """Write (bands, H, W) with a place on Earth."""
    count, height, width = values.shape
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 4600000, 30, 30)} | profile
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, count=count, height=height, width=width,
                       **place) as raster:  # fmt: skip
        raster.write(values)
        raster.set_band_description(count, "last")
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_map_of_few_bands_is_a_cube_that_keeps_its_place(tmp_path: Path, count: int, dtype: str) -> None:
    values = (scene("float32")[:count] / (20 if dtype == "uint8" else 1)).astype(dtype)
    values[:, :5, :5] = 0
    path = place_map(tmp_path / "map.tif", values, nodata=0, photometric="minisblack")
    result, expected = halved(read(path))
    write(tmp_path / "out.tif", result)
    with rasterio.open(path) as before, rasterio.open(tmp_path / "out.tif") as after:
        np.testing.assert_allclose(after.read(), expected, atol=1)
        for name in ("crs", "transform", "nodata", "descriptions", "colorinterp"):
            assert getattr(after, name) == getattr(before, name), name
    assert opened(read(tmp_path / "out.tif")).shape == (count, HEIGHT, WIDTH)


def test_a_map_with_control_points_only_keeps_them(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 30), (39, 0), (39, 30))]
    path = place_map(tmp_path / "map.tif", scene()[:2], crs=None, transform=None)
    with rasterio.open(path, "r+") as raster:
        raster.gcps = (points, CRS.from_epsg(4326))
    write(tmp_path / "out.tif", opened(read(path)))
    with rasterio.open(tmp_path / "out.tif") as after:
        assert [(p.row, p.col, p.x, p.y) for p in after.gcps[0]] == [(p.row, p.col, p.x, p.y) for p in points]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_placed_photograph_keeps_its_place(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    values = np.clip(scene("float32")[:count] / 20, 1, 255).astype(np.uint8)
    values[:, :5, :5] = 0
    path = place_map(tmp_path / "map.tif", values, nodata=0)
    photo = read(path)
    assert isinstance(photo, Photo)
    assert (photo.alpha is not None) == (count == 4)
    photo = photo.with_tensor(photo.to_tensor() * 0 + 0.001)  # all would be 0, which is what stands for missing
    write(tmp_path / "out.tif", photo)
    with rasterio.open(path) as before, rasterio.open(tmp_path / "out.tif") as after:
        for name in ("crs", "transform", "nodata", "descriptions", "colorinterp", "count"):
            assert getattr(after, name) == getattr(before, name), name
        first = after.read(1)
        assert not first[:5, :5].any()
        assert (first > 0).sum() == first.size - 25
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "denoise"):
        write(tmp_path / "out.png", photo)
    assert "out.png cannot hold the place on Earth" in caplog.text


def test_two_or_four_samples_without_alpha_are_a_cube_without_a_place_too(tmp_path: Path) -> None:
    for count in (2, 4):
        path = place_map(tmp_path / "plain.tif", scene()[:count], crs=None, transform=None)
        np.testing.assert_array_equal(stored(read(path)), scene()[:count])


def test_a_missing_package_names_its_extra(geotiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = scene()

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    for path, extra in ((geotiff, "geo"), (tmp_path / "a.h5", "cubes")):
        with pytest.raises(UnsupportedInputError, match=rf"pip install 'denoise-toolkit\[{extra}\]'"):
            read(path)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@pytest.mark.parametrize("order", [("wavelength", "y", "x"), ("y", "x", "wavelength")])
def test_netcdf_of_xarray_is_copied_with_new_values_only(tmp_path: Path, engine: Any, order: tuple[str, ...]) -> None:
    values = scene("int16")
    values[:, 0, 0] = -1
    variable = xarray.DataArray(values, dims=("wavelength", "y", "x"), attrs={"long_name": "reflectance"})
    dataset = xarray.Dataset(
        {"reflectance": variable.transpose(*order), "cloud": (("y", "x"), np.eye(HEIGHT, WIDTH))},
        coords={"wavelength": ("wavelength", WAVELENGTHS_NM / 1000, {"units": "um"}),
                "fwhm": ("wavelength", np.full(BANDS, 0.01))},
        attrs={"title": "a scene", "history": "made by xarray"},
    )  # fmt: skip
    packing = {"scale_factor": 1e-4, "add_offset": 0.01, "_FillValue": np.int16(-1), "dtype": "int16", "zlib": True}
    dataset["reflectance"] = dataset["reflectance"].where(dataset["reflectance"] >= 0) * 1e-4 + 0.01
    dataset["reflectance"].attrs = {"long_name": "reflectance"}
    dataset.to_netcdf(tmp_path / "scene.nc", engine=engine, encoding={"reflectance": packing})
    cube = opened(read(tmp_path / "scene.nc"))
    np.testing.assert_allclose(cube.wavelengths_nm, WAVELENGTHS_NM)
    np.testing.assert_allclose(cube.fwhm_nm, np.full(BANDS, 10.0))
    np.testing.assert_array_equal(stored(cube), values)
    assert not cube.valid[:, 0, 0].any()
    result, expected = halved(cube)
    write(tmp_path / "out.nc", result)
    kept = {"mask_and_scale": False, "engine": engine}
    with (
        xarray.open_dataset(tmp_path / "scene.nc", **kept) as old,
        xarray.open_dataset(tmp_path / "out.nc", **kept) as new,
    ):
        np.testing.assert_allclose(new["reflectance"].transpose("wavelength", "y", "x"), expected, atol=1)
        assert new["reflectance"].attrs == old["reflectance"].attrs
        assert new.attrs["title"] == "a scene"
        assert new.attrs["history"].startswith("made by xarray\nstored as int16")
        xarray.testing.assert_identical(
            old.drop_vars("reflectance").drop_attrs(), new.drop_vars("reflectance").drop_attrs()
        )


def test_our_own_netcdf_is_read_by_xarray(tmp_path: Path) -> None:
    cube = HyperspectralCube(scene("int16"), wavelengths_nm=WAVELENGTHS_NM, nodata=-1, scale=np.array([2e-4]),
                             quantity="reflectance", fwhm_nm=np.full(BANDS, 10.0))  # type: ignore[arg-type]  # fmt: skip
    write(tmp_path / "new.nc", cube)
    for engine in ("h5netcdf", "netcdf4"):
        with xarray.open_dataset(tmp_path / "new.nc", engine=engine) as dataset:  # type: ignore[arg-type]
            np.testing.assert_allclose(dataset["cube"].values, scene("int16") * 2e-4)
            np.testing.assert_allclose(dataset["wavelength"].values, WAVELENGTHS_NM)
    back = opened(read(tmp_path / "new.nc"))
    assert (back.nodata, back.scale.tolist(), back.quantity) == (-1, [2e-4], "reflectance")


PLACES = {
    "utm": Georeference("EPSG:32633", (30.0, 0.0, 500_010.0, 0.0, -30.0, 5_400_020.0)),
    "degrees": Georeference("EPSG:4326", (0.001, 0.0, 15.25, 0.0, -0.001, 48.5)),
    "turned": Georeference("EPSG:32719", (24.0, 18.0, 400_000.0, 18.0, -24.0, 8_000_000.0)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("first", "second"), [(".hdr", ".nc"), (".tif", ".h5"), (".nc", ".hdr"), (".h5", ".tif")])
def test_all_that_is_known_goes_from_format_to_format(tmp_path: Path, place: str, first: str, second: str) -> None:
    good = np.arange(BANDS) != 3
    cube = HyperspectralCube(
        scene("int16"), wavelengths_nm=WAVELENGTHS_NM, fwhm_nm=np.full(BANDS, 10.0), good_bands=good, nodata=-1,  # type: ignore[arg-type]
        scale=np.linspace(1e-4, 2e-4, BANDS), offset=np.linspace(0.0, 0.1, BANDS), quantity="reflectance",
        band_names=tuple(f"channel {band}" for band in range(BANDS)), georeference=PLACES[place],
        acquired="2024-05-06T07:08:09Z",
    )  # fmt: skip
    write(tmp_path / f"a{first}", cube)
    write(tmp_path / f"b{second}", read(tmp_path / f"a{first}"))
    back = opened(read(tmp_path / f"b{second}"))
    assert back.georeference is not None
    assert CRS.from_user_input(back.georeference.crs) == CRS.from_user_input(PLACES[place].crs)
    np.testing.assert_allclose(back.georeference.transform, PLACES[place].transform, rtol=1e-9, atol=1e-9)  # type: ignore[arg-type]
    np.testing.assert_array_equal(back.good_bands, good)
    np.testing.assert_allclose(back.fwhm_nm, np.full(BANDS, 10.0))
    np.testing.assert_allclose(back.scale, cube.scale)
    np.testing.assert_allclose(back.offset, cube.offset)
    assert (back.nodata, back.acquired, back.quantity) == (-1, cube.acquired, cube.quantity)
    assert back.band_names == cube.band_names


@pytest.mark.parametrize("place", PLACES)
def test_gdal_finds_the_place_of_our_netcdf(tmp_path: Path, place: str) -> None:
    write(tmp_path / "a.nc", HyperspectralCube(scene("int16"), georeference=PLACES[place]))  # type: ignore[arg-type]
    with rasterio.open(f'netcdf:"{tmp_path / "a.nc"}":cube') as raster:
        assert raster.crs.to_epsg() == int(PLACES[place].crs.split(":")[1])
        np.testing.assert_allclose(raster.transform[:6], PLACES[place].transform, rtol=1e-9)


def test_bands_that_gdal_wrote_as_netcdf_are_one_cube(tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "count": BANDS, "height": HEIGHT, "width": WIDTH, "dtype": "int16", "nodata": -1,
               "crs": "EPSG:32633", "transform": from_origin(5e5, 54e5, 30, 30)}  # fmt: skip
    values = scene("int16")
    values[:, 3, 4] = -1
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as to:
        to.write(values)
        for band, wavelength in enumerate(WAVELENGTHS_NM):
            to.update_tags(band + 1, wavelength=str(wavelength), wavelength_units="Nanometers")
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.nc", driver="netCDF", FORMAT="NC4")
    cube = opened(read(tmp_path / "a.nc"))
    np.testing.assert_array_equal(stored(cube), values[:, ::-1])  # GDAL writes from the bottom up
    assert cube.georeference is not None
    assert cube.georeference.transform == (30.0, 0.0, 5e5, 0.0, 30.0, 54e5 - 30 * HEIGHT)
    np.testing.assert_allclose(cube.wavelengths_nm, WAVELENGTHS_NM)
    assert not cube.valid[:, HEIGHT - 1 - 3, 4].any()
    result, expected = halved(cube)
    write(tmp_path / "out.nc", result)
    written = stored(read(tmp_path / "out.nc"))
    np.testing.assert_allclose(written, expected, atol=1)
    old, new = (rasterio.open(f'netcdf:"{tmp_path / name}":Band2') for name in ("a.nc", "out.nc"))
    with old, new:
        assert new.transform == old.transform
        assert new.crs == old.crs
        np.testing.assert_array_equal(new.read(1), written[1, ::-1])


def test_a_grid_that_only_coordinates_state_is_a_place(tmp_path: Path) -> None:
    variable = xarray.DataArray(
        scene(), dims=("wavelength", "y", "x"), attrs={"grid_mapping": "crs"},
        coords={"x": 100.0 + 5 * np.arange(WIDTH), "y": 900.0 - 5 * np.arange(HEIGHT), "wavelength": WAVELENGTHS_NM},
    )  # fmt: skip
    mapping = xarray.DataArray(0, attrs={"crs_wkt": CRS.from_epsg(32633).to_wkt()})
    xarray.Dataset({"cube": variable, "crs": mapping}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    place = opened(read(tmp_path / "a.nc")).georeference
    assert place is not None
    assert place.transform == (5.0, 0.0, 97.5, 0.0, -5.0, 902.5)
    assert CRS.from_user_input(place.crs).to_epsg() == 32633


@pytest.mark.parametrize("fill", ["none", "", h5py.Empty("f"), np.zeros(0, np.float32)])
def test_a_fill_value_that_is_no_number_is_not_stated(tmp_path: Path, fill: Any) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        values = file.create_dataset("cube", data=scene())
        values.attrs["_FillValue"] = fill
        values.attrs["scale_factor"] = 0.5
    cube = opened(read(tmp_path / "a.h5"))
    assert cube.nodata is None
    assert cube.scale == 0.5
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["cube"].attrs["missing_value"] = 3
    assert opened(read(tmp_path / "a.h5")).nodata == 3


def test_a_file_with_several_arrays_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        file["group/first"] = scene()
        file["second"] = scene("float32").transpose(1, 2, 0)
        file["flat"] = np.zeros((4, 5))
        file["wavelengths"] = WAVELENGTHS_NM
    with pytest.raises(UsageError, match=r"holds 2 arrays.*group/first \(9, 40, 33\).*--variable"):
        read(path)
    np.testing.assert_array_equal(stored(read(path, variable="group/first")), scene())
    np.testing.assert_array_equal(stored(read(path, variable="second")), scene("float32"))
    with pytest.raises(UsageError, match=r"no variable 'secnd'.*Did you mean 'second'"):
        read(path, variable="secnd")
    with pytest.raises(UnsupportedInputError, match=r"float64 of shape \(4, 5\)"):
        read(path, variable="flat")
    write(
        tmp_path / "out.h5", opened(read(path, variable="first")).with_tensor(read(path, variable="first").to_tensor())
    )
    with h5py.File(path) as old, h5py.File(tmp_path / "out.h5") as new:
        for name in ("group/first", "second", "flat", "wavelengths"):
            np.testing.assert_array_equal(old[name][()], new[name][()])  # type: ignore[index]


@pytest.mark.parametrize("dtype", ["uint16", "float64", "int16", "float32"])
def test_matlab_5_keeps_class_and_neighbours(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "scene.mat"
    contents = {"data": scene(dtype).transpose(1, 2, 0), "map": np.eye(HEIGHT, WIDTH), "wavelength": WAVELENGTHS_NM}
    scipy.io.savemat(path, contents)
    cube = opened(read(path))
    np.testing.assert_array_equal(stored(cube), scene(dtype))
    np.testing.assert_allclose(cube.wavelengths_nm, WAVELENGTHS_NM)
    result, expected = halved(cube)
    write(tmp_path / "out.mat", result)
    after = scipy.io.loadmat(tmp_path / "out.mat", mat_dtype=True)
    assert after["data"].dtype == dtype
    np.testing.assert_allclose(after["data"].transpose(2, 0, 1), expected, rtol=1e-6, atol=dtype.endswith("16"))
    np.testing.assert_array_equal(after["map"], contents["map"])
    assert opened(read(tmp_path / "out.mat")).history == result.history


def test_matlab_7_has_its_axes_in_reverse(tmp_path: Path) -> None:
    path = tmp_path / "scene.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["rad"] = scene("float64").transpose(0, 2, 1)  # MATLAB sees (rows, columns, bands)
        file["rad"].attrs["MATLAB_class"] = np.bytes_("double")
        file["#refs#/a"] = np.zeros((2, 2, 2))
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)
    cube = opened(read(path))
    np.testing.assert_array_equal(stored(cube), scene("float64"))
    result, expected = halved(cube)
    write(tmp_path / "out.mat", result)
    assert (tmp_path / "out.mat").read_bytes().startswith(b"MATLAB 7.3 MAT-file")
    with h5py.File(tmp_path / "out.mat") as file:
        np.testing.assert_allclose(file["rad"][()].transpose(0, 2, 1), expected, rtol=1e-6)  # type: ignore[index]
        assert file["rad"].attrs["MATLAB_class"] == b"double"


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("axes", "asked"), [((1, 2, 0), "auto"), ((1, 2, 0), "last"), ((0, 1, 2), "auto"),
                                             ((0, 1, 2), "first")])  # fmt: skip
def test_numpy_arrays_of_both_orders(
    tmp_path: Path, axes: tuple[int, ...], asked: str, fortran: bool, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        monkeypatch.setattr(cube_pixels, "HELD_BYTES", 100)
    array = scene("float32").transpose(axes)
    np.save(tmp_path / "scene.npy", np.asfortranarray(array) if fortran else np.ascontiguousarray(array))
    cube = opened(read(tmp_path / "scene.npy", band_axis=asked))
    np.testing.assert_array_equal(stored(cube), scene("float32"))
    write(tmp_path / "out.npy", cube)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), array)


@pytest.mark.parametrize(
    ("shape", "bands", "warned"),
    [
        ((9, 40, 33), 9, False),
        ((40, 33, 9), 9, False),
        ((32, 64, 64), 32, True),
        ((60, 60, 80), 80, False),
        ((30, 40, 50), 50, True),
    ],
)
def test_a_band_axis_that_the_shape_does_not_tell_is_warned_of(
    tmp_path: Path, shape: tuple[int, ...], bands: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    np.save(tmp_path / "scene.npy", np.random.default_rng(0).random(shape, np.float32))
    with caplog.at_level(logging.WARNING, "denoise"):
        assert opened(read(tmp_path / "scene.npy")).shape[0] == bands
    assert ("--band-axis" in caplog.text) == warned
    caplog.clear()
    with caplog.at_level(logging.WARNING, "denoise"):
        read(tmp_path / "scene.npy", band_axis="first")
    assert "--band-axis" not in caplog.text


@pytest.mark.parametrize(("fill", "dtype"), [(0, "uint16"), (65535, "uint16"), (1e20, "float32"), (-9999, "float32")])
def test_pixels_of_one_number_in_all_bands_are_warned_of_once(
    tmp_path: Path, fill: float, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = scene(dtype)
    values[:, :2, :5] = fill
    np.save(tmp_path / "scene.npy", values.transpose(1, 2, 0))
    with caplog.at_level(logging.WARNING, "denoise"):
        read(tmp_path / "scene.npy")
    told = [record.getMessage() for record in caplog.records if f"{fill:g}" in record.getMessage()]
    assert len(told) == 1
    assert "data ignore value" in told[0]
    assert fill == -9999 or "10 of 1320 pixels looked at (0.8 %)" in told[0]


@pytest.mark.parametrize(("fill", "dtype"), [(0, "uint16"), (65535, "uint16"), (-9999, "float32")])
def test_many_pixels_of_one_number_in_ten_bands_are_taken_for_missing(
    tmp_path: Path, fill: float, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.concatenate((scene(dtype), scene(dtype)))
    gone = np.zeros(values.shape[1:], bool)
    gone[:8, :8] = True
    values[:, gone] = fill
    values[3, 20, 20] = fill  # one value is not a pixel
    np.save(tmp_path / "scene.npy", values.transpose(1, 2, 0))
    with caplog.at_level(logging.WARNING, "denoise"):
        cube = opened(read(tmp_path / "scene.npy"))
    told = [record.getMessage() for record in caplog.records if "missing" in record.getMessage()]
    assert len(told) == 1
    assert f"are {fill:g} in every band" in told[0]
    assert "taken for missing" in told[0]
    np.testing.assert_array_equal(cube.valid, np.broadcast_to(~gone, cube.shape))
    assert cube.white < 20000
    back = cube.with_tensor(cube.to_tensor() / 2)
    np.testing.assert_array_equal(back.stored.read(0, HEIGHT, 0, WIDTH)[:, gone], values[:, gone])


def test_equal_bands_and_few_pixels_are_no_fill(
    tmp_path: Path, geotiff: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).integers(1000, 1300, (40, 33, 1)).astype(np.uint16).repeat(9, 2)
    np.save(tmp_path / "grey.npy", values)
    few = scene()
    few[:, 0, :5] = 0
    np.save(tmp_path / "few.npy", few)
    with caplog.at_level(logging.WARNING, "denoise"):
        for path in (tmp_path / "grey.npy", tmp_path / "few.npy", geotiff):
            read(path)
    assert "missing" not in caplog.text


def test_arrays_that_are_no_cube_are_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((40, 50)))
    with pytest.raises(UnsupportedInputError, match=r"float64 of shape \(40, 50\).*photograph"):
        read(tmp_path / "flat.npy")
    np.save(tmp_path / "one.npy", np.zeros((40, 50, 1)))
    with pytest.raises(UnsupportedInputError, match="one band of 50 x 40"):
        read(tmp_path / "one.npy")
    np.save(tmp_path / "complex.npy", np.zeros((4, 5, 6), np.complex64))
    with pytest.raises(UnsupportedInputError, match="complex"):
        read(tmp_path / "complex.npy")
    np.save(tmp_path / "nan.npy", np.full((4, 5, 6), np.nan))
    with pytest.raises(FileFormatError, match="no value to denoise"):
        read(tmp_path / "nan.npy")
    scipy.io.savemat(tmp_path / "flat.mat", {"gt": np.zeros((4, 5))})
    with pytest.raises(UnsupportedInputError, match=r"no cube.*gt \(4, 5\)"):
        read(tmp_path / "flat.mat")
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"--variable b was given, but photo\.png holds one image"):
        read(tmp_path / "photo.png", variable="b")
    (tmp_path / "old.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(FileFormatError, match="nccopy -k nc4"):
        read(tmp_path / "old.nc")


def test_a_cube_goes_from_each_format_to_each(tmp_path: Path) -> None:
    cube = HyperspectralCube(scene("int16"), wavelengths_nm=WAVELENGTHS_NM, nodata=-1)  # type: ignore[arg-type]
    suffixes = (".hdr", ".tif", ".nc", ".mat")
    for first in suffixes:
        write(tmp_path / f"a{first}", cube)
        for second in suffixes:
            if first != second:
                write(tmp_path / f"b{first[1:]}{second}", read(tmp_path / f"a{first}"))
                back = opened(read(tmp_path / f"b{first[1:]}{second}"))
                np.testing.assert_array_equal(stored(back), scene("int16"))
                np.testing.assert_allclose(back.wavelengths_nm, WAVELENGTHS_NM)
