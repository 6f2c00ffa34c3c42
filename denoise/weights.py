"""Models that lie in files: list, load, save, verify.

A model is one safetensors file whose header carries its card; the same card stands beside it as JSON. No pickle is
ever loaded.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from denoise.card import ModelCard
from denoise.denoiser import Denoiser
from denoise.errors import WeightsError, nearest
from denoise.io.files import atomic_target
from denoise.methods import DEFAULT_MODELS, METHODS
from denoise.shipped_files import shipped_folder

SUFFIX = ".safetensors"
_IMAGES = {"raw": "a RAW photograph", "photo": "a colour photograph", "grey": "an image of one plane", "cube": "a cube"}
_AUTO_METHODS = {"raw": "supervised", "photo": "supervised", "cube": "subspace"}
_FEWEST_BANDS = 10
"""That tell noise and stripes from signal; of fewer each is denoised by itself."""


def list_models() -> dict[str, ModelCard]:
    """Return the cards of the methods that need no weights and of all shipped weights, by id."""
    cards = {method.card.id: method.card for method in METHODS.values() if method.card is not None}
    for path in sorted(shipped_folder("weights").glob("*.json")):
        card = _read_card(path.read_text("utf-8"), path)
        cards[card.id] = card
    return cards


def load_model(name: str, *, kind: str = "raw", planes: int | None = None, verify: bool = True) -> Denoiser:
    """Load a model.

    Parameters
    ----------
    name : str
        An id, the name of a method (its default weights for ``kind``), "auto", "fast" (less work where there is such a
        model), "camera-jpeg" (for photographs with correlated noise), or the path of a ``.safetensors`` file.
    kind : str
        Kind of image, "raw", "photo" or "cube": chooses the default weights of a method.
    planes : int, optional
        Planes of the image: a grey photograph, or a RAW without colour filters, gets other default weights.
    verify : bool
        Compare the tensors with the checksum on the card.

    Raises
    ------
    WeightsError
        If it is not known, not there, altered, or made by a method that this version does not have.
    """
    identity = resolve_model(name, kind, planes)
    if identity.endswith(SUFFIX):
        return _load_file(Path(identity), verify)
    method = identity.partition(".")[0]
    if method in METHODS and (card := METHODS[method].card) is not None:
        return METHODS[method].denoiser(card, _foundation(card, verify))
    return _load_file(shipped_folder("weights") / f"{identity}{SUFFIX}", verify)


def resolve_model(name: str, kind: str, planes: int | None = None) -> str:
    """Return the id of a model from an id or another word of `load_model`; the path of a file is returned as it is.

    Raises
    ------
    WeightsError
        If nothing of that name exists, naming the nearest that does.
    """
    cards = list_models()
    if name in cards or name.endswith(SUFFIX):
        return name
    method = _AUTO_METHODS[kind] if name == "auto" else name
    if name in ("auto", "fast") and kind == "cube" and planes is not None and planes < _FEWEST_BANDS:
        method = "classical"
    words = {word for word, _ in DEFAULT_MODELS}
    if method in METHODS or method in words:
        asked = "grey" if planes == 1 and kind != "cube" else kind
        identity = DEFAULT_MODELS.get((method, asked))
        if identity in cards:
            return identity
        served = [_IMAGES[of] for (word, of), known in DEFAULT_MODELS.items() if word == method and known in cards]
        if served:
            raise WeightsError(
                f"Model '{name}' was asked to denoise {_IMAGES[asked]}, but it is made for {' or '.join(served)}. "
                "Choose the model auto, or one that `denoise models list` shows for such an image."
            )
        raise WeightsError(
            f"Method '{method}' was asked for a {kind} image, but no weights for it are installed. "
            f"Choose another --model. Known: {', '.join(cards)}."
        )
    raise WeightsError(f"Model '{name}' is not known. {nearest(name, [*cards, *METHODS, *words])}")


def first_kind(name: str) -> str:
    """Return the kind of image whose model a word stands for where no image is at hand: RAW, else the first served."""
    kinds = [kind for word, kind in DEFAULT_MODELS if word == name]
    return "raw" if not kinds or "raw" in kinds else kinds[0]


def find_card(name: str) -> ModelCard:
    """Return the card of an id or a weights file.

    Raises
    ------
    WeightsError
        If there is none.
    """
    identity = resolve_model(name, first_kind(name))
    return read_card(Path(identity)) if identity.endswith(SUFFIX) else list_models()[identity]


def save_model(path: Path, card: ModelCard, tensors: Mapping[str, torch.Tensor]) -> ModelCard:
    """Write weights with their card in the header, and the card beside them; returns the card with its checksum.

    Tensors are stored as float16, half the size of what the network computes with.
    """
    stored = {
        name: tensor.detach().cpu().to(torch.float16).clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    card = card.model_copy(update={"sha256": checksum(stored)})
    text = card.model_dump_json(indent=2)
    with atomic_target(path) as target:
        target.write_bytes(save(stored, metadata={"card": text}))
    with atomic_target(path.with_suffix(".json")) as target:
        target.write_text(text + "\n", "utf-8")
    return card


def checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of the tensors, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def read_card(path: Path) -> ModelCard:
    """Read the card in the header of a weights file, without its tensors.

    Raises
    ------
    WeightsError
        If the file is not there, not safetensors, or has no card.
    """
    if not path.is_file():
        raise WeightsError(f"Weights {path} were asked for, but there is no such file. Check the path, or name an id.")
    try:
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= length <= path.stat().st_size:
                raise ValueError("the header's length is impossible")
            metadata = json.loads(stream.read(length)).get("__metadata__", {})
    except (struct.error, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is not a safetensors file ({error}). Get the model again.") from error
    if "card" not in metadata:
        raise WeightsError(f"{path} holds tensors but no card, so what they are is not known. Use a model of ours.")
    return _read_card(metadata["card"], path)


def _load_file(path: Path, verify: bool) -> Denoiser:
    card = read_card(path)
    if card.method not in METHODS:
        raise WeightsError(
            f"{path.name} is a model of the method '{card.method}', which this version does not have. "
            f"{nearest(card.method, METHODS)}"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}). Get the model again.") from error
    if verify and checksum(tensors) != card.sha256:
        raise WeightsError(
            f"The weights in {path} were altered: their checksum is not the one on their card. Get the model again."
        )
    model: Any = METHODS[card.method].denoiser(card, _foundation(card, verify))
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise WeightsError(f"The tensors in {path} do not fit the network on its card ({error}).") from error
    return model.eval()


def _foundation(card: ModelCard, verify: bool) -> Denoiser | None:
    """Return the model on which that of a card stands; None if it stands by itself."""
    return load_model(card.stands_on, verify=verify) if card.stands_on else None


def _read_card(text: str, path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"The card of {path.name} is not valid at '{where}': {first['msg']}.") from error
