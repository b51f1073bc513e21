"""Names of networks, and what is known of each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from nevus.errors import NevusError

UNITS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Units of the four stages of a BiT by depth. 50 to 152 are the published ones (Kolesnikov et al. 2020, section 3.1);
26 is ResNet-26's 2-2-2-2, for CPUs and the edge."""
BIT_NAME = re.compile(r"bit-r(\d+)x(\d+(?:\.\d+)?)(-bn)?")
"""Architecture of a BiT: depth, width factor, and `-bn` for batch normalization."""
SIZES = ("50x1", "50x3", "101x1", "101x3", "152x2", "152x4")
"""The published sizes: depth and width."""

BUCKET = "https://storage.googleapis.com/bit_models"
RANDOM = "random"
PRETRAINED = files("nevus").joinpath("pretrained", "backbones")
"""Folder of the weights that come with the package."""


@dataclass(frozen=True)
class BackboneSpec:
    """What is known of a named backbone.

    Attributes:
        name: as given to `--backbone`.
        architecture: `bit-r<depth>x<width>`, one of `nevus.models.extra_architectures`, `timm/<model>`, or
            `hf-hub:<repository>`.
        image_size: side in pixels that it is trained at by default.
        origin: where its weights come from: `random`, `npz` (the authors' file `address`), `hub` (timm or the
            Hugging Face hub, model `address`) or `builtin` (the package's own file `address`).
        address: of the weights: the file's address, or timm's name with its tag.
        license: of the weights.
        upstream: what they were trained on.
        mean: of the input's channels, of values in [0, 1].
        std: likewise.
        digest: of a shipped file.

    """

    name: str
    architecture: str
    image_size: int
    origin: str = RANDOM
    address: str = ""
    license: str = "none: random weights"
    upstream: str = ""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    digest: str = ""


def _official() -> list[BackboneSpec]:
    found = []
    for size in SIZES:
        for letter, upstream in (("S", "ImageNet-1k"), ("M", "ImageNet-21k")):
            for tuned in ("", "-ILSVRC2012"):
                if letter == "S" and tuned:
                    continue  # BiT-S is trained on ILSVRC-2012 to begin with
                found.append(
                    BackboneSpec(
                        name=f"bit-{letter}-r{size}{tuned}".lower(),
                        architecture=f"bit-r{size}",
                        image_size=224,
                        origin="npz",
                        address=f"{BUCKET}/BiT-{letter}-R{size}{tuned}.npz",
                        license="Apache-2.0",
                        upstream=upstream + (", then ImageNet-1k" if tuned else ""),
                    )
                )
    for name, size, image_size, file, upstream in (
        ("bit-distilled-r50x1-160", "50x1", 160, "R50x1_160", "ImageNet-1k, distilled from R152x2"),
        ("bit-distilled-r50x1-224", "50x1", 224, "R50x1_224", "ImageNet-1k, distilled from R152x2"),
        ("bit-teacher-r152x2-224", "152x2", 224, "R152x2_T_224", "ImageNet-21k, then ImageNet-1k"),
        ("bit-teacher-r152x2-384", "152x2", 384, "R152x2_T_384", "ImageNet-21k, then ImageNet-1k"),
    ):
        address = f"{BUCKET}/distill/{file}.npz"
        found.append(BackboneSpec(name, f"bit-r{size}", image_size, "npz", address, "Apache-2.0", upstream))
    return found


def _builtin() -> list[BackboneSpec]:
    """Those whose weights come with the package."""
    listed = json.loads(PRETRAINED.joinpath("backbones.json").read_text(encoding="utf-8"))
    return [
        BackboneSpec(
            name,
            one["architecture"],
            one["image_size"],
            "builtin",
            one["file"],
            one["license"],
            one["upstream"],
            digest=one["digest"],
        )
        for name, one in listed.items()
    ]


def _of_255(red: float, green: float, blue: float) -> tuple[float, float, float]:
    return red / 255, green / 255, blue / 255


BACKBONES = {
    spec.name: spec
    for spec in (
        *_builtin(),
        BackboneSpec("bit-r26x0.5", "bit-r26x0.5", 128),
        BackboneSpec("bit-r26x1", "bit-r26x1", 128),
        BackboneSpec("bit-r50x0.5", "bit-r50x0.5", 128),
        BackboneSpec("bit-r50x1", "bit-r50x1", 128),
        BackboneSpec("bit-r26x0.5-bn", "bit-r26x0.5-bn", 128),
        # Normalized as the weights were trained for which they stand here; see scripts/rivals.py.
        BackboneSpec("vgg16-base", "vgg16-base", 224, mean=_of_255(123.68, 116.779, 103.939), std=_of_255(1, 1, 1)),
        BackboneSpec("inception-v3-keras", "inception-v3-keras", 299),
        BackboneSpec("resnet50-half", "resnet50-half", 224, mean=_of_255(123, 117, 104), std=_of_255(1, 1, 1)),
        BackboneSpec(
            "efficientnet-lite0",
            "timm/tf_efficientnet_lite0",
            224,
            mean=_of_255(127, 127, 127),
            std=_of_255(128, 128, 128),
        ),
        *_official(),
    )
}
"""The backbones with a name of their own. Beside them goes every model of timm as `timm/<name>[.<tag>]` and of the
Hugging Face hub as `hf-hub:<repository>`."""


