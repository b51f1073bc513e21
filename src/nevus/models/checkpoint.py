"""A backbone in one file: half-precision safetensors that say what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nevus._io import save_tensors, to_json
from nevus.errors import NevusError

FORMAT = "nevus-backbone"


def save_backbone(network: nn.Module, path: Path, about: Mapping[str, Any], *, half: bool = True) -> None:
    """Write a network's weights without its head.

    Args:
        network: of the registry; keys that begin with `head.` are left out.
        path: of a `.safetensors` file.
        about: plain values: `architecture`, `license`, and how the weights came to be.
        half: in half precision.

    Raises:
        NevusError: the file cannot be written, or a weight is too large for half precision.

    """
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("head.")}
    save_tensors(path, halved(own) if half else own, {"format": FORMAT, "about": to_json(dict(about), indent=None)})


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision, on the CPU.

    Raises:
        NevusError: one is too large for it.

    """
    halves = {}
    for key, value in weights.items():
        halves[key] = value.detach().cpu()
        if value.is_floating_point():
            halves[key] = halves[key].half()
            if not torch.isfinite(halves[key]).all():
                raise NevusError(
                    f"Cannot save the weight {key}: it is too large for half precision. Train with a lower learning "
                    "rate."
                )
    return halves


def check_finite(weights: Mapping[str, Tensor], where: object) -> None:
    """Refuse weights with NaN or infinity, with which every prediction would be undefined.

    Raises:
        NevusError: a weight is not finite.

    """
    for key, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise NevusError(f"Cannot use the weights of '{where}': {key} has values that are not finite. Get others.")


def read_backbone(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a `.safetensors` file: float32 weights by the network's keys, and what it says of itself.

    A file of another program has nothing to say: `{}`.

    Raises:
        NevusError: the file is damaged.

    """
    try:
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        about = json.loads(notes["about"]) if notes.get("format") == FORMAT else {}
        if not isinstance(about, dict):
            raise ValueError("its description is none")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise NevusError(f"Cannot read {path}: it is damaged ({error}). Get the file again.") from None
    check_finite(weights, path)
    return {key: v.float() if v.is_floating_point() else v for key, v in weights.items()}, about
