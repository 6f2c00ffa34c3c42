"""Any model over any image: tiled equals whole, within the memory promised, and what goes wrong is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from denoise.card import ModelCard
from denoise.engine import Engine, Plan
from denoise.engine.device import GIB, DeviceReport, choose_precision
from denoise.engine.plan import Task, make_plan
from denoise.engine.run import run_batch
from denoise.engine.tiles import smallest_tile
from denoise.errors import DenoiseError, DeviceError, OutOfMemoryError, ShapeError, WeightsError
from denoise.images import Photo, RawImage
from noise_models.level import NoiseLevel

NOISE = NoiseLevel(np.array([0.01]), np.array([1e-4]))


class MockDenoiser:
    """A network, or any function of a tile, with a card."""

    def __init__(self, network: Callable[..., torch.Tensor], **card: object) -> None:
        self.network = network
        self.card = ModelCard.model_validate({"id": "mock.none", "method": "mock", "noise": "ignored", **card})
        self.tiles: list[torch.Size] = []

    def denoise(
        self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        self.tiles.append(noisy.shape)
        return self.network(noisy, generator) if self.card.stochastic else self.network(noisy)

    def to(self, device: torch.device) -> MockDenoiser:
        if isinstance(self.network, nn.Module):
            self.network.to(device)
        return self


class MockUnet(nn.Module):
    """Two strided steps down and up with skips: right only where tiles are aligned to 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, 8, 3, padding=1)
        self.downs = nn.ModuleList([nn.Conv2d(8, 8, 2, stride=2), nn.Conv2d(8, 8, 2, stride=2)])
        self.bodies = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, stride=2), nn.ConvTranspose2d(8, 8, 2, stride=2)])
        self.tail = nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        full = self.bodies[0](self.head(noisy)).relu()
        half = self.bodies[1](self.downs[0](full)).relu()
        quarter = self.bodies[2](self.downs[1](half)).relu()
        half = half + self.ups[1](quarter)
        return noisy + self.tail(full + self.ups[0](half))


def conv_stack(channels: int, layers: int = 3) -> nn.Module:
    """Return convolutions with a receptive radius of ``layers``."""
    inner = [layer for _ in range(layers - 2) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), *inner, nn.Conv2d(8, channels, 3, padding=1)
    ).to(memory_format=torch.channels_last)


def photo(height: int, width: int, channels: int = 3) -> Photo:
    return Photo(np.random.default_rng(height * width).random((height, width, channels), np.float32))


def raw(height: int, width: int, cfa: str = "RGGB", **more: object) -> RawImage:
    mosaic = np.random.default_rng(height * width).integers(300, 16000, (height, width), dtype=np.uint16)
    return RawImage(mosaic, cfa, np.full((2, 2), 512.0), 16383.0, **more)  # pyright: ignore[reportArgumentType]


def whole(image: Photo, model: MockDenoiser) -> torch.Tensor:
    """Denoise without the engine: mirrored to the model's multiple, cropped after."""
    _, height, width = image.shape
    step = model.card.multiple_of
    padding = ((0, 0), (0, -height % step), (0, -width % step))
    padded = torch.from_numpy(np.pad(image.to_tensor().numpy(), padding, mode="reflect"))[None]
    with torch.inference_mode():
        return model.denoise(padded, None)[0, :, :height, :width]


def constant(*tiles: int) -> Engine:
    return Engine(device="cpu", precision="float32", tile=tiles[0] if tiles else "auto")


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 3))
def test_tiled_equals_whole_for_convolutions(height: int, width: int, batch: int) -> None:
    torch.manual_seed(0)
    model = MockDenoiser(conv_stack(3), halo=3)
    image = photo(height, width)
    result = Engine(device="cpu", tile=96, batch_size=batch).denoise(image, model)
    torch.testing.assert_close(result.to_tensor(), whole(image, model), rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 300), st.integers(1, 300))
def test_tiled_equals_whole_for_a_unet(height: int, width: int) -> None:
    torch.manual_seed(0)
    model = MockDenoiser(MockUnet(1), halo=16, multiple_of=4)
    image = photo(height, width, 1)
    engine = constant(100)
    result = engine.denoise(image, model)
    assert all(size % 4 == 0 for tile in model.tiles for size in tile[2:])
    torch.testing.assert_close(result.to_tensor(), whole(image, model), rtol=0, atol=1e-4)


