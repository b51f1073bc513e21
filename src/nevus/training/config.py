"""Recipes: everything that decides how a network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from nevus.errors import NevusError
from nevus.runtime.device import Precision
from nevus.runtime.tta import TTA_COUNTS

Mode = Literal["head", "full"]

VIEWS_IN_FULL = "mode full draws new views at each step; --views is for mode head, leave it out."


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained. Steps, not epochs, are its unit: a step is one batch.

    Attributes:
        name: of the recipe that the values started from.
        mode: `full` trains every weight; `head` computes the features of a frozen trunk once and trains the
            linear head on them.
        side: side in pixels of the square that the network sees.
        resize: side in pixels of the stored training image, from which crops are taken.
        crop: range of the crop's side as a share of `resize`; the crop is resized to `side`.
        views: in mode `head`, random views of each training image that stand beside the image itself, each step
            taking one of them all; 0 trains on whole images alone.
        mirror: random left-right mirror.
        turns: random quarter turns.
        mean_of: views of each image whose mean is the answer: 1, 2, 4, 6, 8 or 32, see `nevus.runtime.tta`. In
            mode `head` all of them are trained on, too; in mode `full` the looks at the validation split during
            training have one view of each image.
        on_means: in mode `head`, train on the mean of the features of `mean_of` views, which is what is answered
            from, in place of each view.
        brightness: largest relative change of the training views; 0 changes none.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift of the hue, as a share of its circle.
        light: largest relative change of the light from one side of a view to the other.
        vignette: largest darkening of a view's corners.
        blur: largest standard deviation of a blur, as a share of the side.
        compress: share of views that go through a JPEG of low or middling quality.
        batch: images a step.
        micro_batch: images in memory at once; a step adds up their gradients. 0 takes the whole batch.
        steps: length of the training.
        warmup: steps in which the learning rate rises linearly from 0.
        schedule: `cosine` falls to 0 at the end; `staircase` divides by 10 after each of `decays`.
        decays: steps after which the staircase goes down.
        lr: highest learning rate.
        momentum: of SGD.
        nesterov: whether the momentum looks ahead.
        weight_decay: of the weights that multiply (not of biases and norms).
        clip: largest norm of the gradient; 0 clips none.
        mixup: alpha of MixUp's Beta distribution; 0 mixes none.
        label_smoothing: share of the label that is spread over all classes.
        class_weights: `balanced` weights each class by the inverse of its frequency.
        reweigh: `source` weighs each image so that its source tells nothing of its label.
        average: decay by step of an exponential moving average of the weights, which is then what is judged
            and saved; 0 averages none.
        standardize: in mode `head`, train on features of zero mean, equal variance and mean length 1 (folded
            into the head afterwards).
        probe: in mode `full`, begin with the head that the frozen trunk would get, in place of zeros.
        evaluate_every: steps between two looks at the validation split, with a checkpoint each.
        keep: `best` saves the weights with the lowest validation loss, `last` the final ones.
        precision: `bf16` or `fp32` arithmetic in training; `auto` takes bf16 where the machine has it. The frozen
            trunk of mode `head`, and what teaches a trunk, compute in float32, but on a CPU where `bf16` is
            insisted on.

    """

    name: str
    mode: Mode
    side: int
    resize: int
    crop: tuple[float, float]
    batch: int
    steps: int
    warmup: int
    lr: float
    evaluate_every: int
    schedule: Literal["cosine", "staircase"] = "cosine"
    decays: tuple[int, ...] = ()
    views: int = 0
    mean_of: int = 1
    on_means: bool = False
    mirror: bool = True
    turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    light: float = 0.0
    vignette: float = 0.0
    blur: float = 0.0
    compress: float = 0.0
    micro_batch: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip: float = 0.0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    reweigh: Literal["none", "source"] = "none"
    average: float = 0.0
    standardize: bool = False
    probe: bool = False
    keep: Literal["best", "last"] = "best"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        low, high = self.crop
        faults = {
            "side": not 32 <= self.side <= 4096,
            "resize": not 32 <= self.resize <= 8192,
            "crop": not 0 < low <= high <= 1,
            "views": self.views < 0,
            "mean_of": self.mean_of not in TTA_COUNTS,
            "on_means": self.on_means and self.mean_of == 1,
            "batch": self.batch < 1,
            "micro_batch": self.micro_batch < 0,
            "steps": self.steps < 1,
            "warmup": not 0 <= self.warmup <= max(0, self.steps - 1),
            "lr": not 0 < self.lr < math.inf,
            "momentum": not 0 <= self.momentum < 1,
            "nesterov": self.nesterov and not self.momentum,
            "weight_decay": not 0 <= self.weight_decay < math.inf,
            "clip": not 0 <= self.clip < math.inf,
            "mixup": not 0 <= self.mixup < math.inf,
            "label_smoothing": not 0 <= self.label_smoothing < 1,
            "average": not 0 <= self.average < 1,
            "evaluate_every": self.evaluate_every < 1,
            "brightness": not 0 <= self.brightness < 1,
            "contrast": not 0 <= self.contrast < 1,
            "saturation": not 0 <= self.saturation < 1,
            "hue": not 0 <= self.hue <= 0.5,
            "light": not 0 <= self.light < 1,
            "vignette": not 0 <= self.vignette < 1,
            "blur": not 0 <= self.blur < 0.2,
            "compress": not 0 <= self.compress <= 1,
        }
        for field, wrong in faults.items():
            if wrong:
                value = getattr(self, field)
                raise NevusError(
                    f"the recipe's {field} of {value} makes no sense; correct --{field.replace('_', '-')}."
                )
        if self.probe and self.mode == "head":
            raise NevusError("mode head trains the head alone, and has nothing to --probe first; leave it out.")
        if self.views and self.mode == "full":
            raise NevusError(VIEWS_IN_FULL)


