"""Weights: what is saved comes back, what was altered is seen, what is asked wrongly is answered with a name."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch

from denoise.card import ModelCard
from denoise.errors import WeightsError
from denoise.methods.supervised import SupervisedDenoiser
from denoise.weights import find_card, list_models, load_model, read_card, resolve_model, save_model
from noise_models.level import NoiseLevel

CARD = ModelCard(
    id="supervised-unet.test", method="supervised", channels=(4,), domain="raw", multiple_of=2,
    config={"channels": 4, "widths": [8, 8], "blocks": 1, "fold": 1}, halo=8,
)  # fmt: skip


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_model(path, CARD, SupervisedDenoiser(CARD).state_dict())
    return path


def test_a_saved_model_computes_the_same(saved: Path) -> None:
    model = load_model(str(saved))
    torch.manual_seed(0)
    original = SupervisedDenoiser(CARD)
    for kept, new in zip(original.parameters(), original.half().float().parameters(), strict=True):
        kept.data = new.data
    level = NoiseLevel([1e-3], [1e-5])
    noisy = torch.rand(1, 4, 8, 8)
    assert torch.equal(model.denoise(noisy, level), original.denoise(noisy, level))


def test_the_card_stands_in_the_header_and_beside_the_file(saved: Path) -> None:
    inside = read_card(saved)
    beside = ModelCard.model_validate_json(saved.with_suffix(".json").read_text())
    assert inside == beside == find_card(str(saved))
    assert len(inside.sha256) == 64


def test_an_altered_byte_is_seen(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-3] ^= 1
    saved.write_bytes(content)
    with pytest.raises(WeightsError, match="altered"):
        load_model(str(saved))


def test_tensors_that_do_not_fit_the_card_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, CARD, {"wrong": torch.zeros(2)})
    with pytest.raises(WeightsError, match="do not fit"):
        load_model(str(path))


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 1 << 60) + b"{}", b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_not_a_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        load_model(str(path))


def test_a_model_of_a_method_of_the_future_is_refused(saved: Path) -> None:
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["card"] = header["__metadata__"]["card"].replace('"supervised"', '"telepathy"')
    text = json.dumps(header).encode()
    saved.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(WeightsError, match="telepathy"):
        load_model(str(saved))


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Did you mean 'classical'"):
        resolve_model("clasical", "raw")
    with pytest.raises(WeightsError, match="no such file"):
        load_model(str(tmp_path / "none.safetensors"))


@pytest.mark.parametrize(
    ("name", "kind", "planes", "words"),
    [
        ("camera-jpeg", "photo", 1, "an image of one plane, but it is made for a colour photograph"),
        ("noise2score", "raw", 4, "a RAW photograph, but it is made for a colour photograph"),
        ("cube-diffusion", "photo", 3, "a colour photograph, but it is made for a cube"),
    ],
)
def test_a_model_for_other_images_says_for_which(name: str, kind: str, planes: int, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        resolve_model(name, kind, planes)


def test_a_word_stands_for_a_card_without_an_image() -> None:
    assert find_card("camera-jpeg").id == "blind-unet.camera-jpegs"
    assert find_card("cube-diffusion").domain == "cube"
    assert find_card("supervised").domain == "raw"


def test_every_shipped_model_is_sound_and_measured() -> None:
    cards = list_models()
    assert "classical" in cards
    for name, card in cards.items():
        assert load_model(name).card == card
        if card.training is not None:
            assert card.measured
            assert card.training.data
            assert card.licence_data


def test_fast_costs_no_more_and_serves_every_kind() -> None:
    def work(name: str, kind: str, planes: int) -> float:
        model = load_model(name, kind=kind, planes=planes)
        return getattr(model, "macs_per_pixel", 0.0)

    assert work("fast", "raw", 4) < 0.6 * work("auto", "raw", 4)
    for kind, planes in (("photo", 3), ("photo", 1), ("raw", 1), ("cube", 50)):
        assert work("fast", kind, planes) <= work("auto", kind, planes)
        assert planes in (*load_model("fast", kind=kind, planes=planes).card.channels, 50)


def test_a_cube_of_few_bands_is_denoised_band_by_band() -> None:
    assert resolve_model("auto", "cube", 4) == "classical"
    assert resolve_model("auto", "cube", 10) == "subspace"
    assert resolve_model("subspace", "cube", 4) == "subspace"
