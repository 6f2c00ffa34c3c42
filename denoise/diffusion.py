"""Noise schedules and samplers of restoration diffusion, as plain functions.

The chain of Resfusion runs between a clean image and an anchor, its noisy version or a first estimate of it: it begins
at the anchor, not at pure noise, so that mean levels never drift, and is a few steps long.

x0 is the clean image, y the anchor, R = y - x0, eps white noise of unit variance, abar_t = prod_(s<=t) (1 - beta_s).

References
----------
.. [1] Z. Shi et al., "Resfusion: Denoising Diffusion Probabilistic Models for Image Restoration Based on Prior
   Residual Noise", NeurIPS 2024.
.. [2] J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.
.. [3] T. Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022 (`scales`).
.. [4] Y. Li et al., "Immiscible Diffusion: Accelerating Diffusion Training with Noise Assignment", NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from denoise.errors import DenoiseError

Predict = Callable[[Tensor, int], Tensor]
"""The clean image that a network sees in the state x_t of step t."""

_FIRST_BETA: Final = 0.1
_LAST_BETA: Final = 20.0
_GREATEST_BETA: Final = 0.999
_UNDERSHOOT: Final = 0.01


@dataclass(frozen=True)
class Schedule:
    """How much noise each step of a chain adds; step 0 is next to the clean image."""

    beta: tuple[float, ...]
    """Variance that each step adds."""

    @property
    def steps(self) -> int:
        """Length of the chain."""
        return len(self.beta)

    def root(self, step: int) -> float:
        """Return sqrt(abar) after a step; 1 for step -1, the clean image."""
        return float(np.prod(1.0 - np.asarray(self.beta[: step + 1])) ** 0.5)

    def spread(self, step: int) -> float:
        """Return sqrt(1 - abar): the noise's standard deviation after a step."""
        return max(0.0, 1.0 - self.root(step) ** 2) ** 0.5

    def resnoise_share(self, step: int) -> float:
        """Return how much of R the resnoise holds: (1 - sqrt(alpha_t)) sqrt(1 - abar_t) / beta_t."""
        return (1.0 - (1.0 - self.beta[step]) ** 0.5) * self.spread(step) / self.beta[step]

    def resnoise_weight(self, step: int) -> float:
        """Return by what an error of x0 appears as an error of the resnoise, its sign apart.

        Notes
        -----
        d(resnoise) / d(R) at a given state = (2 sqrt(abar_t) - 1) / sqrt(1 - abar_t) + share_t              (1)
        """
        return (2.0 * self.root(step) - 1.0) / self.spread(step) + self.resnoise_share(step)  # (1)

    def scales(self, step: int) -> tuple[float, float]:
        """Return what of a state, and what of a network's output, make the clean image x0 - y of unit variance.

        Notes
        -----
        x_t - sqrt(abar_t) y = a (x0 - y) + s eps, a = 2 sqrt(abar_t) - 1, s = sqrt(1 - abar_t):
        x0 - y = a / (a^2 + s^2) (x_t - sqrt(abar_t) y) + s / sqrt(a^2 + s^2) network                          (2)
        """
        share, spread = 2.0 * self.root(step) - 1.0, self.spread(step)
        power = share**2 + spread**2
        return share / power, spread / power**0.5  # (2)


def resfusion_schedule(length: int = 12) -> Schedule:
    """Return the truncated linear schedule: beta from 0.1 / T to 20 / T, cut where sqrt(abar) reaches one half.

    There the clean image has left the state, so what stands there can be drawn without knowing it. A cut that would
    undershoot one half by more than 0.01 is given a smaller last beta, so that it meets it.

    Parameters
    ----------
    length : int
        T, of the schedule before the cut; 12 gives five steps.

    Raises
    ------
    DenoiseError
        If it is shorter than two.
    """
    if length < 2:
        raise DenoiseError(
            f"A schedule of length {length} was asked for, but it has at least 2. Give 12 for five steps."
        )
    betas = np.minimum(np.linspace(_FIRST_BETA, _LAST_BETA, length) / length, _GREATEST_BETA)
    roots = np.sqrt(np.cumprod(1.0 - betas))
    below = int(np.argmax(roots <= 0.5))
    if 0.5 - roots[below] > _UNDERSHOOT:
        betas[below] = 1.0 - 0.25 / roots[below - 1] ** 2
        return Schedule(tuple(betas[: below + 1].tolist()))
    return Schedule(tuple(betas[: 1 + int(np.argmin(np.abs(roots - 0.5)))].tolist()))


