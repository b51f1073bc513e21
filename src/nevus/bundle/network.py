"""The model files of a bundle: read and written with PyTorch or scikit-learn."""

from __future__ import annotations

from pathlib import Path

from nevus._io import save_tensors
from nevus.bundle.bundle import ONNX, WEIGHTS
from nevus.bundle.ensemble import Ensemble
from nevus.errors import NevusError
from nevus.models.checkpoint import check_finite, halved
from nevus.models.handcrafted.classifier import FILE, Handcrafted, load_estimator, save_estimator
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE
from nevus.models.model import ImageClassifier, build_model
from nevus.models.spec import ENSEMBLE, HANDCRAFTED, ModelSpec


def save_model(
    model: ImageClassifier | Handcrafted | Ensemble, spec: ModelSpec, folder: Path, *, half: bool, onnx: bool | None
) -> None:
    """Write the model files into a folder; see `nevus.bundle.bundle.save_bundle`."""
    if isinstance(model, Handcrafted):
        save_estimator(model, folder / FILE)
        return
    if isinstance(model, Ensemble):
        model.save(folder)
        return
    from nevus.runtime.onnx_model import LARGEST, weight_bytes, write_onnx

    weights = model.state_dict()
    if half:
        weights = halved(weights)
        model.load_state_dict({key: value.float() for key, value in weights.items()})
    save_tensors(folder / WEIGHTS, weights, {"format": "pt"})
    if onnx if onnx is not None else weight_bytes(model) <= LARGEST:
        write_onnx(model, spec, folder / ONNX)


def load_network(folder: Path, spec: ModelSpec) -> ImageClassifier:
    """Build the network of a bundle's folder with its weights.

    Raises:
        NevusError: the weights do not fit, or the bundle holds no network.

    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if spec.backbone == HANDCRAFTED:
        raise NevusError(f"Cannot load a network from {folder}: it holds an estimator on handcrafted features.")
    if spec.backbone == ENSEMBLE:
        raise NevusError(f"Cannot load a network from {folder}: it is an ensemble. Use one of its members.")
    network = build_model(spec)
    try:
        weights = load_file(folder / WEIGHTS)
        check_finite(weights, folder / WEIGHTS)
        network.load_state_dict({key: value.float() for key, value in weights.items()})
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise NevusError(f"Cannot load the network of {folder}: {reason}. Make the bundle again.") from None
    return network.eval()


def load_handcrafted(folder: Path, spec: ModelSpec) -> Handcrafted:
    """Load the estimator of a bundle's folder.

    Raises:
        NevusError: it is for other classes or images, or the bundle holds none.

    """
    if spec.backbone != HANDCRAFTED:
        raise NevusError(f"Cannot load an estimator from {folder}: it holds a network.")
    model = load_estimator(folder / FILE)
    if len(model.estimator.classes_) != len(spec.classes) or spec.image_size != HANDCRAFTED_IMAGE_SIZE:
        raise NevusError(f"Cannot load the estimator of {folder}: it is for other classes. Make the bundle again.")
    return model
