"""The loop, of any learner: what it draws, shares, keeps, refuses, and how it stops."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from denoise.denoiser import Batch
from denoise.errors import DeviceError, FileFormatError, RecipeError
from denoise.training.checkpoints import list_checkpoints
from denoise.training.feed import Feed, Share, examples_of, seeded
from denoise.training.loop import Loop, LoopSettings, Progress
from noise_models.level import NoiseLevel

SLOPE, OFFSET = 3.0, -1.0


@dataclass
class Points:
    """What the learner below sees; not a `Batch`."""

    x: Tensor
    y: Tensor


class Line(nn.Module):
    """y = slope x + offset: a weight and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        with torch.no_grad():
            self.layer.weight.fill_(0.0)
            self.layer.bias.fill_(0.0)

    def loss(self, batch: Points, *, generator: torch.Generator) -> dict[str, Tensor]:
        error = (self.layer(batch.x) - batch.y).abs().mean()
        return {"total": error, "chance": torch.rand((), generator=generator)}


class LineSource:
    """Points of the line; from ``bad_step`` on, not numbers."""

    def __init__(self, bad_draw: int = -1) -> None:
        self.bad_draw, self.draws = bad_draw, 0

    def draw(self, batch: int, *, generator: torch.Generator) -> Points:
        x = torch.randn(batch, 1, generator=generator)
        self.draws += 1
        return Points(x, (SLOPE if self.draws != self.bad_draw else math.nan) * x + OFFSET)


def settings(steps: int, **changes: Any) -> LoopSettings:
    values = {"batch": 8, "warm_up": 0, "precision": "float32", "weight_decay": 0.0, "learning_rate": 0.05,
              "ema": 0.5, "clip": 10.0} | changes  # fmt: skip
    return LoopSettings(steps=steps, **values)


def gradient_of(learner: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in learner.parameters() if parameter.grad is not None])


def lines_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_any_learner_is_trained_its_biases_too(tmp_path: Path, optimiser: str) -> None:
    result = Loop(Line(), LineSource(), settings(300, optimiser=optimiser), tmp_path).run()
    assert float(result.weights["layer.weight"]) == pytest.approx(SLOPE, abs=0.1)
    assert float(result.weights["layer.bias"]) == pytest.approx(OFFSET, abs=0.1)
    assert math.isnan(result.score)
    assert result.steps == 300
    assert set(lines_of(tmp_path)[-1]) == {"step", "total", "chance", "samples_per_s"}


def test_the_best_score_chooses(tmp_path: Path) -> None:
    scores = iter([1.0, 7.0, 3.0, 2.0])
    seen: list[Progress] = []
    loop = Loop(Line(), LineSource(), settings(20, validate_steps=5), tmp_path, score=lambda _: next(scores))
    result = loop.run(seen.append)
    assert (result.score, result.steps) == (7.0, 10)
    assert [line["score"] for line in lines_of(tmp_path) if "score" in line] == [1.0, 7.0, 3.0, 2.0]
    assert [now.step for now in seen] == list(range(1, 21))
    assert seen[-1].seconds_left == 0
    assert seen[-1].samples_per_s > 0
    later = Loop(Line(), LineSource(), settings(20, validate_steps=5), tmp_path, score=lambda _: 99.0)
    later.load_checkpoint()
    assert torch.equal(later.run().weights["layer.bias"], result.weights["layer.bias"])


