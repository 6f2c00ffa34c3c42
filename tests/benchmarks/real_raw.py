"""A real RAW: what denoising did to it, without any truth.

Protocol: on every colour plane, blocks of 32x32. The flattest tenth are the blocks whose noisy standard deviation over
the one that the noise level predicts is lowest; there the standard deviation before and after is compared (median of
the ratios). A block's mean counts as unchanged if it moved by less than two standard errors, sigma / 32, sigma from the
noisy block's own pixel differences. Rendering: rawpy with the same settings on both files, means of 16x16 blocks of
each colour, as a part of full scale.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rawpy

from denoise.images import RawImage
from denoise.io import read


def blocks_of(plane: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Cut (H, W) into (n, side * side), leaving out what does not fill a block."""
    rows, columns = plane.shape[0] // side, plane.shape[1] // side
    cut = plane[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)


def compare(noisy: RawImage, denoised: RawImage) -> dict[str, list[float]]:
    """Return the fall of the deviation in flat blocks and the share of unchanged means, by plane."""
    before, after = noisy.to_tensor().numpy(), denoised.to_tensor().numpy()
    falls, kept = [], []
    for one, other in zip(before, after, strict=True):
        noisy_blocks, clean_blocks = blocks_of(one, 32), blocks_of(other, 32)
        pixels = noisy_blocks.reshape(-1, 32, 32)
        diagonal = pixels[:, ::2, ::2] - pixels[:, ::2, 1::2] - pixels[:, 1::2, ::2] + pixels[:, 1::2, 1::2]
        sigma = np.sqrt(np.square(diagonal, dtype=np.float64).mean((1, 2)) / 4)
        deviation = noisy_blocks.std(1)
        flat = np.argsort(deviation / np.maximum(sigma, 1e-9))[: len(deviation) // 10]
        falls.append(float(np.median(deviation[flat] / np.maximum(clean_blocks[flat].std(1), 1e-9))))
        moved = np.abs(clean_blocks.mean(1) - noisy_blocks.mean(1))
        kept.append(float((moved < 2 * sigma / 32).mean()))
    return {"flat_fall": falls, "means_kept": kept}


def rendering(source: Path, denoised: Path) -> float:
    """Return the largest difference of 16x16-block means between the two files rendered alike [part of full scale]."""
    pictures = []
    for path in (source, denoised):
        with rawpy.imread(str(path)) as raw:
            pictures.append(
                raw.postprocess(
                    use_camera_wb=True,
                    no_auto_bright=True,
                    output_bps=16,
                    gamma=(1, 1),
                    output_color=rawpy.ColorSpace.raw,
                    user_flip=0,
                )
            )
    height, width = (min(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    means = [
        np.stack([blocks_of(picture[:height, :width, c].astype(np.float32), 16).mean(1) for c in range(3)])
        for picture in pictures
    ]
    return float(np.abs(means[0] - means[1]).max() / 65535)


def main() -> None:
    """Print the figures, and one JSON line at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("denoised", type=Path)
    arguments = parser.parse_args()
    noisy, denoised = read(arguments.source), read(arguments.denoised)
    if not (isinstance(noisy, RawImage) and isinstance(denoised, RawImage)):
        raise SystemExit("Give a RAW file and the DNG that was made of it.")
    figures = {**compare(noisy, denoised), "rendering": rendering(arguments.source, arguments.denoised)}
    for name, value in figures.items():
        print(f"{name:12} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
