"""Estimates of the time that a training takes on this machine."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nevus._io import save_tensors
from nevus.data.transforms import normalize
from nevus.models.model import build_model
from nevus.models.spec import ModelSpec
from nevus.runtime.device import device, to_device
from nevus.runtime.engines import INFERENCE_BATCH_SIZE
from nevus.runtime.feature_engine import TorchEngine, feature_engine, network_engine
from nevus.runtime.tta import view_count
from nevus.training.config import TrainConfig
from nevus.training.fit import MAX_TRAIN_PREDICTIONS
from nevus.training.loop import gradients
from nevus.training.losses import CrossEntropy
from nevus.training.run_dir import cpu_tensors

VAL_FRACTION = 0.15
"""Validation images for each training image."""
SAMPLE = 8
"""Images in a measured step, to begin with: few, since a config may want 512 of 480 pixels."""
PATIENCE = 2.0
"""Seconds that a step of the config's own size may take: such a one is measured instead, since small networks are
slower an image on few of them, and others faster.
"""


@dataclass(frozen=True)
class Throughput:
    """Time of a training of every weight on this machine.

    Attributes:
        step: seconds an image of a training step.
        evaluation: seconds an image of an evaluation.
        writing: seconds to write the files of an evaluation.

    """

    step: float
    evaluation: float
    writing: float

    def seconds(self, config: TrainConfig, images: int) -> float:
        """Estimate the seconds of all steps, of all evaluations on 15 % of the images, and of the final one."""
        val = VAL_FRACTION * images
        evaluations = math.ceil(config.steps / config.eval_interval)
        last = (val + min(images, MAX_TRAIN_PREDICTIONS)) * view_count(config.tta)
        steps = config.steps * config.batch_size * self.step
        return steps + evaluations * (val * self.evaluation + self.writing) + last * self.evaluation


def estimate_seconds(config: TrainConfig, spec: ModelSpec, images: int) -> float:
    """Estimate the seconds that a training takes, from a few steps on random images.

    For fine-tuning see `Throughput`; for a linear probe, the features of every view that is used.
    Decoding is not counted.

    Args:
        config: of the training.
        spec: of the model; random weights take as long as any.
        images: in the training set.

    """
    if config.tuning != "linear-probe":
        return measure_throughput(config, spec).seconds(config, images)
    network, where, size = build_model(spec), device(config.precision).device, config.image_size
    exact = network_engine(network.features, spec.preprocess, where)
    engine = feature_engine(network.features, spec.preprocess, exact, config.precision)
    views = view_count(config.tta)
    shown = 1 if config.probe_on == "image" else views
    train = images * (shown + config.augmented_copies) * _an_image(engine, size, INFERENCE_BATCH_SIZE)
    return train + VAL_FRACTION * images * views * _an_image(exact, size, INFERENCE_BATCH_SIZE)


def measure_throughput(config: TrainConfig, spec: ModelSpec) -> Throughput:
    """Measure the throughput of fine-tuning on a few steps with random images.

    Args:
        config: of the training.
        spec: of the model; random weights take as long as any.

    """
    network, where, size = build_model(spec), device(config.precision), config.image_size
    classes = len(spec.fine_classes)
    evaluation = _an_image(TorchEngine(network, spec.preprocess, where.device), size, INFERENCE_BATCH_SIZE)
    writing = _writing(network)
    where = to_device(network, where)

    def step(pixels: NDArray[np.uint8]) -> None:
        x = normalize(pixels, spec.preprocess)
        y = torch.full((len(x), classes), 1 / classes)
        gradients(network, x, y, config, where, CrossEntropy())

    whole = min(config.batch_size, config.micro_batch_size or config.batch_size)
    return Throughput(_an_image(step, size, whole), evaluation, writing)


def _writing(net: nn.Module) -> float:
    """Measure the seconds to write the best weights, and a checkpoint of three times their size."""
    weights = cpu_tensors(net.state_dict(), "network")
    with tempfile.TemporaryDirectory() as folder:
        return 4 * _seconds(lambda: save_tensors(Path(folder) / "weights.safetensors", weights, {}))


def _an_image(work: Callable[[NDArray[np.uint8]], object], image_size: int, whole: int) -> float:
    """Seconds an image of work on squares, uint8 (n, image_size, image_size, 3).

    `whole` of them, as there will be at a time, where that does not take long; else few.
    """
    few = _drawn(min(SAMPLE, whole), image_size)
    each = _seconds(lambda: work(few)) / len(few)
    if len(few) < whole and each * whole < PATIENCE:
        pixels = _drawn(whole, image_size)
        each = _seconds(lambda: work(pixels)) / whole
    return each


def _drawn(n: int, image_size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, image_size, image_size, 3), dtype=np.uint8)


def _seconds(work: Callable[[], object]) -> float:
    work()  # set-up and first use are no part of it
    began = time.perf_counter()
    for _ in range(2):
        work()
    return (time.perf_counter() - began) / 2
