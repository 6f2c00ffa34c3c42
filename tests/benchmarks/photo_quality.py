"""White noise on Kodak24 (colour) and Set12 (grey): a model against (C)BM3D, on the same inputs, in one run.

The protocol is that of ``denoise evaluate``, printed with the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from denoise.engine.device import keep_memory
from denoise.evaluation.cases import WhiteNoise
from denoise.evaluation.evaluate import evaluate
from denoise.evaluation.report import markdown
from denoise.manifests import data_root


def main() -> None:
    """Print the tables, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--model", default="auto", help="auto: the default for colour, and that for grey")
    parser.add_argument("--sigmas", type=float, nargs="*", default=[15, 25, 50])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--peers", nargs="*", default=[], help="bm3d takes about a minute an image")
    arguments = parser.parse_args()
    keep_memory()
    results: dict[str, float] = {}
    for dataset in ("kodak24", "set12"):
        found = evaluate(
            arguments.model, dataset, data_root(arguments.data_root), cases=[WhiteNoise(s) for s in arguments.sigmas],
            limit=arguments.images, peers=arguments.peers,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )  # fmt: skip
        print(markdown(found, images=False), flush=True)
        for case in found.protocols:
            for mean in found.means(case):
                results[f"{dataset}/{case}/{mean.method}/psnr_db"] = round(mean.psnr_db, 3)
                results[f"{dataset}/{case}/{mean.method}/s"] = round(mean.seconds, 4)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
