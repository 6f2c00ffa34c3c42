"""Evaluation: inputs by the protocol and the same each time, figures that theory knows, reports that say all."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from denoise.errors import ManifestError, UsageError
from denoise.evaluation.cases import DEFAULT_CASES, CameraNoise, WhiteNoise, parse_case
from denoise.evaluation.evaluate import evaluate
from denoise.evaluation.peers import Peer
from denoise.evaluation.record import Evaluation
from denoise.evaluation.report import comma_separated, markdown, write_evaluation
from denoise.io import write
from denoise.simulate import simulate_raw
from noise_models.profile_shelf import load_profile

MANIFEST = """
name = "mine"
summary = "Soft blobs"
licence = "mine"
origin = "drawn"
split = "test"
kind = "{kind}"
holds = "{holds}"
folder = "mine"
files = "*"
{more}
"""


def blobs(side: int = 64, seed: int = 0) -> np.ndarray:
    """Return a soft colour picture (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    soft = cv2.GaussianBlur(rng.normal(size=(side, side, 3)), (0, 0), 5)
    return np.clip(128 + 500 * soft, 10, 245).astype(np.uint8)


def dataset(root: Path, *, kind: str = "photo", holds: str = "clean", more: str = "") -> str:
    (root / "mine").mkdir(exist_ok=True)
    path = root / "mine.toml"
    path.write_text(MANIFEST.format(kind=kind, holds=holds, more=more), "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    dataset(folder)
    for index in range(3):
        cv2.imwrite(str(folder / "mine" / f"{index}.png"), blobs(seed=index))
    return folder


@pytest.fixture(scope="module")
def photo(root: Path) -> Evaluation:
    cases = [WhiteNoise(25), WhiteNoise(50)]
    return evaluate("classical", str(root / "mine.toml"), root, cases=cases, peers=["nlm"])


@pytest.fixture(scope="module")
def raw(root: Path) -> Evaluation:
    cases = [CameraNoise(3200), CameraNoise(1600, 100)]
    return evaluate("classical", str(root / "mine.toml"), root, cases=cases, limit=1)


def test_what_needs_no_truth_is_shown_beside_it(photo: Evaluation) -> None:
    """Nothing was taken from the input; a soft picture without its white noise leaves little structure behind."""
    for mean in photo.means("sigma25"):
        assert mean.whiteness is not None
        assert mean.edges is not None
        assert (mean.whiteness == 0) == (mean.method == "noisy")
        assert 0 <= mean.whiteness < 0.5
        assert -1 <= mean.edges <= 1
        assert mean.excess is not None
        assert mean.excess < 0.5
        assert mean.halves is not None
        assert (mean.halves == 1) == (mean.method == "noisy")
        assert 0 < mean.halves <= 1
    assert "| whiteness | edges | excess | halves |" in markdown(photo, images=False)


def test_cases_read_as_they_are_written() -> None:
    assert parse_case("sigma=25") == WhiteNoise(25)
    assert parse_case("iso=12800,ratio=4") == CameraNoise(12800, 4)
    assert parse_case("iso=1600,profile=nikon-d850").name == "nikon-d850-iso1600x1"
    assert [case.name for case in DEFAULT_CASES["raw"]] == ["iso3200x1", "iso12800x4", "iso25600x8", "iso1600x100"]
    for wrong in ("sigma=-1", "sigma=much", "ratio=4", "", "iso=0", "sigma=25,iso=100"):
        with pytest.raises(UsageError):
            parse_case(wrong)
    with pytest.raises(UsageError, match="Did you mean 'ratio'"):
        parse_case("iso=100,ration=4")


def test_white_noise_is_the_noise_that_it_says(root: Path) -> None:
    sample = WhiteNoise(25).make(root / "mine" / "0.png", 0)
    noise = (sample.noisy.to_tensor().numpy() - sample.clean).ravel()
    assert noise.std() == pytest.approx(25 / 255, rel=4 / np.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 * 25 / 255 / np.sqrt(noise.size)
    assert sample.noise is not None
    assert sample.noise.read == pytest.approx((25 / 255) ** 2)


def test_camera_noise_keeps_the_light_and_has_the_profiles_variance(root: Path) -> None:
    case = CameraNoise(3200, 4)
    sample = case.make(root / "mine" / "0.png", 0)
    assert sample.noise is not None
    noise = sample.noisy.to_tensor().numpy() * 4 - sample.clean
    variance = 16 * sample.noise.variance(np.moveaxis(sample.clean / 4, 0, 2))
    assert sample.noisy.mosaic.dtype == np.uint16  # type: ignore[union-attr]
    assert np.square(noise).mean() == pytest.approx(variance.mean(), rel=0.1)
    bias = load_profile("sony-a7s2").at(3200).bias_dn
    assert noise.mean() == pytest.approx(
        4 * np.mean(bias) / 15871, abs=5 * np.sqrt(variance.mean() / noise.size) + 4e-5
    )


def test_inputs_depend_on_seed_case_and_name_alone(root: Path) -> None:
    def noisy(case: WhiteNoise | CameraNoise, name: str, seed: int) -> np.ndarray:
        return case.make(root / "mine" / name, seed).noisy.to_tensor().numpy()

    for case in (WhiteNoise(25), CameraNoise(3200)):
        first = noisy(case, "1.png", 0)
        assert np.array_equal(first, noisy(case, "1.png", 0))
        assert not np.array_equal(first, noisy(case, "1.png", 1))
    looks = [CameraNoise(iso).make(root / "mine" / "1.png", 0).clean for iso in (3200, 6400)]
    assert np.array_equal(*looks)


def test_noisy_figures_are_those_of_theory(photo: Evaluation) -> None:
    for case, sigma in (("sigma25", 25), ("sigma50", 50)):
        noisy = photo.means(case)[0]
        assert noisy.method == "noisy"
        # Values cut to 0..1 lose a little of the noise: at least the plain figure, at most 0.5 dB more.
        assert 0 <= noisy.psnr_db + 20 * np.log10(sigma / 255) + 0.15 < 0.9
        assert noisy.scaled_psnr_db is None


def test_methods_gain_and_are_timed(photo: Evaluation, raw: Evaluation) -> None:
    for found in (photo, raw):
        for case in found.protocols:
            noisy, *methods = found.means(case)
            assert noisy.seconds == 0
            for mean in methods:
                assert mean.psnr_db > noisy.psnr_db + 1
                assert mean.ssim > noisy.ssim
                assert mean.seconds > 0


def test_raw_is_scored_with_and_without_the_scalar(raw: Evaluation) -> None:
    for score in raw.scores:
        assert score.scaled_psnr_db is not None
        assert score.scaled_psnr_db >= score.psnr_db - 0.05
    assert all("scalar" in protocol and "Tukey-lambda" in protocol for protocol in raw.protocols.values())


def test_means_are_means(photo: Evaluation) -> None:
    for mean in photo.means("sigma25"):
        own = [s.psnr_db for s in photo.scores if (s.case, s.method) == ("sigma25", mean.method)]
        assert len(own) == 3
        assert mean.psnr_db == pytest.approx(sum(own) / 3)


def test_a_limit_does_not_change_figures(root: Path, photo: Evaluation) -> None:
    less = evaluate("classical", str(root / "mine.toml"), root, cases=[WhiteNoise(25)], limit=1)
    first = [s.psnr_db for s in photo.scores if (s.case, s.image) == ("sigma25", "0.png")]
    assert [score.psnr_db for score in less.scores] == first[:2]


def test_a_blind_model_is_near_one_that_is_told(tmp_path: Path) -> None:
    name = dataset(tmp_path)
    cv2.imwrite(str(tmp_path / "mine" / "0.png"), blobs(160))
    figures = {}
    for blind in (False, True):
        found = evaluate("classical", name, tmp_path, cases=[WhiteNoise(20)], peers=["nlm"], blind=blind)
        assert ("estimates the noise" in found.protocols["sigma20"]) == blind
        figures[blind] = {mean.method: mean.psnr_db for mean in found.means("sigma20")}
    assert figures[True]["nlm"] == figures[False]["nlm"]
    assert figures[True]["classical"] != figures[False]["classical"]
    assert figures[True]["classical"] > figures[False]["classical"] - 1


def test_no_figure_without_its_protocol(photo: Evaluation) -> None:
    text = markdown(photo, images=True)
    tables = re.findall(r"(?:^\|.*\n)+\n(.*)", text, re.MULTILINE)
    assert len(tables) == 4
    assert all(after.startswith("*Protocol:* Set mine, images: 3") for after in tables)
    rows = list(csv.DictReader(comma_separated(photo).splitlines()))
    assert len(rows) == len(photo.scores) + 6
    assert all("seed 0" in row["protocol"] and "7x7" in row["protocol"] for row in rows)
    record = json.loads(json.dumps(photo.to_dict()))
    assert all(case["protocol"] for case in record["cases"].values())
    assert record["cases"]["sigma50"]["means"]["nlm"]["psnr_db"] > 20
    assert any("no checksums" in note for note in photo.notes)


def test_altered_files_and_images_learned_from_are_told(tmp_path: Path) -> None:
    name = dataset(tmp_path, more='overlaps = ["photos"]\n[sha256]\n"0.png" = "' + "0" * 64 + '"')
    cv2.imwrite(str(tmp_path / "mine" / "0.png"), blobs(48))
    notes = evaluate("supervised-unet.photo", name, tmp_path, cases=[WhiteNoise(15)]).notes
    assert any("learned from photos" in note for note in notes)
    assert any("not those of the manifest" in note for note in notes)


def test_a_file_that_fails_is_named_and_the_rest_is_reported(tmp_path: Path, root: Path) -> None:
    name = dataset(tmp_path)
    for file in sorted((root / "mine").iterdir()):
        shutil.copy(file, tmp_path / "mine")
    whole = evaluate("classical", name, tmp_path, cases=[WhiteNoise(25)])
    (tmp_path / "mine" / "0000.png").write_bytes(b"junk")
    (tmp_path / "mine" / "zz.png").touch()
    found = evaluate("classical", name, tmp_path, cases=[WhiteNoise(25)])
    assert set(found.failed) == {"0000.png", "zz.png"}
    assert "no picture of 8 or 16 bit" in found.failed["0000.png"]
    assert "0 bytes" in found.failed["zz.png"]
    assert [(s.image, s.psnr_db) for s in found.scores] == [(s.image, s.psnr_db) for s in whole.scores]
    assert "images: 3." in found.protocols["sigma25"]
    assert len(found.views) == 2
    assert found.to_dict()["failed"] == found.failed
    assert "zz.png failed, and the figures are without it" in markdown(found, images=False)


PAIRS = '[pairs]\nrule = "by name"\nnoisy = "*_n.*"\nclean = "*_c.*"\nkey = "^(.*)_[nc]"'


def test_pairs_of_photographs_are_compared_as_they_are(tmp_path: Path) -> None:
    name = dataset(tmp_path, holds="pairs", more=PAIRS)
    clean = blobs(96)
    noisy = np.clip(clean + np.random.default_rng(1).normal(0, 20, clean.shape), 0, 255).round().astype(np.uint8)
    for suffix, pixels in (("c", clean), ("n", noisy)):
        cv2.imwrite(str(tmp_path / "mine" / f"a_{suffix}.png"), pixels)
    found = evaluate("classical", name, tmp_path)
    error = np.square(clean.astype(float) - noisy).mean() / 255**2
    before, after = found.means("pairs")
    assert before.psnr_db == pytest.approx(-10 * np.log10(error), abs=1e-6)
    assert after.psnr_db > before.psnr_db + 3
    with pytest.raises(UsageError, match="holds real pairs"):
        evaluate("classical", name, tmp_path, cases=[WhiteNoise(25)])


def test_pairs_of_raw_files_are_compared_at_one_exposure(tmp_path: Path) -> None:
    name = dataset(tmp_path, kind="raw", holds="pairs", more=PAIRS)
    profile = load_profile("sony-a7s2")
    for suffix, ratio, iso, exposure_s in (("n", 10, 1600, 0.01), ("c", 1, 100, 1.6)):
        image, _ = simulate_raw(blobs(96), profile, iso, ratio, exposure_s=exposure_s)
        write(tmp_path / "mine" / f"a_{suffix}.dng", image)
    found = evaluate("classical", name, tmp_path)
    before, after = found.means("pairs")
    assert after.psnr_db > before.psnr_db + 3
    fitted = before.scaled_psnr_db
    assert fitted is not None
    assert fitted - before.psnr_db < 1, "the exposures do not agree"


def test_what_cannot_be_evaluated_is_said(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ManifestError, match="holds frames of kind raw"):
        evaluate("classical", "emva-ccd12", tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'bm3d'"):
        evaluate("classical", str(root / "mine.toml"), root, cases=[WhiteNoise(25)], peers=["bm4d"])
    name = dataset(tmp_path)
    cv2.imwrite(str(tmp_path / "mine" / "0.png"), blobs()[..., 0])
    with pytest.raises(ManifestError, match="not a colour photograph"):
        evaluate("classical", name, tmp_path, cases=[CameraNoise(3200)])


@pytest.mark.parametrize("name", ["nlm", "wavelet", "bm3d"])
def test_peers_gain_on_white_and_on_shot_noise(name: str, tmp_path: Path) -> None:
    if name != "nlm":
        pytest.importorskip({"wavelet": "pywt", "bm3d": "bm3d"}[name], reason="needs the extra [peers]")
    peer = Peer(name)
    picture = tmp_path / "0.png"
    cv2.imwrite(str(picture), blobs(48))
    for case in (WhiteNoise(25), CameraNoise(12800, 4)):
        sample = case.make(picture, 0)
        assert sample.noise is not None
        some = [0] if name == "bm3d" else list(range(len(sample.clean)))  # seconds a plane
        noisy, clean = sample.noisy.to_tensor().numpy()[some], sample.clean[some]
        denoised = peer(noisy, sample.noise.pick(some))
        before, after = (np.square(image * sample.ratio - clean).mean() for image in (noisy, denoised))
        assert after < before / 2


class Page(HTMLParser):
    """Collects what the page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]


@pytest.fixture(scope="module")
def report(photo: Evaluation, raw: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("jinja2", reason="the page needs the extra [report]")
    folder = tmp_path_factory.mktemp("report")
    write_evaluation(raw, folder / "raw")
    return write_evaluation(photo, folder)[-1]


def test_the_page_asks_for_nothing(report: Path) -> None:
    text = report.read_text("utf-8")
    page = Page()
    page.feed(text)
    assert sum(link.startswith("data:image/jpeg") for link in page.links) == len(page.links) == 8
    assert not re.findall(r"https?://", text)
    assert text.count("Protocol.") == 2
    assert sorted(path.name for path in report.parent.glob("evaluation.*")) == [
        "evaluation.csv", "evaluation.html", "evaluation.json", "evaluation.md",
    ]  # fmt: skip


PROBE = """<script>
addEventListener("load", async () => {
  const figure = document.querySelector("figure"), before = figure.querySelector(".before");
  const right = figure.querySelector(".right"), select = figure.querySelector("select");
  const slider = figure.querySelector("input");
  const seen = {loaded: [...document.images].every(image => image.naturalWidth === 64)};
  seen.start = getComputedStyle(before).clipPath;
  slider.value = 25; slider.dispatchEvent(new Event("input"));
  seen.moved = getComputedStyle(before).clipPath;
  select.selectedIndex = select.options.length - 1; select.dispatchEvent(new Event("change"));
  seen.right = right.textContent;
  seen.source = figure.querySelector(".after").src === select.value;
  const box = slider.getBoundingClientRect();
  seen.reachable = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2) === slider;
  document.title = "PROBE" + JSON.stringify(seen) + "END";
});
</script></body>"""


def test_the_sliders_work_in_a_browser(report: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    probe = tmp_path / "probe.html"
    probe.write_text(report.read_text("utf-8").replace("</body>", PROBE), "utf-8")
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,1600", "--virtual-time-budget=5000", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True).stdout
    found = re.search(r"PROBE(\{.*?\})END", dumped)
    assert found is not None, dumped[:500]
    assert json.loads(found.group(1).replace("&gt;", ">")) == {
        "loaded": True, "start": "inset(0px 50% 0px 0px)", "moved": "inset(0px 75% 0px 0px)", "right": "clean",
        "source": True, "reachable": True,
    }  # fmt: skip
