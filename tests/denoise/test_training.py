"""Training: the loss falls, a stop and a resume change nothing, recipes are checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cv2
import pytest
import torch
from safetensors.torch import load, load_file
from tiny_training import photos, recipe, source

import denoise
from denoise.errors import RecipeError
from denoise.evaluation.cases import WhiteNoise
from denoise.evaluation.evaluate import evaluate
from denoise.training.loop import Progress
from denoise.training.recipe import list_recipes, load_recipe, parse_override, recipes_folder
from denoise.training.sources.patches import PhotoPatches, RawPatches
from denoise.training.trainer import Trainer, make_learner, source_class, try_batch
from denoise.weights import list_models, load_model


def test_the_loss_falls_and_the_weights_load(tmp_path: Path) -> None:
    trainer = Trainer(recipe(150, ema=0.9, learning_rate=0.02, batch=12), source(), tmp_path)
    batch = source().draw(64, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator()
    before = float(trainer.model.loss(batch, generator=generator)["l1"])  # pyright: ignore
    card = trainer.run()
    after = float(trainer.model.loss(batch, generator=generator)["l1"])  # pyright: ignore
    assert after < 0.93 * before
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "total" in line]
    assert [line["step"] for line in steps] == list(range(1, 151))
    assert all(line["samples_per_s"] > 0 for line in steps)
    assert lines[-1]["score"] == pytest.approx(trainer.validation_psnr_db(trainer.loop.average.eval()))
    assert load_model(str(tmp_path / "weights.safetensors")).card == card
    assert card.training is not None
    assert card.training.steps == 150
    assert set(card.measured) == {"val20/sigma15/psnr_db", "val20/sigma25/psnr_db", "val20/sigma50/psnr_db"}


class StopError(Exception):
    """Ends a run from its progress."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def check(now: Progress) -> None:
        if now.step == step:
            raise StopError

    return check


def test_going_on_from_a_checkpoint_gives_the_same_weights(tmp_path: Path) -> None:
    options: dict[str, Any] = {"validate_steps": 4, "ema": 0.9}
    whole = Trainer(recipe(12, **options), source(), tmp_path / "whole", seed=3)
    whole.run()
    half = Trainer(recipe(12, **options), source(), tmp_path / "half", seed=3)
    with pytest.raises(StopError):
        half.run(stop_at(7))
    half = Trainer(recipe(12, **options), source(), tmp_path / "half", seed=99)
    half.resume()
    assert half.loop.step == 4
    half.run()
    for one, other in ((whole.loop.learner, half.loop.learner), (whole.loop.average, half.loop.average)):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "half")]
    assert load_file(tmp_path / "whole" / "weights.safetensors").keys()
    tensors = [load(file) for file in files]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
             for name in ("whole", "half")]  # fmt: skip
    for one, other in zip(*lines, strict=True):
        assert {key: one[key] for key in one if key != "samples_per_s"} == {
            key: other[key] for key in other if key != "samples_per_s"
        }


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    settings = recipe(100, warm_up=10, steady=0.6)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(5e-4)
    assert rates[10:60] == [0.005] * 50
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] < 0.02 * 0.005


def test_the_door_trains_and_goes_on(tmp_path: Path) -> None:
    changes = {"steps": 2, "batch": 2, "card.config.widths": [8, 16], "source_options.patch": 32,
               "tensorboard": False}  # fmt: skip
    first = denoise.train("smoke", tmp_path, changes=changes)
    again = denoise.train("smoke", tmp_path, changes=changes, resume=True)
    assert first.sha256 == again.sha256
    with pytest.raises(RecipeError, match="holds a training already"):
        denoise.train("smoke", tmp_path, changes=changes)


def test_every_shipped_recipe_is_valid_and_every_shipped_card_has_one() -> None:
    recipes = [load_recipe(name, {"steps": 7}) for name in list_recipes()]
    assert all(recipe.steps == 7 and recipe.name in list_recipes() for recipe in recipes)
    trained = {card.id for card in list_models().values() if card.training is not None}
    assert trained <= {recipe.card.id for recipe in recipes}


