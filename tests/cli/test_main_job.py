"""The main job on a real photograph: a night shot at ISO 3200, from the camera's file to a DNG."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from denoise.images import RawImage
from denoise.io import read

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from real_raw import compare, rendering

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]


def test_a_real_night_shot(data_root: Path, tmp_path: Path) -> None:
    source, target = data_root / "raw" / "sony_a7r3_iso3200.ARW", tmp_path / "night.dng"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    result = CliRunner().invoke(app, ["run", str(source), "-o", str(target)])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "night.dng.json").read_text())
    assert record["noise"]["source"] == "blind"
    assert record["fidelity"]["verdict"] == "ok", record["fidelity"]["reasons"]
    before, after = read(source), read(target)
    assert isinstance(before, RawImage)
    assert isinstance(after, RawImage)
    figures = compare(before, after)
    assert min(figures["flat_fall"]) > 5
    assert min(figures["means_kept"]) > 0.95
    # the largest of 210,000 block means: the noise of a block itself reaches beyond 0.5 % of full scale
    assert rendering(source, target) < 0.007
    assert after.metadata.model == before.metadata.model
    assert after.settings == before.settings
