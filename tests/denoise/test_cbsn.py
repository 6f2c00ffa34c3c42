"""C-BSN: blind where it must be, seeing where it may, and the losses as the paper's code has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_cubes import Held
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.denoiser import Batch
from denoise.errors import WeightsError
from denoise.methods.cbsn import ConditionalBlindSpotDenoiser, DistilledBlindSpot
from denoise.networks.blind_spot import (
    ConditionalBlindSpot,
    MaskedConv2d,
    batch_to_space,
    draw_cells,
    space_to_batch,
    subsample,
)
from noise_models.level import NoiseLevel

CARD = ModelCard(
    id="cbsn-teacher.tiny", method="cbsn-teacher", config={"channels": 3, "width": 8, "depth": 1, "ramp_steps": 4}
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def model() -> ConditionalBlindSpotDenoiser:
    torch.manual_seed(1)
    return ConditionalBlindSpotDenoiser(CARD)


def centres(network: ConditionalBlindSpot) -> list[tuple[MaskedConv2d, int]]:
    found = [masked for masked in network.masked if isinstance(masked, MaskedConv2d)]
    return [(masked, masked.weight.shape[-1] // 2) for masked in found]


def test_the_papers_size() -> None:
    assert sum(weight.numel() for weight in ConditionalBlindSpot(3).parameters()) == 3_656_131
    assert ConditionalBlindSpot(3).reach == 29


def test_the_blind_state_sees_no_pixel_that_it_answers_for(generator: torch.Generator) -> None:
    """Every pixel of a small image is perturbed in an image of its own; borders and corners included."""
    torch.manual_seed(2)
    network = ConditionalBlindSpot(2, width=16, depth=2).double()
    side = 13
    image = torch.rand(1, 2, side, side, generator=generator, dtype=torch.float64)
    pixels = torch.arange(side**2)
    rows, columns = pixels // side, pixels % side
    perturbed = image.repeat(side**2, 1, 1, 1)
    perturbed[pixels, :, rows, columns] += 10
    with torch.no_grad():
        for blind in (True, False):
            before, after = network(image, blind=blind), network(perturbed, blind=blind)
            own = (after[pixels, :, rows, columns] - before[0, :, rows, columns].T).abs()
            assert float(own.max()) == 0 if blind else float(own.amax(1).min()) > 1e-6
            assert float((after - before).abs().amax((1, 2, 3)).min()) > 1e-6  # all others may move


def test_the_switch_leaves_the_stored_weights_alone(model: ConditionalBlindSpotDenoiser) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.network(torch.rand(1, 3, 16, 16), blind=True)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(masked.weight[..., middle, middle].abs().min() > 0 for masked, middle in centres(model.network))


def test_the_invariance_gradient_reaches_the_centre_taps_and_not_the_blind_target(
    model: ConditionalBlindSpotDenoiser, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 3, 20, 20, generator=generator)
    state = generator.get_state()
    model.invariance(x, model.network(x, blind=False), generator).backward()
    for masked, middle in centres(model.network):
        assert masked.weight.grad is not None
        assert float(masked.weight.grad[..., middle, middle].abs().max()) > 0
    found = [weight.grad.clone() for weight in model.network.parameters() if weight.grad is not None]

    with torch.no_grad():
        generator.set_state(state)
        cells = draw_cells(x, 2, generator=generator)
        target = model.network(subsample(x, cells, 2), blind=True)
    model.zero_grad()
    (subsample(model.network(x, blind=False), cells, 2) - target).abs().mean().backward()
    for one, other in zip(found, (weight.grad for weight in model.network.parameters()), strict=True):
        torch.testing.assert_close(one, other)

    model.zero_grad()
    monkeypatch.setattr(model, "invariance", lambda *_: torch.zeros(()))
    model.ramp.zero_()
    model.loss(Batch(x, None, None), generator=generator)["total"].backward()
    for masked, middle in centres(model.network):
        assert masked.weight.grad is not None
        assert float(masked.weight.grad[..., middle, middle].abs().max()) == 0  # the blind loss cannot teach them


class Identity(nn.Module):
    def forward(self, noisy: Tensor, *, blind: bool) -> Tensor:
        return noisy


def test_both_sides_of_the_invariance_take_the_same_pixels(
    model: ConditionalBlindSpotDenoiser, generator: torch.Generator
) -> None:
    """Where blind and seeing states are one and the same function of a pixel, the loss is 0 only for equal indices."""
    model.network = Identity()  # type: ignore[assignment]
    x = torch.randn(2, 3, 24, 24, generator=generator)
    assert float(model.invariance(x, x, generator)) == 0
    cells = draw_cells(x, 2, generator=generator)
    assert set(cells.unique().tolist()) == {0, 1, 2, 3}
    places = torch.arange(24 * 24.0).reshape(1, 1, 24, 24).expand(2, 3, -1, -1)
    taken = subsample(places, cells, 2)
    row, column = taken // 24, taken % 24
    assert torch.equal(row // 2, torch.arange(12.0)[:, None].expand_as(row))
    assert torch.equal(column // 2, torch.arange(12.0).expand_as(column))
    assert torch.equal((row % 2) * 2 + column % 2, cells.expand(-1, 3, -1, -1).float())


def test_the_ramp_and_the_sum_of_losses(model: ConditionalBlindSpotDenoiser, generator: torch.Generator) -> None:
    """With the paper's 200,000 steps the weight is 0.5 at step 100,000; here 4 steps stand for them."""
    batch = Batch(torch.rand(1, 3, 20, 20, generator=generator), None, None)
    weights = []
    for _ in range(6):
        losses = model.loss(batch, generator=generator)
        weights.append(float(losses["ramp"]))
        expected = losses["blind"] + losses["ramp"] * (losses["self"] + 2 * losses["invariance"])
        torch.testing.assert_close(losses["total"].detach(), expected)
    assert weights == [0, 0.25, 0.5, 0.75, 1, 1]
    model.ramp.fill_(0.5)
    assert float(model.eval().loss(batch, generator=generator)["ramp"]) == 1  # judged by the whole of it
    assert float(model.ramp) == 0.5
    paper = ConditionalBlindSpotDenoiser(CARD.model_copy(update={"config": {"channels": 3, "width": 8, "depth": 1}}))
    assert 100_000 / paper.ramp_steps == 0.5


