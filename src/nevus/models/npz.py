"""The BiT authors' checkpoints: `.npz` files, read and written."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nevus._io import atomic_path
from nevus.errors import NevusError
from nevus.models.checkpoint import check_finite

_LETTERS = "abc"


def timm_name(name: str) -> str | None:
    """The state-dict key of timm's ResNetV2 for a name inside the file; None where it is none of a BiT's.

    `resnet/block2/unit03/b/standardized_conv2d/kernel` is `stages.1.blocks.2.conv2.weight`. Some files number
    their convolutions (`standardized_conv2d_17`), and some lack the `resnet/` in front.
    """
    name = re.sub(r"(standardized_conv2d)_\d+", r"\1", name.removeprefix("resnet/"))
    whole = {
        "root_block/standardized_conv2d/kernel": "stem.conv.weight",
        "group_norm/gamma": "norm.weight",
        "group_norm/beta": "norm.bias",
        "head/conv2d/kernel": "head.fc.weight",
        "head/conv2d/bias": "head.fc.bias",
    }
    if name in whole:
        return whole[name]
    unit = re.fullmatch(r"block([1-4])/unit(\d+)/(.+)", name)
    if not unit:
        return None
    before = f"stages.{int(unit[1]) - 1}.blocks.{int(unit[2]) - 1}"
    if unit[3] == "a/proj/standardized_conv2d/kernel":
        return f"{before}.downsample.conv.weight"
    layer = re.fullmatch(r"([abc])/(?:(standardized_conv2d)/kernel|group_norm/(gamma|beta))", unit[3])
    if not layer:
        return None
    number = _LETTERS.index(layer[1]) + 1
    if layer[2]:
        return f"{before}.conv{number}.weight"
    return f"{before}.norm{number}.{'weight' if layer[3] == 'gamma' else 'bias'}"


def authors_name(key: str) -> str:
    """The name inside the file for a state-dict key of timm's ResNetV2: the inverse of `timm_name`."""
    whole = {
        "stem.conv.weight": "resnet/root_block/standardized_conv2d/kernel",
        "norm.weight": "resnet/group_norm/gamma",
        "norm.bias": "resnet/group_norm/beta",
        "head.fc.weight": "resnet/head/conv2d/kernel",
        "head.fc.bias": "resnet/head/conv2d/bias",
    }
    if key in whole:
        return whole[key]
    parts = key.split(".")
    before = f"resnet/block{int(parts[1]) + 1}/unit{int(parts[3]) + 1:02d}"
    if parts[4] == "downsample":
        return f"{before}/a/proj/standardized_conv2d/kernel"
    letter = _LETTERS[int(parts[4][-1]) - 1]
    if parts[4].startswith("conv"):
        return f"{before}/{letter}/standardized_conv2d/kernel"
    return f"{before}/{letter}/group_norm/{'gamma' if parts[5] == 'weight' else 'beta'}"


def read_npz(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint as a state dict for timm's ResNetV2.

    Kernels are turned from HWIO to OIHW. No pickled object is ever loaded.

    Raises:
        NevusError: the file is damaged or no BiT's.

    """
    found: dict[str, Tensor] = {}
    try:
        with path.open("rb") as raw:
            head = raw.read(64)
        if not head.startswith(b"PK"):
            kind = "a web page, as a failed download leaves" if head.lstrip().startswith(b"<") else "no .npz file"
            raise NevusError(f"Cannot read '{path}': it is {kind}. Delete it and download it again.")
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            for name in file.files:
                key = timm_name(name)
                if key is None:
                    continue
                value = file[name]
                if value.ndim == 4:
                    value = value.transpose(3, 2, 0, 1)
                found[key] = torch.from_numpy(np.ascontiguousarray(value))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise NevusError(f"Cannot read '{path}' as .npz: {error}. Get the authors' file again.") from None
    if "stem.conv.weight" not in found:
        raise NevusError(
            f"Cannot use '{path}': it has no BiT (no root_block/standardized_conv2d/kernel). Give the authors' file."
        )
    check_finite(found, path)
    return found


def write_npz(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a state dict of timm's ResNetV2 as the authors do, float32, kernels HWIO.

    Raises:
        NevusError: the file cannot be written.

    """
    arrays = {}
    for key, tensor in weights.items():
        value = tensor.detach().float().cpu().numpy()
        arrays[authors_name(key)] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_into(network: nn.Module, weights: Mapping[str, Tensor], source: str, *, head: bool) -> None:
    """Load a state dict, with or without its head; every other weight must be there and fit.

    Args:
        network: to load into.
        weights: by the network's own keys.
        source: for the message.
        head: whether to load the head; the upstream head has other classes than the task's.

    Raises:
        NevusError: a weight is missing, left over, or of another shape: the weights are another network's.

    """
    own, last = network.state_dict(), _head_of(network)
    wanted = {key: value for key, value in weights.items() if head or not key.startswith(last)}
    needed = {key for key in own if head or not key.startswith(last)}
    odd = sorted(needed ^ set(wanted)) or [k for k in sorted(needed) if own[k].shape != wanted[k].shape]
    if odd:
        raise NevusError(
            f"Cannot load {source}: it does not fit the network ({odd[0]} is missing, left over or of another shape). "
            "Name the backbone whose weights these are."
        )
    network.load_state_dict({**own, **wanted})


def _head_of(network: nn.Module) -> str:
    """What the names of the head's weights begin with: `head.fc.` of a BiT, `fc.` or `classifier.` of others."""
    head = network.get_classifier() if hasattr(network, "get_classifier") else None  # type: ignore[operator]
    found = (name for name, module in network.named_modules() if module is head)
    return f"{next(found, 'head')}."
