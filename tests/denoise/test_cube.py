"""A cube goes through a model and comes back: same type, same gaps, nothing lost, whatever its size."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from denoise.card import ModelCard
from denoise.cubes import pixels as cube_pixels
from denoise.cubes.cube import HyperspectralCube
from denoise.cubes.gaps import REACH
from denoise.cubes.pixels import AXES, FilePixels, Spool, write_binary
from denoise.engine import Engine
from denoise.engine.device import DeviceReport
from denoise.errors import FileFormatError, ShapeError, WeightsError

WAVELENGTHS_NM = np.array([400.0, 420.0, 450.0, 500.0, 520.0, 530.0])


class Pointwise:
    """A model that does one thing to every value."""

    def __init__(self, gain: float, **card: object) -> None:
        self.gain = gain
        self.card = ModelCard(id="pointwise", method="pointwise", noise="ignored", domain="cube", **card)  # type: ignore[arg-type]

    def denoise(self, noisy: torch.Tensor, noise: object, *, generator: object = None) -> torch.Tensor:
        return noisy * self.gain

    def to(self, *arguments: object, **keywords: object) -> Pointwise:
        return self


def scene(bands: int = 6, height: int = 40, width: int = 50, dtype: type = np.uint16) -> np.ndarray:
    """Return smooth spectra times a smooth picture, 100 to 4000."""
    rows, columns = np.mgrid[:height, :width]
    picture = 1 + 0.4 * np.sin(rows / 9) * np.cos(columns / 7)
    spectrum = np.linspace(800, 2500, bands) * (1 + 0.1 * np.sin(np.arange(bands)))
    return (spectrum[:, None, None] * picture).astype(dtype)


def test_house_units_follow_the_stated_scale_once() -> None:
    stored = scene()
    cube = HyperspectralCube(stored, scale=np.full(6, 2e-4), offset=np.full(6, -0.05), white=0.5)
    expected = (stored * 2e-4 - 0.05) / 0.5
    np.testing.assert_allclose(cube.to_tensor().numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(cube.with_tensor(cube.to_tensor()).stored.read(0, 40, 0, 50), stored)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32,
                                   np.float64])  # fmt: skip
def test_strength_zero_returns_every_type_exactly(dtype: type) -> None:
    generator = np.random.default_rng(0)
    kind = np.dtype(dtype).kind
    stored = (
        generator.normal(0, 1e-3, (3, 9, 11)).astype(dtype)
        if kind == "f"
        else generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (3, 9, 11), dtype=dtype, endpoint=True)
    )
    cube = HyperspectralCube(stored, scale=np.array([0.3, 0.7, 1.1]), white=123.0)
    result = Engine(device="cpu").denoise(cube, Pointwise(0.5), strength=0.0)
    assert isinstance(result, HyperspectralCube)
    assert result.stored.dtype == dtype
    np.testing.assert_array_equal(result.stored.read(0, 9, 0, 11), stored)


def test_values_are_rounded_and_clipped_and_both_are_told(caplog: pytest.LogCaptureFixture) -> None:
    stored = np.full((2, 10, 10), 200, np.uint8)
    cube = HyperspectralCube(stored, white=255.0)
    planes = cube.to_tensor()
    planes[0] = 100.5 / 255 + torch.linspace(-0.4, 0.4, 100).reshape(10, 10) / 255
    planes[1, :3] = 1.2
    planes[1, 3] = -0.1
    with caplog.at_level(logging.WARNING, "denoise"):
        result = cube.with_tensor(planes)
    values = result.stored.read(0, 10, 0, 10)
    assert set(np.unique(values[0])) == {100, 101}
    assert (values[1, :3] == 255).all()
    assert (values[1, 3] == 0).all()
    assert (values[1, 4:] == 200).all()
    assert "40 values clipped" in result.history[-1]
    assert "40 values lay outside" in caplog.text


def test_the_rounding_error_told_is_that_of_a_uniform_error() -> None:
    cube = HyperspectralCube(np.full((4, 100, 100), 1000, np.int16), white=4000.0)
    planes = cube.to_tensor() + torch.rand(4, 100, 100, generator=torch.Generator().manual_seed(0)) / 10
    told = float(cube.with_tensor(planes).history[-1].split("error ")[1].split(" ")[0])
    assert told == pytest.approx(1 / np.sqrt(12), abs=0.01)  # in steps


def test_gaps_are_filled_for_the_model_and_restored() -> None:
    stored = scene()
    broken = stored.copy()
    broken[2, 5, 6] = 0
    broken[:, 20:30, 10:20] = 0
    dead = np.zeros((6, 1, 50), bool)
    dead[4, 0, 33] = True  # a detector element: one column of one band
    cube = HyperspectralCube(broken, wavelengths_nm=WAVELENGTHS_NM, nodata=0, dead=dead, white=4000.0)
    seen = cube.to_tensor().numpy() * 4000
    assert np.isfinite(seen).all()
    truth = stored.astype(float)
    share = (450 - 420) / (500 - 420)
    assert seen[2, 5, 6] == pytest.approx(truth[1, 5, 6] * (1 - share) + truth[3, 5, 6] * share, rel=1e-5)
    assert abs(seen[4, :, 33] / truth[4, :, 33] - 1).max() < 0.15
    np.testing.assert_allclose(seen[:, 20, 12], truth[:, 19, 12], rtol=1e-5)  # the nearest pixel with a spectrum
    expected = np.ones(broken.shape, bool)
    expected[2, 5, 6] = expected[4, :, 33] = False
    expected[:, 20:30, 10:20] = False
    np.testing.assert_array_equal(cube.valid, expected)

    result = Engine(device="cpu").denoise(cube, Pointwise(0.5))
    assert isinstance(result, HyperspectralCube)
    values = result.stored.read(0, 40, 0, 50)
    np.testing.assert_array_equal(values[~expected], broken[~expected])
    np.testing.assert_allclose(values[expected], broken[expected] / 2, atol=0.51)
    assert f"{(~expected).sum()} values without data" in result.history[-1]


def test_nan_bands_and_bad_bands_are_left_as_they_are() -> None:
    stored = scene(dtype=np.float32)
    stored[1] = np.nan
    stored[0, 0, 0] = np.inf
    good = np.array([True, True, True, False, True, True])
    cube = HyperspectralCube(stored, good_bands=good, white=4000.0)
    assert torch.isfinite(cube.to_tensor()).all()
    result = Engine(device="cpu").denoise(cube, Pointwise(0.5))
    assert isinstance(result, HyperspectralCube)
    values = result.stored.read(0, 40, 0, 50)
    np.testing.assert_array_equal(values[[1, 3]], stored[[1, 3]])
    assert values[0, 0, 0] == np.inf
    np.testing.assert_allclose(values[[2, 4, 5]], stored[[2, 4, 5]] / 2, rtol=1e-6)


def test_no_denoised_value_becomes_the_number_for_missing_ones() -> None:
    for dtype, nodata in ((np.uint16, 0), (np.int16, -5), (np.float32, -9999.0)):
        stored = np.full((2, 8, 8), 7, dtype)
        cube = HyperspectralCube(stored, nodata=nodata, white=1.0)
        result = cube.with_tensor(torch.full((2, 8, 8), float(nodata)))
        assert result.valid.all()
        assert np.abs(result.stored.read(0, 8, 0, 8).astype(float) - nodata).max() <= 1


def test_the_fill_does_not_depend_on_where_a_window_is_cut() -> None:
    stored = scene(height=60, width=70).astype(np.float32)
    generator = np.random.default_rng(0)
    stored[:, 10:45, 5:40] = -1
    stored[generator.random(stored.shape) < 0.05] = -1
    cube = HyperspectralCube(stored, nodata=-1, white=4000.0)
    whole = cube.window(0, 60, 0, 70)
    for top, bottom, left, right in ((0, 13, 0, 9), (8, 30, 3, 50), (44, 60, 30, 70), (20, 25, 20, 25)):
        np.testing.assert_array_equal(cube.window(top, bottom, left, right), whole[:, top:bottom, left:right])
    middle = whole[:, 10 + REACH : 45 - REACH, 5 + REACH : 40 - REACH]
    spectra = middle.reshape(6, -1).T
    assert {tuple(spectrum) for spectrum in spectra} <= {tuple(spectrum) for spectrum in cube.typical_spectra.T}
    assert len(np.unique(spectra, axis=0)) > 0.2 * len(spectra)


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_a_large_cube_stays_on_disk_and_gives_the_same(
    interleave: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = scene(height=150, width=131)
    stored[:, 3:9, 3:9] = 0
    held = HyperspectralCube(stored, nodata=0, white=4000.0)
    axes = AXES[interleave]  # type: ignore[index]
    path = tmp_path / "cube.bin"
    with path.open("wb") as stream:
        write_binary(stream, held.stored, np.dtype(">u2"), axes, 16)
    pixels = FilePixels(path, (6, 150, 131), np.dtype(">u2"), axes, 16)
    np.testing.assert_array_equal(pixels.read(10, 20, 5, 31), stored[:, 10:20, 5:31])
    engine = Engine(device="cpu", tile=64)
    model = Pointwise(0.8, halo=4, multiple_of=8)
    in_memory = engine.denoise(held, model)
    monkeypatch.setattr(cube_pixels, "HELD_BYTES", 1000)
    spooled = engine.denoise(HyperspectralCube(pixels, nodata=0, white=4000.0), model)
    assert isinstance(in_memory, HyperspectralCube)
    assert isinstance(spooled, HyperspectralCube)
    assert isinstance(spooled.stored, Spool)
    np.testing.assert_array_equal(spooled.stored.read(0, 150, 0, 131), in_memory.stored.read(0, 150, 0, 131))
    assert spooled.history == in_memory.history


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cube.bin"
    path.write_bytes(bytes(6 * 20 * 30 * 2 - 1))
    pixels = FilePixels(path, (6, 20, 30), np.dtype("<u2"))
    assert pixels.read(0, 19, 0, 30).shape == (6, 19, 30)
    with pytest.raises(FileFormatError, match=r"cube\.bin.*ends too early"):
        pixels.read(19, 20, 5, 30)


MEMORY = """
import sys
from pathlib import Path
import numpy as np
import denoise
from denoise.cubes.pixels import Spool
from denoise.engine.device import keep_memory
keep_memory()
sys.path.insert(0, sys.argv[2])
from test_cube import Pointwise
folder = Path(sys.argv[1])
bands, height, width = 100, 1000, 1400
with (folder / "scene.img").open("wb") as stream:
    for band in range(bands):
        stream.write(np.full((height, width), 100 + band, "<u2").data)
