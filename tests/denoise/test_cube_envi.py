"""ENVI files of GDAL and of SPy are read, ours are read by both, and every key of a header survives."""

from __future__ import annotations

import itertools
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import spectral.io.envi
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_origin

from denoise.cubes.cube import HyperspectralCube
from denoise.errors import FileFormatError, UnsupportedInputError
from denoise.io import read, write

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # rasterio's own use of affine
BANDS, HEIGHT, WIDTH = 12, 21, 17
TYPES = {"uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "uint16": 12, "uint32": 13, "int64": 14,
         "uint64": 15}  # fmt: skip
EXTRA = """ENVI
description = {a scene, in two
  lines}
samples = 17
lines = 21
bands = 12
header offset = 0
data type = 12
interleave = bil
byte order = 1
Sensor Type = FINCH
map info = {UTM, 1.0, 1.0, 500000.0, 4600000.0, 30.0, 30.0, 33, North, WGS-84, units=Meters}
wavelength units = Micrometers
wavelength = {0.90, 0.91, 0.92, 0.93,
 0.94, 0.95, 0.96, 0.97, 0.98, 0.99, 1.00, 1.01}
fwhm = {0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010, 0.010}
bbl = {1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1}
band names = {b 1, b 2, b 3, b 4, b 5, b 6, b 7, b 8, b 9, b 10, b 11, b 12}
data ignore value = 0
reflectance scale factor = 10000
acquisition time = 2026-05-01T10:00:00Z
a key_of our own = {1, {two}
default bands = {3, 2, 1}
"""


def scene(dtype: str = "uint16") -> np.ndarray:
    """Return (bands, H, W), smooth in all directions."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    picture = 1 + 0.4 * np.sin(rows / 6) * np.cos(columns / 5)
    cube = (60 + 8 * np.arange(BANDS))[:, None, None] * picture
    return (cube if dtype == "uint8" else cube * 40).astype(dtype)


def stored(cube: Any) -> np.ndarray:
    assert isinstance(cube, HyperspectralCube)
    return cube.stored.read(0, cube.shape[1], 0, cube.shape[2])


@pytest.fixture
def striking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a header with every key that must survive; big-endian BIL data beside it."""
    monkeypatch.setattr(spectral.settings, "envi_support_nonlowercase_params", True)
    (tmp_path / "scene.img").write_bytes(scene().astype(">u2").transpose(1, 0, 2).tobytes())
    path = tmp_path / "scene.hdr"
    path.write_text(EXTRA.replace("{1, {two}", "{1, two}"))
    return path


@pytest.mark.parametrize(("interleave", "dtype", "order"), [
    *itertools.product(("bsq", "bil", "bip"), ("uint16", "float32"), (0, 1)), *(("bil", name, 1) for name in TYPES),
])  # fmt: skip
def test_files_of_spy_are_read_and_ours_are_read_by_spy_and_gdal(
    tmp_path: Path, interleave: str, dtype: str, order: int
) -> None:
    values = scene(dtype)
    metadata = {"wavelength": [900 + 10 * band for band in range(BANDS)], "wavelength units": "nm"}
    theirs = tmp_path / "theirs.hdr"
    spectral.io.envi.save_image(
        str(theirs), values.transpose(1, 2, 0), dtype=dtype, interleave=interleave, byteorder=order, metadata=metadata
    )
    cube = read(theirs)
    assert isinstance(cube, HyperspectralCube)
    np.testing.assert_array_equal(stored(cube), values)
    np.testing.assert_allclose(cube.wavelengths_nm, 900 + 10.0 * np.arange(BANDS))

    write(tmp_path / "ours.hdr", cube)
    assert (tmp_path / "ours.img").read_bytes() == theirs.with_suffix(".img").read_bytes()
    back = spectral.io.envi.open(str(tmp_path / "ours.hdr"))
    assert back.metadata["interleave"] == interleave
    assert int(back.metadata["data type"]) == TYPES[dtype]
    np.testing.assert_array_equal(np.array(back.open_memmap(interleave="bsq")), values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "ours.img") as raster:
            np.testing.assert_array_equal(raster.read(), values)
            assert raster.tags(1)["wavelength"] == "900"


