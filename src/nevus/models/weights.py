"""Pretrained weights: from a file, from the cache, or downloaded when asked for."""

from __future__ import annotations

import base64
import hashlib
import os
import time
import urllib.error
import urllib.request
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nevus._io import sha256_file, sync_folder, write_text
from nevus._progress import console, progress
from nevus.errors import NevusError
from nevus.models.cached import cached_file, in_hub_cache, on_this_machine
from nevus.models.checkpoint import check_finite, read_backbone
from nevus.models.model import build_backbone, classifier_head
from nevus.models.npz import load_into, read_npz
from nevus.models.registry import (
    AUTO,
    BACKBONES,
    PRETRAINED,
    RANDOM,
    BackboneSpec,
    backbone_spec,
    default_backbone,
)
from nevus.models.timm_library import timm

TRIES = 5
PIECE = 1 << 20


def resolve_backbone(backbone: str, *, permissive: bool = False) -> str:
    """The name of a backbone, where it was left to us; says what was taken and why."""
    if backbone != AUTO:
        return backbone
    name, why = default_backbone(gpu=torch.cuda.is_available(), here=on_this_machine, permissive=permissive)
    console.print(why)
    return name


def load_pretrained(name: str, *, classes: int = 0, seed: int = 0, weights: str = "auto") -> tuple[nn.Module, str]:
    """A backbone's network with its weights, and with a zero head where there are classes.

    Args:
        name: of the backbone.
        classes: number of outputs of a zero head; 0 leaves the head out.
        seed: of random weights.
        weights: `auto` takes the backbone's own (random ones for a backbone that has none), `random` random ones,
            else the path of an `.npz` of the BiT authors or of a `.safetensors` file with the network's keys, or
            the name of another backbone of the same architecture.

    Returns:
        The network, and a sentence about its weights for the record.

    Raises:
        NevusError: the weights are not on this machine, damaged, or another network's.

    """
    spec = backbone_spec(name)
    if weights == RANDOM or (weights == "auto" and spec.origin == RANDOM):
        return build_backbone(name, classes=classes, seed=seed), "random"
    if weights in BACKBONES and not Path(weights).exists():
        return _of_another(spec, weights, classes, seed)
    if weights != "auto":
        path = Path(weights)
        net = build_backbone(name, classes=classes, seed=seed)
        found, about = _read(path)
        load_into(net, found, str(path), head=False)
        more = "".join(f", {about[key]}" for key in ("origin", "license") if about.get(key))
        return net, f"{path.name} ({sha256_file(path)}){more}"
    if spec.origin == "builtin":
        with as_file(PRETRAINED.joinpath(spec.address)) as path:
            digest = sha256_file(path)
            if digest != spec.digest:
                raise NevusError(f"Cannot load {path}: it is not what came with nevus. Install nevus again.")
            found, _ = read_backbone(path)
            net = build_backbone(name, classes=classes, seed=seed)
            load_into(net, found, str(path), head=False)
            return net, f"{spec.name} ({digest}), {spec.upstream}, {spec.license}"
    if spec.origin == "npz":
        path = cached_file(spec)
        if not path.is_file():
            raise NevusError(
                f"Cannot load the backbone: the weights of {spec.name} are not on this machine. Download them with "
                f"`nevus models --download {spec.name}`, or put {spec.address} at {path}, or choose --weights random."
            )
        digest = checked_digest(path)
        net = build_backbone(name, classes=classes, seed=seed)
        load_into(net, read_npz(path), str(path), head=False)
        return net, f"{path.name} ({digest}), {spec.upstream}, {spec.license}"
    return _from_hub(spec, classes, seed), f"{spec.address} of the hub, {spec.license}"


def license_of_weights(spec: BackboneSpec, weights: str) -> str | None:
    """License of the weights that `load_pretrained` takes: None of random ones, empty where a file does not tell."""
    if weights == RANDOM or (weights == "auto" and spec.origin == RANDOM):
        return None
    if weights == "auto":
        return spec.license
    path = Path(weights)
    if path.exists():
        # An .npz is one of the BiT authors'.
        return "Apache-2.0" if path.suffix == ".npz" else str(_read(path)[1].get("license", ""))
    return BACKBONES[weights].license if weights in BACKBONES else ""


def _of_another(spec: BackboneSpec, name: str, classes: int, seed: int) -> tuple[nn.Module, str]:
    other = backbone_spec(name)
    if other.architecture != spec.architecture or other.origin == RANDOM:
        raise NevusError(
            f"Cannot load the weights: {name} has no weights for {spec.architecture}. Name a backbone that has, or a "
            "file."
        )
    donor, sentence = load_pretrained(name, classes=0)
    net = build_backbone(spec.name, classes=classes, seed=seed)
    load_into(net, donor.state_dict(), name, head=False)
    return net, sentence


