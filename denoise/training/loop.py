"""One loop that trains every learner, on one process or many, and can be stopped and gone on with.

It keeps an exponential moving average of the weights, chooses by the score alone, writes checkpoints that hold
everything, and stops cleanly when it is told to. Which device, how many processes and hosts: that is asked of
Hugging Face `accelerate`, so that ``accelerate launch`` and ``torchrun`` need no change of a recipe.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from denoise.errors import RecipeError
from denoise.io.files import atomic_target, make_folder
from denoise.training.accelerator import make_accelerator
from denoise.training.checkpoints import list_checkpoints, read_checkpoint, write_checkpoint
from denoise.training.clock import Clock, Progress, told_to_stop
from denoise.training.feed import Feed, Share, Source, on_device, seeded
from denoise.training.log import TrainingLog
from denoise.training.optimiser import Muon
from denoise.training.settings import LoopSettings

__all__ = ["Loop", "LoopResult", "LoopSettings", "Progress", "Source"]

_LOG = logging.getLogger(__name__)
_OF_LOSS: Final = 1  # tells the chance of a loss from that of a draw
_JUDGED_BY: Final = {"validation", "data_folder", "source"}  # what of a recipe says by which images weights are chosen


@dataclass(frozen=True, eq=False)
class LoopResult:
    """What a training came to."""

    steps: int
    """The step at which ``weights`` stood."""
    seconds: float
    """Wall time, over all runs of a resumed training [s]."""
    score: float
    """Of ``weights``; NaN where nothing scores."""
    weights: dict[str, Tensor]
    """Moving average of the weights: the best by score, else the last."""


class _Pass(nn.Module):
    """A learner whose forward is its loss: what is wrapped for several processes is ``forward``."""

    def __init__(self, learner: nn.Module) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        return self.learner.loss(batch, generator=generator)  # pyright: ignore[reportCallIssue]


class Loop:
    """A training under way in a folder.

    Parameters
    ----------
    learner : nn.Module
        With ``loss(batch, generator=)``; see `denoise.denoiser.Learner`. Moved to the device and trained in place.
    source : Source
        Where batches come from.
    settings : LoopSettings
        How to train.
    folder : Path
        Receives checkpoints and ``metrics.jsonl``.
    seed : int
        Of everything drawn.
    score : callable, optional
        Called with the averaged learner; higher is better. Without it the last weights are kept.
    device : str
        "auto" or "cpu".

    Raises
    ------
    RecipeError
        If the batch cannot be shared between the processes.
    DeviceError
        If the device does not compute in the precision.
    UsageError
        If `accelerate` is not installed.
    """

    def __init__(
        self,
        learner: nn.Module,
        source: Source,
        settings: LoopSettings,
        folder: Path,
        *,
        seed: int = 0,
        score: Callable[[nn.Module], float] | None = None,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:
        self.settings, self.source, self.folder, self.seed, self.score = settings, source, Path(folder), seed, score
        self.accelerator = make_accelerator(settings.precision, device)
        self.share = Share(
            settings.batch, settings.accumulate, self.accelerator.num_processes, self.accelerator.process_index
        )
        self.learner = learner.to(self.accelerator.device)
        self.average = copy.deepcopy(learner).requires_grad_(False)
        kind = Muon if settings.optimiser == "muon" else torch.optim.AdamW
        optimiser = kind(learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self._pass, self.optimiser = self.accelerator.prepare(_Pass(learner), optimiser)
        self.step, self.seconds = 0, 0.0
        self.best: dict[str, Any] = {"score": math.nan, "step": 0, "weights": {}}
        self._resumed = self._validation_due = False
        make_folder(self.folder)

    def run(self, progress: Callable[[Progress], None] | None = None) -> LoopResult:
        """Train to the last step.

        Parameters
        ----------
        progress : callable, optional
            Called after every step.

        Raises
        ------
        RecipeError
            If the loss stops being a number, or the folder holds another training.
        KeyboardInterrupt
            After SIGINT or SIGTERM, once the checkpoint is written; says how to go on.
        """
        if not self._resumed and list_checkpoints(self.folder):
            raise RecipeError(
                f"{self.folder} holds a training already. Go on with it (--resume), or choose another folder."
            )
        board = self.settings.tensorboard and self.accelerator.is_main_process
        with (
            Feed(self.source, self.share, self.seed, self.settings.steps) as feed,
            TrainingLog(self.folder, self.step, tensorboard=board) if self._main else nullcontext() as log,
            told_to_stop() as stop,
        ):
            self._train(feed, log, stop, progress)
        if self.score is None or not self.best["weights"]:
            self.best = {"score": math.nan, "step": self.step, "weights": self._averaged()}
        return LoopResult(self.best["step"], self.seconds, self.best["score"], self.best["weights"])

    @property
    def _main(self) -> bool:
        return self.accelerator.is_main_process

    def _train(
        self, feed: Feed, log: TrainingLog | None, stop: threading.Event, progress: Callable[[Progress], None] | None
    ) -> None:
        clock = Clock(self.settings, self.seconds)
        self._resumed = True
        if self._validation_due:
            self._validate(log)
        while self.step < self.settings.steps:
            losses = self._one_step(feed)
            seconds = clock.tick()
            self.seconds = clock.total
            if log is not None:
                log.write(self.step, {**losses, "samples_per_s": round(self.settings.batch / seconds, 2)})
            if progress is not None and self._main:
                progress(clock.progress(self.step, losses["total"], self.best["score"]))
            last = self.step == self.settings.steps
            stopped, validate, save = self._agree(
                stop.is_set(), last or clock.validation_is_due(self.step), last or clock.checkpoint_is_due()
            )
            if validate and self.score is not None:
                self._validation_due = True
                self.save_checkpoint()  # what breaks or is stopped in the validation then costs no step
                self._validate(log)
            if stopped or validate or save:
                self.save_checkpoint()
                clock.saved(validated=validate)
            if stopped and not last:
                raise KeyboardInterrupt(
                    f"stopped at step {self.step} of {self.settings.steps}; the checkpoint is in {self.folder}. "
                    "Go on with the same command and --resume."
                )

    def _one_step(self, feed: Feed) -> dict[str, float]:
        """Change the weights once; returns the losses, averaged over all processes."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate_at(self.step)
        device, batches = self.accelerator.device, feed.at(self.step)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches):
            batch = on_device(batch, device)
            chance = seeded(
                self.seed, self.step, self.share.mine[number], self.share.window.start + _OF_LOSS, device=device
            )
            waits = self.accelerator.no_sync(self._pass) if number + 1 < len(batches) else nullcontext()
            with waits:
                losses = self._pass(batch, chance)
                self.accelerator.backward(losses["total"] / len(batches))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float().mean() / len(batches)
        norm = self.accelerator.clip_grad_norm_(self._pass.parameters(), self.settings.clip)
        names = sorted(sums)
        values = self.accelerator.reduce(torch.stack([sums[name] for name in names]), "mean")
        means = dict(zip(names, values.tolist(), strict=True))
        overflowed = self.settings.precision != "float16" and not math.isfinite(float(norm))
        if overflowed or not math.isfinite(means["total"]):
            self._refuse(means["total"], float(norm), batches)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self._follow()
        return means

    def _refuse(self, loss: float, norm: float, batches: list[Any]) -> None:
        """Save the batch that gave no number, and stop."""
        path = self.folder / f"bad-batch-{self.step + 1:08d}-{self.accelerator.process_index}.pt"
        with atomic_target(path) as target:
            torch.save(batches, target)
        found = f"loss became {loss}" if not math.isfinite(loss) else f"gradient's norm became {norm}"
        saved = ", or go on from the last checkpoint with --resume" if list_checkpoints(self.folder) else ""
        raise RecipeError(
            f"The {found} at step {self.step + 1}; its batch is saved in {path}. Lower learning_rate and train again"
            f"{saved}."
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights."""
        decay = min(self.settings.ema, self.step / (self.step + 10))
        for kept, new in zip(self.average.parameters(), self.learner.parameters(), strict=True):
            kept.lerp_(new, 1 - decay)
        for kept, new in zip(self.average.buffers(), self.learner.buffers(), strict=True):
            kept.copy_(new)

    def _agree(self, *flags: bool) -> tuple[bool, ...]:
        """Make one decision for all processes: what any of them wants, all do."""
        if self.share.processes == 1:
            return flags
        wishes = torch.tensor([float(flag) for flag in flags], device=self.accelerator.device)
        return tuple(bool(wish > 0) for wish in self.accelerator.reduce(wishes, "sum"))

    def _validate(self, log: TrainingLog | None) -> None:
        """Score the average weights, on the first process, and keep them if they are the best so far."""
        self._validation_due = False
        if self._main and self.score is not None:
            was_training = self.average.training
            with torch.no_grad(), self.accelerator.autocast():
                score = float(self.score(self.average.eval()))
            self.average.train(was_training)
            if log is not None:
                log.write(self.step, {"score": score})
            if not self.best["weights"] or score > self.best["score"]:
                self.best = {"score": score, "step": self.step, "weights": self._averaged()}
        self.accelerator.wait_for_everyone()

    def _averaged(self) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.average.state_dict().items()}

    def save_checkpoint(self) -> None:
        """Write everything that going on needs, atomically; the first process does."""
        if self._main:
            scaler = self.accelerator.scaler
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "seed": self.seed,
                "settings": {name: getattr(self.settings, name) for name in LoopSettings.model_fields},
                "learner": self.learner.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else {},
                "random": torch.get_rng_state(),
                "best": self.best,
                "validation_due": self._validation_due,
                "recipe": self._of_the_recipe(),
            }
            write_checkpoint(self.folder, self.step, state, keep=self.settings.keep)
        self.accelerator.wait_for_everyone()

    def load_checkpoint(self) -> None:
        """Go on from the folder's newest checkpoint; draws, weights and averages continue as if never stopped.

        Raises
        ------
        RecipeError
            If there is none, it is damaged, is of another learner, or lies behind the last step that is asked for.
        """
        state = read_checkpoint(self.folder)
        try:
            self.learner.load_state_dict(state["learner"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise RecipeError(
                f"The checkpoint in {self.folder} is of another model or optimiser "
                f"({' '.join(str(error).split())[:160]}). Resume with the recipe that it was begun with."
            ) from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["step"] > self.settings.steps:
            raise RecipeError(
                f"steps = {self.settings.steps} was asked for, but the training in {self.folder} has done "
                f"{state['step']} already. Ask for more, or train anew in another folder."
            )
        begun = state.get("settings", {}) | state.get("recipe", {}) | {"seed": state["seed"]}
        now = {name: getattr(self.settings, name, was) for name, was in state.get("settings", {}).items()}
        now |= self._of_the_recipe() | {"seed": state["seed"]}
        changed = [name for name, was in begun.items() if was != now.get(name, was)]
        for name in changed:
            _LOG.warning(
                "the training in %s had %s = %s, and goes on with %s", self.folder, name, begun[name], now[name]
            )
        if self.seed != state["seed"]:
            _LOG.warning("the training in %s began with seed %d, and goes on with it", self.folder, state["seed"])
        self.step, self.seconds, self.seed, self.best = (state[key] for key in ("step", "seconds", "seed", "best"))
        self._validation_due = state.get("validation_due", False)
        if _JUDGED_BY.intersection(changed):
            _LOG.warning("scores of before are of other images: the best weights are chosen anew from here on")
            self.best = {"score": math.nan, "step": 0, "weights": {}}
        self._resumed = True

    def _of_the_recipe(self) -> dict[str, Any]:
        """Return what a recipe says beside the loop's settings and the card, as a checkpoint can hold it."""
        return {
            name: value
            for name, value in self.settings.model_dump(mode="json").items()
            if name not in LoopSettings.model_fields and name != "card"
        }
