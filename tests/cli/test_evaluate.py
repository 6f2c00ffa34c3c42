"""``denoise evaluate`` on a tiny set: tables, files, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app

MANIFEST = """
name = "mine"
summary = "Soft"
licence = "mine"
origin = "drawn"
split = "test"
kind = "photo"
holds = "clean"
folder = "mine"
files = "*.png"
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine").mkdir()
    soft = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(40, 40, 3)), (0, 0), 4)
    cv2.imwrite(str(tmp_path / "mine" / "0.png"), 128 + 400 * soft)
    (tmp_path / "mine.toml").write_text(MANIFEST, "utf-8")
    return str(tmp_path / "mine.toml")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_figures_on_standard_output_and_in_files(tmp_path: Path, mine: str) -> None:
    pytest.importorskip("jinja2", reason="the page needs the extra [report]")
    call = ("classical", mine, "--data-root", tmp_path, "--case", "sigma=25", "-o", tmp_path / "out")
    code, out, err = run(*call)
    assert code == 0, err
    assert "| classical | mean of 1 |" in out
    assert "*Protocol:* Set mine" in out
    assert "sigma25 1 of 1 0.png" in err
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert run(*call)[0] == 2
    code, out, _ = run(*call, "--overwrite", "--json", "--quiet")
    again = json.loads(out)["cases"]["sigma25"]["means"]["classical"]
    assert code == 0
    assert again["psnr_db"] == record["cases"]["sigma25"]["means"]["classical"]["psnr_db"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("classical", "kodak42"), 1, "Did you mean 'kodak24'"),
        (("classical", "kodak24", "--case", "sigm=1"), 2, "Did you mean 'sigma'"),
        (("classical", "kodak24", "--data-root", "/nowhere"), 1, "Pass --download"),
        (("klassical", "set12", "--case", "sigma=1"), 4, "Did you mean 'classical'"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], code: int, said: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert said in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_one_bad_file_does_not_lose_the_others(tmp_path: Path, mine: str) -> None:
    pytest.importorskip("jinja2", reason="the page needs the extra [report]")
    (tmp_path / "mine" / "zz.png").write_bytes(b"junk")
    code, out, err = run("classical", mine, "--data-root", tmp_path, "--case", "sigma=25", "-o", tmp_path / "out")
    assert code == 1
    assert "| classical | mean of 1 |" in out
    assert "error: zz.png failed" in err
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert list(record["failed"]) == ["zz.png"]
    assert "zz.png failed" in (tmp_path / "out" / "evaluation.html").read_text("utf-8")


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path, mine: str) -> None:
    pytest.importorskip("jinja2", reason="the page needs the extra [report]")
    (tmp_path / "file").touch()
    code, out, err = run(
        "classical", mine, "--data-root", tmp_path, "--case", "sigma=25", "-o", tmp_path / "file" / "x"
    )
    assert (code, out) == (1, "")
    assert "Cannot write" in err
    assert "sigma25 1 of" not in err


def test_a_model_for_other_images_is_told_in_words_of_this_command() -> None:
    code, _, err = run("cbsn", "kodak24", "--case", "iso=3200", "--data-root", "/nowhere")
    assert code == 4
    assert "--model" not in err
    assert "Choose the model auto" in err
