"""The methods of a comparison, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nevus.errors import NevusError
from nevus.models.cached import on_this_machine
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
    """A method of a comparison.

    Attributes:
        name: as given to `--method`.
        title: its name in a table.
        backbone: its network; empty for methods with handcrafted features.
        official: the same network with its usual pretrained weights, by timm's tag; empty where there are none.
        near: similar backbones that replace it if a file of weights is of one of them.

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
"""BiT first, since others are tested against it; then BiT with another normalization, the four networks of the paper's
Table I, its SVM and AdaBoost, and the older methods that it names."""


def method_spec(name: str) -> MethodSpec:
    """Return a method by name.

    Raises:
        NevusError: there is none of that name.

    """
    if name not in METHODS:
        raise NevusError(f"Cannot use the method '{name}': there is none. Choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def resolve_method(one: MethodSpec, weights: str, backbone: str = AUTO) -> tuple[str, str]:
    """Return the network of a method and its initial weights; random ones on request only.

    Args:
        one: a method that is a network.
        weights: `auto` for BiT's own or the official ones, `random`, or the path of a file. A file of a
            similar network brings this network; a file of BiT brings its size.
        backbone: for BiT, another one of its sizes.

    Returns:
        Backbone and weights, as `Trainer` takes them.

    Raises:
        NevusError: the weights are not on this machine, or are another network's.

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
    there = f"Download them with nevus models --download {one.official}. " if one.official else ""
    raise NevusError(
        f"Cannot use {one.name}: its pretrained weights are not on this machine. {there}Give a file with --weights "
        f"{one.name}=PATH, or use --weights {one.name}=random."
    )


def _said(one: MethodSpec, weights: str, own: str) -> str:
    """Return the backbone of a file of weights."""
    from nevus.models.checkpoint import read_backbone  # PyTorch

    file = Path(weights)
    if not file.is_file():
        raise NevusError(f"Cannot read the weights '{file}': it does not exist. Give an .npz or .safetensors file.")
    said = str(read_backbone(file)[1].get("architecture", "")) if file.suffix == ".safetensors" else ""
    if not said or said == own:
        return own
    if said in one.near or (own == AUTO and said.startswith("bit-")):
        return said
    if own.startswith("bit-") and said.startswith("bit-"):
        return own  # whether the weights fit is checked when they are loaded
    raise NevusError(f"Cannot use '{weights}' for {one.name}: it has the weights of {said}. Give other weights.")


def is_network(name: str) -> bool:
    """Return whether a method is a network; others are trained on handcrafted features."""
    return bool(method_spec(name).backbone)
