"""Datasets: described truly, found or said to be missing, fetched only when they can be checked, never overlapping."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_training import recipe

from denoise.downloads import fetch_files
from denoise.errors import ManifestError
from denoise.manifests import altered_files, find_files, find_pairs, list_manifests, load_manifest
from denoise.overlap import refuse_overlap, sets_for_tests
from denoise.training.sources.clean_images import load_clean

FIELD = {
    "sid-sony", "eld", "sidd-medium", "dnd", "lrid", "polyu", "cc", "div2k-train", "bsds500-train", "bsds500-test",
    "bsds500-val", "kodak24", "mcmaster", "cbsd68", "set12", "icvl", "cave", "wdc-mall", "indian-pines", "emva-ccd12",
    "esis-ccd", "abu-train", "photos", "val20",
}  # fmt: skip

MINE = """
name = "mine"
summary = "My own"
licence = "mine"
origin = "my camera"
split = "train"
kind = "photo"
holds = "{holds}"
folder = "mine"
files = "*.png"
{more}
"""


def describe(folder: Path, more: str = "", holds: str = "clean") -> str:
    path = folder / "mine.toml"
    path.write_text(MINE.format(holds=holds, more=more), "utf-8")
    return str(path)


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).normal(size=(64, 64, 3))
    cv2.imwrite(str(path), 128 + 400 * cv2.GaussianBlur(pixels, (0, 0), 3))
    return path


@pytest.mark.parametrize("name", list_manifests())
def test_every_manifest_is_valid_and_consistent(name: str) -> None:
    manifest = load_manifest(name)
    assert manifest.name == name
    assert all(len(digest) == 64 for digest in manifest.sha256.values())
    assert not manifest.sha256 or len(manifest.sha256) == manifest.count
    assert set(manifest.overlaps) <= set(list_manifests())
    assert (manifest.pairs is not None) == (manifest.holds == "pairs")
    assert not manifest.url or ("{file}" in manifest.url and manifest.sha256)
    assert min(len(manifest.licence), len(manifest.origin)) > 0


def test_the_sets_of_the_field_are_described() -> None:
    assert set(list_manifests()) >= FIELD


@pytest.mark.data
@pytest.mark.parametrize("name", ["kodak24", "set12", "val20", "esis-ccd", "abu-train", "polyu-scenes"])
def test_real_files_are_those_of_the_manifest(name: str, data_root: Path) -> None:
    assert altered_files(load_manifest(name), find_files(name, data_root), data_root) == []


@pytest.mark.data
def test_real_pairs_show_the_same_scene(data_root: Path) -> None:
    pairs = find_pairs("polyu-crops", data_root)
    assert len(pairs) == 48
    for pair in pairs[::8]:
        noisy, clean = (cv2.imread(str(path)).astype(float) for path in (pair.noisy, pair.clean))
        assert np.corrcoef(noisy.ravel(), clean.ravel())[0, 1] > 0.95


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"'licens'.*Did you mean 'licence'"):
        load_manifest(describe(tmp_path, 'licens = "x"'))
    with pytest.raises(ManifestError, match=r"'pairs\.kee'.*Did you mean 'key'"):
        load_manifest(describe(tmp_path, '[pairs]\nrule = "x"\nkee = "x"', "pairs"))
    with pytest.raises(ManifestError, match=r"'kodak42' is not described. Did you mean 'kodak24'"):
        load_manifest("kodak42")


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"--download.*cszn/IRCNN.*'clean/kodak24'.*--data-root.*Licence: free use"):
        find_files("kodak24", tmp_path)
    with pytest.raises(ManifestError, match=r"Get it from the GitHub repository Vandermode/ELD"):
        find_files("eld", tmp_path)


def test_left_out_files_are_never_returned(tmp_path: Path) -> None:
    for index in range(3):
        picture(tmp_path / "mine" / f"{index}.png", index)
    found = find_files(describe(tmp_path, 'count = 3\nleave_out = ["1.png"]'), tmp_path)
    assert [path.name for path in found] == ["0.png", "2.png"]


PAIRS = '[pairs]\nrule = "by name"\nnoisy = "*_n.png"\nclean = "*_c.png"\nkey = "^(.*)_[nc]"'


def test_pairs_form_by_their_key(tmp_path: Path) -> None:
    for name in ("a_n", "a_c", "b_n", "b_c"):
        picture(tmp_path / "mine" / f"{name}.png", 0)
    name = describe(tmp_path, PAIRS, "pairs")
    assert [(pair.noisy.name, pair.clean.name) for pair in find_pairs(name, tmp_path)] == [
        ("a_n.png", "a_c.png"), ("b_n.png", "b_c.png"),
    ]  # fmt: skip
    (tmp_path / "mine" / "b_c.png").unlink()
    with pytest.raises(ManifestError, match=r"b_n\.png has no"):
        find_pairs(name, tmp_path)
    with pytest.raises(ManifestError, match=r"holds clean images"):
        find_pairs(describe(tmp_path), tmp_path)


def test_two_truths_of_one_scene_are_refused(tmp_path: Path) -> None:
    for name in ("a_n", "a_c", "a_c2"):
        picture(tmp_path / "mine" / f"{name}.png", 0)
    with pytest.raises(ManifestError, match=r"two clean files of one scene"):
        find_pairs(describe(tmp_path, PAIRS.replace("*_c.png", "*_c*.png"), "pairs"), tmp_path)


def test_what_is_tested_on_is_not_trained_on() -> None:
    refuse_overlap(["photos", "bsds500-train", "bsds500-test"], ["val20"])
    with pytest.raises(ManifestError, match=r"'bsds500-val'.*'cbsd68'"):
        refuse_overlap(["photos", "bsds500-val"])
    with pytest.raises(ManifestError, match=r"'kodak24'.*same set"):
        refuse_overlap(["kodak24"])
    with pytest.raises(ManifestError, match=r"'photos'.*same set"):
        refuse_overlap(["photos"], ["photos"])
    with pytest.raises(ManifestError, match=r"'polyu-crops'.*'polyu'"):
        refuse_overlap(["polyu-crops"])
    refuse_overlap(["polyu-scenes"], ["polyu-crops"])
    assert {"kodak24", "cbsd68"} <= set(sets_for_tests())


def test_a_copy_at_another_size_is_found(tmp_path: Path) -> None:
    own = describe(tmp_path)
    picture(tmp_path / "mine" / "0.png", 0)
    picture(tmp_path / "mine" / "1.png", 1)
    folder = tmp_path / "other"
    folder.mkdir()
    other = describe(folder).replace("mine.toml", "seen.toml")
    text = (folder / "mine.toml").read_text("utf-8").replace('"mine"', '"seen"')
    Path(other).write_text(text, "utf-8")
    picture(tmp_path / "seen" / "7.png", 2)
    _compare(own, other, tmp_path)
    smaller = cv2.resize(cv2.imread(str(tmp_path / "mine" / "1.png")), (48, 48), interpolation=cv2.INTER_AREA)
    (tmp_path / "seen" / "8.png").write_bytes(cv2.imencode(".jpg", smaller)[1].tobytes())
    with pytest.raises(ManifestError, match=r"its 1\.png shows the picture of 8\.png in 'seen'"):
        _compare(own, other, tmp_path)


def _compare(own: str, other: str, root: Path) -> None:
    from denoise import overlap

    overlap._refuse_same_pictures({own: load_manifest(own)}, {other: load_manifest(other)}, root)


def _as_kodak(root: Path, split: str = "train") -> str:
    """Put four pictures where Kodak24 belongs, and describe the folder as a set of one's own; returns its file."""
    (root / "clean").mkdir()
    for index in range(4):
        picture(root / "clean" / "kodak24" / f"{index}.png", index)
    own = root / "mine.toml"
    text = MINE.format(holds="clean", more="").replace('"mine"', '"my-kodak"').replace('"train"', f'"{split}"')
    own.write_text(text.replace('folder = "my-kodak"', 'folder = "clean/kodak24"'), "utf-8")
    return str(own)


