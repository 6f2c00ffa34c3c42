"""Two processes that share every step have the losses of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_training import train_both

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "tests" / "denoise" / "tiny_training.py"
STEPS = 50


def begin(folder: Path, rank: int, port: int) -> subprocess.Popen[str]:
    """Start one of two processes, as torchrun does."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": "2",
                   "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}  # fmt: skip
    command = [sys.executable, str(SCRIPT), str(folder), str(STEPS)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["total"] for line in lines if "total" in line]


def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = [begin(tmp_path / "two", rank, port) for rank in (0, 1)]
    train_both(tmp_path / "one", STEPS)
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    for passes in ("1", "2"):
        one, two = losses(tmp_path / "one" / passes), losses(tmp_path / "two" / passes)
        assert len(one) == len(two) == STEPS
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=2e-5)
        cards = [json.loads((tmp_path / name / passes / "weights.json").read_text()) for name in ("one", "two")]
        assert cards[0]["measured"] == pytest.approx(cards[1]["measured"], abs=0.01)


def test_torchrun_joins_processes_without_a_card_unasked() -> None:
    """Two that did not find each other would train twice into one folder."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    options = ["--dry-run", "--set", "batch=2", "--set", "source_options.patch=32"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "cli.main", "train", "smoke", *options],
        cwd=HERE, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stdout
    assert "1 process(es)" not in done.stdout
