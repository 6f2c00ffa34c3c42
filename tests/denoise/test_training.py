"""Training: the loss falls, a stop and a resume change nothing, recipes are checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from denoise.card import ModelCard
from denoise.datasets import PhotoPatches, RawPatches
from denoise.errors import RecipeError
from denoise.training import Recipe, Trainer, load_recipe, recipes_folder
from denoise.weights import load_model

CARD = ModelCard(
    id="supervised-unet.tiny", method="supervised", channels=(1, 3), multiple_of=4,
    config={"channels": 3, "widths": [8, 16], "blocks": 1, "fold": 2}, halo=16,
)  # fmt: skip


def recipe(steps: int, **changes: object) -> Recipe:
    values = {"card": CARD, "source": "photo-patches", "data": ("photos",), "validation": ("val20",), "steps": steps,
              "batch": 4, "warm_up": 5, "precision": "float32"} | changes  # fmt: skip
    return Recipe.model_validate(values)


def photos(count: int = 3) -> list[torch.Tensor]:
    rows = np.linspace(0, 6, 96)
    waves = [np.sin(rows[:, None] * (k + 1)) * np.cos(rows[None] * (k + 2)) for k in range(count)]
    return [torch.from_numpy(np.stack([w, -w, w**2]) * 100 + 128).clamp(0, 255).to(torch.uint8) for w in waves]


def source() -> PhotoPatches:
    return PhotoPatches(photos(), photos(2), patch=32)


def test_the_loss_falls_and_the_weights_load(tmp_path: Path) -> None:
    trainer = Trainer(recipe(100, ema=0.9, learning_rate=0.02), source(), tmp_path)
    batch = source().draw(16, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator()
    before = float(trainer.model.loss(batch, generator=generator)["total"].detach())  # pyright: ignore
    card = trainer.run()
    after = float(trainer.model.loss(batch, generator=generator)["total"].detach())  # pyright: ignore
    assert after < 0.8 * before
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 100
    assert load_model(str(tmp_path / "weights.safetensors")).card == card
    assert card.training is not None
    assert card.training.steps == 100
    assert any(name.endswith("psnr_db") for name in card.measured)


def test_going_on_from_a_checkpoint_gives_the_same_weights(tmp_path: Path) -> None:
    whole = Trainer(recipe(12), source(), tmp_path / "whole", seed=3)
    for _ in range(12):
        whole._one_step()
    half = Trainer(recipe(12), source(), tmp_path / "half", seed=3)
    for _ in range(6):
        half._one_step()
    half.save_checkpoint()
    resumed = Trainer(recipe(12), source(), tmp_path / "half", seed=99)
    resumed.load_checkpoint()
    for _ in range(6):
        resumed._one_step()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, resumed.average.state_dict()[name]), name


def test_the_learning_rate_warms_up_stays_and_falls(tmp_path: Path) -> None:
    trainer = Trainer(recipe(100, warm_up=10, steady=0.6), source(), tmp_path)
    rates = [trainer.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(5e-4)
    assert rates[10:60] == [0.005] * 50
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] < 0.02 * 0.005


def test_every_shipped_recipe_is_valid() -> None:
    names = [path.stem for path in recipes_folder().glob("*.toml")]
    assert {"supervised-raw", "supervised-photo"} <= set(names)
    for name in names:
        assert load_recipe(name, {"steps": 7}).steps == 7


def test_a_wrong_recipe_names_the_key(tmp_path: Path) -> None:
    text = (recipes_folder() / "supervised-raw.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("learning_rate", "learning_rat"))
    with pytest.raises(RecipeError, match="Did you mean 'learning_rate'"):
        load_recipe(str(path))
    path.write_text("steps = [")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(str(path))
    with pytest.raises(RecipeError, match="Did you mean 'supervised-raw'"):
        load_recipe("supervised-rew")
    with pytest.raises(RecipeError, match="no checkpoint"):
        Trainer(recipe(3), source(), tmp_path).load_checkpoint()


def test_raw_patches_have_the_noise_they_state() -> None:
    flat = [torch.full((3, 600, 600), value, dtype=torch.uint8) for value in (60, 128, 200)]
    patches = RawPatches(flat, flat, patch=256, shot_range=(1e-4, 1e-3))
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        batch = patches.draw(2, generator=generator)
        assert batch.clean is not None
        assert batch.noise is not None
        unclipped = batch.noisy[(batch.noisy < 0.99).all((1, 2, 3))]
        for noisy, clean, shot, read in zip(unclipped, batch.clean, batch.noise.shot, batch.noise.read, strict=False):
            expected = torch.from_numpy(shot)[:, None, None] * clean + torch.from_numpy(read)[:, None, None]
            ratio = ((noisy - clean).square() / expected).mean((1, 2))
            # 65536 samples a plane: the ratio's standard error is sqrt(2 / n), a little more where it is Poisson
            assert (ratio - 1).abs().max() < 6 * (2 / 256**2) ** 0.5


def test_the_same_generator_gives_the_same_batch() -> None:
    for kind in (PhotoPatches, RawPatches):
        draws = [kind(photos(), photos(), patch=16).draw(3, generator=torch.Generator().manual_seed(4)) for _ in "ab"]
        assert torch.equal(draws[0].noisy, draws[1].noisy)