def _from_hub(spec: BackboneSpec, classes: int, seed: int) -> nn.Module:
    if not in_hub_cache(spec):
        raise NevusError(
            f"Cannot load the backbone: the weights of {spec.name} are not on this machine. Download them with `nevus "
            f"models --download {spec.name}`, or choose --weights random."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made: nn.Module = timm.create_model(spec.address, pretrained=True, num_classes=classes)
        except (RuntimeError, OSError, ValueError) as error:
            raise NevusError(
                f"Cannot load the weights of {spec.name}: {str(error).splitlines()[0]}. Download them again."
            ) from None
    check_finite(made.state_dict(), spec.name)
    if classes:
        for parameter in classifier_head(made).parameters():
            nn.init.zeros_(parameter)
    return made


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise NevusError(f"Cannot load the weights {path}: they do not exist. Give an .npz or a .safetensors file.")
    if path.suffix == ".npz":
        return read_npz(path), {}
    if path.suffix == ".safetensors":
        return read_backbone(path)
    raise NevusError(
        f"Cannot load {path}: it is neither .npz nor .safetensors, and others can hold pickled code. Convert it."
    )


def checked_digest(path: Path) -> str:
    """A file's SHA-256, compared with the one noted when it was downloaded.

    Raises:
        NevusError: the file has changed since.

    """
    digest = sha256_file(path)
    note = path.with_name(path.name + ".sha256")
    if note.is_file() and note.read_text(encoding="utf-8").strip() != digest:
        raise NevusError(f"Cannot load {path}: it is not what was downloaded. Delete it and download it again.")
    return digest


def download(name: str) -> Path | None:
    """Bring a backbone's weights onto this machine; nothing happens where they are there.

    The authors' files are resumed where a connection broke, and checked against the server's MD5; the hub's
    own client does both for the others.

    Returns:
        The file, for the authors' files.

    Raises:
        NevusError: there is nothing to download, or the server cannot be reached.

    """
    spec = backbone_spec(name)
    if spec.origin == RANDOM:
        raise NevusError(f"Cannot download {spec.name}: it has no weights to download. Use it with --weights random.")
    if spec.origin == "builtin":
        return None  # it came with the package
    if spec.origin == "npz":
        target = cached_file(spec)
        if not target.is_file():
            fetch(spec.address, target)
        return target
    try:
        timm.create_model(spec.address, pretrained=True, num_classes=0)
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise NevusError(f"Cannot download {spec.name}: {reason}. Check the connection and try again.") from None
    return None


def fetch(address: str, target: Path, *, tries: int = TRIES, pause: float = 1.0) -> None:
    """Download a file: resumed from what an earlier try left, checked, then renamed into place.

    Args:
        address: of the file, http or https.
        target: where it goes; `.part` beside it holds what has come so far.
        tries: in a row without a byte of progress, before giving up.
        pause: seconds before the second try; doubled each time.

    Raises:
        NevusError: the server cannot be reached or says no, or what came is not what it announced.

    """
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    left, whole, md5 = tries, None, None
    with progress(unit="bytes") as bar:
        task = bar.add_task(target.name, total=None, note="")
        while left:
            have = part.stat().st_size if part.exists() else 0
            request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    if have and answer.status != 206:  # the server starts again from the beginning
                        have = 0
                    whole = have + int(answer.headers.get("Content-Length", 0))
                    md5 = _md5_of(answer.headers.get_all("x-goog-hash") or [])
                    bar.update(task, total=whole, completed=have)
                    with part.open("ab" if have else "wb") as file:
                        while piece := answer.read(PIECE):
                            file.write(piece)
                            left = tries
                            bar.advance(task, len(piece))
                        file.flush()
                        os.fsync(file.fileno())
            except urllib.error.HTTPError as error:
                if error.code == 416:  # all of it is here already
                    break
                raise NevusError(
                    f"Cannot download {address}: the server answers {error.code} {error.reason}. Check the name."
                ) from None
            except OSError as error:  # the connection broke: go on from what is here
                if left == 1:
                    raise NevusError(
                        f"Cannot download {address}: it cannot be reached ({error}). Try again: what has come is kept."
                    ) from None
            if whole and part.stat().st_size >= whole:
                break
            left -= 1
            time.sleep(pause * 2 ** (tries - left - 1))
    if not part.exists() or (whole and part.stat().st_size != whole):
        raise NevusError(f"Cannot download {address}: it did not come whole. Try again: what has come is kept.")
    if md5 and hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest() != md5:
        part.unlink()
        raise NevusError(f"Cannot download {address}: it came damaged (its MD5 is not the server's). Try again.")
    write_text(target.with_name(target.name + ".sha256"), sha256_file(part) + "\n")
    part.replace(target)
    sync_folder(target.parent)


def _md5_of(hashes: list[str]) -> str | None:
    for value in ",".join(hashes).split(","):
        kind, _, encoded = value.strip().partition("=")
        if kind == "md5":
            return base64.b64decode(encoded).hex()
    return None
