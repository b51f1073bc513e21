"""A teacher: a network whose features and probabilities another one learns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nevus._io import atomic_path, sha256_bytes, sha256_file, to_json
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.checkpoint import read_backbone
from nevus.models.multi_stage import MultiStageFeatures, stage_info
from nevus.models.registry import RANDOM, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.runtime.feature_engine import openvino_model
from nevus.runtime.openvino_engine import Compiled

ABOUT = "teacher.json"
GRAPH = "graph.xml"
WEIGHTS = "graph.bin"
TAPS = 4
"""Stages of a backbone that are trained beside its last layer."""


@dataclass(frozen=True)
class Teacher:
    """A network in a folder: a graph that takes pixels, and `teacher.json` that says what it is.

    Attributes:
        name: of the folder.
        image_size: of the pixels that it takes.
        features: how many numbers its output begins with: means of several stages, concatenated.
        classes: how many probabilities follow; 0 for none.
        license: of its weights.
        origin: where they come from, in words.
        digest: of graph and weights.
        graph: the compiled graph.
        bf16: whether it computes in bfloat16, not float32.

    """

    name: str
    image_size: int
    features: int
    classes: int
    license: str
    origin: str
    digest: str
    graph: Compiled
    bf16: bool = False

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Uint8 (n, image_size, image_size, 3) to features and then probabilities: float32 (n, features + classes)."""
        return self.graph(pixels)


def teacher(name: str, *, image_size: int = 0, bf16: bool = False) -> Teacher:
    """A teacher by its folder, its file, or the name of a backbone whose weights are on this machine.

    Args:
        name: a folder that `tools/teachers.py` wrote, a backbone's `.safetensors` file, or a backbone; see `nevus
            models`.
        image_size: of the images that a backbone looks at; by default its own. A folder's is fixed.
        bf16: compute in bfloat16, which a CPU that has it does twice as fast; what is taught then differs in the
            third digit.

    Raises:
        NevusError: there is none, its weights are not on this machine, or it is damaged.

    """
    if Path(name).is_dir():
        return load_teacher(Path(name), bf16=bf16)
    file = Path(name) if name.endswith(".safetensors") else None
    backbone = str(read_backbone(file)[1].get("architecture", "")) if file else name
    if not backbone:
        raise NevusError(
            f"Cannot use the teacher {name}: it does not name its network. Give a backbone that nevus wrote."
        )
    spec = backbone_spec(backbone)
    made, weights = load_pretrained(backbone, classes=0, weights=str(file or "auto"))
    if weights == RANDOM:
        raise NevusError(f"Cannot use the teacher {name}: it has random weights. Choose another one.")
    preprocess = Preprocess(image_size or spec.image_size, spec.mean, spec.std)
    tapped = MultiStageFeatures(made, min(TAPS, len(stage_info(made))))
    with torch.no_grad():
        width = tapped.eval()(torch.zeros(1, 3, preprocess.image_size, preprocess.image_size)).shape[1]
    return Teacher(
        name=file.parent.resolve().name if file else spec.name,
        image_size=preprocess.image_size,
        features=width,
        classes=0,
        license=str(read_backbone(file)[1].get("license", "not known")) if file else spec.license,
        origin=weights,
        digest=sha256_bytes(f"{spec.name} {weights} {preprocess}".encode()),
        graph=Compiled(openvino_model(tapped, preprocess), bf16=bf16),
        bf16=bf16,
    )


def load_teacher(folder: Path, *, bf16: bool = False) -> Teacher:
    """Read a teacher's folder; compute in bfloat16 or, by default, in float32.

    Raises:
        NevusError: it is none, or is damaged.

    """
    path = folder / ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        digest = _digest(folder)
        if digest != about["digest"]:
            raise NevusError(
                f"Cannot use the teacher {folder}: it is damaged, its graph has another digest. Make it again."
            )
        return Teacher(
            name=folder.resolve().name,
            image_size=int(about["image_size"]),
            features=int(about["features"]),
            classes=int(about["classes"]),
            license=str(about["license"]),
            origin=str(about["origin"]),
            digest=digest,
            graph=Compiled(folder / GRAPH, bf16=bf16),
            bf16=bf16,
        )
    except OSError:
        raise NevusError(
            f"Cannot use {folder}: it is no teacher (it lacks {ABOUT} or its graph). Give a folder that "
            "tools/teachers.py wrote, or the name of a backbone."
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise NevusError(f"Cannot read {path}: it is damaged ({error}). Make the teacher again.") from None


def save_teacher(
    model: Any, folder: Path, *, image_size: int, features: int, classes: int, license: str, origin: str
) -> None:
    """Write a graph, uint8 pixels to features and probabilities in one output, with what it is."""
    from nevus._openvino import openvino

    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, folder / GRAPH, compress_to_fp16=False)
    about = {
        "image_size": image_size,
        "features": features,
        "classes": classes,
        "license": license,
        "origin": origin,
        "digest": _digest(folder),
    }
    with atomic_path(folder / ABOUT) as aside:
        aside.write_text(to_json(about) + "\n", encoding="utf-8")


def _digest(folder: Path) -> str:
    return sha256_bytes("".join(sha256_file(folder / name) for name in (GRAPH, WEIGHTS)).encode())
