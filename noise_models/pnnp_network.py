"""The proxy: a small network that turns Gaussian fields into the noise of single pixels, one for each gain mode.

All its convolutions are 1x1, so pixels are independent by construction; and as its input has one channel, a branch is
a function of one number, which `ProxySampler` keeps as a table.

References
----------
.. [1] H. Feng et al., "Physics-guided noise neural proxy for practical low-light raw image denoising",
   arXiv 2310.09126, 2023.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from noise_models.base import ProfileError
from noise_models.gain_point import GainPoint

WIDTH: Final = 16
BLOCKS: Final = 2
REACH_SIGMAS: Final = 6.0
"""How far into the input's tails a branch is looked at where it is tabulated [sigma]."""
_NODES: Final = 1201
_ROUNDS: Final = 120
_FORMAT: Final = "noise-proxy 1"
_CELLS: Final = 1 << 14
_TAIL_SHARE: Final = 1 / 256
_SMALL_SHARE: Final = 0.1
_CHUNK: Final = 1 << 18


class PixelBlock(nn.Module):
    """Two 1x1 convolutions, each with SiLU, added to their input."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(WIDTH, WIDTH, 1)
        self.second = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, 16, H, W) to the same shape."""
        return features + functional.silu(self.second(functional.silu(self.first(features))))


