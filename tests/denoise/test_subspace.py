"""The subspace method on cubes whose truth is known, and on a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_cubes import Held, made_cube

from denoise.cubes.cube import HyperspectralCube
from denoise.cubes.metrics import band_psnr_db, sam_deg, stripe_energy
from denoise.engine import Engine
from denoise.methods.subspace import SubspaceDenoiser
from denoise.weights import load_model
from noise_models.cube_cases import spoil_cube
from noise_models.level import NoiseLevel

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def model() -> SubspaceDenoiser:
    built = load_model("subspace")
    assert isinstance(built, SubspaceDenoiser)
    return built


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    return made_cube(60, 72, 64)


def spoil(clean: torch.Tensor, case: str) -> torch.Tensor:
    return spoil_cube(clean, case, generator=torch.Generator().manual_seed(1))


def denoise(model: SubspaceDenoiser, noisy: torch.Tensor, noise: NoiseLevel | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return model.denoise(noisy[None], noise)[0]


def psnr_db(cube: torch.Tensor, clean: torch.Tensor) -> float:
    return float(band_psnr_db(cube.numpy(), clean.numpy()).mean())


@pytest.mark.parametrize(
    ("case", "least_gain_db"),
    [("gaussian-2", 9), ("gaussian-30", 13), ("non-iid", 15), ("stripe", 15), ("deadline", 15), ("impulse", 13),
     ("mixture", 15)],
)  # fmt: skip
def test_every_standard_case_gains(
    model: SubspaceDenoiser, clean: torch.Tensor, case: str, least_gain_db: float
) -> None:
    """Projecting 60 bands on 4 spectra alone gains 10 log10(60 / 4) = 11.8 dB."""
    noisy = spoil(clean, case)
    denoised = denoise(model, noisy)
    assert psnr_db(denoised, clean) - psnr_db(noisy, clean) > least_gain_db
    assert sam_deg(denoised.numpy(), clean.numpy()) < 0.35 * sam_deg(noisy.numpy(), clean.numpy())


def test_a_clean_cube_stays_as_it_was(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    rounded = (clean * 10000).round() / 10000
    assert psnr_db(denoise(model, rounded), rounded) > 75


def test_something_rare_comes_back(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    """One pixel with a spectrum of its own, which no rank can hold."""
    scene = clean.clone()
    scene[20:40, 30, 30] += 0.5
    denoised = denoise(model, spoil(scene, "gaussian-5"))
    assert float((denoised - scene)[20:40, 30, 30].abs().mean()) < 0.05


def test_a_rare_pixel_that_goes_up_and_down_comes_back(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    """Band by band to the other side, as a rare material's spectrum does against a fit of the others'; no spikes."""
    scene = clean.clone()
    scene[:, 30, 30] += 0.15 * torch.sin(2.3 * torch.arange(60))
    denoised = denoise(model, spoil(scene, "gaussian-5"))
    assert float((denoised - scene)[:, 30, 30].abs().mean()) < 0.03
    assert float((denoised - scene)[:, 30, 30].abs().max()) < 0.12


def test_a_large_offset_hides_nothing(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    noisy = spoil(clean, "gaussian-10")
    denoised = denoise(model, noisy + 1000) - 1000
    assert psnr_db(denoised, clean) > psnr_db(denoise(model, noisy), clean) - 1


def test_a_band_that_holds_nothing_is_left(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    noisy = spoil(clean, "gaussian-10")
    noisy[7] = 0.0
    denoised = denoise(model, noisy)
    assert torch.isfinite(denoised).all()
    assert float(denoised[7].abs().max()) < 1e-3
    others = [band for band in range(60) if band != 7]
    assert psnr_db(denoised[others], clean[others]) > psnr_db(noisy[others], clean[others]) + 12


def test_a_band_that_impulses_cut_off_is_no_line_between_its_neighbours(
    model: SubspaceDenoiser, clean: torch.Tensor
) -> None:
    """All its values lie within three sigma of a limit, half of them are impulses, and it stands out by itself."""
    scene = clean.clone()
    scene[20] = (scene[20] - scene[20].mean()).clamp(-0.1, 0.1) + 0.3
    scene[19] = scene[21] = scene[20] - 0.15
    noisy = spoil(scene, "gaussian-10")
    generator = torch.Generator().manual_seed(8)
    band = (scene[20] + 0.2 * torch.randn(scene[20].shape, generator=generator)).clamp(0, 1)
    chance = torch.rand(band.shape, generator=generator)
    noisy[20] = torch.where(chance < 0.5, (chance < 0.25).float(), band)
    denoised = denoise(model, noisy)
    assert float((denoised - scene)[20].mean().abs()) < 0.02
    assert float((denoised - scene)[20].square().mean().sqrt()) < 0.04


def test_a_stated_level_is_used_and_a_blind_one_is_not(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    noisy = spoil(clean, "gaussian-10")
    read = np.full(1, (10 / 255) ** 2)
    own = denoise(model, noisy)
    assert torch.equal(denoise(model, noisy, NoiseLevel(0 * read, 9 * read, "blind")), own)
    assert not torch.equal(denoise(model, noisy, NoiseLevel(0 * read, read, "given")), own)
    assert psnr_db(denoise(model, noisy, NoiseLevel(0 * read, read, "given")), clean) == pytest.approx(
        psnr_db(own, clean), abs=0.5
    )


@pytest.mark.parametrize("shape", [(2, 40, 40), (5, 20, 30), (12, 9, 70), (3, 1, 50)])
def test_small_cubes_and_few_bands_are_served(model: SubspaceDenoiser, shape: tuple[int, int, int]) -> None:
    noisy = spoil(made_cube(shape[0], 72, 80, 2)[:, : shape[1], : shape[2]].contiguous(), "gaussian-20")
    denoised = denoise(model, noisy)
    assert denoised.shape == noisy.shape
    assert torch.isfinite(denoised).all()


def test_tiles_are_without_a_seam(model: SubspaceDenoiser) -> None:
    """Of a cube that does not fit; the step across a seam is what it is elsewhere."""
    clean = made_cube(16, 300, 40, 2)
    noisy = spoil(clean, "gaussian-10")
    engine = Engine(tile=272, threads=1)
    cube = HyperspectralCube(noisy.numpy())
    denoised = engine.denoise(cube, model, noise=None).to_tensor()
    assert engine.last_plan is not None
    assert engine.last_plan.tiles == (2, 1)
    whole, sigma = denoise(model, noisy), 10 / 255
    tiled_steps, whole_steps = ((cube - clean).diff(dim=1).abs().mean((0, 2)) for cube in (denoised, whole))
    assert float((tiled_steps - 1.25 * whole_steps).max()) < 0.02 * sigma
    assert float((denoised - whole).square().mean().sqrt()) < 0.1 * sigma
    assert psnr_db(denoised, clean) > psnr_db(whole, clean) - 0.3


@pytest.fixture(scope="module")
def striped() -> tuple[torch.Tensor, torch.Tensor]:
    """Return a long clean cube, and one with noise of 0.05 and stripes of half a sigma and of ten."""
    clean = made_cube(24, 300, 72, 3)
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    noisy[5, :, ::7] += 0.5 * 0.05
    noisy[16, :, 3::9] -= 10 * 0.05
    return clean, noisy


def rms(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).square().mean().sqrt())


def test_a_survey_of_all_pixels_gives_what_one_tile_gives(
    model: SubspaceDenoiser, striped: tuple[torch.Tensor, torch.Tensor]
) -> None:
    clean, noisy = striped
    with torch.inference_mode():
        survey = model.survey(Held(noisy, noisy.numel()), None)
        assert survey is not None
        surveyed = survey.denoise(noisy[None], None, [(0, 0)])[0]
    whole = denoise(model, noisy)
    assert rms(surveyed, whole) < 0.08 * 0.05
    assert psnr_db(surveyed, clean) > psnr_db(whole, clean) - 0.1


def test_tiles_go_by_one_survey(model: SubspaceDenoiser, striped: tuple[torch.Tensor, torch.Tensor]) -> None:
    """From one piece that goes by it they differ in what the network does not see beyond a cut, and from one that
    measures all by itself in that it has more pixels to go by. Each tile by itself is 0.3 sigma away from both.
    """
    clean, noisy = striped
    engine = Engine(tile=148, threads=1)
    tiled = engine.denoise(HyperspectralCube(noisy.numpy()), model).to_tensor()
    assert engine.last_plan is not None
    assert engine.last_plan.tiles == (3, 1)
    values = 24 * int(np.prod(engine.last_plan.tile))
    with torch.inference_mode():
        survey = model.survey(Held(noisy, values), None)
        assert survey is not None
        in_one = survey.denoise(noisy[None], None, [(0, 0)])[0]
    assert rms(tiled, in_one) < 0.03 * 0.05
    assert rms(tiled, denoise(model, noisy)) < 0.1 * 0.05
    for rows in (slice(0, 100), slice(100, 200), slice(200, 300)):
        left = (tiled - clean)[:, rows].mean(1)
        assert float(left[5, ::7].mean().abs()) < 0.05 * 0.05
        assert float(left[16, 3::9].mean().abs()) < 0.1 * 0.05


@pytest.mark.parametrize("shape", [(2, 300, 40), (12, 40, 300), (5, 300, 9), (30, 160, 20)])
def test_odd_cubes_in_tiles_are_served(model: SubspaceDenoiser, shape: tuple[int, int, int]) -> None:
    """As well as in one tile, as far as the noise of so few bands can be told."""
    bands, height, width = shape
    clean = made_cube(bands, 300, 300, 2)[:, :height, :width].contiguous()
    noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    if bands == 30:
        noisy[7] = 0.0
        noisy[3, :, 5] = 0.2
        noisy[20].view(-1)[::9] = 1.0
    engine = Engine(tile=272 if bands < 17 else 144, threads=1)
    tiled = engine.denoise(HyperspectralCube(noisy.numpy()), model).to_tensor()
    assert engine.last_plan is not None
    assert engine.last_plan.tiles != (1, 1)
    assert rms(tiled, clean) < 1.15 * rms(denoise(model, noisy), clean)


def test_a_stated_level_is_used_by_a_survey(model: SubspaceDenoiser, clean: torch.Tensor) -> None:
    noisy = spoil(clean, "gaussian-10")
    read = np.full(1, (20 / 255) ** 2)
    with torch.inference_mode():
        survey = model.survey(Held(noisy, noisy.numel()), NoiseLevel(0 * read, read, "given"))
    assert survey is not None
    assert survey.model.sigma.numpy() == pytest.approx(20 / 255)


@pytest.mark.data
def test_real_stripes_vanish_and_spectra_stay(model: SubspaceDenoiser, data_root: Path) -> None:
    from scipy.io import loadmat

    stored = loadmat(data_root / "hsi/validation/abu-urban-3.mat")["data"][:, :, 75:135]
    noisy = torch.from_numpy(stored.astype(np.float32).transpose(2, 0, 1) / 7208).contiguous()
    with torch.inference_mode():
        sigma = model.first_estimate(noisy[None], None).sigma[0]
    denoised = denoise(model, noisy)
    band = 103 - 75
    before, after = (stripe_energy(cube.numpy())[band] for cube in (noisy, denoised))
    assert before > 20 * 1.5 * float(sigma[band]) ** 2 / 100  # far above what white noise leaves
    assert before > 10 * after
    moved = (denoised - noisy).view(60, 10, 10, 10, 10).mean((2, 4)) / (sigma[:, None, None] / 10)
    # All of white noise taken away would be 1; neighbours share some of AVIRIS's.
    assert float(moved.square().mean((1, 2)).sqrt().median()) < 1.5


@pytest.mark.parametrize("rank", [2, 3, 8])
def test_a_mixture_of_few_spectra_without_noise_stays_as_it_was(
    model: SubspaceDenoiser, clean: torch.Tensor, rank: int
) -> None:
    """Errors of the fit in float32 must not pass for spikes."""
    left, strength, right = torch.linalg.svd(clean.flatten(1).double(), full_matrices=False)
    mixture = (left[:, :rank] * strength[:rank] @ right[:rank]).float().view_as(clean)
    assert psnr_db(denoise(model, mixture), mixture) > 75


@pytest.mark.parametrize("shape", [(32, 3, 40), (32, 1, 1), (32, 4, 4), (4, 30, 30)])
def test_what_is_too_small_to_tell_noise_in_is_no_worse_afterwards(
    model: SubspaceDenoiser, clean: torch.Tensor, shape: tuple[int, int, int]
) -> None:
    part = clean[: shape[0], : shape[1], : shape[2]]
    noisy = part + 0.02 * torch.randn(part.shape, generator=torch.Generator().manual_seed(3))
    assert float((denoise(model, noisy) - part).square().mean()) < 1.1 * float((noisy - part).square().mean())


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_cube_of_one_value_or_one_spectrum_is_left(model: SubspaceDenoiser, value: float) -> None:
    same = torch.full((20, 30, 30), value)
    torch.testing.assert_close(denoise(model, same), same)
    spectrum = (0.2 + 0.5 * torch.linspace(0, 1, 20))[:, None, None].expand(20, 30, 30).contiguous()
    torch.testing.assert_close(denoise(model, spectrum), spectrum, atol=1e-3, rtol=0)


@pytest.mark.parametrize("missing", ["columns", "rows", "swath"])
def test_missing_pixels_do_not_spoil_the_others(model: SubspaceDenoiser, clean: torch.Tensor, missing: str) -> None:
    noisy = spoil(clean, "gaussian-30").numpy()
    rows, columns = np.mgrid[: clean.shape[1], : clean.shape[2]]
    gone = {"columns": columns < 32, "rows": rows < 40, "swath": abs(rows - columns) > 20}[missing]
    stored = np.where(gone, np.float32(-9), noisy)
    result = Engine().denoise(HyperspectralCube(stored, nodata=-9.0, white=1.0), model)
    assert isinstance(result, HyperspectralCube)
    found = result.stored.read(0, clean.shape[1], 0, clean.shape[2])
    np.testing.assert_array_equal(found[:, gone], stored[:, gone])
    error = [float(np.sqrt(((cube - clean.numpy())[:, ~gone] ** 2).mean())) for cube in (noisy, found)]
    assert error[1] < 0.33 * error[0]