def test_values_are_set_by_dots_and_written_as_toml() -> None:
    texts = ["steps=5", "source_options.patch = 32", "card.id=mine.raw", "precision=float32", "data=['a', 'b']"]
    changed = load_recipe("supervised-raw", dict(parse_override(text) for text in texts))
    assert (changed.steps, changed.source_options["patch"], changed.card.id) == (5, 32, "mine.raw")
    assert (changed.precision, changed.data) == ("float32", ("a", "b"))
    assert changed.source_options["shot_range"] == [2e-6, 0.04]
    with pytest.raises(RecipeError, match="'steps' is a value"):
        load_recipe("supervised-raw", {"steps.x": 1})


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
        Trainer(recipe(3), source(), tmp_path).resume()


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("source_options.patch=abc", "source_options.patch = 'abc' was given"),
        ("source_options.patch=0", "source_options.patch = 0 was given, but it must be 1 or greater"),
        ("source_options.patch=33", "a multiple of 8"),
        ("source_options.busy=abc", "source_options.busy = 'abc' was given"),
        ("source_options.sigma_max=-1", "source_options.sigma_max = -1 was given, but it must be 0 or greater"),
        ("source_options.grey=nan", "source_options.grey = nan was given"),
        ("card.config.widths=5", "the network of 'supervised' cannot be built by it"),
        ("card.config.width=5", "Did you mean 'widths'"),
        ("card.config.channels=4", "does not take what the source draws"),
        ("data=[]", "data = [] was given"),
    ],
)
def test_a_wrong_value_within_a_table_is_told(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        denoise.train("smoke", tmp_path / "run", changes=dict([parse_override(change)]), root=tmp_path)
    assert not (tmp_path / "run").exists()


def test_what_no_recipe_can_hold_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"source_options\.cameras was given, but a recipe cannot hold it"):
        source_class(load_recipe("raw", {"source_options.cameras": "x"}))


def test_a_trial_of_the_first_batch_changes_nothing() -> None:
    learner = make_learner(load_recipe("cbsn-teacher"))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    state = torch.get_rng_state()
    try_batch(recipe(1, source_options={}), learner, cast(Any, PhotoPatches(photos(), photos(), patch=40)))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())


def test_the_card_says_what_was_changed_and_whose_images_they_were(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for index, photo in enumerate(photos(4)):
        cv2.imwrite(str(mine / f"{index}.png"), photo.permute(1, 2, 0).numpy())
    own = tmp_path / "own.toml"
    own.write_text(OWN, "utf-8")
    changes = {"card.config.widths": [8, 16], "source_options.patch": 32, "steps": 2, "batch": 2, "tensorboard": False}
    described = denoise.train("smoke", tmp_path / "a", changes={**changes, "data": [str(own)]}, root=tmp_path, seed=7)
    assert described.training is not None
    assert described.training.data == ("my-own",)
    assert described.training.seed == 7
    assert described.training.changes == {name: value for name, value in changes.items() if name != "steps"}
    assert described.licence_data == "my-own: all mine"
    changes |= {"data_folder": str(mine), "validation": []}
    folder = denoise.train("smoke", tmp_path / "b", changes=changes, root=tmp_path)
    assert folder.licence_data == "the user's own images"
    assert str(mine) not in folder.model_dump_json()
    notes = evaluate(str(tmp_path / "a" / "weights.safetensors"), str(own), tmp_path, cases=[WhiteNoise(25)]).notes
    assert any("learned from my-own: these figures say nothing" in note for note in notes)


OWN = """
name = "my-own"
summary = "Waves"
licence = "all mine"
origin = "drawn"
split = "train"
kind = "photo"
holds = "clean"
folder = "mine"
files = "*.png"
"""
