"""How far each noise model's pixels are from the true ones: dark frames of a known law in, divergences out.

For each law a sensor that does not exist gives dark frames at one ISO, with rows and columns on top. They are
calibrated, and a proxy trained on all of them but the last, which is held back, as `denoise calibrate --proxy` does it.
Then pixels are drawn from every model, as whole DN, and compared with a fresh sample of the true law.

"itself" is a second sample of the true law: what chance alone leaves. "beyond chance": ELD's law computed, and so many
draws of the proxy against the true law computed, less what those draws add.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import Tensor

from denoise.proxy import STEPS, train_proxy
from noise_models.base import NoiseModel, SensorSettings
from noise_models.calibration.estimate import calibrate
from noise_models.calibration.fidelity import divergence
from noise_models.calibration.frames import Frame, FrameFile, FrameInfo, group
from noise_models.calibration.proxy import read_pixels
from noise_models.eld import PARTS, EldNoise
from noise_models.gain_point import GainPoint
from noise_models.pnnp import PnnpNoise
from noise_models.tukey_lambda import cumulated, quantile, sigma_per_scale

FloatArray = npt.NDArray[np.float64]

ISO, BLACK_DN = 1600.0, 512.0
SIGMA_DN, ROW_DN, COLUMN_DN = 3.8, 0.4, 0.2
FRAME = (512, 512)
REAL, DRAWN, MANY = 10**6, 4 * 10**6, 4 * 10**7
_PIECE = (1, 1, 1000, 2000)
_PIXELS = frozenset(PARTS) - {"read", "quantise"}
"""What is left out of a noise model so that only pixels are left, as whole DN."""
_FEWEST = 10
_EDGES: FloatArray = np.arange(-300, 301, dtype=np.float64) - 0.5


@dataclass(frozen=True)
class TukeyLambda:
    """Tukey-lambda noise, standard deviation 1."""

    shape: float

    def draw(self, chance: np.random.Generator, size: int) -> FloatArray:
        """Return so many values."""
        share = np.clip(chance.random(size), 1e-12, 1 - 1e-12)
        return quantile(share, self.shape) / sigma_per_scale(self.shape)

    def below(self, values: FloatArray) -> FloatArray:
        """Return the share of the law below each value."""
        return cumulated(values * sigma_per_scale(self.shape), self.shape)


@dataclass(frozen=True)
class TwoComponents:
    """Gaussian pixels, some of all draws so many times as wide, standard deviation 1."""

    share: float
    width: float

    @property
    def _narrow(self) -> float:
        return (1 - self.share + self.share * self.width**2) ** -0.5

    def draw(self, chance: np.random.Generator, size: int) -> FloatArray:
        """Return so many values."""
        wide = np.where(chance.random(size) < self.share, self.width, 1.0)
        return self._narrow * wide * chance.standard_normal(size)

    def below(self, values: FloatArray) -> FloatArray:
        """Return the share of the law below each value."""
        narrow = values / self._narrow
        return (1 - self.share) * ndtr(narrow) + self.share * ndtr(narrow / self.width)


LAWS: dict[str, TukeyLambda | TwoComponents] = {
    "tukey-lambda -0.25": TukeyLambda(-0.25),
    "tukey-lambda -0.1": TukeyLambda(-0.1),
    "tukey-lambda 0.14": TukeyLambda(0.14),
    "two components": TwoComponents(0.1, 3.5),
}


class DarkSensor:
    """Gives dark frames whose pixels obey a law."""

    def __init__(self, law: TukeyLambda | TwoComponents, darks: int, seed: int) -> None:
        self.law, self.darks, self.seed = law, darks, seed

    def frames(self) -> list[FrameFile]:
        """Return their names."""
        return [FrameFile(Path(f"dark_{number}"), "dark") for number in range(self.darks)]

    def describe(self, path: Path) -> FrameInfo:
        """Return what a frame is."""
        black = ((BLACK_DN, BLACK_DN), (BLACK_DN, BLACK_DN))
        return FrameInfo(FRAME, "RGGB", black, 16383.0, 14, ISO, 0.01, make="Simulated", model="Sensor")

    def read(self, path: Path) -> Frame:
        """Expose a frame; the same name is the same frame, as in a file."""
        chance = np.random.default_rng((self.seed, 1, int(path.name.split("_")[1])))
        noise = SIGMA_DN * self.law.draw(chance, FRAME[0] * FRAME[1]).reshape(FRAME)
        noise += ROW_DN * chance.standard_normal((FRAME[0], 1))
        noise += COLUMN_DN * chance.standard_normal((1, FRAME[1]))
        return Frame(np.rint(noise + BLACK_DN + 0.3).astype(np.uint16), self.describe(path))


def models_of(sensor: DarkSensor, steps: int, seed: int) -> tuple[GainPoint, NoiseModel, NoiseModel]:
    """Calibrate the sensor from its dark frames and train a proxy; returns what was measured, ELD and PNNP."""
    stacks = group(sensor.frames(), sensor)
    found = calibrate(stacks, maps=False)
    noises = read_pixels(found, stacks, lambda text: None).noises
    with tempfile.TemporaryDirectory(prefix="noise-laws-") as folder:
        proxy = train_proxy(found.profile, noises, Path(folder) / "proxy", steps=steps, seed=seed)
    eld, pnnp = EldNoise(found.profile, _PIXELS), PnnpNoise(found.profile, _PIXELS, proxy=proxy)
    return found.profile.at(ISO), eld, pnnp


def drawn(model: NoiseModel, count: int, seed: int) -> FloatArray:
    """Draw pixels [whole DN]."""
    chance = torch.Generator().manual_seed(seed)
    pieces: list[Tensor] = []
    for _ in range(-(-count // (_PIECE[2] * _PIECE[3]))):
        pieces.append(model(torch.zeros(_PIECE), [SensorSettings(ISO, 0.01)], generator=chance).view(-1))
    return torch.cat(pieces)[:count].double().numpy()


def symmetric(real: FloatArray, values: FloatArray) -> float:
    """Return the mean of both divergences over bins of 1 DN [nat]."""
    forward, inverse, _, _ = divergence(real, values)
    return (forward + inverse) / 2


def cells(below: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return the share of a law [DN] in each whole DN around 0."""
    return np.diff(below(_EDGES))