@dataclass(frozen=True)
class DatasetStats:
    """What a recipe wants to know of the training set.

    Attributes:
        images: number of training images.
        area: median height x width of the original images, in pixels.
        side: side in pixels that the trunk is used at by default.

    """

    images: int
    area: float
    side: int


def hyperrule(
    facts: DatasetStats, mode: Mode = "full", *, batch: int | None = None, epochs: float | None = None
) -> TrainConfig:
    """BiT-HyperRule (Kolesnikov et al. 2020, section 3.3).

    SGD with momentum 0.9, no weight decay; learning rate 0.003 at batch 512. 500 steps below 20,000 images,
    10,000 below 500,000, else 20,000, with MixUp 0.1 from 20,000 images on. Images smaller than 96x96 are
    resized to 160 and cropped to 128, others to 512 and 480. With another batch B the learning rate is
    multiplied by B/512 and every step count by 512/B, so that each image is seen as often.

    Args:
        facts: of the training set.
        mode: the authors fine-tune everything (`full`).
        batch: images a step, 512 by default.
        epochs: stretches the schedule so that it passes over the images this often.

    """
    batch = batch or 512
    if facts.images < 20_000:
        warmup, *decays, steps = 100, 200, 300, 400, 500
    elif facts.images < 500_000:
        warmup, *decays, steps = 500, 3000, 6000, 9000, 10_000
    else:
        warmup, *decays, steps = 500, 6000, 12_000, 18_000, 20_000
    factor = 512 / batch if epochs is None else epochs * facts.images / batch / steps
    resize, side = (160, 128) if facts.area < 96 * 96 else (512, 480)
    return TrainConfig(
        name="hyperrule",
        mode=mode,
        side=side,
        resize=resize,
        crop=(side / resize, side / resize),
        batch=batch,
        steps=_scaled(steps, factor),
        warmup=min(_scaled(warmup, factor), _scaled(steps, factor) - 1),
        schedule="staircase",
        decays=tuple(_scaled(s, factor) for s in decays),
        lr=0.003 * batch / 512,
        mixup=0.0 if facts.images < 20_000 else 0.1,
        evaluate_every=_scaled(10 if steps == 500 else 200, factor),
        keep="last",
    )


