"""The learning rate by step."""

from __future__ import annotations

import math

from nevus.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step, counted from 0.

    Linear from 0 in the warm-up. The staircase divides by 10 for every decay s with s < step: it takes effect
    at step s+1, as in the BiT authors' code. The cosine reaches 0 after the last step.
    """
    if step < recipe.warmup:
        return recipe.lr * step / recipe.warmup
    if recipe.schedule == "staircase":
        return recipe.lr * 10.0 ** -sum(decay < step for decay in recipe.decays)
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))