def beyond_chance(true: FloatArray, model: FloatArray, draws: float = np.inf) -> float:
    """Return the symmetric divergence of cells, less what the draws of the model add [nat].

    Cells in which the true law lets fewer than ten of the draws expect are joined to one at either end.
    """
    fine = np.flatnonzero(true * min(draws, MANY) >= _FEWEST)
    inside = slice(int(fine[0]), int(fine[-1]) + 1)
    p, q = (np.r_[law[: inside.start].sum(), law[inside], law[inside.stop :].sum()] for law in (true, model))
    full = (p > 0) & (q > 0)
    found = float(((p[full] - q[full]) * np.log(p[full] / q[full])).sum() / 2)
    return found - (np.count_nonzero(full) - 1) / (2 * draws)


def measure(name: str, darks: int, steps: int, seed: int) -> dict[str, float]:
    """Return the divergences of each model from one law [nat]."""
    law = LAWS[name]
    begun = time.process_time()
    point, eld, pnnp = models_of(DarkSensor(law, darks, seed), steps, seed)
    seconds = time.process_time() - begun
    chance = np.random.default_rng((seed, 2))
    real = np.rint(SIGMA_DN * law.draw(chance, REAL))
    gaussian = np.rint(point.read_sigma_dn * chance.standard_normal(DRAWN))
    many = drawn(pnnp, MANY, seed)
    counts = np.histogram(many, _EDGES)[0]
    true = cells(lambda edges: law.below(edges / SIGMA_DN))
    tukey = cells(lambda edges: cumulated(edges / point.read_scale_dn, point.read_lambda))
    return {
        "itself": symmetric(real, np.rint(SIGMA_DN * law.draw(chance, DRAWN))),
        "gaussian": symmetric(real, gaussian),
        "eld": symmetric(real, drawn(eld, DRAWN, seed + 1)),
        "pnnp": symmetric(real, many[:DRAWN]),
        "eld beyond chance": beyond_chance(true, tukey),
        "pnnp beyond chance": beyond_chance(true, counts / len(many), len(many)),
        "cpu seconds": seconds,
    }


def main() -> None:
    """Print the table, and one line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the frames, the proxies and all that is drawn")
    parser.add_argument("--darks", type=int, default=12, help="frames of 512x512")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each proxy")
    parser.add_argument("--laws", nargs="*", choices=list(LAWS), default=list(LAWS), help="only these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, dict[str, float]] = {}
    for name in arguments.laws:
        results[name] = measure(name, arguments.darks, arguments.steps, arguments.seed)
        if not arguments.json:
            print(f"{name:20}" + "  ".join(f"{key} {value:.3g}" for key, value in results[name].items()), flush=True)
    print(
        json.dumps({name: {key: float(f"{value:.4g}") for key, value in one.items()} for name, one in results.items()})
    )


if __name__ == "__main__":
    main()
