"""Small real models for tests."""

from pathlib import Path

import torch

from nevus.bundle.bundle import Bundle, save_bundle
from nevus.models.model import build_backbone, build_model
from nevus.models.spec import ModelSpec


def small_network(spec: ModelSpec, seed: int = 5):
    """A classifier with random weights and a head that is not zero."""
    network = build_model(spec, build_backbone(spec.backbone, seed=seed))
    generator = torch.Generator().manual_seed(0)
    network.head.weight.data = torch.randn(network.head.weight.shape, generator=generator) * 0.2
    return network.eval()


def small_bundle(folder: Path, *, tta="none", seed=5, half=False, license="none", **spec) -> Bundle:
    """A saved bundle of the smallest BiT for 32 px; `spec` sets fields of its ModelSpec."""
    about = {"data": {"name": "none", "digest": "sha256:0", "counts": {}}, "fit": {}, "history": []}
    model = ModelSpec(**{"backbone": "bit-r26x0.5", "classes": ("benign", "malignant"), "image_size": 32, **spec})
    return save_bundle(Bundle(model, about, license, tta), folder, small_network(model, seed), "# card\n", half=half)
