"""Training on a folder of noisy files alone: from the files to a model that denoises them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from denoise.errors import DenoiseError, RecipeError, WeightsError
from denoise.images import Photo
from denoise.io import read, write
from denoise.methods.cbsn import ConditionalBlindSpotDenoiser, DistilledBlindSpot
from denoise.simulate import simulate_raw
from denoise.training.noisy_training import _for_student, _PassedOn, fit_recipe, teach, train_on_noisy, within_noise
from denoise.training.recipe import Recipe, load_recipe
from denoise.training.sources.noisy_images import NoisyImage, advise, find_noisy, measure_correlation, read_noisy
from denoise.training.sources.noisy_sources import NoisyPatches
from denoise.weights import load_model
from noise_models.level import NoiseLevel
from noise_models.profile_shelf import load_profile


def scene(side: int = 192) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    waves = 0.45 + 0.2 * torch.sin(rows / 25) * torch.cos(columns / 31) + 0.1 * ((columns // 48) % 2)
    return torch.stack([waves, 0.9 * waves, 0.8 * waves + 0.1])


def noisy_images(count: int = 3, blur: bool = False) -> list[NoisyImage]:
    generator = torch.Generator().manual_seed(11)
    images = []
    for number in range(count):
        noise = torch.randn(1, 3, 192, 192, generator=generator)
        if blur:
            noise = functional.conv2d(noise, torch.full((3, 1, 3, 3), 1 / 3), padding=1, groups=3)
        values = ((scene() + 0.08 * noise[0]) * 255).round().clamp(0, 255).to(torch.uint8)
        images.append(NoisyImage(f"{number}.png", "photo", values, 1 / 255))
    return images


def tiny(name: str, **changes: object) -> Recipe:
    loop = {"warm_up": 2, "precision": "float32", "tensorboard": False, "ema": 0.9, "batch": 2}
    return load_recipe(name, loop | changes)


def test_noise2score_from_noisy_images_to_a_model_that_denoises(tmp_path: Path) -> None:
    changes = {"card.config.widths": [8, 16], "card.config.blocks": 1, "source_options.patch": 32, "steps": 40,
               "learning_rate": 0.02}  # fmt: skip
    output = tmp_path / "mine.safetensors"
    card = train_on_noisy(tiny("noise2score", **changes), noisy_images(), output)
    assert card.id == "noise2score.mine"
    assert card.training is not None
    assert card.training.data == ("a folder of the user's",)
    model = load_model(str(output))
    noisy = noisy_images(1)[0].planes.float()[None] / 255
    with torch.inference_mode():
        denoised = model.denoise(noisy, NoiseLevel(np.zeros(1), np.array([0.08**2])))
    before, after = ((image - scene()).square().mean() for image in (noisy, denoised))
    assert float(after) < 0.8 * float(before)
    with pytest.raises(RecipeError, match="--resume"):
        train_on_noisy(tiny("noise2score", **changes), noisy_images(), output)


def test_cbsn_trains_its_teacher_first_and_the_student_learns_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher for two thirds of the student's steps, its ramp as large a part of them as in its recipe."""
    small = {"card.config.width": 8, "card.config.depth": 1, "source_options.patch": 40}
    teacher = tiny("cbsn-teacher", steps=50, **small)
    monkeypatch.setattr("denoise.training.noisy_training.load_recipe", lambda _: teacher)
    student = tiny("cbsn", steps=3, **{"card.config.widths": [8, 16], "source_options.patch": 32})
    card = train_on_noisy(student, noisy_images(blur=True), tmp_path / "mine.safetensors")
    assert card.method == "cbsn"
    assert (tmp_path / "mine-teacher.safetensors").is_file()
    trained = load_model(str(tmp_path / "mine-teacher.safetensors"))
    assert trained.card.training is not None
    assert trained.card.training.steps == 2
    assert float(trained.ramp) == pytest.approx(2 / (0.04 * 1600), rel=1e-3)  # type: ignore[attr-defined]