(folder / "scene.hdr").write_text(f"ENVI\\nsamples = {width}\\nlines = {height}\\nbands = {bands}\\n"
    "header offset = 0\\ndata type = 12\\ninterleave = bsq\\nbyte order = 0\\n")
cube = denoise.read(folder / "scene.hdr")
model = Pointwise(0.5, halo=8)
model.bytes_per_pixel = 8.0 * bands
engine = denoise.Engine(device="cpu", max_memory=600 << 20)
result = engine.denoise(cube, model)
denoise.write(folder / "clean.hdr", result)
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
print(peak, isinstance(result.stored, Spool), (folder / "clean.img").stat().st_size)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to count resident memory")
def test_a_cube_larger_than_the_memory_promised_streams(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", MEMORY, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    peak, spooled, written = done.stdout.split()
    size = 100 * 1000 * 1400 * 2
    assert spooled == "True"
    assert int(written) == size
    assert int(peak) <= 600 << 20  # source and result alone would be 534 MiB, python and torch another 230


class Elsewhere:
    """Values that nobody holds."""

    shape = (200, 1600, 1680)
    dtype = np.dtype(np.uint16)
    held_bytes = 0

    def read(self, top: int, bottom: int, left: int, right: int) -> np.ndarray:
        return np.zeros((200, bottom - top, right - left), np.uint16)


def test_a_gigabyte_is_planned_below_one_and_a_half_however_much_is_free() -> None:
    cube = HyperspectralCube(Elsewhere())
    model = Pointwise(1.0)
    model.card = model.card.model_copy(update={"halo": None})
    model.bytes_per_value = 75.0  # type: ignore[attr-defined]
    report = DeviceReport("cpu", available_bytes=64 << 30, resident_bytes=400 << 20)
    plan = Engine().plan(cube, model, report=report)
    assert plan.peak_gib * (1 << 30) < 1.5e9
    small = HyperspectralCube(scene(64, 256, 256))  # type: ignore[arg-type]
    assert Engine().plan(small, model, report=report).tiles == (1, 1)


def test_arrays_that_are_no_cube_are_refused() -> None:
    with pytest.raises(ShapeError, match="bands, H, W"):
        HyperspectralCube(np.zeros((4, 5), np.uint16))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="at least two bands"):
        HyperspectralCube(np.zeros((1, 4, 5), np.uint16))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="complex"):
        HyperspectralCube(np.zeros((3, 4, 5), np.complex64))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="6 bands, but 5 values of wavelengths_nm"):
        HyperspectralCube(scene(), wavelengths_nm=WAVELENGTHS_NM[:5])  # type: ignore[arg-type]


def test_a_model_for_other_numbers_of_bands_is_refused() -> None:
    cube = HyperspectralCube(scene())  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="6 planes, but it serves 31"):
        Engine(device="cpu").denoise(cube, Pointwise(1.0, channels=(31,)))
