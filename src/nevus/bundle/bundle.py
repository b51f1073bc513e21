"""The Bundle: a folder that holds a trained classifier and all that is known of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nevus._io import sha256_bytes, sha256_file, sync_folder, to_json, write_json, write_text
from nevus.bundle.builtin import builtin_names, resolve_bundle
from nevus.bundle.decision import DecisionRule
from nevus.errors import NevusError
from nevus.models.spec import ENSEMBLE, HANDCRAFTED, ModelSpec
from nevus.runtime.tta import TTAPolicy, check_policy

if TYPE_CHECKING:
    import pandas as pd

    from nevus.bundle.ensemble import Ensemble
    from nevus.models.handcrafted.classifier import Handcrafted
    from nevus.models.model import ImageClassifier

FORMAT = "nevus-bundle"
VERSION = 3
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
CARD = "README.md"
TRAINING_IMAGES = "training_images.parquet"
DECISION_IMAGES = "decision_images.parquet"
"""Index of the images that the decision rule was fitted on, where they are not the validation split of the training."""


@dataclass(frozen=True)
class Bundle:
    """What `config.json` holds. The network and its weights stay in the folder until they are needed.

    Attributes:
        spec: the structure of the network and of its input.
        provenance: data set, manifest digest, counts, training configuration, seed, versions.
        license: of the weights, which follows from the data that they were trained on.
        tta: test-time augmentation by default.
        rule: from logits to a decision.
        folder: where it was loaded from or saved to; None before.

    """

    spec: ModelSpec
    provenance: Mapping[str, Any]
    license: str
    tta: TTAPolicy = "none"
    rule: DecisionRule = DecisionRule()
    folder: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the probabilities; of two, the second is positive."""
        return self.spec.classes

    @property
    def digest(self) -> str:
        """Digest of the configuration, which holds the digests of all files.

        Raises:
            NevusError: the bundle has not been saved yet.

        """
        return str(_read_config(self._saved())["digest"])

    @property
    def onnx(self) -> Path | None:
        """Path of `model.onnx`; None if the bundle has none."""
        path = self._saved() / ONNX
        return path if path.is_file() else None

    def load_network(self) -> ImageClassifier:
        """Build the network with its weights, in eval mode. It needs PyTorch.

        Raises:
            NevusError: the weights do not fit, or the bundle holds no network.

        """
        from nevus.bundle.network import load_network

        return load_network(self._saved(), self.spec)

    def load_estimator(self) -> Handcrafted:
        """Load the estimator of a classifier on handcrafted features. It needs scikit-learn.

        Raises:
            NevusError: it does not fit, or the bundle holds none.

        """
        from nevus.bundle.network import load_handcrafted

        return load_handcrafted(self._saved(), self.spec)

    def _saved(self) -> Path:
        if self.folder is None:
            raise NevusError("Cannot use the bundle: it has not been saved. Save it first.")
        return self.folder


def save_bundle(
    bundle: Bundle,
    folder: Path,
    model: ImageClassifier | Handcrafted | Ensemble,
    card: str,
    *,
    training_images: pd.DataFrame | None = None,
    decision_images: pd.DataFrame | None = None,
    half: bool = False,
    onnx: bool | None = None,
) -> Bundle:
    """Write a bundle: all of it, or nothing.

    The folder is made aside and renamed, so that a bundle that exists is complete.

    Args:
        bundle: to save.
        folder: a new one.
        model: the network, an estimator on handcrafted features, or an ensemble.
        card: the model card, Markdown.
        training_images: an index of the training images, see `nevus.auditing.contamination`.
        decision_images: the same of the images that the decision rule was fitted on, where they are not the
            validation split.
        half: store the weights in half precision; the network still computes in float32.
        onnx: whether to write `model.onnx`; by default for networks up to 500 MB.

    Raises:
        NevusError: the folder exists or cannot be written.

    """
    if folder.exists():
        raise NevusError(f"Cannot write the bundle: {folder} exists already. Choose another folder.")
    aside = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        from nevus.bundle.network import save_model

        save_model(model, bundle.spec, aside, half=half, onnx=onnx)
        if training_images is not None:
            training_images.to_parquet(aside / TRAINING_IMAGES, index=False, compression="zstd")
        if decision_images is not None:
            decision_images.to_parquet(aside / DECISION_IMAGES, index=False, compression="zstd")
        write_text(aside / CARD, card)
        config = {
            "format": FORMAT,
            "version": VERSION,
            "model": bundle.spec.as_dict(),
            "tta": bundle.tta,
            "decision": bundle.rule.as_dict(),
            "license": bundle.license,
            "provenance": dict(bundle.provenance),
            "files": {path.name: sha256_file(path) for path in sorted(aside.iterdir())},
        }
        config = json.loads(to_json(config))
        write_json(aside / CONFIG, {**config, "digest": _digest(config)})
        aside.rename(folder)
        sync_folder(folder.parent)
    except NevusError:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        reason = error.strerror or error
        raise NevusError(f"Cannot write the bundle {folder}: {reason}. Free space or choose another folder.") from error
    return replace(bundle, folder=folder)


