"""An evaluation on paper: Markdown, CSV, JSON, and a page with sliders. No figure without its protocol."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any, Final

import cv2

from denoise.errors import UsageError
from denoise.evaluation.cases import Picture
from denoise.evaluation.evaluate import CLEAN, NOISY
from denoise.evaluation.record import Evaluation, Score, View
from denoise.io.files import atomic_target, make_folder

_TEMPLATE: Final = Path(__file__).with_name("report.html.jinja")
_STEM: Final = "evaluation"
_JPEG: Final = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_FIGURES: Final = (
    "psnr_db",
    "ssim",
    "scaled_psnr_db",
    "scaled_ssim",
    "seconds",
    "whiteness",
    "edges",
    "excess",
    "halves",
)
_HEADINGS: Final = (
    "PSNR dB",
    "SSIM",
    "PSNR dB, scaled",
    "SSIM, scaled",
    "s/image",
    "whiteness",
    "edges",
    "excess",
    "halves",
)


def check_place(folder: Path) -> None:
    """See before the work whether an evaluation can be written into a folder, which is made if it is not there.

    Raises
    ------
    UsageError
        If jinja2, which makes the page, is not installed.
    FileFormatError
        If the folder cannot be made or written.
    """
    _import_jinja2()
    make_folder(folder)
    trial = folder / ".denoise-trial"
    with atomic_target(trial) as target:
        target.touch()
    trial.unlink()


def write_evaluation(found: Evaluation, folder: Path) -> list[Path]:
    """Write ``evaluation.md``, ``.csv``, ``.json`` and ``.html`` into a folder; returns their paths.

    Raises
    ------
    UsageError
        If jinja2, which makes the page, is not installed.
    FileFormatError
        If the folder cannot be written.
    """
    texts = {
        ".md": markdown(found, images=True),
        ".csv": comma_separated(found),
        ".json": json.dumps(found.to_dict(), indent=2) + "\n",
        ".html": page(found),
    }
    make_folder(folder)
    for suffix, text in texts.items():
        with atomic_target(folder / f"{_STEM}{suffix}") as target:
            target.write_text(text, "utf-8", newline="")
    return [folder / f"{_STEM}{suffix}" for suffix in texts]


def markdown(found: Evaluation, *, images: bool) -> str:
    """Return tables of the means, each with its protocol; with ``images`` those of every image too."""
    parts = [f"# {found.card.id} on {found.manifest.name}", *(f"**Note:** {note}" for note in _notes(found))]
    for case, protocol in found.protocols.items():
        parts += [f"## {case}", _table(found.means(case)), f"*Protocol:* {protocol}"]
    if images:
        for case, protocol in found.protocols.items():
            scores = [score for score in found.scores if score.case == case]
            parts += [f"## {case}, every image", _table(scores), f"*Protocol:* {protocol}"]
    return "\n\n".join(parts) + "\n"


def comma_separated(found: Evaluation) -> str:
    """Return one line for each image, case and method, and the means, with the protocol in the last column."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["dataset", "case", "image", "method", *_FIGURES, "protocol"])
    means = [mean for case in found.protocols for mean in found.means(case)]
    for score in [*found.scores, *means]:
        figures = ["" if getattr(score, name) is None else f"{getattr(score, name):.6g}" for name in _FIGURES]
        place = [found.manifest.name, score.case, score.image, score.method]
        writer.writerow([*place, *figures, found.protocols[score.case]])
    return stream.getvalue()


def page(found: Evaluation) -> str:
    """Return one HTML page that asks for nothing else.

    Raises
    ------
    UsageError
        If jinja2 is not installed.
    """
    jinja2 = _import_jinja2()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    cases: list[dict[str, Any]] = [
        {
            "name": case,
            "protocol": protocol,
            "headings": _headings(found.means(case)),
            "rows": [(mean.method, mean.image, _cells(mean)) for mean in found.means(case)],
            "views": [_view(found, view) for view in found.views if view.case == case],
        }
        for case, protocol in found.protocols.items()
    ]
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(card=found.card, manifest=found.manifest, notes=_notes(found), cases=cases)


def _notes(found: Evaluation) -> list[str]:
    """Return the notes, and each file that failed."""
    failed = [f"{file} failed, and the figures are without it: {why}" for file, why in found.failed.items()]
    return [*found.notes, *failed]


def _view(found: Evaluation, view: View) -> dict[str, Any]:
    """Return the pictures of a view as data addresses: the noisy one before, the model's first of those after."""
    methods = [name for name in view.pictures if name not in (NOISY, CLEAN)]
    psnr_db = {s.method: f"{s.psnr_db:.2f} dB" for s in found.scores if (s.case, s.image) == (view.case, view.image)}
    height, width = view.pictures[NOISY].shape[:2]
    return {
        "image": view.image,
        "width": width,
        "height": height,
        "before": {"src": _data(view.pictures[NOISY]), "label": f"{NOISY}, {psnr_db[NOISY]}"},
        "after": [
            {"src": _data(view.pictures[name]), "label": ", ".join(filter(None, (name, psnr_db.get(name))))}
            for name in (*methods, CLEAN)
        ],
    }


def _import_jinja2() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise UsageError(
            "The page of an evaluation needs jinja2. Install it with: pip install 'denoise-toolkit[report]'"
        ) from error
    return jinja2


def _data(picture: Picture) -> str:
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1], _JPEG)
    if not done:
        raise UsageError(f"A picture of shape {picture.shape} could not be encoded as JPEG for the page.")
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _table(scores: list[Score]) -> str:
    headings = ["method", "images", *_headings(scores)]
    lines = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    lines += [[score.method, score.image, *_cells(score)] for score in scores]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _headings(scores: list[Score]) -> list[str]:
    return [heading for heading, name in zip(_HEADINGS, _FIGURES, strict=True) if getattr(scores[0], name) is not None]


def _cells(score: Score) -> list[str]:
    places = {"psnr_db": 2, "scaled_psnr_db": 2, "ssim": 4, "scaled_ssim": 4}
    values = [(name, getattr(score, name)) for name in _FIGURES]
    return [f"{value:.{places.get(name, 3)}f}" for name, value in values if value is not None]