def test_every_tile_has_one_shape() -> None:
    model = MockDenoiser(lambda noisy: noisy, halo=8, multiple_of=8)
    engine = constant(128)
    engine.denoise(photo(333, 517), model)
    assert len(set(model.tiles)) == 1
    assert engine.last_plan is not None
    assert len(model.tiles) == engine.last_plan.tiles[0] * engine.last_plan.tiles[1]


@pytest.mark.parametrize("cfa", ["RGGB", "BGGR", "MONO"])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (301, 407)])
def test_raw_of_any_size_comes_back(cfa: str, shape: tuple[int, int]) -> None:
    image = raw(*shape, cfa)
    result = constant(64).denoise(image, MockDenoiser(lambda noisy: noisy, halo=4, multiple_of=8))
    assert isinstance(result, RawImage)
    assert result.mosaic.shape == shape
    np.testing.assert_array_equal(result.mosaic, image.mosaic * np.uint16(4))
    assert result.history[-1].startswith("denoised by mock.none")


def test_strength_zero_returns_the_input_without_the_model() -> None:
    def never(noisy: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    image = raw(301, 407)
    result = constant().denoise(image, MockDenoiser(never), strength=0.0)
    assert isinstance(result, RawImage)
    np.testing.assert_array_equal(result.mosaic, image.mosaic * np.uint16(4))
    with pytest.raises(DenoiseError, match="between 0"):
        constant().denoise(image, MockDenoiser(never), strength=1.5)


def test_strength_leaves_a_share() -> None:
    image = photo(150, 90)
    result = constant(64).denoise(image, MockDenoiser(torch.zeros_like, halo=2), strength=0.25)
    torch.testing.assert_close(result.to_tensor(), 0.75 * image.to_tensor())


def test_a_model_for_something_else_is_refused() -> None:
    image = photo(8, 8)
    with pytest.raises(WeightsError, match="made for raw images"):
        constant().denoise(image, MockDenoiser(torch.zeros_like, domain="raw"))
    with pytest.raises(WeightsError, match="3 planes, but it serves 1 or 4"):
        constant().denoise(image, MockDenoiser(torch.zeros_like, channels=(1, 4)))
    with pytest.raises(WeightsError, match="--noise"):
        constant().denoise(image, MockDenoiser(torch.zeros_like, noise="required"))
    constant().denoise(image, MockDenoiser(torch.zeros_like, noise="required"), noise=NOISE)


def test_noise_is_spelled_out_for_every_plane() -> None:
    seen: list[NoiseLevel | None] = []

    class Listening(MockDenoiser):
        def denoise(
            self, noisy: torch.Tensor, noise: NoiseLevel | None, *, generator: torch.Generator | None = None
        ) -> torch.Tensor:
            seen.append(noise)
            return noisy

    constant().denoise(raw(64, 64, noise=NOISE), Listening(torch.zeros_like, noise="required"))
    assert seen[0] is not None
    assert seen[0].channels == 4


def test_progress_counts_every_tile() -> None:
    calls: list[tuple[int, int]] = []
    engine = Engine(device="cpu", tile=64, batch_size=3)
    engine.denoise(photo(200, 200), MockDenoiser(lambda n: n, halo=4), progress=lambda *call: calls.append(call))
    total = calls[0][1]
    assert total > 3
    assert calls == [(done, total) for done in range(total + 1)]
    assert set(engine.last_timings) == {"network_s", "total_s", "network_share"}


def test_a_tile_that_is_not_finite_is_run_again_in_float32() -> None:
    def overflows(noisy: torch.Tensor) -> torch.Tensor:
        return noisy / 0 if torch.is_autocast_enabled("cpu") else noisy

    image = photo(150, 90)
    engine = Engine(device="cpu", precision="bfloat16", tile=64)
    result = engine.denoise(image, MockDenoiser(overflows, halo=2, precisions=("float32", "bfloat16")))
    torch.testing.assert_close(result.to_tensor(), image.to_tensor())
    assert engine.last_plan is not None
    assert "ran again in float32" in engine.last_plan.reasons[-1]
    with pytest.raises(DeviceError, match=r"tile at row 0, column 0"):
        constant().denoise(image, MockDenoiser(lambda noisy: noisy * float("nan")))
    pixels = image.pixels.copy()
    pixels[3, 4] = np.nan
    with pytest.raises(ShapeError, match="the image"):
        constant().denoise(Photo(pixels), MockDenoiser(lambda noisy: noisy))


def test_bfloat16_runs_under_autocast_and_returns_float32() -> None:
    model = MockDenoiser(conv_stack(3), halo=3, precisions=("float32", "bfloat16"))
    out = run_batch(model, torch.rand(1, 3, 16, 16), None, precision="bfloat16")
    assert out.dtype == torch.float32
    assert torch.equal(out, out.bfloat16().float())


def test_only_real_lack_of_memory_halves_the_tile() -> None:
    def greedy(noisy: torch.Tensor) -> torch.Tensor:
        if noisy.shape[-1] > 100:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")
        return noisy

    image = photo(500, 400)
    engine = constant(400)
    result = engine.denoise(image, MockDenoiser(greedy, halo=8))
    torch.testing.assert_close(result.to_tensor(), image.to_tensor())
    assert engine.last_plan is not None
    assert max(engine.last_plan.tile) <= 100
    assert sum("memory ran out" in reason for reason in engine.last_plan.reasons) >= 2

    def insatiable(noisy: torch.Tensor) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="none are smaller than 64"):
        engine.denoise(image, MockDenoiser(insatiable, halo=8))

    def broken(noisy: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        engine.denoise(image, MockDenoiser(broken, halo=8))


def test_a_batch_shrinks_before_a_tile_does() -> None:
    def greedy(noisy: torch.Tensor) -> torch.Tensor:
        if len(noisy) > 1:
            raise MemoryError
        return noisy

    engine = Engine(device="cpu", tile=64, batch_size=4)
    engine.denoise(photo(200, 200), MockDenoiser(greedy, halo=4))
    assert engine.last_plan is not None
    assert engine.last_plan.batch == 1
    assert "batch of 4" in engine.last_plan.reasons[-1]


def test_a_stochastic_model_repeats_whatever_the_batch() -> None:
    def shaken(noisy: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return noisy + 0.1 * torch.randn(noisy.shape, generator=generator)

    image = photo(200, 200)
    model = MockDenoiser(shaken, halo=4, stochastic=True)
    first, second, other = (
        Engine(device="cpu", tile=64, batch_size=batch, seed=seed).denoise(image, model).to_tensor()
        for batch, seed in ((1, 7), (5, 7), (1, 8))
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    residual = first - image.to_tensor()
    assert not torch.equal(residual[:, :40, :40], residual[:, 150:190, 150:190])


@given(
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.sampled_from([1, 4, 8]),
    st.integers(0, 100),
    st.floats(0.2, 8.0),
    st.floats(50, 20000),
)
def test_a_plan_obeys_the_budget_or_says_what_is_needed(
    height: int, width: int, multiple_of: int, halo: int, budget_gib: float, bytes_per_pixel: float
) -> None:
    card = ModelCard(id="mock.none", method="mock", halo=halo, multiple_of=multiple_of)
    task = Task((4, height, width), card, 8 * height * width, 0, bytes_per_pixel, None)
    report = DeviceReport("cpu", available_bytes=64 * GIB, resident_bytes=300 << 20)
    precision = choose_precision("auto", card, report)
    try:
        plan = make_plan(task, report, precision, max_memory=int(budget_gib * GIB))
    except OutOfMemoryError:
        side = smallest_tile(multiple_of, halo)
        assert task.peak_bytes(task.lay((side, side)), 1, "float32", report) > budget_gib * GIB
    else:
        assert plan.peak_gib <= budget_gib + 0.001
        assert all(size % multiple_of == 0 for size in plan.tile)


def test_a_plan_gives_its_reasons() -> None:
    model = MockDenoiser(lambda noisy: noisy, halo=32, multiple_of=8, precisions=("float32", "bfloat16"))
    model.bytes_per_pixel = 500.0  # pyright: ignore[reportAttributeAccessIssue]
    model.macs_per_pixel = 154e3  # pyright: ignore[reportAttributeAccessIssue]
    report = DeviceReport(
        "cpu", cores=2, available_bytes=8 * GIB, native={"bfloat16": "the CPU has AVX512-BF16"}, resident_bytes=GIB // 3
    )
    plan = Engine(max_memory=GIB).plan(raw(3464, 5216), model, report=report)
    assert plan.tiles == (2, 3)
    assert plan.precision == "bfloat16"
    assert plan.peak_gib <= 1
    assert plan.seconds is not None
    assert 4 < plan.seconds < 9
    assert "AVX512-BF16" in plan.reasons[0]
    assert "fits 1.00 GiB (promised)" in plan.reasons[1]
    assert "times the image" in plan.reasons[2]
    assert Plan(**plan.to_dict()) == plan


def test_a_plan_is_obeyed_and_must_fit_the_image() -> None:
    model = MockDenoiser(lambda noisy: noisy, halo=8)
    image = photo(300, 300)
    plan = constant(128).plan(image, model)
    engine = Engine(device="cpu")
    engine.denoise(image, model, plan=plan)
    assert engine.last_plan == plan
    assert model.tiles[0][2:] == plan.tile
    with pytest.raises(ShapeError, match="Make a plan for this image"):
        engine.denoise(photo(700, 300), model, plan=plan)


def test_a_wide_halo_asks_for_wide_tiles() -> None:
    """So that little of the image is computed twice; where memory is short, or little is saved, tiles are smaller."""
    report = DeviceReport("cpu", available_bytes=16 * GIB, native={"bfloat16": "AMX"})
    tasks = [
        Task((3, 3000, 4000), ModelCard(id="mock.none", method="mock", halo=halo, multiple_of=16), 0, 0, 176.0, None)
        for halo in (48, 112)
    ]
    narrow, wide = (make_plan(task, report, ("bfloat16", "")) for task in tasks)
    assert max(narrow.tile) <= 27 * 48
    assert 19 * 112 < max(wide.tile) <= 27 * 112
    assert tasks[0].lay(narrow.tile).waste < 1.2
    assert tasks[1].lay(wide.tile).waste < 1.1
    assert wide.peak_gib < 2
    larger = replace(tasks[1], shape=(3, 4000, 6000))
    for task, precision in ((tasks[1], "float32"), (larger, "bfloat16")):
        plan = make_plan(task, report, (precision, ""))
        assert 1024 < max(plan.tile) <= 19 * 112
        assert task.lay(plan.tile).waste < 1.2
        assert plan.peak_gib < 2
    assert max(make_plan(tasks[1], report, ("bfloat16", ""), max_memory=GIB // 2).tile) < 19 * 112


def test_a_model_that_sees_the_whole_image_gets_it_where_it_fits() -> None:
    model = MockDenoiser(lambda noisy: noisy - noisy.mean(), halo=None)
    report = DeviceReport("cpu", available_bytes=4 * GIB)
    task = Task.of(photo(1200, 1000), model)
    precision = choose_precision("auto", model.card, report)
    assert make_plan(task, report, precision).tiles == (1, 1)
    plan = make_plan(task, report, precision, max_memory=GIB)
    assert plan.tiles != (1, 1)
    assert any("sees the whole image" in reason for reason in plan.reasons)


def test_a_cards_memory_is_what_counts_on_cuda() -> None:
    model = MockDenoiser(lambda noisy: noisy, halo=32, multiple_of=8)
    report = DeviceReport("cuda:0", available_bytes=6 * GIB, resident_bytes=GIB)
    plan = Engine().plan(raw(4000, 6000), model, report=report)
    assert plan.device == "cuda:0"
    assert plan.batch > 1
    assert plan.peak_gib <= 1 + 0.9 * 6


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(DeviceError, match="'auto' or a number"):
        Engine(tile="big")
    with pytest.raises(DeviceError, match="at least 1"):
        Engine(batch_size=0)
    with pytest.raises(DeviceError, match="needs at least 144"):
        Engine(tile=100).plan(photo(999, 999), MockDenoiser(torch.zeros_like, halo=32, multiple_of=8))
    with pytest.raises(ShapeError, match="returned"):
        constant().denoise(photo(9, 9), MockDenoiser(lambda noisy: noisy[:, :1]))


class LazyLane:
    """A lane that computes only when its result is asked for, as late as a card may."""

    depth = 2

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def send(self, noisy: torch.Tensor, step: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: step(noisy)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_under_way_is_not_written_over(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    image = photo(300, 200)
    model = MockDenoiser(lambda noisy: noisy.clone(), halo=4)
    monkeypatch.setattr("denoise.engine.run.open_lane", LazyLane)
    result = Engine(device="cpu", tile=64, batch_size=batch).denoise(image, model, strength=0.5)
    torch.testing.assert_close(result.to_tensor(), image.to_tensor())


def test_weights_lie_as_tiles_do() -> None:
    class Module(MockDenoiser, nn.Module):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            MockDenoiser.__init__(self, nn.Conv2d(3, 3, 3, padding=1), halo=1)

    model = Module()
    constant().denoise(photo(64, 64), model)
    assert isinstance(model.network, nn.Conv2d)
    assert model.network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA card is there: the gpu test compares real numbers")
@pytest.mark.parametrize("network", ["arithmetic", "unet"])
def test_the_step_keeps_to_one_device(network: str) -> None:
    """Fake tensors stand on a card that is not there: a stray CPU tensor in the tile step raises."""
    if network == "unet" and torch.version.cuda is None:
        pytest.skip("torch was built without CUDA: a network cannot be built on a card, even a fake one")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        with torch.device("cuda"):
            body = MockUnet(4) if network == "unet" else lambda noisy: 0.9 * noisy
            noisy = torch.empty(2, 4, 64, 64, memory_format=torch.channels_last)
        model = MockDenoiser(body, halo=16, multiple_of=4)
        for precision in ("float32", "bfloat16"):
            out = run_batch(model, noisy, NOISE.for_channels(4), precision=precision, strength=0.5)
            assert out.device.type == "cuda"
            assert out.dtype == torch.float32
        astray = MockDenoiser(lambda noisy: noisy + torch.ones(64, device="cpu"))
        with pytest.raises(RuntimeError, match="device"):
            run_batch(astray, noisy, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")
def test_cuda_agrees_with_the_cpu() -> None:
    torch.manual_seed(0)
    model = MockDenoiser(MockUnet(3), halo=16, multiple_of=4)
    image = photo(700, 900)
    expected = Engine(device="cpu", precision="float32", tile=256).denoise(image, model).to_tensor()
    for batch in (1, 4):
        engine = Engine(device="cuda", precision="float32", tile=256, batch_size=batch)
        torch.testing.assert_close(engine.denoise(image, model).to_tensor(), expected, rtol=0, atol=1e-2)


MEMORY_RUN = """
import resource, sys
import numpy as np
import torch
sys.path.insert(0, "tests/denoise")
from test_engine import MockDenoiser, conv_stack
from denoise.engine import Engine
from denoise.engine.device import keep_memory
from denoise.images import RawImage

keep_memory()
rows = np.random.default_rng(0).integers(500, 16000, (64, 9504), dtype=np.uint16)
image = RawImage(np.tile(rows, (99, 1)), "RGGB", np.full((2, 2), 512.0), 16383.0)
model = MockDenoiser(conv_stack(4, 2), halo=2, multiple_of=8)
model.bytes_per_pixel = float(sys.argv[1])
engine = Engine(device="cpu", max_memory=1 << 30)
for _ in range(2):
    result = engine.denoise(image, model)
    peak_kib = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    print(peak_kib * 1024, engine.last_plan.peak_gib, *engine.last_plan.tile)
    del result
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to count resident memory")
@pytest.mark.parametrize("bytes_per_pixel", [200, 3000])
def test_sixty_megapixels_stay_within_one_gib(bytes_per_pixel: int) -> None:
    """Twice in one process: what the first image left to the C library must not count against the second."""
    command = [sys.executable, "-c", MEMORY_RUN, str(bytes_per_pixel)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    first, second = (list(map(float, line.split())) for line in done.stdout.splitlines())
    for peak, planned_gib, *tile in (first, second):
        assert peak <= 1 << 30
        assert planned_gib <= 1
        assert (max(tile) > 900) == (bytes_per_pixel == 200)
    assert abs(second[1] - first[1]) < 0.15