def load_bundle(folder: Path | str) -> Bundle:
    """Read a bundle and check the digest of every file.

    Args:
        folder: of the bundle, the name of a built-in classifier, or `hf://OWNER/NAME` of the Hugging Face hub.

    Raises:
        NevusError: the folder is no bundle, is of another version, or is damaged; nothing of it is used then.

    """
    if str(folder).startswith("hf:/"):  # a Path has lost the second stroke
        from nevus.bundle.hub import SCHEME, download

        folder = download(SCHEME + str(folder).removeprefix("hf:").lstrip("/"))
    folder = resolve_bundle(folder)
    config = _read_config(folder)
    try:
        fault = _fault(config)
        if fault:
            raise ValueError(fault)
        spec = ModelSpec.from_dict(config["model"])
        check_policy(config["tta"])
        rule = DecisionRule.from_dict(config["decision"], len(spec.classes))
    except (NevusError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise NevusError(f"Cannot read the bundle {folder}: it is inconsistent ({reason}). Make it again.") from None
    for name, digest in config["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise NevusError(f"Cannot read the bundle {folder}: its file {name} is missing. Copy it again.")
        if sha256_file(path) != digest:
            raise NevusError(
                f"Cannot read the bundle {folder}: it is damaged, {name} does not match its digest. Copy it again."
            )
    return Bundle(spec, config["provenance"], config["license"], config["tta"], rule, folder)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        names = builtin_names()
        builtin = f", or the name of a built-in classifier: {', '.join(names)}" if names else ""
        raise NevusError(
            f"Cannot read the bundle {folder}: it has no {CONFIG}. Give the folder that training wrote, as in "
            f"runs/NAME/bundle{builtin}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise NevusError(
            f"Cannot read the bundle {folder}: it is damaged, {CONFIG} is no JSON. Copy it again."
        ) from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise NevusError(f"Cannot read {folder}: it is no bundle of nevus. Give RUN/bundle of a training.")
    if config.get("version") != VERSION:
        raise NevusError(
            f"Cannot read the bundle {folder}: it has format version {config.get('version')}, and this program reads "
            f"{VERSION}. Use the version of nevus that wrote it, or a newer one."
        )
    if _digest({key: value for key, value in config.items() if key != "digest"}) != config.get("digest"):
        raise NevusError(
            f"Cannot read the bundle {folder}: it is damaged, {CONFIG} does not match its digest. Copy it again."
        )
    return config


def _fault(config: Mapping[str, Any]) -> str:
    files, needed = config.get("files"), {CARD}
    if not isinstance(config.get("model"), dict) or not isinstance(config.get("provenance"), dict):
        return "its model or provenance is missing"
    others = {HANDCRAFTED: "estimator.skops", ENSEMBLE: "ensemble.json"}
    needed.add(others.get(str(config["model"].get("backbone")), WEIGHTS))
    if not isinstance(files, dict) or not needed <= set(files):
        return "its files have no digests"
    return "" if isinstance(config.get("license"), str) else "its license is no text"


def _digest(config: Mapping[str, Any]) -> str:
    return sha256_bytes(json.dumps(config, sort_keys=True, ensure_ascii=False).encode())
