"""A fit: what every step of a training needs, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, DecodedImages, decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.transforms import AugmentedImages
from nevus.errors import NevusError
from nevus.models.model import ImageClassifier
from nevus.models.spec import ModelSpec
from nevus.runtime.device import device
from nevus.runtime.distributed import current_world
from nevus.runtime.engines import Engine, run_batched
from nevus.runtime.feature_engine import TorchEngine
from nevus.runtime.tta import TTAStack, split_views
from nevus.training.config import TrainConfig
from nevus.training.history import StageTimer
from nevus.training.losses import class_weights, source_balancing_weights
from nevus.training.run_dir import RunDir

MAX_TRAIN_PREDICTIONS = 10_000
"""Most training images that a finished classifier predicts, to report the gap to validation."""


@dataclass(frozen=True)
class Fit:
    """The parts of a training.

    Attributes:
        manifest: the whole data set, with its splits.
        train: training images.
        val: validation images.
        spec: of the model.
        config: of the training.
        run: its folder.
        cache: of decoded images.
        timer: takes the time of each stage.
        seed: of everything random.

    """

    manifest: Manifest
    train: DecodedDataset
    val: DecodedDataset
    spec: ModelSpec
    config: TrainConfig
    run: RunDir
    cache: Cache
    timer: StageTimer
    seed: int

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return device(self.config.precision).device

    @property
    def class_weights(self) -> torch.Tensor:
        """Weight of each class in the loss, float (classes,)."""
        rows = self.train.manifest
        return class_weights(rows.targets, len(rows.classes), self.config)

    @property
    def sample_weights(self) -> torch.Tensor:
        """Weight of each training image in the loss, float (n,)."""
        return source_balancing_weights(self.train.manifest, self.config)

    def at_size(self, image_size: int) -> DecodedImages:
        """Return the training images at another size; what is missing in the cache is decoded now."""
        world = current_world()
        with self.timer("decoding"):
            decode_dataset(
                self.train.manifest, image_size, self.cache, begin=world.index / world.count, what="decoding train"
            )
        return self.train.pixels.at_size(image_size)


@dataclass(frozen=True)
class ViewLogits:
    """Logits of the fine classes for each view of the TTA policy.

    Attributes:
        train: of training images, float32 (views, n, classes); with `probe_on=image` of the unchanged image only.
        train_targets: int64 (n,).
        val: of validation images, float32 (views, m, classes).

    """

    train: NDArray[np.float32]
    train_targets: NDArray[np.int64]
    val: NDArray[np.float32]


Tuner = Callable[[ImageClassifier, Fit], ViewLogits]
"""Trains a network in place and returns its logits."""


def check_sizes(network: ImageClassifier, spec: ModelSpec, config: TrainConfig) -> None:
    """Refuse an image size or a batch that a network cannot be trained with.

    Raises:
        NevusError: the network fails at this size, or a batch of one image meets batch normalization.

    """
    size = config.image_size
    try:
        if not spec.backbone.startswith("bit-"):  # BiT takes every size from 32 pixels on
            with torch.inference_mode():
                network.eval()(torch.zeros(1, 3, size, size))
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise NevusError(
            f"Cannot train this network at image_size={size}: it fails ({reason}). Set a larger image_size."
        ) from None
    if config.tuning == "linear-probe" or not any(
        isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()
    ):
        return
    part = config.micro_batch_size or config.batch_size
    if part == 1 or config.batch_size % part == 1:
        raise NevusError(
            f"Cannot train this network with batch_size={config.batch_size} and micro_batch_size="
            f"{config.micro_batch_size}: one image at a time is too few for batch normalization. Change one of them."
        )


def sharded(engine: Engine, pixels: DecodedImages | AugmentedImages, what: str) -> NDArray[np.float32]:
    """Run an engine over images, each process over its shard; every process gets all rows."""
    return current_world().all_gather_rows(
        len(pixels), lambda part: run_batched(engine, pixels.subset(part), what=what)
    )


def predict_views(network: ImageClassifier, fit: Fit) -> ViewLogits:
    """Predict validation images and some training images with a finished network."""
    tta, network = fit.config.tta, network.cpu()
    with fit.timer("validation"):
        engine = TTAStack(TorchEngine(network, fit.spec.preprocess, fit.device), tta)
        val = split_views(run_batched(engine, fit.val.pixels, what="validation"), tta)
        n = len(fit.train.manifest)
        rows = np.linspace(0, n - 1, min(n, MAX_TRAIN_PREDICTIONS)).astype(int)
        again = decode_dataset(fit.train.manifest.where(rows), fit.config.image_size, fit.cache, what="decoding train")
        train = split_views(run_batched(engine, again.pixels, what="training images"), tta)
    return ViewLogits(train, again.manifest.targets, val)
