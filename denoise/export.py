"""A model as an ONNX file, for programs that are not Python.

The file holds the variance stabiliser, the network and the way back, so that it takes an image in house units and the
two numbers of its noise, and returns the image: nobody has to write the mathematics of `denoise.vst` again. It does not
hold `denoise.strength.keep_detail` and `keep_mean`, which return what was removed beyond the noise and of the coarse
brightness, nor tiling: a large image goes through in tiles that overlap by the card's halo, and a grey one through a
colour model as three equal channels.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Final, cast

import torch
from torch import Tensor, nn

from denoise.card import ModelCard
from denoise.errors import WeightsError
from denoise.io.files import atomic_target
from denoise.methods.supervised import SupervisedDenoiser
from denoise.version import __version__
from denoise.weights import load_model

OPSET: Final = 18
_LEAST_VARIANCE: Final = (1 / 65535) ** 2 / 12
_LEAST_SHOT: Final = 1e-20
USAGE: Final = (
    "noisy: float32 (batch, planes, height, width), 0 black and 1 white, negative values kept, height and width "
    "multiples of {multiple}, planes as the card says (RAW: red, green beside red, green beside blue, blue). shot, "
    "read: float32 (batch, planes), var(x) = shot * x + read. denoised: as noisy. Inside: variance stabilisation, "
    "network, inverse. Not inside: the return of what is not noise (keep_detail, keep_mean), tiles, strength. Overlap "
    "tiles by {halo} pixels."
)


class StabilisedNetwork(nn.Module):
    """What `SupervisedDenoiser.denoise` computes from tensors alone, without `keep_detail` and `keep_mean`.

    Parameters
    ----------
    model : SupervisedDenoiser
        Gives network and fold.
    """

    def __init__(self, model: SupervisedDenoiser) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, noisy: Tensor, shot: Tensor, read: Tensor) -> Tensor:
        """Denoise.

        Parameters
        ----------
        noisy : (B, C, H, W) tensor
            House units.
        shot, read : (B, C) tensor
            var(x) = shot x + read.

        Returns
        -------
        (B, C, H, W) tensor
            House units.

        Notes
        -----
        With c = 3 a^2 / 8 + s^2 for a = shot, s^2 = read, as `denoise.vst.Stabiliser` has it::

            f(x) = 2 x / (sqrt(max(a x + c, 0)) + sqrt(c)),  x >= -c / a                                     (1)
            f^-1(z) = a z^2 / 4 + sqrt(c) z,  z >= -2 sqrt(c) / a                                            (2)
        """
        a = shot.clamp_min(_LEAST_SHOT)[..., None, None]
        variance = read[..., None, None].clamp_min(0.0).maximum(_LEAST_VARIANCE - a)
        c = 0.375 * a * a + variance
        root = c.sqrt()
        scale = (2 / ((a + c).sqrt() + root)).mean(1, keepdim=True)  # f(1)
        kept = noisy.maximum(-c / a)
        stable = 2 * kept / ((a * kept + c).clamp_min(0.0).sqrt() + root) / scale  # (1)
        fold = self.network.fold
        level = (1 / scale).expand(-1, 1, noisy.shape[2] // fold, noisy.shape[3] // fold)
        z = ((stable + self.network(stable, level)) * scale).maximum(-2 * root / a)
        return a * z * z / 4 + root * z  # (2)


def export_onnx(name: str, path: Path) -> ModelCard:
    """Write a model as ONNX, its card and how to use it in the file's metadata; returns the card.

    Batch, height and width are free. Weights stand in the file itself, in float32.

    Parameters
    ----------
    name : str
        An id or a weights file.
    path : Path
        Ends in ``.onnx``; replaced if it exists.

    Raises
    ------
    WeightsError
        If the model is not known, or its method is not one network that a file could hold, or the packages are missing.
    FileFormatError
        If the file cannot be written.
    """
    model = load_model(name)
    if not isinstance(model, SupervisedDenoiser):
        raise WeightsError(
            f"{model.card.id} was to be exported as ONNX, but the method '{model.card.method}' is not one network that "
            "a file could hold. Export a model of the method 'supervised'."
        )
    if path.suffix != ".onnx":
        raise WeightsError(f"An ONNX file was to be written as '{path.name}', but its name must end in .onnx.")
    program = _trace(model)
    card = model.card
    metadata = {
        "card": card.model_dump_json(),
        "usage": USAGE.format(multiple=card.multiple_of, halo=card.halo),
        "producer": f"denoise-toolkit {__version__}",
        "stabiliser": json.dumps({"inside": True, "keep_detail": False, "keep_mean": False}),
    }
    program.model.metadata_props.update(metadata)
    program.model.producer_name, program.model.producer_version = "denoise-toolkit", __version__
    with atomic_target(path) as target:
        program.save(target, external_data=False)
    return card


def _trace(model: SupervisedDenoiser) -> torch.onnx.ONNXProgram:
    """Turn a model into an ONNX program with free batch, height and width."""
    planes, multiple = model.channels, model.card.multiple_of
    height, width = (multiple * torch.export.Dim(name, min=1) for name in ("rows", "columns"))
    batch = torch.export.Dim("batch", min=1)
    examples = (torch.rand(2, planes, 2 * multiple, 3 * multiple), torch.rand(2, planes), torch.rand(2, planes))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch}, {0: batch})
    # Of torchvision, which nobody needs here.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own exporter's insides
            program = torch.onnx.export(
                StabilisedNetwork(model).eval(), examples, dynamo=True, dynamic_shapes=shapes, opset_version=OPSET,
                input_names=["noisy", "shot", "read"], output_names=["denoised"], verbose=False,
            )  # fmt: skip
    except ImportError as error:
        raise WeightsError(
            f"ONNX needs the package '{error.name}'. Install it with: pip install 'denoise-toolkit[onnx]'"
        ) from error
    return cast(torch.onnx.ONNXProgram, program)
