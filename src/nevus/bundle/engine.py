"""The engine of a bundle: pixels to logits."""

from __future__ import annotations

from nevus.bundle.bundle import Bundle
from nevus.bundle.ensemble import Ensemble, EnsembleEngine
from nevus.errors import NevusError
from nevus.models.spec import ENSEMBLE, HANDCRAFTED
from nevus.runtime.engines import Engine, EngineName, file_engine


def make_engine(bundle: Bundle, name: EngineName = "auto") -> Engine:
    """Make the engine of a bundle, without test-time augmentation.

    Args:
        bundle: a saved one.
        name: an estimator on handcrafted features runs in the same way whatever it is.

    Raises:
        NevusError: the engine does not run here.

    """
    if bundle.spec.backbone == HANDCRAFTED:
        try:
            return bundle.load_estimator()
        except ImportError as error:
            raise NevusError(
                f'Cannot use {bundle.folder}: {error.name} is missing. Install it with pip install "nevus[train]".'
            ) from None
    if bundle.spec.backbone == ENSEMBLE:
        if name == "torch":
            raise NevusError(f"Cannot use --engine torch: {bundle.folder} is an ensemble. Use --engine onnx.")
        assert bundle.folder is not None
        return EnsembleEngine(Ensemble.load(bundle.folder), name)
    if name == "torch" or (name == "auto" and bundle.onnx is None):
        try:
            from nevus.bundle.torch_engine import bundle_engine

            return bundle_engine(bundle)
        except ImportError as error:
            raise NevusError(
                f'Cannot use PyTorch: {error.name} is missing. Install it with pip install "nevus[train]".'
            ) from None
    if bundle.onnx is None:
        raise NevusError(f"Cannot use --engine {name}: {bundle.folder} has no model.onnx. Use --engine torch.")
    return file_engine(bundle.onnx, name)
