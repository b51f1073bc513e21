"""Presets: functions that make a TrainConfig for a training set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nevus.errors import NevusError
from nevus.training.config import DatasetStats, TrainConfig, Tuning

MANY_IMAGES = 5000
"""Training images from which on half of the epochs are enough."""
MANY_FOR_PROBE = 2000
"""Training images from which on a linear probe needs less regularization."""
PROBE_EPOCHS = 160
"""Most epochs of a linear probe from that number on."""
FEWEST_STEPS = 300
"""Steps that a small training set needs, however often it is passed through."""
IMBALANCED = 5.0
"""Ratio of the largest class to the smallest from which on classes are weighted."""
LARGE, HUGE = 10_000_000, 100_000_000
"""Weights of a backbone from which on the learning rate is lower, and the batch is cut into micro-batches."""


AUGMENTATION: dict[str, Any] = {
    "crop_scale": (0.6, 1.0),
    "rot90": True,
    "brightness": 0.15,
    "contrast": 0.15,
    "saturation": 0.15,
}
"""Of the presets `best` and `fast`."""


def best(
    stats: DatasetStats, tuning: Tuning = "lp-ft", *, batch_size: int | None = None, epochs: float | None = None
) -> TrainConfig:
    """Fine-tune every weight from the linear probe: the best on validation of what was measured.

    docs/results.md gives its measured rows. Neither MixUp nor label smoothing. 12 epochs (6 from 5,000 images
    on, 300 steps at least), batch 32, SGD with momentum 0.9, cosine from 0.03 after a short warm-up, gradient clipped
    to norm 1, the weights averaged over the last fifth; features of four stages with their standard deviations and
    maxima; logits averaged over the eight rotations and reflections, since a dermoscope has no upright. Backbones of 10
    million weights and more take a third of the learning rate, which was not measured.

    Args:
        stats: of the training set.
        tuning: `linear-probe` gives the values of `fast`.
        batch_size: images a step; the learning rate is not scaled with it.
        epochs: passes over the images.

    """
    if tuning == "linear-probe":
        return _linear_probe("best", stats, batch_size, epochs)
    batch_size = batch_size or 32
    by_epoch = stats.images / batch_size
    if epochs is None:
        steps = max(FEWEST_STEPS, round(by_epoch * (12 if stats.images < MANY_IMAGES else 6)))
    else:
        steps = max(1, round(by_epoch * epochs))
    image_size = _image_size(stats)
    imbalanced = stats.imbalance >= IMBALANCED
    return TrainConfig(
        preset="best",
        tuning=tuning,
        image_size=image_size,
        resize_size=round(image_size * 1.25),
        **AUGMENTATION,
        batch_size=batch_size,
        micro_batch_size=8 if stats.parameters >= HUGE else 0,
        steps=steps,
        warmup_steps=min(steps // 10, round(2 * by_epoch)),
        lr=0.03 if stats.parameters < LARGE else 0.01,
        weight_decay=1e-4,
        clip_grad_norm=1.0,
        ema_decay=max(0.0, 1 - 5 / steps),  # over the last fifth of the training
        # Where an epoch is a step or two, an evaluation and its checkpoint would take longer than the training.
        eval_interval=max(1, round(by_epoch), round(steps * 0.02)),
        feature_stages=min(4, stats.stages),
        pooling="stats" if stats.stages else "avg",
        tta="d4",
        class_weights="balanced" if imbalanced else "none",
        # Of a rare class validation holds a handful of images: its loss chooses by chance.
        checkpoint="last" if imbalanced and stats.classes > 2 else "best",
    )


def fast(
    stats: DatasetStats,
    tuning: Tuning = "linear-probe",
    *,
    batch_size: int | None = None,
    epochs: float | None = None,
) -> TrainConfig:
    """Train a linear probe on features of the frozen backbone: about a minute.

    docs/results.md gives its measured row. The features are those of the unchanged image, of four stages with their
    standard deviations and maxima, and are computed in bfloat16 on a CPU that has it; the logits are averaged over the
    image and its mirror image. Training on the mirror image as well takes longer and gains at most some tenths of a
    point. 1,000 steps of batch 512, or of all images where there are fewer: a larger batch would repeat images. From
    2,000 images on the learning rate is 6 instead of 3, the weight decay 3e-5 instead of 1e-4, and there are at most
    160 epochs.

    Args:
        stats: of the training set.
        tuning: `full` and `lp-ft` give the values of `best`.
        batch_size: images a step.
        epochs: passes over the images.

    """
    if tuning != "linear-probe":
        return _named("fast", best(stats, tuning, batch_size=batch_size, epochs=epochs))
    return _linear_probe("fast", stats, batch_size, epochs)


def _linear_probe(name: str, stats: DatasetStats, batch_size: int | None, epochs: float | None) -> TrainConfig:
    many = stats.images >= MANY_FOR_PROBE
    steps = min(1000, PROBE_EPOCHS * stats.images / 512) if many else 1000
    steps = _scaled(steps, 512 / batch_size if batch_size else 1)
    batch_size = batch_size or min(512, stats.images)
    if epochs is not None:
        steps = _scaled(epochs, stats.images / batch_size)
    image_size = _image_size(stats)
    return TrainConfig(
        preset=name,
        tuning="linear-probe",
        image_size=image_size,
        resize_size=round(image_size * 1.25),
        **AUGMENTATION,
        batch_size=batch_size,
        steps=steps,
        warmup_steps=steps // 20,
        lr=6.0 if many else 3.0,
        weight_decay=3e-5 if many else 1e-4,
        standardize_features=True,
        eval_interval=_scaled(steps, 0.02),
        feature_stages=min(4, stats.stages),
        pooling="stats" if stats.stages else "avg",
        tta="flip",
        probe_on="image",
        class_weights="balanced" if stats.imbalance >= IMBALANCED else "none",
        precision="bf16" if stats.bf16 else "auto",
    )


def hyperrule(
    stats: DatasetStats, tuning: Tuning = "full", *, batch_size: int | None = None, epochs: float | None = None
) -> TrainConfig:
    """Follow BiT-HyperRule (Kolesnikov et al. 2020, section 3.3).

    SGD with momentum 0.9, no weight decay; learning rate 0.003 at batch 512. 500 steps below 20,000 images,
    10,000 below 500,000, else 20,000, with MixUp 0.1 from 20,000 images on. Images smaller than 96x96 are
    resized to 160 and cropped to 128, others to 512 and 480. With another batch B the learning rate is
    multiplied by B/512 and every step count by 512/B, so that each image is seen as often.

    Args:
        stats: of the training set.
        tuning: the authors fine-tune everything (`full`).
        batch_size: images a step, 512 by default.
        epochs: stretches the schedule so that it passes over the images this often.

    """
    batch_size = batch_size or 512
    if stats.images < 20_000:
        warmup, *milestones, steps = 100, 200, 300, 400, 500
    elif stats.images < 500_000:
        warmup, *milestones, steps = 500, 3000, 6000, 9000, 10_000
    else:
        warmup, *milestones, steps = 500, 6000, 12_000, 18_000, 20_000
    factor = 512 / batch_size if epochs is None else epochs * stats.images / batch_size / steps
    resize_size, image_size = (160, 128) if stats.area < 96 * 96 else (512, 480)
    return TrainConfig(
        preset="hyperrule",
        tuning=tuning,
        image_size=image_size,
        resize_size=resize_size,
        crop_scale=(image_size / resize_size, image_size / resize_size),
        batch_size=batch_size,
        micro_batch_size=min(batch_size, 32),
        steps=_scaled(steps, factor),
        warmup_steps=min(_scaled(warmup, factor), _scaled(steps, factor) - 1),
        schedule="multistep",
        lr_milestones=tuple(_scaled(s, factor) for s in milestones),
        lr=0.003 * batch_size / 512,
        mixup=0.0 if stats.images < 20_000 else 0.1,
        eval_interval=_scaled(10 if steps == 500 else 200, factor),
        checkpoint="last",
    )


def paper(
    stats: DatasetStats, tuning: Tuning = "full", *, batch_size: int | None = None, epochs: float | None = None
) -> TrainConfig:
    """Follow *Classification of Melanocytic Nevi using BigTransfer*, as far as its recipe is printed.

    Printed, under *upstream*: random crop, random horizontal flip, then resize to 224x224; SGD, momentum 0.9, learning
    rate 0.03 x batch/512, 50 epochs, divided by 10 at epochs 20, 30 and 40, no weight decay. Printed, under
    *downstream*: HyperRule, SGD, sparse categorical cross-entropy. Inferred: that the same numbers drove the
    fine-tuning; that an epoch is 10 steps of 512 images (50 x 10 are HyperRule's 500 steps, and the 40.32 s of its
    training fit that); no warm-up, as none is printed. Ours: the size of the crop, 7/8 of the side (256 to 224).

    Args:
        stats: of the training set.
        tuning: which weights were trained is not printed; all are offered.
        batch_size: images a step, 512 by default; the learning rate is scaled by batch/512, steps by 512/batch.
        epochs: passes over the images instead of 50 epochs of 10 steps; the milestones stay in proportion.

    """
    batch_size = batch_size or 512
    factor = 512 / batch_size if epochs is None else epochs * stats.images / batch_size / 500
    return TrainConfig(
        preset="paper",
        tuning=tuning,
        image_size=224,
        resize_size=256,
        crop_scale=(0.875, 0.875),
        batch_size=batch_size,
        steps=_scaled(500, factor),
        warmup_steps=0,
        schedule="multistep",
        lr_milestones=tuple(_scaled(10 * epoch, factor) for epoch in (20, 30, 40)),
        lr=0.03 * batch_size / 512,
        eval_interval=_scaled(10, factor),
        checkpoint="last",
    )


PRESETS: dict[str, Callable[..., TrainConfig]] = {
    "best": best,
    "fast": fast,
    "paper": paper,
    "hyperrule": hyperrule,
}
"""Presets by name, each `(stats, tuning, *, batch_size, epochs) -> TrainConfig`."""

DEFAULT_TUNING: dict[str, Tuning] = {"best": "lp-ft", "fast": "linear-probe", "paper": "full", "hyperrule": "full"}


def preset_named(name: str) -> Callable[..., TrainConfig]:
    """Look a preset up.

    Raises:
        NevusError: there is none of that name.

    """
    if name not in PRESETS:
        raise NevusError(f"Cannot use the preset '{name}': there is none. Choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def _image_size(stats: DatasetStats) -> int:
    """A quarter more than a small backbone was pretrained at, which gains accuracy at little cost."""
    return 160 if stats.image_size == 128 else stats.image_size


def _named(name: str, config: TrainConfig) -> TrainConfig:
    values: dict[str, Any] = {**vars(config), "preset": name}
    return TrainConfig(**values)


def _scaled(steps: float, factor: float) -> int:
    return max(1, round(steps * factor))
