"""Training throughput: the whole loop beside the bare forward and backward pass of its network, in one run.

Protocol: the recipe's network, batch, patch and precision. Blocks of steps of both kinds in turn, so that other work on
the machine falls on both; the bare pass sees one batch drawn before. Wall time is what a user waits; CPU time (all
threads) does not depend on what else runs, and is the ratio on a machine whose every core is busy.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from denoise.engine.device import keep_memory
from denoise.manifests import data_root
from denoise.training.feed import Feed
from denoise.training.loop import Loop
from denoise.training.recipe import load_recipe, parse_override
from denoise.training.trainer import make_learner, make_source


def timed(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one call, over ``times`` calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    return (time.perf_counter() - wall) / times, (time.process_time() - cpu) / times


def main() -> None:
    """Print both throughputs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="raw")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="of a block")
    arguments = parser.parse_args()
    keep_memory()
    recipe = load_recipe(arguments.recipe, dict(parse_override(text) for text in arguments.set))
    source = make_source(recipe, data_root(arguments.data_root))
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(make_learner(recipe), source, recipe, Path(folder))
        with Feed(source, loop.share, 0, 1_000_000) as feed:
            batch = feed.draw(999_999)[0]

            def bare() -> None:
                losses = loop._pass(batch, None)
                loop.accelerator.backward(losses["total"])
                loop.optimiser.zero_grad(set_to_none=True)

            timed(bare, 3)
            timed(lambda: loop._one_step(feed), 3)
            blocks = [
                (timed(bare, arguments.steps), timed(lambda: loop._one_step(feed), arguments.steps))
                for _ in range(arguments.blocks)
            ]
    seconds = np.median(np.array(blocks), axis=0)
    for kind, (wall, cpu) in zip(("forward and backward", "the whole step"), seconds, strict=True):
        print(f"{kind:22} {recipe.batch / wall:7.1f} samples/s   {1000 * wall:6.0f} ms wall   {1000 * cpu:6.0f} ms CPU")
    wall, cpu = seconds[0] / seconds[1]
    print(f"throughput of the loop {100 * wall:.0f} % of the bare pass by wall time, {100 * cpu:.0f} % by CPU time")


if __name__ == "__main__":
    main()