@pytest.mark.parametrize("interleave", ["BSQ", "BIL", "BIP"])
def test_files_of_gdal_are_read_and_keep_their_place_on_earth(tmp_path: Path, interleave: str) -> None:
    place = {"crs": CRS.from_epsg(32633), "transform": from_origin(500000, 4600000, 30, 20)}
    profile: dict[str, Any] = {"driver": "ENVI", "dtype": "int16", "count": BANDS, "height": HEIGHT, "width": WIDTH}
    with rasterio.open(tmp_path / "gdal.img", "w", **profile, **place, nodata=-999, INTERLEAVE=interleave) as raster:
        raster.write(scene("int16"))
        raster.update_tags(ns="ENVI", wavelength="{" + ", ".join(str(900 + 10 * n) for n in range(BANDS)) + "}",
                           wavelength_units="Nanometers", sensor_type="FINCH")  # fmt: skip
    cube = read(tmp_path / "gdal.hdr")
    assert isinstance(cube, HyperspectralCube)
    np.testing.assert_array_equal(stored(cube), scene("int16"))
    assert cube.nodata == -999
    assert cube.georeference is not None
    assert cube.georeference.transform == (30.0, 0.0, 500000.0, 0.0, -20.0, 4600000.0)
    for name in ("ours.hdr", "copy.tif"):
        write(tmp_path / name, cube)
        with rasterio.open(tmp_path / name.replace(".hdr", ".img")) as raster:
            assert raster.crs == place["crs"]
            assert raster.transform == place["transform"]
            assert raster.nodata == -999
            assert raster.tags(2)["wavelength"] == "910"


def test_every_key_of_a_header_survives(striking: Path, tmp_path: Path) -> None:
    cube = read(striking)
    assert isinstance(cube, HyperspectralCube)
    assert cube.wavelengths_nm is not None
    np.testing.assert_allclose(cube.wavelengths_nm, 900 + 10.0 * np.arange(BANDS))
    np.testing.assert_allclose(cube.fwhm_nm, np.full(BANDS, 10.0))
    assert cube.good_bands is not None
    assert np.flatnonzero(~cube.good_bands).tolist() == [3]
    assert (cube.nodata, cube.quantity, cube.white) == (0, "reflectance", 1.0)
    np.testing.assert_allclose(cube.to_tensor().numpy()[:3], scene()[:3] / 10000, atol=1e-7)  # scaled once
    assert cube.georeference is not None
    assert cube.georeference.crs == "EPSG:32633"
    write(tmp_path / "out.hdr", cube.with_tensor(cube.to_tensor()))
    np.testing.assert_array_equal((tmp_path / "out.img").read_bytes(), striking.with_suffix(".img").read_bytes())
    before = spectral.io.envi.read_envi_header(str(striking))
    after = spectral.io.envi.read_envi_header(str(tmp_path / "out.hdr"))
    assert {key: after[key] for key in before} == before
    added = set(after) - set(before)
    assert added <= {"file type", "denoise history"}
    again = read(tmp_path / "out.hdr")
    assert again.history == cube.with_tensor(cube.to_tensor()).history


