"""The report: one page, complete, that asks for nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from simulated_sensor import A7S2, SimulatedSensor

from noise_models.calibration.estimate import calibrate
from noise_models.calibration.frames import group

pytest.importorskip("matplotlib", reason="the report needs the extra [report]")
pytest.importorskip("jinja2", reason="the report needs the extra [report]")

from noise_models.calibration.figures import read_noise
from noise_models.calibration.report import render, with_error, write_report


class Page(HTMLParser):
    """Collects what the page holds."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")


@pytest.fixture(scope="module")
def full():
    sensor = SimulatedSensor({iso: A7S2[iso] for iso in (800, 1600)}, shape=(96, 96))
    files = [*sensor.darks(6), *sensor.darks(3, 1.0), *sensor.flats()]
    return calibrate(group(files, sensor), make="<Sim>", model="A & B")


def test_the_ordinate_of_a_single_iso_has_labels():
    sensor = SimulatedSensor({800: A7S2[800]}, shape=(96, 96))  # read 3.5 DN, row 0.57 DN: less than a decade
    svg = read_noise(calibrate(group(sensor.darks(4), sensor), maps=False))
    labels = {float(text) for text in re.findall(r"<text[^>]*>([\d.]+)</text>", svg)}
    assert {1.0, 2.0} <= labels


def test_page_holds_every_figure_and_asks_for_nothing(full, tmp_path):
    path = write_report(full, tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.tags.count("svg") == 9
    assert "script" not in page.tags
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.findall(r"url\((?!#)", text)
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert len(page.ids) == len(set(page.ids))
    assert "&lt;Sim&gt; A &amp; B" in text
    assert "viewport" in text
    assert "@media print" in text
    assert not re.findall(r"[>\s](nan|inf)[<\s]", text)
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_dark_frames_alone_make_a_shorter_page():
    sensor = SimulatedSensor({800: A7S2[800]}, shape=(64, 64))
    text = render(calibrate(group(sensor.darks(5), sensor)))
    assert text.count("<svg") == 6
    assert "unknown" in text


def test_values_are_rounded_to_their_errors():
    assert with_error(1.23456, 0.0123) == ("1.235", "0.012")
    assert with_error(123.456, 12.3) == ("123", "12")
    assert with_error(None, None) == ("not measured", "")
    assert with_error(0.5, None) == ("0.5", "")
