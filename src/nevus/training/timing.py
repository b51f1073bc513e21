"""How long a training would take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from nevus.data.preprocess import Preprocess
from nevus.models.registry import network, trunk_of
from nevus.runtime.device import device, placed
from nevus.runtime.inference import TorchEngine, engine, frozen
from nevus.training.loop import gradients
from nevus.training.objective import CrossEntropy
from nevus.training.recipe import Facts, Recipe

SHOWN_AGAIN = 10_000
"""Most training images that a finished classifier is judged on once more, as in evaluation."""
SAMPLE = 8
"""Images in a measured step: few, since a recipe may want 512 of 480 pixels."""


def expected_seconds(recipe: Recipe, trunk: str, facts: Facts, classes: int) -> float:
    """Seconds that a training would take, measured on a few small steps with random images.

    Mode `full` counts every training step, every look at a validation split of 15 %, and the last judgement; mode
    `head` the features, which are computed once of each image and view. Decoding is not counted.

    Args:
        recipe: to be timed.
        trunk: its name; random weights take as long as any.
        facts: of the training set.
        classes: of the task.

    """
    net = network(trunk, classes=classes)
    pixels = np.random.default_rng(0).integers(0, 256, (SAMPLE, recipe.side, recipe.side, 3), dtype=np.uint8)
    held = 0.15 * facts.images
    if recipe.mode == "head":
        exact = engine(trunk_of(net), Preprocess(recipe.side), device(recipe.precision).device)
        ready = frozen(trunk_of(net), exact, recipe.precision)
        shown = facts.images * (recipe.mean_of + recipe.views) * _seconds(lambda: ready(pixels))
        return (shown + held * recipe.mean_of * _seconds(lambda: exact(pixels))) / SAMPLE
    where = device(recipe.precision)
    x = Preprocess(recipe.side).tensor(pixels)
    y = torch.full((SAMPLE, classes), 1 / classes)
    judging = TorchEngine(net, Preprocess(recipe.side), where.device)
    looking = _seconds(lambda: judging(pixels)) / SAMPLE
    where = placed(net, where)
    stepping = _seconds(lambda: gradients(net, x, y, recipe, where, CrossEntropy())) / SAMPLE
    looks = recipe.steps / recipe.evaluate_every * held
    last = (held + min(facts.images, SHOWN_AGAIN)) * recipe.mean_of
    return recipe.steps * recipe.batch * stepping + (looks + last) * looking


def _seconds(work: Callable[[], object]) -> float:
    work()  # set-up and first use are no part of it
    began = time.perf_counter()
    for _ in range(2):
        work()
    return (time.perf_counter() - began) / 2
