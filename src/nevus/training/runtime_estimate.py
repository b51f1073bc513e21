"""How long a training would take on this machine."""

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
from nevus.data.preprocess import Preprocess
from nevus.models.registry import build_backbone, without_head
from nevus.runtime.device import device, to_device
from nevus.runtime.engines import INFERENCE_BATCH_SIZE, TorchEngine, make_engine, feature_engine
from nevus.training.config import DatasetStats, TrainConfig
from nevus.training.loop import gradients
from nevus.training.losses import CrossEntropy
from nevus.training.run_dir import cpu_tensors

HELD = 0.15
"""Images of a validation split beside one that is trained on."""
SHOWN_AGAIN = 10_000
"""Most training images that a finished classifier is judged on once more, as in evaluation."""
SAMPLE = 8
"""Images in a measured step, to begin with: few, since a recipe may want 512 of 480 pixels."""
PATIENCE = 2.0
"""Seconds that a step of the recipe's own size may take: such a one is measured instead, since small networks are
slower an image on few of them, and others faster.
"""


@dataclass(frozen=True)
class Throughput:
    """What a training that changes all weights takes on this machine.

    Attributes:
        step: seconds an image of a training step.
        look: seconds an image that is looked at.
        writing: seconds that the files of a look take.

    """

    step: float
    look: float
    writing: float

    def seconds(self, recipe: TrainConfig, images: int) -> float:
        """Of every training step, every look at a validation split of 15 %, and the last judgment."""
        held = HELD * images
        looks = math.ceil(recipe.steps / recipe.evaluate_every)
        last = (held + min(images, SHOWN_AGAIN)) * recipe.mean_of
        steps = recipe.steps * recipe.batch * self.step
        return steps + looks * (held * self.look + self.writing) + last * self.look


def estimate_seconds(recipe: TrainConfig, backbone: str, facts: DatasetStats, classes: int) -> float:
    """Seconds that a training would take, measured on a few steps with random images.

    Mode `full`: see `Throughput`. Mode `head`: the features, which are computed once of each image and view. Decoding is
    not counted.

    Args:
        recipe: to be timed.
        trunk: its name; random weights take as long as any.
        facts: of the training set.
        classes: of the task.

    """
    if recipe.mode == "full":
        return speed(recipe, backbone, classes).seconds(recipe, facts.images)
    net = build_backbone(backbone, classes=classes)
    exact = make_engine(without_head(net), Preprocess(recipe.side), device(recipe.precision).device)
    ready = feature_engine(without_head(net), exact, recipe.precision)
    shown = facts.images * (recipe.mean_of + recipe.views) * _an_image(ready, recipe.side, INFERENCE_BATCH_SIZE)
    return shown + HELD * facts.images * recipe.mean_of * _an_image(exact, recipe.side, INFERENCE_BATCH_SIZE)


def speed(recipe: TrainConfig, backbone: str, classes: int) -> Throughput:
    """Measure it on a few steps with random images.

    Args:
        recipe: of mode `full`.
        trunk: its name; random weights take as long as any.
        classes: of the task.

    """
    net = build_backbone(backbone, classes=classes)
    where = device(recipe.precision)
    look = _an_image(TorchEngine(net, Preprocess(recipe.side), where.device), recipe.side, INFERENCE_BATCH_SIZE)
    writing = _writing(net)
    where = to_device(net, where)

    def step(pixels: NDArray[np.uint8]) -> None:
        x = Preprocess(recipe.side).tensor(pixels)
        y = torch.full((len(x), classes), 1 / classes)
        gradients(net, x, y, recipe, where, CrossEntropy())

    return Throughput(_an_image(step, recipe.side, min(recipe.batch, recipe.micro_batch or recipe.batch)), look, writing)


def _writing(net: nn.Module) -> float:
    """Seconds that it takes to write what a look does: the best weights, and a checkpoint of three times their
    size.
    """
    weights = cpu_tensors(net.state_dict(), "network")
    with tempfile.TemporaryDirectory() as folder:
        return 4 * _seconds(lambda: save_tensors(Path(folder) / "weights.safetensors", weights, {}))


def _an_image(work: Callable[[NDArray[np.uint8]], object], side: int, whole: int) -> float:
    """Seconds an image of work on squares, uint8 (n, side, side, 3).

    `whole` of them, as there will be at a time, where that does not take long; else few.
    """
    few = _drawn(min(SAMPLE, whole), side)
    each = _seconds(lambda: work(few)) / len(few)
    if len(few) < whole and each * whole < PATIENCE:
        pixels = _drawn(whole, side)
        each = _seconds(lambda: work(pixels)) / whole
    return each


def _drawn(n: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def _seconds(work: Callable[[], object]) -> float:
    work()  # set-up and first use are no part of it
    began = time.perf_counter()
    for _ in range(2):
        work()
    return (time.perf_counter() - began) / 2