def paper(facts: DatasetStats, mode: Mode = "full", *, batch: int | None = None, epochs: float | None = None) -> TrainConfig:
    """The recipe of *Classification of Melanocytic Nevi using BigTransfer*, as far as it is printed.

    Printed, under *upstream*: random crop, random horizontal mirror, then resize to 224x224; SGD, momentum
    0.9, learning rate 0.03 x batch/512, 50 epochs, divided by 10 at epochs 20, 30 and 40, no weight decay.
    Printed, under *downstream*: HyperRule, SGD, sparse categorical cross-entropy. Inferred: that the same
    numbers drove the fine-tuning; that an epoch is 10 steps of 512 images (50 x 10 are HyperRule's 500 steps,
    and the 40.32 s of its training fit that); no warm-up, as none is printed. Ours: the size of the crop, 7/8
    of the side (256 to 224).

    Args:
        facts: of the training set.
        mode: which weights were trained is not said; both are offered.
        batch: images a step, 512 by default; the learning rate is scaled by batch/512, steps by 512/batch.
        epochs: passes over the images instead of 50 epochs of 10 steps; the decays stay in proportion.

    """
    batch = batch or 512
    factor = 512 / batch if epochs is None else epochs * facts.images / batch / 500
    return TrainConfig(
        name="paper",
        mode=mode,
        side=224,
        resize=256,
        crop=(0.875, 0.875),
        batch=batch,
        steps=_scaled(500, factor),
        warmup=0,
        schedule="staircase",
        decays=tuple(_scaled(10 * epoch, factor) for epoch in (20, 30, 40)),
        lr=0.03 * batch / 512,
        evaluate_every=_scaled(10, factor),
        keep="last",
    )


def default(facts: DatasetStats, mode: Mode = "full", *, batch: int | None = None, epochs: float | None = None) -> TrainConfig:
    """Ours, for two CPU cores and minutes.

    Mode `full`: 40 epochs of batch 32, SGD with momentum 0.9, cosine from 0.1 after a short warm-up, gradient
    clipped to norm 1, weights averaged over the last fifth of the training. Views are zoomed crops
    in all eight positions, with small changes of brightness, contrast and saturation: a dermoscope has no
    upright, and no two have the same light. What it gives from random weights, and what single
    changes to it do, is measured in docs/results.md.

    Mode `head`: 1,000 steps of batch 512 on standardized features, a few seconds; `views`, where asked for, are
    those of mode `full`.

    Args:
        facts: of the training set.
        mode: which weights are trained.
        batch: images a step; the learning rate is not scaled with it.
        epochs: passes over the images; the schedule keeps its shape.

    """
    views: dict[str, Any] = {
        "side": facts.side,
        "resize": round(facts.side * 1.25),
        "crop": (0.6, 1.0),
        "turns": True,
        **dict.fromkeys(("brightness", "contrast", "saturation"), 0.15),
    }
    if mode == "head":
        batch = batch or 512
        steps = _scaled(1000, 512 / batch if epochs is None else epochs * facts.images / batch / 1000)
        return TrainConfig(
            name="default",
            mode="head",
            **views,
            batch=batch,
            steps=steps,
            warmup=steps // 20,
            lr=3.0,
            weight_decay=1e-4,
            standardize=True,
            evaluate_every=_scaled(steps, 0.02),
        )
    batch = batch or 32
    by_epoch = facts.images / batch
    steps = _scaled(by_epoch, 40 if epochs is None else epochs)
    return TrainConfig(
        name="default",
        mode="full",
        **views,
        batch=batch,
        steps=steps,
        warmup=min(steps // 10, round(2 * by_epoch)),
        lr=0.1,
        weight_decay=1e-4,
        clip=1.0,
        average=max(0.0, 1 - 5 / steps),  # over the last fifth of the training
        # Where an epoch is a step or two, a look and its checkpoint would take longer than the training.
        evaluate_every=max(1, round(by_epoch), round(steps * 0.02)),
    )


RECIPES: dict[str, Callable[..., TrainConfig]] = {"default": default, "hyperrule": hyperrule, "paper": paper}
"""Recipes by name, each `(facts, mode, *, batch, epochs) -> TrainConfig`."""


def recipe_named(name: str) -> Callable[..., TrainConfig]:
    """Look a recipe up.

    Raises:
        NevusError: there is none of that name.

    """
    if name not in RECIPES:
        raise NevusError(f"there is no recipe '{name}'; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def _scaled(steps: float, factor: float) -> int:
    return max(1, round(steps * factor))


def learning_rate(recipe: TrainConfig, step: int) -> float:
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
