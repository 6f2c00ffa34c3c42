"""Muon: momentum whose step is made orthogonal, for the weights of convolutions.

Every weight is seen as a matrix (outputs by inputs times taps); the step keeps its directions and makes their lengths
equal, so that rare directions learn as fast as common ones. On our U-Nets a few hundred steps of it reach what
thousands of Adam's do.

References
----------
.. [1] K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

_QUINTIC: Final = (3.4445, -4.7750, 2.0315)
_ROUNDS: Final = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return a matrix (rows, columns) with the same directions and singular values of about one (0.7 to 1.2).

    Singular values below a thousandth of the largest grow by 485 at most, and stay small.

    Notes
    -----
    Newton-Schulz iterations X <- q(A) X, A = X X^T, q(A) = a + b A + c A A, after division by the norm      (1)

    All q commute with A: the iterations run on the small square A alone, A <- q A q, and X is multiplied once by the
    product of all q.                                                                                          (2)
    """
    tall = matrix.shape[0] > matrix.shape[1]
    norm = matrix.norm() + 1e-12
    gram = (matrix.T @ matrix if tall else matrix @ matrix.T) / norm.square()
    factor = product = _quintic(gram)  # (1)
    for _ in range(_ROUNDS - 1):
        gram = factor @ gram @ factor
        factor = _quintic(gram)
        product = factor @ product  # (2)
    product = product / norm
    return matrix @ product if tall else product @ matrix


def _quintic(gram: Tensor) -> Tensor:
    a, b, c = _QUINTIC
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum.

    Parameters
    ----------
    params : iterable of parameter
        Each seen as a matrix (first dimension, rest); biases as one column, and they do not decay.
    lr : float
        Step length: a step changes a matrix by about this in spectral norm.
    momentum : float
        Decay of the moving average of gradients; looked ahead of, as Nesterov's.
    weight_decay : float
        Decoupled; no spectral norm grows beyond 1 / ``weight_decay``, without which deep networks run away.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.005, momentum: float = 0.95, weight_decay: float = 0.3
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change every weight once."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"])
                update = orthogonalise(ahead.flatten(1) if ahead.ndim > 1 else ahead.reshape(-1, 1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                if weight.ndim > 1:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.reshape(weight.shape), alpha=-group["lr"] * scale)
