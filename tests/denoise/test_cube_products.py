"""Products of PRISMA, EnMAP and EMIT by their documented layout, written small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from denoise.cubes import pixels as cube_pixels
from denoise.cubes.cube import HyperspectralCube
from denoise.errors import FileFormatError
from denoise.io import read, write

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rasterio's own use of affine
HEIGHT, WIDTH = 20, 15


def opened(path: Path) -> HyperspectralCube:
    cube = read(path)
    assert isinstance(cube, HyperspectralCube)
    return cube


def scene(bands: int, dtype: str = "uint16", base: float = 3000) -> np.ndarray:
    """Return (bands, H, W), each band with a level of its own."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = 1 + 0.3 * np.sin(rows / 6) * np.cos(columns / 5)
    return ((base + 50 * np.arange(bands))[:, None, None] * picture).astype(dtype)


def prisma(path: Path, level: str = "PRS_L2D_HCO") -> tuple[np.ndarray, np.ndarray]:
    """Write a PRISMA product of 4 + 5 bands, wavelengths descending, two of them unused; return both cubes."""
    vnir, swir = scene(4), scene(5, base=8000)
    with h5py.File(path, "w") as file:
        fields = file.create_group(f"HDFEOS/SWATHS/{level}/Data Fields")
        fields["VNIR_Cube"], fields["SWIR_Cube"] = vnir.transpose(1, 0, 2), swir.transpose(1, 0, 2)
        for name, cube in (("VNIR", vnir), ("SWIR", swir)):
            flags = np.zeros((HEIGHT, len(cube), WIDTH), np.uint8)
            flags[3, 1, 4] = 1
            fields[f"{name}_PIXEL_SAT_ERR_MATRIX"] = flags
        file["HDFEOS/ADDITIONAL/FILE_ATTRIBUTES"] = 1
        file.attrs["List_Cw_Vnir"], file.attrs["List_Fwhm_Vnir"] = (
            np.array([950.0, 700, 410, 0]),
            np.array([11.0, 10, 9, 0]),
        )
        file.attrs["List_Cw_Swir"] = np.array([2490.0, 1800, 1300, 930, 0])
        file.attrs["List_Fwhm_Swir"] = np.array([8.0, 9, 10, 11, 0])
        file.attrs["List_Cw_Vnir_Flags"], file.attrs["List_Cw_Swir_Flags"] = (
            np.array([1, 1, 1, 0]),
            np.array([1, 1, 1, 1, 0]),
        )
        file.attrs["Product_StartTime"] = np.bytes_("2026-05-01T10:00:00")
        if "L1" in level:
            for side, factor in (("Vnir", 100.0), ("Swir", 50.0)):
                file.attrs[f"ScaleFactor_{side}"], file.attrs[f"Offset_{side}"] = factor, 2.0
        else:
            for side, high in (("Vnir", 0.8), ("Swir", 0.5)):
                file.attrs[f"L2Scale{side}Min"], file.attrs[f"L2Scale{side}Max"] = 0.0, high
            file.attrs["Epsg_Code"] = 32633
            file.attrs["Product_ULcorner_easting"], file.attrs["Product_ULcorner_northing"] = 500000.0, 4600000.0
            file.attrs["Product_LRcorner_easting"] = 500000.0 + 30 * (WIDTH - 1)
            file.attrs["Product_LRcorner_northing"] = 4600000.0 - 30 * (HEIGHT - 1)
    return vnir, swir


