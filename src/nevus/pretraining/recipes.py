"""Recipes for what comes before fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from nevus.errors import NevusError
from nevus.training.config import TrainConfig
from nevus.training.overrides import Overrides, checked, with_overrides


def distillation(
    images: int, image_size: int, largest: int, *, epochs: float | None = None, overrides: Overrides | None = None
) -> TrainConfig:
    """Ours: SGD from 0.1, cosine, batch 64, MixUp 0.2, weights averaged over the last tenth, 10 epochs.

    Args:
        images: in the training set.
        image_size: that the student is used at, in pixels.
        largest: side that a teacher takes which is asked at every step; 0 where none is.
        epochs: passes over the images.
        overrides: values that replace the recipe's.

    Raises:
        NevusError: a value makes no sense.

    """

    def made(batch: int | None, epochs: float | None) -> TrainConfig:
        batch = batch or 64
        steps = max(2, round(images / batch * (10 if epochs is None else epochs)))
        return TrainConfig(
            preset="distillation",
            tuning="full",
            image_size=image_size,
            resize_size=round(max(image_size, largest) * 1.25),
            crop_scale=(0.5, 1.0),
            brightness=0.1,
            contrast=0.1,
            saturation=0.1,
            batch_size=batch,
            steps=steps,
            warmup_steps=min(steps // 10, 500),
            lr=0.1,
            weight_decay=5e-5,
            clip_grad_norm=1.0,
            mixup=0.2,
            ema_decay=max(0.0, 1 - 10 / steps),
            eval_interval=max(1, min(round(images / batch), 500)),
            checkpoint="last",
        )

    return _upstream_only(with_overrides(made, images, 64, epochs, checked(overrides or {})))


def _upstream_only(recipe: TrainConfig) -> TrainConfig:
    """A recipe of what begins with no frozen backbone, and answers nothing.

    Raises:
        NevusError: it sets what is for fine-tuning.

    """
    for name, plain in (("tuning", "full"), ("tta", "none"), ("feature_stages", 0)):
        if getattr(recipe, name) != plain:
            raise NevusError(f"Cannot set {name}: it is for fine-tuning. Leave it out.")
    return recipe


@dataclass(frozen=True)
class Upstream:
    """A published pre-training: epochs, those after which the learning rate is divided by 10, and the rest."""

    epochs: float
    decays: tuple[float, ...]
    batch: int
    weight_decay: float


PUBLISHED = {
    "paper": Upstream(50, (20, 30, 40), 512, 0.0),
    "authors": Upstream(90, (30, 60, 80), 4096, 1e-4),
}
"""`paper`: *Classification of Melanocytic Nevi using BigTransfer*, upstream: random crop, random mirror, 224x224,
SGD with momentum 0.9, 0.03 x batch/512. `authors`: Kolesnikov et al. 2020, on pre-training BiT-S and BiT-M: weight
decay 1e-4, batch 4096, learning rate 0.03 x batch/256, warm-up over 5,000 steps.
"""


def upstream(
    name: str,
    images: int,
    image_size: int,
    *,
    epochs: float | None = None,
    overrides: Overrides | None = None,
) -> TrainConfig:
    """A published pre-training for a set of images.

    With another batch B the learning rate goes with it; with other epochs the decays keep their places. Ours: the
    part of the image that a crop shows, 7/8 of its side, and a batch of 64 in memory at once.

    Args:
        name: one of `PUBLISHED`.
        images: in the training set.
        image_size: that the backbone is used at, in pixels; the paper and the authors take 224.
        epochs: passes over the images.
        overrides: values that replace the recipe's.

    Raises:
        NevusError: there is no such recipe, or a value makes no sense.

    """
    if name not in PUBLISHED:
        raise NevusError(f"Cannot use the recipe '{name}': there is none. Choose one of {', '.join(PUBLISHED)}.")
    published = PUBLISHED[name]

    def made(batch: int | None, epochs: float | None) -> TrainConfig:
        batch = batch or published.batch
        length = published.epochs if epochs is None else epochs
        by_epoch = images / batch
        steps = max(1, round(length * by_epoch))
        authors = name == "authors"
        return TrainConfig(
            preset=f"upstream-{name}",
            tuning="full",
            image_size=image_size,
            resize_size=round(image_size * 8 / 7),
            crop_scale=(0.875, 0.875),
            batch_size=batch,
            micro_batch_size=min(batch, 64),
            steps=steps,
            # As large a part of the whole as 5,000 are of 90 epochs of ILSVRC-2012.
            warmup_steps=min(steps - 1, round(steps * 5000 / 28_154)) if authors else 0,
            schedule="multistep",
            lr_milestones=tuple(max(1, round(steps * decay / published.epochs)) for decay in published.decays),
            lr=0.03 * batch / (256 if authors else 512),
            weight_decay=published.weight_decay,
            eval_interval=max(1, round(by_epoch)),
            checkpoint="last",
        )

    return _upstream_only(with_overrides(made, images, published.batch, epochs, checked(overrides or {})))