class ProxyBranch(nn.Module):
    """One of the proxy's two networks, 1,137 parameters: a Gaussian field in, noise out."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, WIDTH, 1)
        self.blocks = nn.Sequential(*(PixelBlock() for _ in range(BLOCKS)))
        self.tail = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, field: Tensor) -> Tensor:
        """Map (B, 1, H, W) to the same shape."""
        return self.tail(self.blocks(functional.silu(self.head(field))))

    def curve(self, numbers: Tensor) -> Tensor:
        """Return the branch at numbers (N,) [sigma of the input], (N,)."""
        return self.forward(numbers.view(1, 1, 1, -1)).view(-1)

    @torch.no_grad()
    def begin(self, sigma: float) -> None:
        """Set the last layer so that the branch starts as a Gaussian of this standard deviation."""
        numbers = torch.linspace(-REACH_SIGMAS, REACH_SIGMAS, _NODES)
        features = self.blocks(functional.silu(self.head(numbers.view(1, 1, 1, -1))))[0, :, 0].T
        features = torch.cat([features, torch.ones(_NODES, 1)], 1).double()
        weight = torch.exp(-(numbers.double() ** 2) / 4)[:, None]
        system = torch.cat([features * weight, 1e-3 * torch.eye(WIDTH + 1, dtype=torch.float64)])
        wanted = torch.cat([numbers.double()[:, None] * weight, torch.zeros(WIDTH + 1, 1, dtype=torch.float64)])
        solved = torch.linalg.lstsq(system, wanted).solution[:, 0] * sigma
        self.tail.weight.copy_(solved[:WIDTH].view_as(self.tail.weight))
        self.tail.bias.copy_(solved[WIDTH:])  # pyright: ignore[reportOptionalMemberAccess]

    def follow(self, numbers: Tensor, wanted: Tensor, rounds: int = _ROUNDS) -> None:
        """Fit the branch to a curve, values and slopes, the more where the Gaussian is dense.

        Parameters
        ----------
        numbers : (N,) float32
            Ascending and evenly spaced [sigma of the input].
        wanted : (N,) float32
            What the branch should give there.
        rounds : int
            Of L-BFGS.
        """
        size = wanted.abs().mean()
        wide, dense = (torch.softmax(-numbers.square() / spread, 0) for spread in (8.0, 2.0))
        slopes = wanted.diff() / wanted.diff().mean()
        optimiser = torch.optim.LBFGS(self.parameters(), max_iter=rounds, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimiser.zero_grad()
            given = self.curve(numbers)
            values = (wide * ((given - wanted) / size).square()).sum()
            steps = (dense[1:] * (given.diff() / wanted.diff().mean() - slopes).square()).sum()
            loss = values + steps
            loss.backward()
            return loss

        optimiser.step(closure)  # pyright: ignore[reportArgumentType]
        optimiser.zero_grad()

    @torch.no_grad()
    def centre(self) -> None:
        """Take the mean out of what the branch gives, by quadrature over the Gaussian."""
        numbers = torch.linspace(-REACH_SIGMAS, REACH_SIGMAS, _NODES, dtype=torch.float64)
        density = torch.exp(-(numbers**2) / 2)
        given = self.curve(numbers.to(self.tail.weight)).double().cpu()
        self.tail.bias.sub_(float((given * density).sum() / density.sum()))  # pyright: ignore[reportOptionalMemberAccess]


class ModeProxy(nn.Module):
    """The noise of single pixels in one gain mode, at any ISO of it.

    Parameters
    ----------
    isos : sequence of float
        ISOs that were measured, ascending [ISO].
    gain_line : (float, float)
        k1 [DN/e-/ISO] and k0 [DN/e-].

    Notes
    -----
    N = K(iso) f_dep(x) + f_ind(y), x and y independent Gaussian fields                                           (1)

    K(iso) = (k1 iso + k0) S(iso), S learned at each measured ISO, ln S straight in ln ISO between them           (2)

    The first branch is what the amplifier multiplies [e-], the second what comes after it [DN].
    """

    legal_iso: Tensor
    gain_line: Tensor

    def __init__(self, isos: Sequence[float], gain_line: tuple[float, float] = (1.0, 0.0)) -> None:
        super().__init__()
        self.dependent = ProxyBranch()
        self.independent = ProxyBranch()
        self.log_scale = nn.Parameter(torch.zeros(len(isos)))
        self.register_buffer("legal_iso", torch.tensor(isos, dtype=torch.float64))
        self.register_buffer("gain_line", torch.tensor(gain_line, dtype=torch.float64))

    @classmethod
    def begin(cls, points: Sequence[GainPoint]) -> ModeProxy:
        """Start from a mode's calibrated points as Gaussian noise of their size.

        Notes
        -----
        k1 and k0 are the least-squares line through the gains; where these are not known, k1 makes the read noise
        of the highest ISO 1, and k0 is 0. The second branch starts small, a tenth of the least read noise; the
        scales then give every ISO its own, so that all begin with one shape:

        sigma(iso)**2 = (K(iso) sigma_dep)**2 + sigma_ind**2                                                      (1)
        """
        isos = [point.iso for point in points]
        proxy = cls(isos, _gain_line(points))
        gains = torch.tensor([float(proxy.gain_at(iso).detach()) for iso in isos], dtype=torch.float64)
        sigmas = torch.tensor([max(point.read_sigma_dn, 0.05) for point in points], dtype=torch.float64)
        independent = _SMALL_SHARE * float(sigmas.min())
        rest = (sigmas**2 - independent**2).sqrt() / gains
        dependent = float(rest.log().mean().exp())
        proxy.dependent.begin(dependent)
        proxy.independent.begin(independent)
        with torch.no_grad():
            proxy.log_scale.copy_((rest / dependent).log())  # (1)
        return proxy

    def gain_at(self, iso: float) -> Tensor:
        """Return K(iso), the scale of the first branch [DN/e-]."""
        nodes = self.legal_iso.log()
        place = torch.as_tensor(iso, dtype=nodes.dtype, device=nodes.device).log().clamp(nodes[0], nodes[-1])
        line = self.gain_line[0] * iso + self.gain_line[1]
        if len(nodes) == 1:
            return line.to(self.log_scale) * self.log_scale[0].exp()
        above = torch.searchsorted(nodes, place).clamp(1, len(nodes) - 1)
        part = ((place - nodes[above - 1]) / (nodes[above] - nodes[above - 1])).to(self.log_scale)
        return line.to(self.log_scale) * torch.lerp(self.log_scale[above - 1], self.log_scale[above], part).exp()  # (2)

    def forward(self, before: Tensor, after: Tensor, iso: float) -> Tensor:
        """Turn two Gaussian fields (B, 1, H, W) into noise at this ISO [DN], same shape; (1)."""
        return self.gain_at(iso) * self.dependent(before) + self.independent(after)


def _gain_line(points: Sequence[GainPoint]) -> tuple[float, float]:
    isos = torch.tensor([point.iso for point in points], dtype=torch.float64)
    known = [point.gain_dn_per_e for point in points if point.gain_dn_per_e is not None]
    if len(known) < len(points):
        return 1.0 / (float(isos[-1]) * max(points[-1].read_sigma_dn, 0.05)), 0.0
    gains = torch.tensor(known, dtype=torch.float64)
    proportional = (float((gains / isos).mean()), 0.0)
    if len(points) < 3:
        return proportional
    weighted = torch.stack([isos / gains, 1 / gains], 1)  # relative errors count
    slope, offset = torch.linalg.lstsq(weighted, torch.ones(len(points), 1, dtype=torch.float64)).solution[:, 0]
    positive = bool((slope * isos + offset > 0.5 * gains).all())
    return (float(slope), float(offset)) if slope > 0 and positive else proportional


class NoiseProxy(nn.Module):
    """The pixel noise of a camera: one `ModeProxy` for each gain mode, shared by all colours.

    Parameters
    ----------
    modes : sequence of ModeProxy
        In order of ISO.
    """

    def __init__(self, modes: Sequence[ModeProxy]) -> None:
        super().__init__()
        self.modes = nn.ModuleList(modes)

    @classmethod
    def begin(cls, modes: Sequence[Sequence[GainPoint]], seed: int = 0) -> NoiseProxy:
        """Start from the calibrated points of each gain mode as Gaussian noise of their read noise's size.

        The same seed is the same network; global chance is left alone.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls([ModeProxy.begin(points) for points in modes])

    def mode(self, number: int) -> ModeProxy:
        """Return the proxy of the gain mode with this number."""
        found = self.modes[number]
        assert isinstance(found, ModeProxy)
        return found

    def centre(self) -> None:
        """Take the mean out of both branches of every mode."""
        for number in range(len(self.modes)):
            self.mode(number).dependent.centre()
            self.mode(number).independent.centre()

    def save(self, path: Path) -> Path:
        """Write a ``.safetensors`` file whole or not at all, and return where it lies."""
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        try:
            save_file(weights, partial, metadata={"format": _FORMAT, "modes": str(len(self.modes))})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: Path) -> NoiseProxy:
        """Read what `save` wrote.

        Raises
        ------
        ProfileError
            If the file is not there, not readable, or no noise proxy.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  a file, not a dict
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"its format is '{metadata.get('format')}', not '{_FORMAT}'")
            numbers = range(int(metadata["modes"]))
            proxy = cls([ModeProxy(weights[f"modes.{number}.legal_iso"].tolist()) for number in numbers])
            proxy.load_state_dict(weights)
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise ProfileError(
                f"The noise proxy {path} cannot be read: {error}. "
                "Keep the .safetensors beside its profile, or calibrate again with --proxy."
            ) from error
        return proxy.requires_grad_(False)


class ProxySampler:
    """Draws a mode's noise fast: each branch from a table of equally likely values, the tails from the network itself.

    The table holds 2**14 values between the tails; 0.4 % of all pixels, chosen by chance, lie in the tails and are
    computed by the network, so that these reach as far as the network's.

    Parameters
    ----------
    mode : ModeProxy
        As trained.
    """

    def __init__(self, mode: ModeProxy) -> None:
        self._mode = mode
        self._branches = (mode.dependent, mode.independent)
        middles = _TAIL_SHARE / 2 + (torch.arange(_CELLS, dtype=torch.float64) + 0.5) * ((1 - _TAIL_SHARE) / _CELLS)
        numbers = torch.special.ndtri(middles).to(mode.log_scale)
        with torch.no_grad():
            self._tables = tuple(branch.curve(numbers) for branch in self._branches)

    @torch.no_grad()
    def add_(self, noisy_dn: Tensor, iso: float, generator: torch.Generator, scale: float = 1.0) -> None:
        """Add noise at this ISO, ``scale`` times as large, to a contiguous tensor [DN], in place."""
        gain = float(self._mode.gain_at(iso))
        for chunk in noisy_dn.view(-1).split(_CHUNK):
            chunk.add_(self._draw(0, chunk.numel(), generator), alpha=gain * scale)
            chunk.add_(self._draw(1, chunk.numel(), generator), alpha=scale)

    def _draw(self, branch: int, count: int, generator: torch.Generator) -> Tensor:
        pairs = torch.empty(-(-count // 2), dtype=torch.int32, device=generator.device).random_(generator=generator)
        cells = pairs.view(torch.int16)[:count].bitwise_and_(_CELLS - 1).to(torch.int32)  # two draws of 14 bits each
        drawn = torch.index_select(self._tables[branch].to(generator.device), 0, cells)
        where = _chosen(count, _TAIL_SHARE, generator)
        share = torch.rand(len(where), dtype=torch.float64, device=generator.device, generator=generator) - 0.5
        below = torch.special.ndtri((share.abs() + 2.0**-54) * _TAIL_SHARE)
        numbers = torch.where(share < 0, below, -below).to(self._tables[branch])
        if len(where):
            drawn[where] = self._branches[branch].curve(numbers).to(drawn)
        return drawn


def _chosen(count: int, share: float, generator: torch.Generator) -> Tensor:
    """Return which of ``count`` pixels are chosen if each is with this probability, (K,) int64 ascending."""
    most = int(count * share + 8 * math.sqrt(count * share) + 16)
    chance = torch.rand(most, dtype=torch.float64, device=generator.device, generator=generator)
    gaps = (torch.log1p(-chance) / math.log1p(-share)).floor_().long() + 1  # geometric
    places = torch.cumsum(gaps, 0) - 1
    return places[places < count]