def test_a_training_compares_the_pictures_of_its_data_with_those_of_the_test_sets(tmp_path: Path) -> None:
    own = _as_kodak(tmp_path)
    with pytest.raises(ManifestError, match=r"'my-kodak'.* shows the picture of .*'kodak24' \(test\)"):
        load_clean(recipe(1, data=(own,), validation=("scikit-image-held-out",)), tmp_path)
    own = describe(tmp_path)
    copied = tmp_path / "mine" / "copy.png"
    copied.parent.mkdir()
    copied.write_bytes((tmp_path / "clean" / "kodak24" / "2.png").read_bytes())
    with pytest.raises(ManifestError, match=r"copy\.png shows the picture of 2\.png in 'kodak24'"):
        load_clean(recipe(1, data=(own,), validation=("scikit-image-held-out",)), tmp_path)


def test_a_set_of_ones_own_for_tests_is_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"'my-kodak' was asked, but its manifest says split = \"test\""):
        load_clean(recipe(1, data=(_as_kodak(tmp_path, "test"),), validation=()), tmp_path)


def test_a_folder_that_shows_what_is_tested_on_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _as_kodak(tmp_path)
    for index in (7, 8, 9):
        picture(tmp_path / "own" / f"{index}.png", index)
    asked = recipe(1, data_folder=str(tmp_path / "own"), validation=())
    load_clean(asked, tmp_path)
    assert not caplog.records
    picture(tmp_path / "own" / "night.png", 3)
    load_clean(asked, tmp_path)
    assert "night.png, which shows the picture of 3.png in 'kodak24' (test)" in caplog.text