def test_what_is_not_a_number_stops_it_and_its_batch_is_kept(tmp_path: Path) -> None:
    loop = Loop(Line(), LineSource(bad_draw=6), settings(20, validate_steps=2), tmp_path, score=lambda _: 0.0)
    with pytest.raises(RecipeError, match=r"loss became nan at step 6.*bad-batch-00000006-0.pt"):
        loop.run()
    assert torch.isfinite(loop.learner.layer.weight).all()  # type: ignore[union-attr]
    assert loop.step == 5
    with torch.serialization.safe_globals([Points]):
        (batch,) = torch.load(tmp_path / "bad-batch-00000006-0.pt")
    assert batch.y.isnan().all()
    assert list_checkpoints(tmp_path)[-1][0] == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def interrupt(now: Progress) -> None:
        if now.step == 7:
            os.kill(os.getpid(), number)

    loop = Loop(Line(), LineSource(), settings(100), tmp_path)
    with pytest.raises(KeyboardInterrupt, match=r"step 7 of 100.*--resume"):
        loop.run(interrupt)
    assert signal.getsignal(number) is before
    assert list_checkpoints(tmp_path)[-1][0] == 7
    resumed = Loop(Line(), LineSource(), settings(100), tmp_path, seed=5)
    resumed.load_checkpoint()
    whole = Loop(Line(), LineSource(), settings(100), tmp_path / "whole").run()
    assert torch.equal(resumed.run().weights["layer.weight"], whole.weights["layer.weight"])


def test_few_checkpoints_are_kept_and_a_training_is_not_written_over(tmp_path: Path) -> None:
    Loop(Line(), LineSource(), settings(10, validate_steps=2, keep=3), tmp_path, score=lambda _: 0.0).run()
    assert [step for step, _ in list_checkpoints(tmp_path)] == [6, 8, 10]
    with pytest.raises(RecipeError, match="holds a training already"):
        Loop(Line(), LineSource(), settings(10), tmp_path).run()
    list_checkpoints(tmp_path)[-1][1].write_bytes(b"PK half a file")
    with pytest.raises(RecipeError, match=r"is damaged.*the one before"):
        Loop(Line(), LineSource(), settings(10), tmp_path).load_checkpoint()


def test_another_learner_is_not_gone_on_with(tmp_path: Path) -> None:
    Loop(Line(), LineSource(), settings(3), tmp_path).run()
    other = Line()
    other.layer = nn.Linear(1, 2)
    with pytest.raises(RecipeError, match="another model"):
        Loop(other, LineSource(), settings(3), tmp_path).load_checkpoint()


def test_other_settings_are_told_when_it_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Loop(Line(), LineSource(), settings(3), tmp_path).run()
    Loop(Line(), LineSource(), settings(5, batch=16), tmp_path).load_checkpoint()
    told = [record.getMessage() for record in caplog.records]
    assert [message.partition("had ")[2] for message in told] == [
        "steps = 3, and goes on with 5",
        "batch = 8, and goes on with 16",
    ]


class Judged(LoopSettings):
    """As a recipe, it says by what weights are judged."""

    validation: tuple[str, ...] = ("first",)


def test_scores_of_other_images_do_not_choose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def judged(steps: int, name: str) -> Judged:
        return Judged(**settings(steps, validate_steps=3).model_dump(), validation=(name,))

    Loop(Line(), LineSource(), judged(3, "first"), tmp_path, score=lambda _: 20.0).run()
    same = Loop(Line(), LineSource(), judged(6, "first"), tmp_path, score=lambda _: 10.0)
    same.load_checkpoint()
    assert same.best["score"] == 20.0
    other = Loop(Line(), LineSource(), judged(6, "second"), tmp_path, score=lambda _: 10.0, seed=4)
    other.load_checkpoint()
    result = other.run()
    assert (result.score, result.steps) == (10.0, 6)
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "had validation = ['first'], and goes on with ['second']" in told
    assert "began with seed 0" in told


def test_steps_that_are_done_already_are_refused(tmp_path: Path) -> None:
    Loop(Line(), LineSource(), settings(6), tmp_path).run()
    with pytest.raises(RecipeError, match=r"steps = 5 was asked for, but .* has done 6"):
        Loop(Line(), LineSource(), settings(5), tmp_path).load_checkpoint()


def test_what_breaks_in_a_validation_costs_no_step(tmp_path: Path) -> None:
    def break_off(_: nn.Module) -> float:
        raise KeyboardInterrupt

    loop = Loop(Line(), LineSource(), settings(8, validate_steps=4), tmp_path, score=break_off)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    resumed = Loop(Line(), LineSource(), settings(8, validate_steps=4), tmp_path, score=lambda _: 1.0)
    resumed.load_checkpoint()
    assert resumed.step == 4
    assert resumed.run().steps == 4  # the validation that broke is made good: the first of the best is kept
    assert [line["step"] for line in lines_of(tmp_path) if "score" in line] == [4, 8]


