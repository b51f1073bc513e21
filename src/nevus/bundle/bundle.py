"""The Bundle: a folder that holds a trained classifier and all that is known of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from nevus._io import (
    sha256_bytes,
    sha256_file,
    save_tensors,
    sync_folder,
    to_json,
    write_json,
    write_text,
)
from nevus.bundle.builtin import resolve_bundle, builtin_names
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.checkpoint import halved
from nevus.models.handcrafted.classifier import FILE, HANDCRAFTED, Handcrafted, load_estimator, save_estimator
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE
from nevus.models.label_groups import LabelGroups, GroupedLogits
from nevus.models.multi_stage import MultiStageClassifier
from nevus.models.registry import build_backbone
from nevus.runtime.tta import TTA_COUNTS

FORMAT = "nevus-bundle"
VERSION = 1
CONFIG = "bundle.json"
WEIGHTS = "weights.safetensors"
CARD = "README.md"


@dataclass(frozen=True)
class Bundle:
    """A classifier's parts.

    Attributes:
        trunk: name of the trunk, see `nevus.models.registry`, or `handcrafted`.
        classes: names in the order of the outputs; of two, the second is positive.
        preprocess: how images become tensors.
        network: images, float (n, 3, side, side), to logits (n, classes); or handcrafted features with an
            estimator on them.
        provenance: what it was trained on and how: data set, manifest digest, counts, recipe, seed, versions.
        license: of the weights, which is that of what they were trained on.
        folder: where it was loaded from or saved to; None before.
        taps: stages whose means stand beside the trunk's features; see `nevus.models.multi_stage`.
        spread: whether their standard deviations and maxima do, too.
        answer: how the classes are added up from diagnoses; None where the network knows the classes themselves.
        views: of each image, whose mean is the answer where nothing else is asked for; see `nevus.runtime.tta`.

    """

    backbone: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    network: nn.Module | Handcrafted
    provenance: Mapping[str, Any]
    license: str
    folder: Path | None = None
    taps: int = 0
    spread: bool = False
    answer: LabelGroups | None = None
    views: int = 1

    @property
    def digest(self) -> str:
        """Digest of the weights and all that is said of them.

        Raises:
            NevusError: the bundle has not been saved yet.

        """
        if self.folder is None:
            raise NevusError("a bundle has a digest once it is saved; save it first.")
        return str(_read_config(self.folder)["digest"])


def save_bundle(bundle: Bundle, folder: Path, card: str, *, half: bool = False) -> Bundle:
    """Write a bundle: all of it, or nothing.

    The folder is made beside and renamed, so that a bundle that is there is whole.

    Args:
        bundle: to save.
        folder: a new one.
        card: the model card, Markdown.
        half: store the weights in half precision; they are computed with in float32 all the same.

    Raises:
        NevusError: the folder exists or cannot be written.

    """
    if folder.exists():
        raise NevusError(f"{folder} exists already; choose another folder.")
    aside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        if isinstance(bundle.network, Handcrafted):
            save_estimator(bundle.network, aside / FILE)
        else:
            weights = bundle.network.state_dict()
            save_tensors(aside / WEIGHTS, halved(weights) if half else weights, {"format": "pt"})
        write_text(aside / CARD, card)
        about = {
            "format": FORMAT,
            "version": VERSION,
            "backbone": bundle.backbone,
            "taps": bundle.taps,
            "spread": bundle.spread,
            "classes": list(bundle.classes),
            "diagnoses": list(bundle.answer.diagnoses) if bundle.answer else None,
            "answer": bundle.answer.as_dict() if bundle.answer else None,
            "preprocess": asdict(bundle.preprocess),
            "views": bundle.views,
            "provenance": dict(bundle.provenance),
            "license": bundle.license,
            "files": {name: sha256_file(aside / name) for name in (_model_file(bundle.backbone), CARD)},
        }
        about = json.loads(to_json(about))
        write_json(aside / CONFIG, {**about, "digest": _digest(about)})
        aside.rename(folder)
        sync_folder(folder.parent)
    except NevusError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise NevusError(
            f"the bundle {folder} cannot be written: {error.strerror or error}; free space or choose "
            "another folder."
        ) from error
    return replace(bundle, folder=folder)


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and check every digest.

    Args:
        folder: of the bundle, or the name of a classifier that comes with the package.

    Raises:
        NevusError: the folder is no bundle, is of a newer format, or is damaged; nothing of it is used then.

    """
    folder = resolve_bundle(folder)
    about = _read_config(folder)
    fault = _fault(about)
    if fault:
        raise NevusError(f"the bundle {folder} does not fit together ({fault}); make it again.")
    for name, digest in about["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise NevusError(f"the bundle {folder} lacks its file {name}; copy it again.")
        if sha256_file(path) != digest:
            raise NevusError(f"the bundle {folder} is damaged: {name} does not match its digest; copy it again.")
    try:
        answer = _answer(about)
        sizes = about["preprocess"]
        preprocess = Preprocess(int(sizes["side"]), tuple(sizes["mean"]), tuple(sizes["std"]))
        made: nn.Module | Handcrafted = (_handcrafted if about["backbone"] == HANDCRAFTED else _network)(
            folder, about, answer
        )
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise NevusError(
            f"the bundle {folder} does not fit together ({str(error).splitlines()[0]}); make it again."
        ) from None
    return Bundle(
        backbone=about["backbone"],
        classes=tuple(about["classes"]),
        preprocess=preprocess,
        network=made,
        provenance=about["provenance"],
        license=about["license"],
        folder=folder,
        taps=about.get("taps", 0),
        spread=about.get("spread", False),
        answer=answer,
        views=about.get("views", 1),
    )


def _network(folder: Path, about: Mapping[str, Any], answer: LabelGroups | None) -> nn.Module:
    classes = len(answer.diagnoses if answer else about["classes"])
    made = build_network(about["backbone"], about.get("taps", 0), classes, spread=about.get("spread", False))
    made = GroupedLogits(made, answer) if answer else made
    made.load_state_dict(load_file(folder / WEIGHTS))
    return made.eval()


def _handcrafted(folder: Path, about: Mapping[str, Any], _: LabelGroups | None) -> Handcrafted:
    made = load_estimator(folder / FILE)
    if len(made.estimator.classes_) != len(about["classes"]) or about["preprocess"]["side"] != HANDCRAFTED_IMAGE_SIZE:
        raise ValueError("its estimator is for other classes or pictures")
    return made


def _answer(about: Mapping[str, Any]) -> LabelGroups | None:
    """How the classes are added up.

    Raises:
        NevusError: the sums do not fit the diagnoses.
        TypeError, ValueError, AttributeError: they are no such thing.

    """
    if not about.get("answer"):
        return None
    answer = LabelGroups.of([f"{name}={','.join(parts)}" for name, parts in about["answer"].items()], about["diagnoses"])
    if sorted(answer.classes) != sorted(about["classes"]):
        raise ValueError("its answer has other classes")
    return answer


def _model_file(backbone: str) -> str:
    return FILE if backbone == HANDCRAFTED else WEIGHTS


def build_network(backbone: str, taps: int, classes: int, *, spread: bool = False) -> nn.Module:
    """A trunk's network, with its taps where it has some; random weights."""
    if not taps:
        return build_backbone(backbone, classes=classes)
    return MultiStageClassifier(build_backbone(backbone, classes=0), taps, classes, spread=spread)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise NevusError(
            f"{folder} is no bundle (it has no {CONFIG}); give the folder that training wrote, as in "
            f"runs/NAME/bundle{_or_shipped()}."
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise NevusError(f"the bundle {folder} is damaged: {CONFIG} is no JSON; copy it again.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise NevusError(f"{folder} is no bundle of this program; give the folder that training wrote.")
    if about.get("version") != VERSION:
        raise NevusError(
            f"the bundle {folder} has format version {about.get('version')}, and this program reads "
            f"{VERSION}; use the program's version that wrote it, or a newer one."
        )
    if about.pop("digest", None) != _digest(about):
        raise NevusError(f"the bundle {folder} is damaged: {CONFIG} does not match its digest; copy it again.")
    return {**about, "digest": _digest(about)}


def _or_shipped() -> str:
    names = builtin_names()
    return f", or the name of one that comes with nevus: {', '.join(names)}" if names else ""


def _fault(about: Mapping[str, Any]) -> str | None:
    """What of a bundle's description is not as it should be; its digest may be right all the same."""
    classes, sizes, files = about.get("classes"), about.get("preprocess"), about.get("files")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(c, str) and c for c in classes):
        return "its classes are no list of names"
    if len(set(classes)) != len(classes):
        return "it has a class twice"
    if not isinstance(about.get("provenance"), dict) or not isinstance(about.get("backbone"), str):
        return "its provenance or trunk is missing"
    if not isinstance(files, dict) or not {_model_file(about["backbone"]), CARD} <= set(files):
        return "its files have no digests"
    if not isinstance(about.get("license"), str):
        return "its license is missing"
    if not isinstance(about.get("taps", 0), int) or not 0 <= about.get("taps", 0) <= 16:
        return "its taps are no number of stages"
    if not isinstance(about.get("spread", False), bool) or (about.get("spread") and not about.get("taps")):
        return "it has the spread of no stages"
    if type(about.get("views", 1)) is not int or about.get("views", 1) not in TTA_COUNTS:
        return "it has no number of views"
    if not isinstance(sizes, dict) or not isinstance(sizes.get("side"), int) or not 16 <= sizes["side"] <= 4096:
        return "its side is no number of pixels"
    for name in ("mean", "std"):
        values = sizes.get(name)
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, float | int) for v in values):
            return f"its {name} is not three numbers"
    return "its std is not positive" if min(sizes["std"]) <= 0 else None


