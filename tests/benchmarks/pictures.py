"""The README's pictures: a crop of a real RAW before and after at 100 %, and the demo."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import rawpy

from denoise.batch import Runner
from denoise.demo import run_demo, side_by_side
from denoise.jobs import Job, Options
from denoise.manifests import data_root

DOCS = Path(__file__).parents[2] / "docs"


def developed(path: Path, exposure_ev: float) -> np.ndarray:
    """Render a file with LibRaw as shot, brightened by ``exposure_ev``."""
    with rawpy.imread(str(path)) as raw:
        return raw.postprocess(use_camera_wb=True, no_auto_bright=True, bright=2**exposure_ev, user_flip=0)


def main() -> None:
    """Write docs/sony_iso3200_crop.png and docs/demo.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--crop", type=int, nargs=4, default=[2300, 1500, 480, 400], help="left top width height")
    parser.add_argument("--exposure", type=float, default=0.0, help="brighter by so many EV, both alike")
    arguments = parser.parse_args()
    raw = data_root(arguments.data_root) / "raw" / "sony_a7r3_iso3200.ARW"
    left, top, width, height = arguments.crop
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "night.dng"
        with Runner(Options()) as runner:
            runner.run(Job(raw, target))
        panels = [
            developed(path, arguments.exposure)[top : top + height, left : left + width] for path in (raw, target)
        ]
        cv2.imwrite(str(DOCS / "sony_iso3200_crop.png"), side_by_side(panels, ("as shot, ISO 3200", "denoise run")))
        demo = run_demo(Path(folder) / "demo")
        shutil.copy(demo.picture, DOCS / "demo.png")


if __name__ == "__main__":
    main()
