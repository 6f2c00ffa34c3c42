"""Cubes at the command line: run and info, folders, formats, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import spectral.io.envi
from typer.testing import CliRunner

from cli.main import app
from denoise.cubes.cube import HyperspectralCube
from denoise.io import read, write

RUNNER = CliRunner()
GIVEN = ("--model", "classical", "--noise", "0,0.0001")


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a noisy ENVI cube, the same as .npy, and a header whose data is missing."""
    folder = tmp_path_factory.mktemp("cubes")
    rows, columns = np.mgrid[:48, :56]
    picture = 1 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7)
    clean = np.linspace(1500, 2500, 6)[:, None, None] * picture
    noisy = np.random.default_rng(0).normal(clean, 30).astype(np.uint16)
    noisy[:, :4, :4] = 0
    good = np.array([True, True, True, True, True, False])
    cube = HyperspectralCube(noisy, wavelengths_nm=np.linspace(900, 1000, 6), nodata=0, good_bands=good)  # type: ignore[arg-type]
    write(folder / "scene.hdr", cube)
    np.save(folder / "bare.npy", noisy.transpose(1, 2, 0))
    (folder / "lost.hdr").write_text((folder / "scene.hdr").read_text())
    return folder


def call(*arguments: object) -> tuple[int, str, str]:
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_run_cleans_a_cube_and_leaves_what_is_no_data(cubes: Path, tmp_path: Path) -> None:
    code, _, said = call("run", cubes / "scene.hdr", "-o", tmp_path / "out.hdr", *GIVEN)
    assert code == 0, said
    before, after = read(cubes / "scene.hdr"), read(tmp_path / "out.hdr")
    assert isinstance(before, HyperspectralCube)
    assert isinstance(after, HyperspectralCube)
    old, new = (cube.stored.read(0, 48, 0, 56).astype(float) for cube in (before, after))
    np.testing.assert_array_equal(new[:, :4, :4], 0)
    np.testing.assert_array_equal(new[5], old[5])  # the bad band
    rough = [np.diff(values[:5, 8:, 8:], axis=2).std() for values in (old, new)]
    assert rough[1] < 0.8 * rough[0]
    header = spectral.io.envi.read_envi_header(str(tmp_path / "out.hdr"))
    assert header["bbl"] == ["1"] * 5 + ["0"]
    record = json.loads((tmp_path / "out.hdr.json").read_text())
    assert len(record["input_data_sha256"]) == 64
    assert "values without data" in record["history"][-1]


def test_a_folder_of_cubes_keeps_their_formats(cubes: Path, tmp_path: Path) -> None:
    code, out, _ = call("run", cubes, "-o", tmp_path, *GIVEN, "--json", "--no-sidecar")
    assert code == 1  # the header without data
    events = {Path(record["input"]).name: record for record in map(json.loads, out.splitlines())}
    assert {name: record["event"] for name, record in events.items()} == {
        "scene.hdr": "done", "bare.npy": "done", "lost.hdr": "failed"}  # fmt: skip
    assert "no data file stands beside it" in events["lost.hdr"]["error"]
    assert {path.name for path in tmp_path.iterdir()} == {"scene_dn.hdr", "scene_dn.img", "bare_dn.npy"}
    assert np.load(tmp_path / "bare_dn.npy").shape == (48, 56, 6)


def test_the_header_of_another_cube_is_not_replaced_unasked(cubes: Path, tmp_path: Path) -> None:
    (tmp_path / "z.hdr").write_text("precious")
    (tmp_path / "z.bil").touch()
    arguments = ("run", cubes / "scene.hdr", "-o", tmp_path / "z.img", *GIVEN)
    for more in ((), ("--skip-existing",)):
        code, _, said = call(*arguments, *more)
        assert code == 2
        assert f"already there ({tmp_path / 'z.hdr'})" in said
    assert (tmp_path / "z.hdr").read_text() == "precious"
    assert call(*arguments, "--overwrite")[0] == 0
    assert isinstance(read(tmp_path / "z.img"), HyperspectralCube)