def _digest(about: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(about, sort_keys=True, ensure_ascii=False).encode())


def license_of(sources: Sequence[str], start: str = "") -> str:
    """License that weights carry which were trained on these data sets, as far as it is known by name.

    Args:
        sources: the name of a data set, then those of its sources.
        start: what is said of the weights to begin with: theirs goes on with them.

    """
    known = {LICENSES[name] for source in sources for name in LICENSES if name in source.lower()}
    if "cc by-nc" in start.lower().replace("cc-by", "cc by"):
        told = {
            text for name, text in LICENSES.items() if "NC" in text and (name in start.lower() or text in start)
        }
        known |= told or {"CC BY-NC (the weights it began with)"}
    # The first is the name of all together.
    strange = [s for s in sources[1:] or sources if not any(name in s.lower() for name in LICENSES)]
    unknown = ["not known: that of the data it was trained on"] if strange or not known else []
    return "; ".join([*sorted(known), *unknown])


LICENSES = {
    "isic-malignant-benign": "CC BY-NC 4.0 (ISIC archive terms; the set contains images of HAM10000)",
    "ham10000": "CC BY-NC 4.0 (HAM10000)",
    "isic2017": "CC BY-NC 4.0 (ISIC 2017 challenge, CC-0 or CC BY-NC by image)",
    "phantom": "Apache-2.0 (synthetic images: a demo, not for lesions)",
}
"""License by a word in the name of a data set."""
