"""TrainConfig: all that a training is."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from nevus.errors import NevusError
from nevus.models.spec import Pooling
from nevus.runtime.precision import Precision
from nevus.runtime.tta import TTAPolicy, check_policy

Tuning = Literal["linear-probe", "full", "lp-ft"]
"""What is trained: `linear-probe` the linear head on features of the frozen backbone, `full` every weight from a zero
head, `lp-ft` every weight from the linear probe (Kumar et al. 2022)."""


@dataclass(frozen=True)
class TrainConfig:
    """All that decides how a network is trained. A preset makes one; see `nevus.training.presets`.

    The unit of length is the step: one batch.

    Attributes:
        preset: name of the preset that the values started from.
        tuning: what is trained: linear-probe, full or lp-ft.
        image_size: side of the network's square input in pixels.
        resize_size: side in pixels of the stored training image, from which crops are taken.
        crop_scale: range of the crop's side as a share of resize_size; the crop is resized to image_size.
        batch_size: images a step.
        steps: length of the training.
        warmup_steps: steps in which the learning rate rises linearly from 0.
        lr: highest learning rate.
        eval_interval: steps between two evaluations of the validation split, with a checkpoint each.
        feature_stages: number of final stages whose pooled features are concatenated with the last-layer features.
        pooling: of these stages: avg (mean), or stats (mean, standard deviation and maximum).
        tta: test-time augmentation of the classifier: none, flip, crop-color, invariant, d4 or all.
        schedule: cosine falls to 0 at the end; multistep divides by 10 after each of lr_milestones.
        lr_milestones: steps after which the multistep schedule divides the learning rate by 10.
        augmented_copies: random views of each training image that a linear probe is trained on besides the image.
        probe_on: a linear probe is trained on the unchanged images (image), on each view of the TTA policy (views) or
            on the mean of their features (tta-mean).
        hflip: random horizontal flip.
        rot90: random rotation by multiples of 90 degrees.
        brightness: largest relative change of the brightness; 0 changes nothing.
        contrast: largest relative change of the contrast.
        saturation: largest relative change of the saturation.
        hue: largest shift of the hue, as a share of its circle.
        illumination: largest relative change of the light from one side of the image to the other.
        vignette: largest darkening of the corners.
        blur: largest standard deviation of a blur, as a share of image_size.
        jpeg_prob: share of views that are compressed as JPEG of low or middling quality.
        micro_batch_size: images in memory at once; a step adds up their gradients. 0 takes the whole batch.
        momentum: of SGD.
        nesterov: Nesterov's momentum.
        weight_decay: of weight matrices and kernels, not of biases and norms.
        clip_grad_norm: largest norm of the gradient; 0 clips none.
        mixup: alpha of MixUp's Beta distribution; 0 mixes none.
        label_smoothing: share of the label that is spread over all classes.
        class_weights: balanced weights each class by the inverse of its frequency.
        sample_weighting: source reweights images so that source and label are statistically independent.
        ema_decay: decay by step of the exponential moving average of the weights that is saved; 0 averages none.
        standardize_features: a linear probe is trained on features of zero mean and equal variance.
        checkpoint: best saves the weights with the lowest validation loss, last the final ones.
        precision: auto, fp32 or bf16.

    """

    preset: str
    tuning: Tuning
    image_size: int
    resize_size: int
    crop_scale: tuple[float, float]
    batch_size: int
    steps: int
    warmup_steps: int
    lr: float
    eval_interval: int
    feature_stages: int = 0
    pooling: Pooling = "avg"
    tta: TTAPolicy = "none"
    schedule: Literal["cosine", "multistep"] = "cosine"
    lr_milestones: tuple[int, ...] = ()
    augmented_copies: int = 0
    probe_on: Literal["image", "views", "tta-mean"] = "views"
    hflip: bool = True
    rot90: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    illumination: float = 0.0
    vignette: float = 0.0
    blur: float = 0.0
    jpeg_prob: float = 0.0
    micro_batch_size: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_grad_norm: float = 0.0
    mixup: float = 0.0
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    sample_weighting: Literal["none", "source"] = "none"
    ema_decay: float = 0.0
    standardize_features: bool = False
    checkpoint: Literal["best", "last"] = "best"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        check_policy(self.tta)
        faults = {
            "tuning": self.tuning not in ("linear-probe", "full", "lp-ft"),
            "pooling": self.pooling not in ("avg", "stats") or (self.pooling == "stats" and not self.feature_stages),
            "feature_stages": not 0 <= self.feature_stages <= 64,
            "image_size": not 32 <= self.image_size <= 4096,
            "resize_size": not 32 <= self.resize_size <= 8192,
            "crop_scale": not 0 < low <= high <= 1,
            "augmented_copies": self.augmented_copies < 0,
            "probe_on": self.probe_on == "tta-mean" and self.tta == "none",
            "batch_size": self.batch_size < 1,
            "micro_batch_size": self.micro_batch_size < 0,
            "steps": self.steps < 1,
            "warmup_steps": not 0 <= self.warmup_steps <= max(0, self.steps - 1),
            "lr": not 0 < self.lr < math.inf,
            "momentum": not 0 <= self.momentum < 1,
            "nesterov": self.nesterov and not self.momentum,
            "weight_decay": not 0 <= self.weight_decay < math.inf,
            "clip_grad_norm": not 0 <= self.clip_grad_norm < math.inf,
            "mixup": not 0 <= self.mixup < math.inf,
            "label_smoothing": not 0 <= self.label_smoothing < 1,
            "ema_decay": not 0 <= self.ema_decay < 1,
            "eval_interval": self.eval_interval < 1,
            "brightness": not 0 <= self.brightness < 1,
            "contrast": not 0 <= self.contrast < 1,
            "saturation": not 0 <= self.saturation < 1,
            "hue": not 0 <= self.hue <= 0.5,
            "illumination": not 0 <= self.illumination < 1,
            "vignette": not 0 <= self.vignette < 1,
            "blur": not 0 <= self.blur < 0.2,
            "jpeg_prob": not 0 <= self.jpeg_prob <= 1,
        }
        for name, wrong in faults.items():
            if wrong:
                raise NevusError(
                    f"Cannot train with {name}={getattr(self, name)}: the value is out of range. See nevus train "
                    f"--help-all, and correct {name}."
                )


def override_names() -> list[str]:
    """Return the fields that can be overridden."""
    return [field.name for field in fields(TrainConfig) if field.name != "preset"]


@dataclass(frozen=True)
class DatasetStats:
    """What a preset needs to know of the training set, of the backbone and of the machine.

    Attributes:
        images: number of training images.
        area: median height x width of the original images, in pixels.
        image_size: side in pixels that the backbone is used at by default.
        imbalance: images of the most frequent class for each of the rarest.
        classes: number of classes.
        parameters: weights of the backbone; 0 if it is not known.
        stages: stages of the backbone that can be used as features.
        bf16: whether a CPU computes features, and in bfloat16.

    """

    images: int
    area: float
    image_size: int
    imbalance: float = 1.0
    classes: int = 2
    parameters: int = 0
    stages: int = 4
    bf16: bool = False


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step, counted from 0.

    It rises linearly from 0 in the warm-up. The multistep schedule divides by 10 for every milestone s with s < step:
    it takes effect at step s+1, as in the BiT authors' code. The cosine reaches 0 after the last step.
    """
    if step < config.warmup_steps:
        return config.lr * step / config.warmup_steps
    if config.schedule == "multistep":
        return config.lr * 10.0 ** -sum(milestone < step for milestone in config.lr_milestones)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * done))
