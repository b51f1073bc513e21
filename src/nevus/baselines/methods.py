"""The systems of the comparison, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nevus.baselines.learners import LEARNERS
from nevus.errors import NevusError
from nevus.models.cached import on_this_machine
from nevus.models.checkpoint import read_backbone
from nevus.models.registry import AUTO, RANDOM, backbone_spec

MethodName = Literal[
    "bit",
    "bit-bn",
    "inception-v3",
    "vgg16",
    "resnet50",
    "efficientnet-b0",
    "svm",
    "adaboost",
    "ann",
    "kmeans",
    "abcd-rule",
]


@dataclass(frozen=True)
class MethodSpec:
    """A system of the comparison.

    Attributes:
        name: as given to `--method`.
        title: as it stands in a table.
        backbone: its network; empty for what learns from handcrafted features.
        official: the same network with the weights that are usually meant, by timm's tag; empty where there are
            none.
        near: backbones that may stand in for it, where a file of weights says that it is of such a one.

    """

    name: str
    title: str
    backbone: str = ""
    official: str = ""
    near: tuple[str, ...] = ()


METHODS = {
    method_spec.name: method_spec
    for method_spec in (
        MethodSpec("bit", "BiT", AUTO),
        MethodSpec("bit-bn", "BiT with batch normalization", "bit-r26x0.5-bn"),
        MethodSpec(
            "inception-v3",
            "Inception V3",
            "timm/inception_v3",
            "timm/inception_v3.tf_in1k",
            ("inception-v3-keras",),
        ),
        MethodSpec("vgg16", "VGG16", "timm/vgg16", "timm/vgg16.tv_in1k", ("vgg16-base",)),
        MethodSpec("resnet50", "ResNet50", "timm/resnet50", "timm/resnet50.tv_in1k", ("resnet50-half",)),
        MethodSpec(
            "efficientnet-b0",
            "EfficientNetB0",
            "timm/efficientnet_b0",
            "timm/efficientnet_b0.ra_in1k",
            ("efficientnet-lite0",),
        ),
        MethodSpec("svm", "SVM"),
        MethodSpec("adaboost", "AdaBoost"),
        MethodSpec("ann", "ANN"),
        MethodSpec("kmeans", "k-means"),
        MethodSpec("abcd-rule", "ABCD rule"),
    )
}
"""BiT first, for others are held against it; then BiT with another norm, the four networks of the paper's Table I,
its SVM and AdaBoost, and the older ones that it names."""


def method_spec(name: str) -> MethodSpec:
    """Look a system up.

    Raises:
        NevusError: there is none of that name.

    """
    if name not in METHODS:
        raise NevusError(f"there is no method '{name}'; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def resolve_method(one: MethodSpec, weights: str, backbone: str = AUTO) -> tuple[str, str]:
    """Which network a system is, and what it starts from: nothing is random unless that is asked for.

    Args:
        one: a system that is a network.
        weights: `auto` for BiT's own or the official ones, `random`, or the path of a file. A file that says that
            it is of a near relation brings this network along; of BiT it brings the size.
        backbone: for BiT, another one of its sizes.

    Returns:
        Backbone and weights, as `BiT` takes them.

    Raises:
        NevusError: the weights are not on this machine, or are another system's.

    """
    own = backbone if one.backbone == AUTO else one.backbone
    if weights == RANDOM:
        return own if own != AUTO else "bit-r26x0.5", RANDOM
    if weights != AUTO:
        return _said(one, weights, own), weights
    if one.backbone == AUTO:
        return own, weights
    if one.official and on_this_machine(backbone_spec(one.official)):
        return one.official, AUTO
    there = f"; download them with nevus models --download {one.official}" if one.official else ""
    raise NevusError(
        f"pretrained weights for {one.name} are not on this machine{there}, give a file with --weights, or say "
        "--weights random."
    )


def _said(one: MethodSpec, weights: str, own: str) -> str:
    """The backbone that a file of weights is for."""
    file = Path(weights)
    if not file.is_file():
        raise NevusError(f"the weights {file} do not exist; give an .npz or a .safetensors file.")
    said = str(read_backbone(file)[1].get("architecture", "")) if file.suffix == ".safetensors" else ""
    if not said or said == own:
        return own
    if said in one.near or (own == AUTO and said.startswith("bit-")):
        return said
    if own.startswith("bit-") and said.startswith("bit-"):
        return own  # a size was asked for: whether they fit is seen where they are loaded
    raise NevusError(f"{weights} holds {said}, which is no {one.name}; give the weights of this.")


def is_network(name: str) -> bool:
    """Whether a system is a network; others learn from handcrafted features."""
    return name not in LEARNERS
