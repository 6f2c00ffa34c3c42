"""RAW quality on Kodak24: models, and VST with BM3D given the true parameters, on the same inputs, in one run.

Cases: a Sony A7S2 at ISO 3200 x1, 12800 x4, 25600 x8 and 1600 x100, its published noise in full. The protocol is that
of ``denoise evaluate``, printed with the figures; this runs several models, and says how far the first is from BM3D.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from denoise.engine.device import keep_memory
from denoise.evaluation.cases import DEFAULT_CASES
from denoise.evaluation.evaluate import evaluate
from denoise.evaluation.report import markdown
from denoise.manifests import data_root


def main() -> None:
    """Print the tables, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--models", nargs="+", default=["supervised-unet.virtual-cameras", "classical"])
    parser.add_argument("--peers", nargs="*", default=["bm3d"], help="run with the first model")
    parser.add_argument("--images", type=int, default=24)
    arguments = parser.parse_args()
    keep_memory()
    results: dict[str, dict[str, float]] = {}
    for number, model in enumerate(arguments.models):
        found = evaluate(
            model, "kodak24", data_root(arguments.data_root), cases=DEFAULT_CASES["raw"], limit=arguments.images,
            peers=arguments.peers if number == 0 else (),
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        print(markdown(found, images=False), flush=True)
        for case in found.protocols:
            for mean in found.means(case):
                results.setdefault(case, {}).update(
                    {mean.method: round(mean.psnr_db, 3), f"{mean.method}/s": round(mean.seconds, 4)}
                )
    for case, figures in results.items():
        if "bm3d" in figures:
            first = arguments.models[0]
            gain, speed = figures[first] - figures["bm3d"], figures["bm3d/s"] / figures[f"{first}/s"]
            print(f"{case}: {first} is {gain:+.2f} dB and {speed:.0f} times as fast against VST with BM3D")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