def test_weights_chosen_on_a_test_set_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = _as_kodak(tmp_path)
    load_clean(recipe(1, data=("scikit-image",), validation=(own,)), tmp_path)
    assert "validation names 'my-kodak', which shows pictures of 'kodak24', a set for tests" in caplog.text
    caplog.clear()
    (tmp_path / "b").mkdir()
    own = _as_kodak(tmp_path / "b", "test")
    load_clean(recipe(1, data=("scikit-image",), validation=(own,)), tmp_path / "b")
    assert "a set for tests" in caplog.text
    caplog.clear()
    picture(tmp_path / "mine" / "0.png", 9)
    load_clean(recipe(1, data=("scikit-image",), validation=(describe(tmp_path),)), tmp_path)
    assert not caplog.records


@pytest.mark.data
def test_the_shipped_training_sets_share_no_picture_with_any_test_set(data_root: Path) -> None:
    refuse_overlap(["photos"], ["val20"], data_root)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "remote"
    picture(folder / "a b.png", 5)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/{{file}}"
        running.shutdown()


def test_a_download_is_checked(tmp_path: Path, server: str) -> None:
    pytest.importorskip("pooch", reason="downloading needs the extra [data]")
    content = (tmp_path / "remote" / "a b.png").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    wrong = describe(tmp_path, f'count = 1\nurl = "{server}"\n[sha256]\n"a b.png" = "{digest[::-1]}"')
    with pytest.raises(ManifestError, match=r"sent another file than the manifest knows"):
        fetch_files(wrong, tmp_path)
    assert not list((tmp_path / "mine").iterdir())
    right = describe(tmp_path, f'count = 1\nurl = "{server}"\n[sha256]\n"a b.png" = "{digest}"')
    (found,) = fetch_files(right, tmp_path)
    assert found.read_bytes() == content
    gone = describe(tmp_path, f'count = 2\nurl = "{server}"\n[sha256]\n"a b.png" = "{digest}"\n"c.png" = "{digest}"')
    with pytest.raises(ManifestError, match=r"c\.png could not be downloaded"):
        fetch_files(gone, tmp_path)


def test_what_cannot_be_checked_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"not known, and what cannot be checked is not fetched"):
        fetch_files("cbsd68", tmp_path)
    mine = picture(tmp_path / "mine" / "0.png", 0)
    assert fetch_files(describe(tmp_path), tmp_path) == [mine]
