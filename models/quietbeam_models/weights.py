"""Pretrained weights as a value: safetensors beside a JSON card with configuration and checksum."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from quietbeam_models.network import Denoiser, NetworkConfig

FOLDER = Path(__file__).parent / "weights"
DEFAULT = "quietbeam-4"
FORMAT = 1


class DamagedWeightsError(RuntimeError):
    """Weights that are missing, whose checksum is wrong, or whose format is unknown."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A network with its provenance; ``card`` is the JSON beside the weights."""

    network: Denoiser
    name: str
    sha256: str
    card: dict[str, Any]


def save_weights(network: Denoiser, folder: Path, name: str, card: dict[str, Any]) -> Path:
    """Write ``name.safetensors`` (float16) and ``name.json``; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(torch.float16).contiguous() for k, v in network.state_dict().items()}
    path = folder / f"{name}.safetensors"
    safetensors.torch.save_file(tensors, path)
    path.chmod(0o644)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    card = {"format": FORMAT, "name": name, "sha256": checksum, "network": network.config.to_dict(), **card}
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return path


def available(folder: Path = FOLDER) -> tuple[str, ...]:
    """Return the names of the weights in a folder."""
    return tuple(sorted(path.stem for path in folder.glob("*.safetensors")))


def installed_weights(folder: Path) -> dict[str, str]:
    """Return by name what :func:`load_weights` takes: the shipped weights, and the user-trained ones in ``folder``."""
    trained = {name: str(folder / f"{name}.safetensors") for name in available(folder)}
    return trained | {name: name for name in available()}


def load_weights(name: str = DEFAULT, folder: Path = FOLDER) -> Pretrained:
    """Load and verify weights: by their name in ``folder``, or a ``.safetensors`` file with its card beside it.

    Raises
    ------
    DamagedWeightsError
        When a file is missing, the checksum is wrong, or the format is unknown.
    """
    if name.endswith(".safetensors"):
        folder, name = Path(name).parent, Path(name).stem
    path, card_path = folder / f"{name}.safetensors", folder / f"{name}.json"
    try:
        data, card = path.read_bytes(), json.loads(card_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedWeightsError(f"weights {name!r} cannot be read from {folder}: {error}") from error
    checksum = hashlib.sha256(data).hexdigest()
    if checksum != card.get("sha256"):
        raise DamagedWeightsError(
            f"{path} is damaged: its sha256 is {checksum[:12]}, its card says {str(card.get('sha256'))[:12]}"
        )
    if card.get("format") != FORMAT:
        raise DamagedWeightsError(f"{path} has format {card.get('format')}, this version reads {FORMAT}")
    try:
        network = Denoiser(NetworkConfig.from_dict(card["network"]))
        network.load_state_dict({k: v.float() for k, v in safetensors.torch.load(data).items()})
    except Exception as error:
        raise DamagedWeightsError(f"{path} does not fit its card: {error}") from error
    network = network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Pretrained(network=network, name=name, sha256=checksum, card=card)