@pytest.mark.parametrize("size", [(20, 30), (21, 33), (7, 11)])
def test_space_to_batch_has_an_exact_inverse(size: tuple[int, int], generator: torch.Generator) -> None:
    image = torch.rand(2, 3, *size, generator=generator)
    parts = space_to_batch(image, 5)
    assert parts.shape[0] == 50
    assert torch.equal(batch_to_space(parts, 5, size), image)
    row, column = 1, 3
    part = parts[2 * (5 * row + column)][:, : -(-(size[0] - row) // 5), : -(-(size[1] - column) // 5)]
    assert torch.equal(part, image[0, :, row::5, column::5])


def test_brightness_and_contrast_do_not_matter_to_the_teacher(
    model: ConditionalBlindSpotDenoiser, generator: torch.Generator
) -> None:
    noisy = torch.rand(1, 3, 24, 24, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(model.denoise(0.3 * noisy + 0.5), 0.3 * model.denoise(noisy) + 0.5)


def test_the_student_is_small_homogeneous_and_follows_its_teacher(generator: torch.Generator) -> None:
    card = ModelCard(
        id="cbsn.test", method="cbsn", config={"channels": 3, "widths": [16, 32, 64, 128], "blocks": 2, "fold": 2}
    )
    torch.manual_seed(4)
    student = DistilledBlindSpot(card)
    assert 0.9e6 < sum(weight.numel() for weight in student.parameters()) < 1.15e6
    noisy = torch.rand(1, 3, 32, 32, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(student.denoise(3 * noisy), 3 * student.denoise(noisy), rtol=1e-4, atol=1e-5)
        loss = student.loss(Batch(noisy, student.denoise(noisy) + 0.5, None), generator=generator)
    assert float(loss["total"]) == pytest.approx(0.5)
    large = torch.rand(1, 3, 192, 208, generator=generator)
    with torch.no_grad():
        shift = (student.denoise(large) - large).mean((2, 3)).abs().max()
    assert float(shift) < 0.5 / 255
    with pytest.raises(WeightsError, match="teacher"):
        student.loss(Batch(noisy, None, None), generator=generator)


def told_student() -> DistilledBlindSpot:
    torch.manual_seed(6)
    config = {"channels": 3, "widths": [8, 16], "blocks": 1, "fold": 2, "told": True}
    student = DistilledBlindSpot(ModelCard(id="cbsn.told", method="cbsn", config=config))
    nn.init.normal_(student.network.tail.weight, std=0.004)
    return student


@pytest.mark.parametrize("sigma", [0.5, 1.5, 6.0])
def test_a_student_is_told_the_noise_of_the_flattest_parts(sigma: float, generator: torch.Generator) -> None:
    """Eight times its standard deviation, the strongest at most; texture beside it does not count."""
    image = 0.5 + sigma / 255 * torch.randn(1, 3, 256, 256, generator=generator)
    image[..., 64:] += 0.2 * torch.randn(1, 3, 256, 192, generator=generator)
    student = told_student()
    found = student.survey(Held(image[0], 10**7), None).strength
    assert found == pytest.approx(min(8 * sigma, 8) / 255, rel=0.15)
    with torch.no_grad():
        torch.testing.assert_close(
            student.denoise(image), student.denoise_at(image, torch.tensor([found])), rtol=1e-5, atol=1e-6
        )
        apart = student.denoise_at(image, torch.tensor([0.0])) - student.denoise(image)
    assert float(apart.abs().max()) > 1e-4


class _Flattens(nn.Module):
    """A network that takes everything that is not in the mean colour."""

    fold = 2

    def forward(self, noisy: Tensor, level: Tensor) -> Tensor:
        return noisy.mean((2, 3), keepdim=True) - noisy


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_more_is_told_where_the_network_takes_more(sigma: float, generator: torch.Generator) -> None:
    student = told_student()
    student.network = _Flattens()  # pyright: ignore[reportAttributeAccessIssue]
    image = 0.5 + sigma / 255 * torch.randn(1, 3, 256, 256, generator=generator)
    found = student.survey(Held(image[0], 10**7), None).strength
    assert found == pytest.approx(min(8 * max(1.0, (sigma / 3.5) ** 2), 24.0) / 255, rel=0.05)


def test_tiles_of_an_image_are_told_the_same(generator: torch.Generator) -> None:
    whole = 0.5 + 0.02 * torch.randn(3, 256, 1000, generator=generator)
    whole[..., :300] = 0.5  # outside of the middle that is looked at
    student, held = told_student(), Held(whole, 3 * 256 * 256)
    survey = student.survey(held, None)
    assert held.largest <= held.most_values
    assert survey.strength == pytest.approx(8 / 255)
    tiles = torch.stack((whole[:, :64, :64], whole[:, 64:128, 640:704]))
    with torch.no_grad():
        torch.testing.assert_close(
            survey.denoise(tiles, None, [(0, 0), (64, 640)]), student.denoise_at(tiles, torch.full((2,), 8 / 255))
        )


def test_where_nothing_tells_the_noise_a_middling_strength_is_told() -> None:
    student = told_student()
    clipped = torch.ones(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(student.denoise(clipped), student.denoise_at(clipped, torch.tensor([4 / 255])))
        small = torch.rand(1, 3, 32, 32)
        torch.testing.assert_close(student.denoise(small), student.denoise_at(small, torch.tensor([4 / 255])))


def test_a_told_student_learns_from_what_its_teacher_was_told(generator: torch.Generator) -> None:
    student, noisy = told_student(), torch.rand(2, 3, 32, 32, generator=generator)
    strength = torch.tensor([0.01, 0.03])
    told = NoiseLevel(np.zeros((2, 3)), strength.square()[:, None].expand(2, 3).numpy(), "told")
    with torch.no_grad():
        answer = noisy + student.network(noisy, strength.view(2, 1, 1, 1).expand(2, 1, 16, 16))
        loss = student.loss(Batch(noisy, answer + 0.25, told), generator=generator)
    assert float(loss["total"]) == pytest.approx(0.25, rel=1e-4)
    with pytest.raises(WeightsError, match="camera-jpegs"):
        student.loss(Batch(noisy, answer, None), generator=generator)