def test_a_header_and_its_data_are_one_cube(cubes: Path, tmp_path: Path) -> None:
    for names in (("scene.hdr", "scene.img"), ("scene.img", "scene.hdr")):
        code, shown, said = call(
            "run", *(cubes / name for name in names), "-o", tmp_path, *GIVEN, "--dry-run", "--json"
        )
        assert code == 0, said
        assert [json.loads(line)["output"] for line in shown.splitlines()] == [str(tmp_path / "scene_dn.hdr")]
    (cubes / "scene.bil").write_bytes((cubes / "scene.img").read_bytes())
    code, _, said = call("run", *(cubes / f"scene.{name}" for name in ("hdr", "img", "bil")), "-o", tmp_path, *GIVEN)
    (cubes / "scene.bil").unlink()
    assert code == 2
    assert "would both become" in said


def test_another_format_is_written_on_demand(cubes: Path, tmp_path: Path) -> None:
    code, _, said = call("run", cubes / "scene.hdr", "-o", tmp_path, *GIVEN, "--format", "tiff", "--strength", "0")
    assert code == 0, said
    cube = read(tmp_path / "scene_dn.tif")
    assert isinstance(cube, HyperspectralCube)
    np.testing.assert_array_equal(np.load(cubes / "bare.npy").transpose(2, 0, 1), cube.stored.read(0, 48, 0, 56))


def test_info_tells_what_a_cube_is(cubes: Path) -> None:
    code, out, said = call("info", cubes / "scene.hdr", "--json")
    assert code == 0, said
    facts = json.loads(out)
    assert facts["size"] == "56 x 48"
    assert facts["bands"] == 6
    assert facts["values"] == "uint16, BSQ, little endian"
    assert facts["wavelengths"] == "900.0 to 1000.0 nm, steps of 20.0 nm"
    assert facts["bad bands"] == "6 (1)"
    assert facts["without data"] == f"{100 * (1 - 5 * (48 * 56 - 16) / (6 * 48 * 56)):.2f} %"


def test_info_ranks_the_bands_and_finds_stripes_and_stuck_elements(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:60, :70]
    pictures = (1 + 0.5 * np.sin(rows / 9) * np.cos(columns / 7), 0.6 + 0.4 * np.cos(rows / 5 + columns / 11))
    spectra = generator.uniform(0.3, 1.0, (2, 20, 1, 1))
    cube = 2000 * (spectra[0] * pictures[0] + spectra[1] * pictures[1])
    cube += generator.normal(0, 1, cube.shape) * np.where(np.arange(20) == 13, 600, 8)[:, None, None]
    cube[5] += generator.choice([0, 200], 70, p=[0.8, 0.2])
    cube[9, :, 33] = 7
    values = cube.clip(0, 65535).astype(np.uint16)
    write(tmp_path / "a.hdr", HyperspectralCube(values, wavelengths_nm=np.linspace(900, 1090, 20)))  # type: ignore[arg-type]
    facts = json.loads(call("info", tmp_path / "a.hdr", "--json")[1])
    assert facts["spectra"] in ("2 make up the signal", "3 make up the signal")
    assert "; worst 14 (1030 nm) " in facts["SNR"]
    assert facts["SNR"].endswith("below 10: 14 (1)")
    assert "most in 6 (" in facts["stripes"]
    assert facts["stuck detector elements"] == "1 (band 10 column 34)"


def test_the_axis_of_the_bands_can_be_told(cubes: Path) -> None:
    assert json.loads(call("info", cubes / "bare.npy", "--json")[1])["bands"] == 6
    assert json.loads(call("info", cubes / "bare.npy", "--json", "--band-axis", "first")[1])["bands"] == 48


def test_bad_input_is_one_line_and_an_exit_code(cubes: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((5, 6)))
    for arguments, code, words in (
        (("info", cubes / "lost.hdr"), 1, "no data file"),
        (("info", tmp_path / "flat.npy"), 3, "shape (5, 6)"),
        (("info", cubes / "scene.hdr", "--variable", "x"), 2, "--variable x"),
        (
            ("run", cubes / "scene.hdr", "-o", tmp_path / "a.hdr", "--model", "supervised-unet.photo"),
            4,
            "6 planes",
        ),
        (("run", cubes / "scene.hdr", "-o", tmp_path / "a.dng", *GIVEN), 3, "only .hdr"),
    ):
        found, _, said = call(*arguments)
        errors = [line for line in said.splitlines() if line.startswith("error")]
        assert (found, len(errors)) == (code, 1), said
        assert words in errors[0]
