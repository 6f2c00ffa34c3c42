"""ONNX: the same numbers as torch, at any size, and a file that says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from denoise.card import ModelCard
from denoise.errors import WeightsError
from denoise.export import export_onnx
from denoise.methods import supervised
from denoise.methods.supervised import SupervisedDenoiser
from denoise.weights import load_model, save_model
from noise_models.level import NoiseLevel

onnxruntime = pytest.importorskip("onnxruntime", reason="export needs the extra [onnx]")
pytest.importorskip("onnxscript", reason="export needs the extra [onnx]")

SIZES = [(1, 8, 8), (2, 24, 40), (1, 64, 16)]


def tiny(folder: Path) -> Path:
    """Save a small network that folds, whose corrections are large enough to matter."""
    torch.manual_seed(0)
    config = {"channels": 4, "widths": [4, 8], "blocks": 1, "fold": 2}
    card = ModelCard(id="supervised-unet.tiny", method="supervised", config=config, multiple_of=4, channels=(4,))
    model = SupervisedDenoiser(card)
    with torch.no_grad():
        model.network.tail.weight.mul_(30)
    save_model(folder / "tiny.safetensors", card, model.state_dict())
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    weights = tiny(folder)
    export_onnx(str(weights), folder / "tiny.onnx")
    return weights, folder / "tiny.onnx"


@pytest.mark.parametrize(
    ("shot", "read"), [(1e-3, 1e-4), (0.03, 1e-3), (1e-4, 0.0), (0.0, (25 / 255) ** 2), (0.0, 0.0)]
)
def test_the_same_numbers_as_torch_at_any_size(
    exported: tuple[Path, Path], shot: float, read: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, path = exported
    monkeypatch.setattr(supervised, "keep_detail", lambda noisy, denoised, noise: denoised)  # the file does not hold it
    model = load_model(str(weights))
    channels = model.card.channels[0]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    level = NoiseLevel(shot * np.linspace(1, 2, channels), read * np.linspace(1, 2, channels), "given")
    for batch, height, width in SIZES:
        noisy = np.random.default_rng(height).normal(0.3, 0.3, (batch, channels, height, width)).astype(np.float32)
        spread = [np.tile(part.astype(np.float32), (batch, 1)) for part in (level.shot, level.read)]
        (found,) = session.run(None, {"noisy": noisy, "shot": spread[0], "read": spread[1]})
        with torch.inference_mode():
            expected = model.denoise(torch.from_numpy(noisy), level).numpy()
        assert np.abs(found - expected).max() < 1e-4
        if shot + read > 0:
            assert np.abs(found - noisy).max() > 1e-3, "the network did nothing, so nothing was compared"


def test_the_file_says_what_it_is(exported: tuple[Path, Path]) -> None:
    weights, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert ModelCard.model_validate_json(metadata["card"]) == load_model(str(weights)).card
    assert "keep_mean" in metadata["usage"]
    assert [node.name for node in session.get_inputs()] == ["noisy", "shot", "read"]
    assert [node.name for node in session.get_outputs()] == ["denoised"]
    assert [item.name for item in path.parent.iterdir() if "onnx" in item.name] == ["tiny.onnx"]


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not one network"):
        export_onnx("classical", tmp_path / "classical.onnx")
    with pytest.raises(WeightsError, match=r"must end in \.onnx"):
        export_onnx("supervised-unet.virtual-cameras", tmp_path / "raw.bin")