def test_a_student_may_see_simulated_camera_jpegs_beside_its_teachers_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"card.config.width": 8, "card.config.depth": 1, "source_options.patch": 40}
    teacher = tiny("cbsn-teacher", steps=2, **small)
    monkeypatch.setattr("denoise.training.noisy_training.load_recipe", lambda _: teacher)
    changes = {"card.config.widths": [8, 16], "source_options.patch": 32, "source_options.teacher": "cbsn-teacher"}
    student = tiny("cbsn-photo", steps=2, **changes)
    photos = [(255 * scene()).to(torch.uint8)]
    card = train_on_noisy(student, noisy_images(blur=True), tmp_path / "mine.safetensors", clean=(photos, photos))
    assert card.training is not None
    assert "simulated camera JPEGs in 50 %" in card.training.noise
    few = student.model_copy(update={"source_options": student.source_options | {"simulated": 0.03}})
    rarely = train_on_noisy(few, noisy_images(blur=True), tmp_path / "few.safetensors", clean=(photos, photos))
    assert rarely.training is not None
    assert "in 3 %" in rarely.training.noise
    with pytest.raises(RecipeError, match="takes colour images and clean photographs"):
        train_on_noisy(student, noisy_images(blur=True), tmp_path / "other.safetensors")


def test_a_student_may_be_told_the_noise_by_a_second_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real and simulated pictures of a batch alike, each at a strength of its own."""
    small = {"card.config.width": 8, "card.config.depth": 1, "source_options.patch": 40}
    teacher = tiny("cbsn-teacher", steps=2, **small)
    monkeypatch.setattr("denoise.training.noisy_training.load_recipe", lambda _: teacher)
    changes = {"card.config.widths": [8, 16], "card.config.told": True, "source_options.patch": 32,
               "source_options.second_teacher": "supervised"}  # fmt: skip
    student = tiny("cbsn-photo", steps=2, **changes)
    photos = [(255 * scene()).to(torch.uint8)]
    images = noisy_images(blur=True)
    train_on_noisy(student, images, tmp_path / "mine.safetensors", clean=(photos, photos))
    model = load_model(str(tmp_path / "mine.safetensors"))
    assert isinstance(model, DistilledBlindSpot)
    assert model.told
    untaught = student.model_copy(update={"source_options": {"teacher": "cbsn-teacher", "patch": 32}})
    with pytest.raises(WeightsError, match="second_teacher"):
        train_on_noisy(untaught, images, tmp_path / "untaught.safetensors")
    raw = [NoisyImage("a.dng", "raw", torch.rand(4, 192, 192).half(), 0.0)]
    with pytest.raises(RecipeError, match="have 4 planes"):
        train_on_noisy(student.model_copy(update={"source_options": untaught.source_options | {"second_teacher": "x"}}),
                       raw, tmp_path / "raw.safetensors")  # fmt: skip


def test_a_second_teacher_takes_what_the_first_one_left() -> None:
    """At the strength that the batch is told: the stronger, the more."""
    clean = scene()
    noisy = clean + 0.02 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(8))
    second = load_model("supervised", kind="photo")
    source = _PassedOn(NoisyPatches([noisy], [0.0], [noisy], patch=64), second)
    batch = source.draw(8, generator=torch.Generator().manual_seed(9))
    assert batch.clean is not None
    assert batch.noise is not None
    told = torch.from_numpy(batch.noise.read[:, 0]).sqrt()
    taken = (batch.noisy - batch.clean).square().mean((1, 2, 3)).sqrt()
    order = told.argsort()
    assert float(told[order[0]]) < 0.01 < 0.025 < float(told[order[-1]])
    assert float(taken[order[0]]) < 0.013
    assert float(taken[order[-1]]) == pytest.approx(0.02, rel=0.1)


def test_a_teacher_works_the_same_in_tiles_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its result of a whole image, tile by tile with margins, is that of one pass with reflected borders."""
    torch.manual_seed(3)
    small = {"card.config.width": 8, "card.config.depth": 2}
    teacher = ConditionalBlindSpotDenoiser(load_recipe("cbsn-teacher", small).card)
    noisy = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(4))
    whole = teach(teacher, noisy)
    monkeypatch.setattr("denoise.training.noisy_training._TILE", 32)
    torch.testing.assert_close(teach(teacher, noisy), whole, rtol=1e-4, atol=1e-5)
    turned = teach(teacher, noisy, turns=8)
    mirrored = teach(teacher, noisy.flip(2), turns=8).flip(2)
    torch.testing.assert_close(turned, mirrored, rtol=1e-4, atol=1e-5)


