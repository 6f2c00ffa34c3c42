"""Training as a process of its own: two that share a step agree with one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "tests" / "denoise" / "tiny_training.py"


def begin(folder: Path, steps: int, accumulate: int, rank: int = 0, of: int = 1, port: int = 0) -> subprocess.Popen:
    """Start one process of a training."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    if of > 1:
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(of), "LOCAL_WORLD_SIZE": str(of),
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, str(SCRIPT), str(folder), str(steps), str(accumulate)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["total"] for line in lines if "total" in line]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_have_the_losses_of_one(tmp_path: Path, accumulate: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [begin(tmp_path / "one", 50, accumulate)]
    running += [begin(tmp_path / "two", 50, accumulate, rank, 2, port) for rank in (0, 1)]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 50
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=2e-5)
    cards = [json.loads((tmp_path / name / "weights.json").read_text())["measured"] for name in ("one", "two")]
    assert cards[0] == pytest.approx(cards[1], abs=0.01)