def mixed(clean: Tensor, anchor: Tensor, noise: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the state x_t that the chain reaches from the clean image.

    Notes
    -----
    x_t = (2 sqrt(abar_t) - 1) x0 + (1 - sqrt(abar_t)) y + sqrt(1 - abar_t) eps                          (1)
    """
    root = schedule.root(step)
    return (2 * root - 1) * clean + (1 - root) * anchor + schedule.spread(step) * noise  # (1)


def start_point(anchor: Tensor, noise: Tensor | None, schedule: Schedule) -> Tensor:
    """Return where sampling begins, sqrt(abar) y + sqrt(1 - abar) eps of the last step; without noise its mean."""
    last = schedule.steps - 1
    mean = schedule.root(last) * anchor
    return mean if noise is None else mean + schedule.spread(last) * noise


def resnoise_of(clean: Tensor, anchor: Tensor, state: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the residual noise of a state: eps, and the share of R that the step added.

    Notes
    -----
    resnoise = eps + (1 - sqrt(alpha_t)) sqrt(1 - abar_t) / beta_t R                                      (1)
    """
    noise = _noise_in(state, clean, anchor, schedule, step)
    return noise + schedule.resnoise_share(step) * (anchor - clean)  # (1)


def clean_of(resnoise: Tensor, anchor: Tensor, state: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return the clean image that a resnoise implies: the inverse of `resnoise_of`."""
    excess = state - schedule.root(step) * anchor - schedule.spread(step) * resnoise
    return anchor + excess / (schedule.spread(step) * schedule.resnoise_weight(step))


def reverse_step(state: Tensor, resnoise: Tensor, noise: Tensor | None, schedule: Schedule, step: int) -> Tensor:
    """Return x_(t-1), drawn where ``noise`` is given; step 0 returns the clean image.

    Notes
    -----
    x_(t-1) = (x_t - beta_t / sqrt(1 - abar_t) resnoise) / sqrt(alpha_t) + sqrt(v_t) z                      (1)
    v_t = beta_t (1 - abar_(t-1)) / (1 - abar_t)                                                          (2)
    """
    beta, spread = schedule.beta[step], schedule.spread(step)
    mean = (state - beta / spread * resnoise) / (1 - beta) ** 0.5
    if step == 0 or noise is None:
        return mean
    return mean + beta**0.5 * schedule.spread(step - 1) / spread * noise  # (1), (2)


def deterministic_step(state: Tensor, clean: Tensor, anchor: Tensor, schedule: Schedule, step: int) -> Tensor:
    """Return x_(t-1) with the noise that x_t holds, none drawn: DDIM on x - R, an ordinary chain."""
    if step == 0:
        return clean
    return mixed(clean, anchor, _noise_in(state, clean, anchor, schedule, step), schedule, step - 1)


def draw_sample(predict: Predict, anchor: Tensor, schedule: Schedule, generator: torch.Generator) -> Tensor:
    """Run the chain once with chance: a draw from what the clean image may be."""
    state = start_point(anchor, _randn(anchor, generator), schedule)
    for step in reversed(range(schedule.steps)):
        resnoise = resnoise_of(predict(state, step), anchor, state, schedule, step)
        state = reverse_step(state, resnoise, _randn(anchor, generator), schedule, step)
    return state


def run_deterministic(predict: Predict, anchor: Tensor, schedule: Schedule, noise: Tensor | None = None) -> Tensor:
    """Run the chain without chance, from the start point of ``noise`` or, without it, from the mean of all."""
    state = start_point(anchor, noise, schedule)
    for step in reversed(range(schedule.steps)):
        state = deterministic_step(state, predict(state, step), anchor, schedule, step)
    return state


def average_samples(draw: Callable[[], Tensor], samples: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of draws, with three tensors in memory however many there are.

    One draw has no spread to measure: its standard deviation is NaN.
    """
    mean, squares = draw(), None
    for count in range(2, samples + 1):
        drawn = draw()
        apart = drawn - mean
        mean = mean + apart / count
        products = apart * (drawn - mean)
        squares = products if squares is None else squares + products
    deviation = torch.full_like(mean, torch.nan) if squares is None else (squares / (samples - 1)).sqrt()
    return mean, deviation


def immiscible(clean: Tensor, noise: Tensor) -> Tensor:
    """Return the noise (B, ...) exchanged between the examples of a batch, each near its image.

    The batch's noise as a whole stays what it was; images and noise mix less, which makes early training steadier.

    Notes
    -----
    The permutation p that minimises sum_i |x_i - eps_p(i)|, by linear assignment.                         (1)
    """
    from scipy.optimize import linear_sum_assignment  # slow to load, and needed in training alone

    distances = torch.cdist(clean.detach().float().flatten(1), noise.float().flatten(1))
    order = linear_sum_assignment(distances.cpu().numpy())[1]  # (1)
    return noise[torch.from_numpy(order).to(noise.device)]


def _noise_in(state: Tensor, clean: Tensor, anchor: Tensor, schedule: Schedule, step: int) -> Tensor:
    root = schedule.root(step)
    return (state - (2 * root - 1) * clean - (1 - root) * anchor) / schedule.spread(step)


def _randn(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