def test_files_that_cannot_be_written_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(FileFormatError, match=r"Cannot write .*metrics\.jsonl"):
        Loop(Line(), LineSource(), settings(3), tmp_path / "a").run()

    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")  # as torch says it

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(FileFormatError, match=r"Cannot write .*checkpoint-00000003\.pt.*Free some space"):
        Loop(Line(), LineSource(), settings(3), tmp_path / "b").run()


def test_passes_add_up_to_the_step(tmp_path: Path) -> None:
    """Two passes of four have the gradient of the eight of both."""
    loop = Loop(Line(), LineSource(), settings(1, accumulate=2, optimiser="adamw", clip=1e9), tmp_path)
    with Feed(LineSource(), loop.share, 0, 1) as feed:
        parts = feed.at(0)
        loop.accelerator.clip_grad_norm_ = lambda *_: torch.tensor(1.0)
        loop.optimiser.zero_grad = lambda **_: None  # so that the gradient can be looked at
        loop._one_step(feed)
    gradient = torch.cat(
        [parameter.grad.flatten() for parameter in loop.learner.parameters() if parameter.grad is not None]
    )
    reference = Line()
    whole = Points(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
    reference.loss(whole, generator=torch.Generator())["total"].backward()
    expected = torch.cat(
        [parameter.grad.flatten() for parameter in reference.parameters() if parameter.grad is not None]
    )
    torch.testing.assert_close(gradient, expected)


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Loop(Line(), LineSource(), settings(3, tensorboard=True), tmp_path).run()
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a card has half precision")
    with pytest.raises(DeviceError, match="float16"):
        Loop(Line(), LineSource(), settings(1, precision="float16"), tmp_path, device="cpu")


@pytest.mark.parametrize(("batch", "passes", "processes"), [(8, 1, 1), (8, 4, 2), (8, 2, 4), (12, 3, 3), (8, 1, 8)])
def test_processes_share_every_example_once(batch: int, passes: int, processes: int) -> None:
    seen = []
    for rank in range(processes):
        share = Share(batch, passes, processes, rank)
        for part in share.mine:
            seen += [(part, example) for example in range(share.examples)[share.window]]
    assert sorted(seen) == [(part, example) for part in range(passes) for example in range(batch // passes)]


@pytest.mark.parametrize(("batch", "passes", "processes"), [(8, 3, 2), (9, 1, 2), (8, 2, 3)])
def test_what_cannot_be_shared_is_refused(batch: int, passes: int, processes: int) -> None:
    with pytest.raises(RecipeError, match="shared evenly"):
        Share(batch, passes, processes)


def test_a_step_sees_the_same_whatever_was_drawn_before() -> None:
    with Feed(LineSource(), Share(8, 1), 3, 100) as feed:
        in_order = [feed.at(step)[0].x for step in range(5)]
    with Feed(LineSource(), Share(8, 1), 3, 100) as feed:
        assert torch.equal(feed.at(4)[0].x, in_order[4])
    assert not torch.equal(in_order[0], in_order[1])
    assert seeded(1, 2).initial_seed() != seeded(2, 1).initial_seed()


def test_examples_are_cut_out_of_all_that_runs_over_them() -> None:
    level = NoiseLevel(np.arange(24.0).reshape(6, 4), np.ones((6, 4)), "drawn")
    batch = Batch(torch.arange(6.0).reshape(6, 1, 1, 1), None, level)
    part = examples_of(batch, slice(2, 4), 6)
    assert part.noisy.flatten().tolist() == [2, 3]
    assert part.noise.shot.tolist() == level.shot[2:4].tolist()
    assert part.noise.source == "drawn"
    shared = examples_of(Batch(batch.noisy, None, NoiseLevel(np.ones(4), np.ones(4))), slice(2, 4), 6)
    assert shared.noise.shot.shape == (4,)