def test_a_teacher_that_takes_the_picture_away_is_held_to_the_noise() -> None:
    """Where it removed noise alone nothing changes; where it removed texture, most of that comes back."""
    generator = torch.Generator().manual_seed(6)
    noise = 0.02 * torch.randn(3, 128, 128, generator=generator)
    texture = torch.zeros(3, 128, 128)
    texture[:, :, 64:] = 0.2 * torch.randn(3, 128, 64, generator=generator)
    noisy = 0.5 + texture + noise
    held = within_noise(noisy, torch.full_like(noisy, 0.5), 0.02)
    torch.testing.assert_close(held[:, :, :40], torch.full((3, 128, 40), 0.5))
    right = (held - noisy)[:, :, 90:]
    assert float(right.square().mean().sqrt()) == pytest.approx(1.5 * 0.02, rel=0.05)


def test_the_advice_follows_the_correlation() -> None:
    independent, correlated = measure_correlation(noisy_images()), measure_correlation(noisy_images(blur=True))
    assert advise(independent, "noise2score") == ""
    assert advise(correlated, "cbsn") == advise(correlated, "cbsn-teacher") == ""
    assert "cbsn would fit" in advise(correlated, "noise2score")
    smooth = [NoisyImage("a.png", "photo", (scene() * 255).to(torch.uint8), 1 / 255)]
    assert "neither" in advise(measure_correlation(smooth), "cbsn")


def test_files_are_read_with_their_kind_and_steps(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    pixels = (scene(64) * 255).permute(1, 2, 0).numpy().astype(np.uint8)
    raw, _ = simulate_raw(pixels, load_profile("xiaomi-redmi-k30"), 1600)
    write(folder / "a.dng", raw)
    images = read_noisy(find_noisy(folder))
    assert images[0].kind == "raw"
    assert images[0].planes.shape[0] == 4
    torch.testing.assert_close(images[0].planes.float(), read(folder / "a.dng").to_tensor(), rtol=1e-3, atol=1e-4)
    fitted = fit_recipe(load_recipe("noise2score"), images)
    assert (fitted.card.config["channels"], fitted.card.config["fold"], fitted.card.domain) == (4, 1, "raw")
    write(folder / "b.png", Photo(np.full((32, 32, 3), 51, np.uint8)))
    picture = read_noisy([folder / "b.png"])[0]
    assert picture.planes.dtype == torch.uint8
    assert picture.step == 1 / 255
    with pytest.raises(RecipeError, match="one kind"):
        read_noisy(find_noisy(folder))
    with pytest.raises(RecipeError, match="does not exist"):
        find_noisy(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="holds no picture"):
        find_noisy(tmp_path / "empty")


SMALL = {"card.config.widths": [8, 16], "card.config.blocks": 1, "source_options.patch": 32, "steps": 1}


def cut(image: NoisyImage, height: int, width: int) -> NoisyImage:
    return dataclasses.replace(image, name=f"{width}x{height}.png", planes=image.planes[:, :height, :width])


def test_a_self_check_that_fails_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise DenoiseError("only 0 blocks of it answer")

    said: list[str] = []
    images = [cut(image, 34, 34) for image in noisy_images()]
    monkeypatch.setattr("denoise.training.noisy_training.estimate_parameter", refuse)
    train_on_noisy(tiny("noise2score", **SMALL), images, tmp_path / "mine.safetensors", say=said.append)
    assert load_model(str(tmp_path / "mine.safetensors")).card.method == "noise2score"
    assert said == ["step 1: no self-check, the training goes on: only 0 blocks of it answer"]


def test_what_is_seen_without_truth_is_said_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"card.config.width": 8, "card.config.depth": 1}
    teacher = tiny("cbsn-teacher", **small)
    monkeypatch.setattr("denoise.training.noisy_training.load_recipe", lambda _: teacher)
    said: list[str] = []
    student = tiny("cbsn", steps=3, **{"card.config.widths": [8, 16], "source_options.patch": 32})
    train_on_noisy(student, noisy_images(1, blur=True), tmp_path / "mine.safetensors", say=said.append)
    assert said[0] == "the teacher comes first, for 2 steps"
    assert said[1].startswith("step 2: self-check on one image: ")
    assert said[2] == "the teacher denoises 1 image, and the student comes, for 3 steps"
    assert "two halves differ by" in said[3]
    lines = (tmp_path / "mine.training" / "metrics.jsonl").read_text("utf-8").splitlines()
    figures = next(values for values in map(json.loads, lines) if "whiteness" in values)
    assert figures["step"] == 3
    assert 0 <= figures["disagreement"] < 1.5


