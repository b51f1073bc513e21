"""The same network as ours, timm's and transformers' make it, with the same weights."""

from __future__ import annotations

import re

import torch
import transformers
from torch import nn

from nevus.models.bit import UNITS
from nevus.models.model import ImageClassifier, build_backbone, build_model
from nevus.models.spec import ModelSpec

SMALL = {"bit-r26x0.5": (26, 0.5), "bit-r26x1": (26, 1.0), "bit-r50x0.5": (50, 0.5), "bit-m-r50x1": (50, 1.0)}
_LAYER = "bit.encoder.stages.{}.layers.{}.{}"


def ours(name: str) -> nn.Module:
    """Random weights, two classes, a head that is not zero."""
    depth, width = SMALL[name]
    net = build_backbone(f"bit-r{depth}x{width:g}", classes=2, seed=0)
    nn.init.normal_(net.get_classifier().weight, std=0.01, generator=torch.Generator().manual_seed(0))
    return net


def classifier(name: str, image_size: int) -> ImageClassifier:
    """The same network, as nevus trains and exports it."""
    net = ours(name)
    spec = ModelSpec(backbone=f"bit-r{SMALL[name][0]}x{SMALL[name][1]:g}", classes=("0", "1"), image_size=image_size)
    made = build_model(spec, build_backbone(spec.backbone, seed=0))
    weight = net.get_classifier().weight.detach().flatten(1)
    with torch.no_grad():
        made.head.weight.copy_(weight)
    return made


class Transformers(nn.Module):
    """transformers' BitForImageClassification, images to logits."""

    def __init__(self, name: str) -> None:
        super().__init__()
        depth, width = SMALL[name]
        config = transformers.BitConfig(
            depths=list(UNITS[depth]),
            hidden_sizes=[int(width * size) for size in (256, 512, 1024, 2048)],
            embedding_size=int(64 * width),
            num_labels=2,
        )
        self.network = transformers.BitForImageClassification(config)
        weights = {
            their_name(key): value.flatten(1) if key == "head.fc.weight" else value
            for key, value in ours(name).state_dict().items()
        }
        self.network.load_state_dict(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2)."""
        return self.network(x).logits


def their_name(key: str) -> str:
    """How transformers calls the weight that timm calls `key`."""
    if key.startswith("stem.conv"):
        return "bit.embedder.convolution.weight"
    if key.startswith("norm"):
        return f"bit.{key}"
    if key.startswith("head.fc"):
        return key.replace("head.fc", "classifier.1")
    stage, block, rest = re.fullmatch(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", key).groups()  # type: ignore[union-attr]
    return _LAYER.format(stage, block, rest)