@pytest.mark.parametrize("large", [False, True])
def test_prisma_is_one_cube_in_order_and_goes_back_into_its_own_layout(
    tmp_path: Path, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vnir, swir = prisma(tmp_path / "prs.he5")
    if large:
        monkeypatch.setattr(cube_pixels, "HELD_BYTES", 100)
    cube = opened(tmp_path / "prs.he5")
    assert cube.wavelengths_nm is not None
    assert cube.wavelengths_nm.tolist() == [410, 700, 930, 950, 1300, 1800, 2490]
    assert cube.fwhm_nm is not None
    assert cube.fwhm_nm.tolist() == [9, 10, 11, 11, 10, 9, 8]
    expected = np.stack([vnir[2], vnir[1], swir[3], vnir[0], swir[2], swir[1], swir[0]])
    np.testing.assert_array_equal(cube.stored.read(0, HEIGHT, 0, WIDTH), expected)
    assert cube.georeference is not None
    assert cube.georeference.crs == "EPSG:32633"
    assert cube.georeference.transform == (30.0, 0.0, 499985.0, 0.0, -30.0, 4600015.0)
    physical = cube.window(0, HEIGHT, 0, WIDTH) * cube.white
    np.testing.assert_allclose(physical[0, 5], vnir[2, 5] / 65535 * 0.8, rtol=1e-5)
    np.testing.assert_allclose(physical[6, 5], swir[0, 5] / 65535 * 0.5, rtol=1e-5)
    invalid = np.argwhere(~cube.valid)
    assert invalid.tolist() == [[1, 3, 4], [5, 3, 4]]

    write(tmp_path / "out.he5", cube.with_tensor(cube.to_tensor() / 2))
    with h5py.File(tmp_path / "prs.he5") as before, h5py.File(tmp_path / "out.he5") as after:
        fields = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
        got: Any = after[f"{fields}/VNIR_Cube"][()]  # type: ignore[index]
        got = got.transpose(1, 0, 2)
        np.testing.assert_array_equal(got[3], vnir[3])  # a band that is not used
        np.testing.assert_allclose(got[0], vnir[0] / 2, atol=0.51)
        assert got[1, 3, 4] == vnir[1, 3, 4]  # a pixel that is marked
        got = after[f"{fields}/SWIR_Cube"][()]  # type: ignore[index]
        np.testing.assert_allclose(got.transpose(1, 0, 2)[2], swir[2] / 2, atol=0.51)
        kept = {key: value for key, value in after.attrs.items() if key != "history"}
        assert {key: np.asarray(value).tolist() for key, value in before.attrs.items()} == {
            key: np.asarray(value).tolist() for key, value in kept.items()
        }


def test_prisma_level_1_is_radiance(tmp_path: Path) -> None:
    vnir, _ = prisma(tmp_path / "prs.he5", "PRS_L1_HCO")
    cube = opened(tmp_path / "prs.he5")
    assert cube.quantity == "radiance"
    assert cube.georeference is None
    physical = cube.window(0, HEIGHT, 0, WIDTH) * cube.white
    np.testing.assert_allclose(physical[0, 5], vnir[2, 5] / 100 - 2, rtol=1e-5)


def test_a_prisma_product_that_lacks_a_cube_is_named(tmp_path: Path) -> None:
    prisma(tmp_path / "prs.he5")
    with h5py.File(tmp_path / "prs.he5", "r+") as file:
        del file["HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields/SWIR_Cube"]
    with pytest.raises(FileFormatError, match=r"PRISMA product that lacks.*SWIR_Cube"):
        read(tmp_path / "prs.he5")


def test_emit_keeps_its_groups_and_leaves_its_bad_wavelengths(tmp_path: Path) -> None:
    values = scene(6, "float32", 0.2) / np.float32(100)
    values[:, :2, :2] = -9999
    with h5py.File(tmp_path / "emit.nc", "w") as file:
        file["reflectance"] = values.transpose(1, 2, 0)
        file["reflectance"].attrs["_FillValue"] = np.float32([-9999])
        group = file.create_group("sensor_band_parameters")
        group["wavelengths"], group["fwhm"] = np.linspace(400, 2450, 6), np.full(6, 8.5)
        group["good_wavelengths"] = np.array([1, 1, 0, 1, 1, 1.0])
        file["location/glt_x"] = np.arange(12).reshape(3, 4)
        file.attrs["spatial_ref"], file.attrs["time_coverage_start"] = "GEOGCS[...]", "2026-05-01T10:00:00Z"
    cube = opened(tmp_path / "emit.nc")
    assert cube.shape == (6, HEIGHT, WIDTH)
    assert (cube.quantity, cube.acquired) == ("reflectance", "2026-05-01T10:00:00Z")
    assert cube.good_bands is not None
    assert np.flatnonzero(~cube.good_bands).tolist() == [2]
    write(tmp_path / "out.nc", cube.with_tensor(cube.to_tensor() / 2))
    with h5py.File(tmp_path / "out.nc") as file:
        got: Any = file["reflectance"][()]  # type: ignore[index]
        got = got.transpose(2, 0, 1)
        np.testing.assert_array_equal(got[2], values[2])
        np.testing.assert_array_equal(got[:, :2, :2], -9999)
        np.testing.assert_allclose(got[0, 5:], values[0, 5:] / 2, rtol=1e-6)
        assert file["location/glt_x"].shape == (3, 4)  # type: ignore[union-attr]
        assert file.attrs["spatial_ref"] == "GEOGCS[...]"


def enmap(folder: Path, described: int, expected: str, bands: int, level: str = "L2A") -> Path:
    """Write an EnMAP product; returns its image."""
    entries = "".join(
        f"<bandID number='{n}'><wavelengthCenterOfBand>{420 + 10 * n}</wavelengthCenterOfBand><FWHMOfBand>{6 + n}"
        f"</FWHMOfBand><GainOfBand>0.0001</GainOfBand><OffsetOfBand>0</OffsetOfBand></bandID>"
        for n in range(1, described + 1)
    )
    xml = (
        f"<level_X><base><processingLevel>{level}</processingLevel><temporalCoverage><startTime>2026-05-01T10:00:00Z"
        f"</startTime></temporalCoverage></base><specific><expectedChannelsList>{expected}</expectedChannelsList>"
        f"<bandCharacterisation>{entries}</bandCharacterisation></specific></level_X>"
    )
    (folder / "ENMAP01-METADATA.XML").write_text(xml)
    path = folder / "ENMAP01-SPECTRAL_IMAGE.TIF"
    profile = {"driver": "GTiff", "dtype": "int16", "count": bands, "height": HEIGHT, "width": WIDTH, "nodata": -32768,
               "crs": "EPSG:32633", "transform": from_origin(500000, 4600000, 30, 30)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(scene(bands, "int16"))
    return path


def test_enmap_takes_its_bands_from_the_xml_and_its_tiff_states_them(tmp_path: Path) -> None:
    cube = opened(enmap(tmp_path, 7, "1,2,3,4,5,6,7", 7))
    assert cube.wavelengths_nm is not None
    assert cube.wavelengths_nm.tolist() == [430, 440, 450, 460, 470, 480, 490]
    assert (cube.quantity, cube.acquired, cube.nodata) == ("reflectance", "2026-05-01T10:00:00Z", -32768)
    np.testing.assert_allclose(cube.window(0, 1, 0, 3) * cube.white, scene(7)[:, :1, :3] * 1e-4, rtol=1e-5)
    write(tmp_path / "clean.tif", cube.with_tensor(cube.to_tensor()))
    back = opened(tmp_path / "clean.tif")
    np.testing.assert_array_equal(back.stored.read(0, HEIGHT, 0, WIDTH), scene(7))
    assert back.wavelengths_nm is not None
    assert back.wavelengths_nm.tolist() == cube.wavelengths_nm.tolist()
    np.testing.assert_allclose(back.scale, cube.scale)


def test_an_enmap_image_without_some_bands(tmp_path: Path) -> None:
    cube = opened(enmap(tmp_path, 7, "1,2,4,6,7", 5, "L1C"))
    assert cube.wavelengths_nm is not None
    assert cube.wavelengths_nm.tolist() == [430, 440, 460, 480, 490]
    assert cube.quantity == "radiance"
    with pytest.raises(FileFormatError, match="describes 7 bands, but the image has 6"):
        read(enmap(tmp_path, 7, "1,2,4,6,7", 6))
