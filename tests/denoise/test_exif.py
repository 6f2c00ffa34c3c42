"""EXIF is copied by exiftool where it is there; where it is not, or dies, the core of it is written and said."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dng_samples import scene, write_sample

from denoise.images import RawImage
from denoise.io.dng import write_dng
from denoise.io.exif import ExifTool
from denoise.io.raw import read_raw
from noise_models.base import SensorSettings

SHOWN = ("Make", "Model", "ISO", "ExposureTime", "FNumber", "DateTimeOriginal", "FocalLength", "LensModel")


@pytest.fixture
def exiftool_installed() -> None:
    """Skip a test that needs exiftool where there is none."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")


def shown(path: Path, *names: str) -> dict[str, Any]:
    """Return what exiftool shows of a file."""
    arguments = ["exiftool", "-json", *(f"-{name}" for name in names or SHOWN), str(path.absolute())]
    tags = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)[0]
    tags.pop("SourceFile")
    return tags


@pytest.fixture
def camera_file(tmp_path: Path) -> Path:
    """Return a DNG with EXIF, a place, XMP and a lens, as a camera writes it."""
    path = write_sample(tmp_path / "-odd née \U0001f319.dng", scene(64, 96), orientation=6)
    if shutil.which("exiftool"):
        arguments = ["-ISO=800", "-ExposureTime=1/250", "-FNumber=5.6", "-FocalLength=35", "-LensModel=Lens 35 mm"]
        arguments += [
            "-DateTimeOriginal=2026:03:04 05:06:07",
            "-GPSLatitude=47.5",
            "-GPSLatitudeRef=N",
            "-XMP:Rating=4",
        ]
        arguments += ["-Artist=A. Person", "-XMP-dc:Subject=night", "-XMP-xmpMM:DocumentID=abc", "-IPTC:City=Zug"]
        command = ["exiftool", "-q", "-overwrite_original", *arguments, str(path)]
        subprocess.run(command, check=True, capture_output=True)
    return path


def denoised(path: Path) -> RawImage:
    """Return the file's image with an entry in its history."""
    return replace(read_raw(path), history=("supervised sha256 0123, strength 1",))


@pytest.mark.usefixtures("exiftool_installed")
def test_everything_is_copied(camera_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_dng(tmp_path / "out.dng", denoised(camera_file))
    assert not caplog.records
    assert shown(tmp_path / "out.dng") == shown(camera_file)
    names = ("GPSLatitude", "Rating", "Artist", "Subject", "City", "DocumentID", "Orientation", "UniqueCameraModel")
    assert shown(tmp_path / "out.dng", *names) == shown(camera_file, *names)
    assert "supervised sha256 0123" in str(shown(tmp_path / "out.dng", "HistoryParameters"))
    assert shown(tmp_path / "out.dng", "IFD0:Software")["Software"].startswith("denoise ")


@pytest.mark.usefixtures("exiftool_installed")
def test_one_process_serves_many_files(camera_file: Path, tmp_path: Path) -> None:
    with ExifTool() as tool:
        assert tool.available
        for index in range(3):
            write_dng(tmp_path / f"{index}.dng", denoised(camera_file), exiftool=tool)
            process = tool._process
            assert process is not None
            first = process if index == 0 else first  # noqa: F821
            assert process is first
        assert shown(tmp_path / "2.dng", "ISO") == {"ISO": 800}
    assert tool._process is None
    assert process.poll() is not None


@pytest.mark.usefixtures("exiftool_installed")
def test_it_recovers_from_a_death(camera_file: Path, tmp_path: Path) -> None:
    write_dng(tmp_path / "out.dng", denoised(camera_file))
    with ExifTool() as tool:
        assert tool.start()
        assert tool._process is not None
        tool._process.kill()
        tool._process.wait()
        assert tool.copy(camera_file, tmp_path / "out.dng") == ""


@pytest.mark.parametrize("kind", ["absent", "dies", "hangs", "talks"])
def test_without_exiftool_the_core_is_written(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_sample(tmp_path / "a.dng", scene(64, 96))
    program = tmp_path / "program"
    body = {"absent": "", "dies": "exit 3", "hangs": "sleep 60", "talks": "while read x; do echo nonsense; done"}[kind]
    if body:
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    image = replace(read_raw(path), settings=SensorSettings(102400.0, 1 / 30))
    with ExifTool(str(program), timeout_s=0.5) as tool:
        write_dng(tmp_path / "out.dng", image, exiftool=tool)
    assert len(caplog.records) == 1
    assert "core EXIF" in caplog.text
    back = read_raw(tmp_path / "out.dng")
    assert back.settings == SensorSettings(102400.0, pytest.approx(1 / 30))  # type: ignore[arg-type]
    assert (back.metadata.make, back.metadata.model) == ("Testmaker", "Model T")


@pytest.mark.usefixtures("exiftool_installed")
def test_a_line_break_in_a_name_is_no_way_in(
    camera_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = tmp_path / "a\n-Artist=someone\n.dng"
    shutil.copy(camera_file, odd)
    write_dng(tmp_path / "out.dng", denoised(odd))
    assert "line break" in caplog.text
    assert shown(tmp_path / "out.dng", "Artist") == {}


@pytest.mark.data
@pytest.mark.usefixtures("exiftool_installed")
@pytest.mark.parametrize("name", ["sony_a7r3_iso3200.ARW", "RAW_KODAK_DC50_é.KDC"])
def test_real_photographs_keep_what_exiftool_shows(data_root: Path, tmp_path: Path, name: str) -> None:
    path = data_root / "raw" / name
    write_dng(tmp_path / "out.dng", read_raw(path))
    before = shown(path, *SHOWN, "LensID", "Lens")
    after = shown(tmp_path / "out.dng", *SHOWN, "LensID", "Lens")
    assert {key: after.get(key) for key in before} == before
