"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data; a test that asks for it is skipped where there is none."""
    folder = Path(os.environ.get("DENOISE_DATA") or Path(__file__).parents[1].parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set DENOISE_DATA)")
    return folder