def test_what_the_user_changes_is_written_anew(striking: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    cube = read(striking)
    assert isinstance(cube, HyperspectralCube)
    write(tmp_path / "out.hdr", replace(cube, wavelengths_nm=np.linspace(1000, 1100, BANDS), nodata=None))
    after = spectral.io.envi.read_envi_header(str(tmp_path / "out.hdr"))
    assert after["wavelength units"] == "Nanometers"
    assert float(after["wavelength"][-1]) == 1100
    assert "data ignore value" not in after
    assert after["Sensor Type"] == "FINCH"


def test_gains_and_offsets_give_house_units_and_stay_in_the_header(tmp_path: Path) -> None:
    gains, offsets = 0.001 * (1 + np.arange(BANDS)), -0.1 * np.arange(BANDS)
    metadata = {"data gain values": gains.tolist(), "data offset values": offsets.tolist()}
    spectral.io.envi.save_image(str(tmp_path / "a.hdr"), scene().transpose(1, 2, 0), dtype="uint16", metadata=metadata)
    cube = read(tmp_path / "a.hdr")
    assert isinstance(cube, HyperspectralCube)
    physical = scene() * gains[:, None, None] + offsets[:, None, None]
    np.testing.assert_allclose(cube.to_tensor().numpy() * cube.white, physical, atol=1e-4)
    write(tmp_path / "b.hdr", cube.with_tensor(cube.to_tensor()))
    np.testing.assert_array_equal(stored(read(tmp_path / "b.hdr")), scene())
    after = spectral.io.envi.read_envi_header(str(tmp_path / "b.hdr"))
    assert [float(text) for text in after["data gain values"]] == gains.tolist()


def test_a_header_offset_a_name_without_suffix_and_a_doubled_suffix(tmp_path: Path) -> None:
    text = EXTRA.replace("{1, {two}", "{1, two}").replace("header offset = 0", "header offset = 128")
    content = bytes(128) + scene().astype(">u2").transpose(1, 0, 2).tobytes()
    for data, header in (("plain", "plain.hdr"), ("double.dat", "double.dat.hdr"), ("camera.raw", "camera.hdr")):
        (tmp_path / data).write_bytes(content)
        (tmp_path / header).write_text(text)
        np.testing.assert_array_equal(stored(read(tmp_path / header)), scene())
        np.testing.assert_array_equal(stored(read(tmp_path / data)), scene())
        write(tmp_path / f"out-{header}", read(tmp_path / header))
        assert (tmp_path / f"out-{data}").read_bytes() == content[128:]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("order", [0, 1])
def test_a_missing_byte_order_is_found_from_the_values_and_told(
    tmp_path: Path, dtype: str, order: int, caplog: pytest.LogCaptureFixture
) -> None:
    spectral.io.envi.save_image(str(tmp_path / "a.hdr"), scene(dtype).transpose(1, 2, 0), dtype=dtype, byteorder=order)
    text = (tmp_path / "a.hdr").read_text()
    (tmp_path / "a.hdr").write_text(text.replace(f"byte order = {order}\n", ""))
    with caplog.at_level(logging.WARNING, "denoise"):
        cube = read(tmp_path / "a.hdr")
    np.testing.assert_array_equal(stored(cube), scene(dtype))
    assert "lacks 'byte order'" in caplog.text


def header(**changes: str) -> str:
    """Return a sound header with lines changed; an empty value removes one."""
    lines = {"samples": "17", "lines": "21", "bands": "12", "header offset": "0", "data type": "12",
             "interleave": "bsq", "byte order": "0", "wavelength units": "nm",
             "wavelength": "{" + ", ".join(str(900 + 10 * n) for n in range(12)) + "}"}  # fmt: skip
    lines |= {key.replace("_", " "): value for key, value in changes.items()}
    return "ENVI\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)


@pytest.mark.parametrize(("changes", "error", "words"), [
    ({"lines": "22"}, FileFormatError, r"disagree.*17 samples x 22 lines x 12 bands of uint16.*enough for 21\.0 lines"),
    ({"lines": "20"}, FileFormatError, r"disagree.*408 too many"),
    ({"data_type": "4"}, FileFormatError, "disagree"),
    ({"data_type": "6"}, UnsupportedInputError, "complex"),
    ({"file_compression": "1"}, UnsupportedInputError, "are compressed"),
    ({"data_type": "7"}, FileFormatError, r"data type 7, but ENVI has .*12 \(uint16\)"),
    ({"data_type": ""}, FileFormatError, r"lacks 'data type'.*2 bytes a value.*12 \(uint16\)"),
    ({"samples": ""}, FileFormatError, "lacks 'samples'"),
    ({"samples": "many"}, FileFormatError, "'samples' is 'many', but a whole number"),
    ({"samples": "0"}, FileFormatError, "must be at least 1"),
    ({"samples": "9" * 20}, FileFormatError, "disagree: 9{20} samples"),
    ({"samples": "9" * 20, "data_type": ""}, FileFormatError, "lacks 'data type'"),
    ({"samples": "\u00b2", "data_type": ""}, FileFormatError, "lacks 'data type'"),
    ({"interleave": "bsp"}, FileFormatError, "interleave 'bsp'.*Did you mean"),
    ({"interleave": ""}, FileFormatError, "lacks 'interleave'"),
    ({"interleave": "bip"}, FileFormatError, "interleave bip.*as bsq they do"),
    ({"byte_order": "1"}, FileFormatError, r"byte order 1 \(big endian\).*with 0 \(little endian\) they do"),
    ({"byte_order": "2"}, FileFormatError, "byte order '2'"),
    ({"bands": "1", "lines": "252", "wavelength": ""}, UnsupportedInputError, "holds one band of 17 x 252"),
    ({"wavelength": "{900, 910}"}, FileFormatError, "lists 2 values, but the cube has 12 bands"),
    ({"wavelength": "{" + "a, " * 11 + "b}"}, FileFormatError, "not numbers"),
    ({"wavelength": "{" + "0, " * 11 + "1}"}, FileFormatError, "not above 0"),
    ({"wavelength": "{900, 910,"}, FileFormatError, "not closed"),
    ({"bbl": "{" + "0, " * 11 + "0}"}, FileFormatError, "all 12 bands as bad"),
    ({"data_ignore_value": "none"}, FileFormatError, "'data ignore value' is 'none'"),
    ({"reflectance_scale_factor": "0"}, FileFormatError, "must lie above 0"),
])  # fmt: skip
def test_a_wrong_header_is_one_line_that_says_what_to_do(
    tmp_path: Path, changes: dict[str, str], error: type[Exception], words: str
) -> None:
    (tmp_path / "scene.img").write_bytes(scene().tobytes())
    (tmp_path / "scene.hdr").write_text(header(**changes))
    with pytest.raises(error, match=words) as caught:
        read(tmp_path / "scene.hdr")
    assert "scene" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_data_a_picture_and_values_that_are_all_missing(tmp_path: Path) -> None:
    path = tmp_path / "scene.hdr"
    path.write_text(header())
    with pytest.raises(FileFormatError, match="no data file stands beside it"):
        read(path)
    (tmp_path / "scene.img").touch()
    with pytest.raises(FileFormatError, match="empty"):
        read(path)
    (tmp_path / "scene.img").write_bytes(np.full((12, 21, 17), 7, np.uint16).tobytes())
    path.write_text(header(data_ignore_value="7"))
    with pytest.raises(FileFormatError, match=r"no value to denoise: all of 17 x 21 pixels in 12 bands are .*\(7\)"):
        read(path)
    (tmp_path / "scene.img").write_bytes(np.full((12, 21, 17), np.nan, np.float32).tobytes())
    path.write_text(header(data_type="4"))
    with pytest.raises(FileFormatError, match="not finite"):
        read(path)
    path.write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n")
    with pytest.raises(UnsupportedInputError, match="Radiance picture"):
        read(path)
    (tmp_path / "lone.img").write_bytes(b"12345")
    with pytest.raises(FileFormatError, match=r"neither lone\.hdr nor"):
        read(tmp_path / "lone.img")


def test_odd_bands_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = scene("float32")
    values[4:7] = np.nan
    values[0, :5] = -9999
    (tmp_path / "scene.img").write_bytes(values.tobytes())
    unordered = "{" + ", ".join(str(900 + 10 * n - 35 * (n > 6)) for n in range(12)) + "}"
    (tmp_path / "scene.hdr").write_text(header(data_type="4", wavelength=unordered))
    with caplog.at_level(logging.WARNING, "denoise"):
        read(tmp_path / "scene.hdr")
    assert "no value is valid in band 5-7" in caplog.text
    assert "not in order (band 8 at 935.0 nm follows 960.0 nm)" in caplog.text
    assert "-9999, which is often used for missing" in caplog.text
    caplog.clear()
    (tmp_path / "scene.hdr").write_text(header(data_type="4", wavelength=""))
    with caplog.at_level(logging.WARNING, "denoise"):
        read(tmp_path / "scene.hdr")
    assert "states no wavelengths" in caplog.text


def test_noise_without_order_and_small_cubes_are_not_suspected(tmp_path: Path) -> None:
    for values in (np.random.default_rng(0).integers(0, 65536, (12, 21, 17)), np.arange(12 * 21 * 17)):
        for changes in ({}, {"interleave": "bil"}, {"interleave": "bip"}):
            (tmp_path / "scene.img").write_bytes(values.astype("<u2").tobytes())
            (tmp_path / "scene.hdr").write_text(header(**changes))
            assert read(tmp_path / "scene.hdr").to_tensor().numel() == 12 * 21 * 17


def test_no_file_of_another_kind_is_replaced(striking: Path, tmp_path: Path) -> None:
    cube = read(striking)
    with pytest.raises(FileFormatError, match="comes from"):
        write(striking, cube)
    with pytest.raises(FileFormatError, match="comes from"):
        write(tmp_path / "scene.img", cube)
    (tmp_path / "other.img").write_bytes(b"a precious file")
    with pytest.raises(FileFormatError, match=r"other\.img is already there"):
        write(tmp_path / "other.hdr", cube)
    assert (tmp_path / "other.img").read_bytes() == b"a precious file"


def test_the_field_files_are_read(data_root: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    folder = data_root / "hsi" / "formats"
    if not folder.is_dir():
        pytest.skip("no cubes in the data folder")
    with caplog.at_level(logging.WARNING, "denoise"):
        corn = read(folder / "corn-kernel-hyperspectral.hdr")
    assert corn.shape == (580, 31, 43)
    assert "its values fit 0 (little endian)" in caplog.text
    write(tmp_path / "corn.hdr", corn)
    np.testing.assert_array_equal(
        np.array(spectral.io.envi.open(str(tmp_path / "corn.hdr")).open_memmap(interleave="bsq")), stored(corn)
    )
    dark = read(folder / "darkReference.hdr")
    assert dark.shape == (978, 1, 1600)
    assert int(stored(dark).max()) == 47