def test_a_teacher_takes_the_patches_and_the_batch_of_its_student(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 90 x 70 are enough for a student's patches of 64; as shipped, the teacher's recipe stays as it is."""
    shipped = load_recipe("cbsn-teacher")
    same = _for_student(shipped, load_recipe("cbsn"))
    assert (same.batch, same.steps, same.source_options) == (shipped.batch, shipped.steps, shipped.source_options)
    teacher = tiny("cbsn-teacher", **{"card.config.width": 8, "card.config.depth": 1})
    monkeypatch.setattr("denoise.training.noisy_training.load_recipe", lambda _: teacher)
    small = SMALL | {"source_options.patch": 64, "batch": 6}
    chosen = _for_student(teacher, load_recipe("cbsn", small))
    assert (chosen.batch, chosen.source_options["patch"]) == (3, 60)
    images = [cut(image, 70, 90) for image in noisy_images(blur=True)]
    assert train_on_noisy(tiny("cbsn", **small), images, tmp_path / "mine.safetensors").method == "cbsn"
    with pytest.raises(RecipeError, match=r"the largest has 70. Choose a smaller patch .*patch=64"):
        train_on_noisy(tiny("cbsn", steps=1), images, tmp_path / "other.safetensors")
    assert not (tmp_path / "other-teacher.training").exists()


def test_images_smaller_than_a_patch_are_left_out_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even if they are what would be held back: the tenth of ten."""
    images = noisy_images(10)
    images[9] = cut(images[9], 60, 61)
    recipe = tiny("noise2score", **SMALL | {"source_options.patch": 64})
    train_on_noisy(recipe, images, tmp_path / "mine.safetensors")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "61x60.png is left out: it has 61x60 pixels, and patches need 64 a side."
    ]


def test_one_odd_file_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "b.jpg"):
        write(tmp_path / name, Photo((scene() * 255).permute(1, 2, 0).numpy().astype(np.uint8)))
    (tmp_path / "b.jpg").write_bytes((tmp_path / "b.jpg").read_bytes()[:2000])
    images = read_noisy(find_noisy(tmp_path))
    assert [image.name for image in images] == ["a.jpg"]
    assert "b.jpg is left out" in caplog.text
    with pytest.raises(RecipeError, match="none of 1 files can be"):
        read_noisy([tmp_path / "b.jpg"])
    good = noisy_images()
    assert measure_correlation([cut(good[0], 20, 20), *good]).method == "noise2score"
    assert "too small" in measure_correlation([cut(good[0], 20, 20)]).reason


def test_the_teachers_result_is_cropped_like_the_image() -> None:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(3, 64, 64, generator=generator)
    patches = NoisyPatches([image], [0.0], [2 * image], patch=16)
    for _ in range(8):
        batch = patches.draw(2, generator=generator)
        assert batch.clean is not None
        torch.testing.assert_close(batch.clean, 2 * batch.noisy)
