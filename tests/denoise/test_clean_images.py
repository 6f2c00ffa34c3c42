"""Clean images: what scikit-image ships, folders of RAW files, what is held back and what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_training import recipe

from denoise.errors import FileFormatError, ManifestError, RecipeError
from denoise.io import write
from denoise.simulate import simulate_raw
from denoise.training.sources.clean_images import SCIKIT_IMAGE, load_clean, load_folder
from denoise.training.sources.raw_pairs import CameraPairs
from denoise.training.trainer import make_source
from noise_models.profile_shelf import load_profile


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three RAW files of base ISO: a ramp of one colour each, by no means square."""
    folder = tmp_path_factory.mktemp("raws")
    for index, colour in enumerate(((200, 120, 60), (60, 200, 120), (120, 60, 200))):
        picture = (np.linspace(0.5, 1, 512)[:, None, None] * np.broadcast_to(colour, (512, 400, 3))).astype(np.uint8)
        image, _ = simulate_raw(picture, load_profile("sony-a7s2"), 100, seed=index)
        write(folder / f"{index}.dng", image)
    return folder


def test_what_scikit_image_ships_needs_no_data_root() -> None:
    clean, held_out = load_clean(recipe(1, data=("scikit-image",), validation=("scikit-image-held-out",)), Path("none"))
    assert len(clean) == len(SCIKIT_IMAGE["scikit-image"])
    assert len(held_out) == 3
    assert all(photo.dtype == torch.uint8 and photo.shape[0] == 3 for photo in clean)


def test_a_folder_of_raw_files_is_linear_light(raws: Path) -> None:
    lights = load_folder(raws)
    assert [tuple(light.shape) for light in lights] == [(3, 128, 100)] * 3
    picture, clean = simulate_raw(np.full((64, 64, 3), 150, np.uint8), load_profile("sony-a7s2"), 100)
    del picture
    write(raws / "flat.dng", simulate_raw(np.full((64, 64, 3), 150, np.uint8), load_profile("sony-a7s2"), 100)[0])
    try:
        light = load_folder(raws)[-1].float()
    finally:
        (raws / "flat.dng").unlink()
    for colour, plane in enumerate((0, 1, 3)):
        assert float(light[colour].mean()) == pytest.approx(float(clean[plane].mean()), rel=0.01)


def test_pairs_of_raw_files_hold_their_colours_and_hold_one_back(raws: Path) -> None:
    options = {"data_folder": str(raws), "validation": (), "source": "camera-pairs", "source_options": {"patch": 16}}
    source = make_source(recipe(1, **options), Path("none"))
    assert isinstance(source, CameraPairs)
    assert len(source.crops.photos) == 2
    batch = source.draw(6, generator=torch.Generator().manual_seed(2))
    assert batch.clean is not None
    for clean in batch.clean:
        colour = clean.mean((1, 2))
        assert colour[1] == pytest.approx(float(colour[2]), rel=0.03)  # both greens
        assert min(abs(colour[0] / colour[1] - float(light[0].mean() / light[1].mean())) for light in
                   (photo.float() for photo in source.crops.photos)) < 0.05  # fmt: skip
    assert len(list(source.validation())) == len(source.cases)


@pytest.mark.parametrize(("count", "held"), [(2, 1), (5, 1), (6, 2), (10, 2), (11, 2), (40, 4)])
def test_some_of_a_folder_is_held_back_and_never_learned_from(tmp_path: Path, count: int, held: int) -> None:
    for index in range(count):
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), np.full((4, 4, 3), index, np.uint8))
    clean, held_out = load_clean(recipe(1, data_folder=str(tmp_path), validation=()), tmp_path)
    assert len(held_out) == held
    shown = [{int(photo.max()) for photo in photos} for photos in (clean, held_out)]
    assert shown[0] | shown[1] == set(range(count))
    assert not shown[0] & shown[1]


def test_what_cannot_be_learned_from_is_refused(raws: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no RAW file and no picture"):
        load_folder(tmp_path)
    with pytest.raises(RecipeError, match="Choose source = 'camera-pairs'"):
        make_source(recipe(1, data_folder=str(raws), validation=()), Path("none"))
    with pytest.raises(RecipeError, match="Did you mean 'patch'"):
        make_source(recipe(1, source_options={"pach": 3}), Path("none"))
    with pytest.raises(RecipeError, match="Did you mean 'photo-patches'"):
        make_source(recipe(1, source="photo-patchs"), Path("none"))
    with pytest.raises(ManifestError, match="kodak24"):
        load_clean(recipe(1, data=("kodak24",)), tmp_path)
    cv2.imwrite(str(tmp_path / "one.png"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(RecipeError, match="at least one must be held back"):
        load_clean(recipe(1, data_folder=str(tmp_path), validation=()), tmp_path)
    (tmp_path / "two.jpg").write_bytes(b"not a picture")
    with pytest.raises(FileFormatError, match=r"two\.jpg"):
        load_folder(tmp_path)