AUTO = "auto"
PERMISSIVE = ("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause")
"""Licenses of weights that may be used for any purpose."""
LARGE = "bit-m-r50x1"
"""What a machine with a GPU can carry."""


def is_permissive(license: str) -> bool:
    """Whether weights under a license, or under several at once (`A; B`), may be used for any purpose.

    timm and the Hugging Face hub write the names in lower case.
    """
    known = {name.lower() for name in PERMISSIVE}
    return all(part.strip().lower() in known for part in license.split(";"))


def default_backbone(*, gpu: bool, here: Callable[[BackboneSpec], bool], permissive: bool = False) -> tuple[str, str]:
    """The backbone that a machine can carry, and a sentence that says why it was taken.

    Args:
        gpu: whether there is one.
        here: whether a backbone's weights are on this machine.
        permissive: only weights that may be used for any purpose.

    """
    if gpu and here(BACKBONES[LARGE]):
        return LARGE, f"--backbone auto takes {LARGE}: there is a GPU, and its weights are on this machine."
    builtin = [spec for spec in BACKBONES.values() if spec.origin == "builtin"]
    free = [spec for spec in builtin if is_permissive(spec.license)]
    fit = free if permissive else sorted(builtin, key=lambda spec: spec in free)
    if not fit:
        return "bit-r26x0.5", "--backbone auto takes bit-r26x0.5 with random weights: none come with this package."
    more = f", or download {LARGE} with nevus models --download {LARGE}" if gpu else ""
    return fit[0].name, (
        f"--backbone auto takes {fit[0].name}, which comes with nevus ({fit[0].upstream}; license of its weights: "
        f"{fit[0].license}){more}."
    )


def backbone_spec(name: str) -> BackboneSpec:
    """Look a backbone up by our name, timm's (`timm/resnet50.a1_in1k`) or the hub's (`hf-hub:owner/name`).

    Raises:
        NevusError: there is none of that name.

    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.lower() in BACKBONES:
        return BACKBONES[name.lower()]
    if name.startswith("timm/"):
        return _timm_spec(name)
    if name.startswith("hf-hub:"):
        return BackboneSpec(name, name, 224, "hub", name, "not known: see the hub's page", "see the hub's page")
    raise NevusError(
        f"Cannot find the network: there is no backbone '{name}'. Choose one that `nevus models` lists, timm/NAME for "
        "any of timm's models, or hf-hub:OWNER/NAME for one of the hub."
    )


def _timm_spec(name: str) -> BackboneSpec:
    from nevus.models.timm_library import timm

    model = name.removeprefix("timm/")
    plain, _, tag = model.partition(".")
    if not timm.is_model(plain):
        raise NevusError(
            f"Cannot find the network: timm has no model '{plain}'. Look for its name in timm.list_models()."
        )
    try:
        known = timm.get_pretrained_cfg(model, allow_unregistered=True)
    except RuntimeError:
        raise NevusError(
            f"Cannot find the weights: timm has no weights '{tag}' for {plain}. Leave the tag out for random weights."
        ) from None
    return BackboneSpec(
        name=name,
        architecture=f"timm/{plain}",
        image_size=int(known.input_size[-1]) if known else 224,
        origin="hub" if tag else RANDOM,
        address=model if tag else "",
        license=(known.license or "not known") if tag and known else "none: random weights",
        upstream=tag,
        mean=tuple(known.mean) if known else (0.5, 0.5, 0.5),
        std=tuple(known.std) if known else (0.5, 0.5, 0.5),
    )


def feature_width(spec: BackboneSpec) -> int:
    """Width of a BiT's feature vector."""
    match = re.search(r"x(\d+(?:\.\d+)?)(-bn)?$", spec.architecture)
    return round(2048 * float(match[1])) if match and spec.architecture.startswith("bit-") else 0


def parameter_count(spec: BackboneSpec) -> int:
    """Number of weights of a BiT backbone, without a head; 0 for other architectures.

    Counted from the architecture (Kolesnikov et al. 2020, section 3.1), so that no network need be built.
    """
    match = BIT_NAME.fullmatch(spec.architecture)
    if not match:
        return 0
    width = float(match[2])
    before = round(64 * width)
    total = 3 * before * 49
    for stage, units in enumerate(UNITS[int(match[1])]):
        out = round(256 * 2**stage * width)
        middle = out // 4
        for unit in range(units):
            norms = 2 * (before + 2 * middle)
            total += before * middle + 9 * middle**2 + middle * out + norms + (before * out if unit == 0 else 0)
            before = out
    return total + 2 * before
