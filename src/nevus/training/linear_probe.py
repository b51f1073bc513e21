"""A linear probe: the linear head on features of the frozen backbone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus.data.transforms import AugmentedImages
from nevus.metrics import scores
from nevus.models.model import ImageClassifier
from nevus.runtime.device import device
from nevus.runtime.engines import softmax
from nevus.runtime.feature_engine import feature_engine, network_engine
from nevus.runtime.tta import TTAStack, split_views, view_count
from nevus.training.batches import VIEW, FeatureBatches, augment_of, soft_labels
from nevus.training.config import TrainConfig
from nevus.training.fit import Fit, ViewLogits, sharded
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy
from nevus.training.run_dir import RunDir

ROWS = 4096
"""Of features that are widened at once."""


@dataclass(frozen=True)
class LinearHead:
    """logits = weight x + bias.

    Attributes:
        weight: float32 (classes, features).
        bias: float32 (classes,).

    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 (..., classes), of features, float32 (..., features).

        Summed in float64: the output of a row must not depend on the number of rows, as it does where the processor
        adds up in another order.
        """
        weight, bias = self.weight.double(), self.bias.double()
        rows = torch.from_numpy(features).reshape(-1, features.shape[-1])
        said = torch.cat([part.double() @ weight.T + bias for part in torch.split(rows, ROWS)])
        return np.asarray(said.float().view(*features.shape[:-1], -1).numpy(), np.float32)


def linear_probe(network: ImageClassifier, fit: Fit) -> ViewLogits:
    """Compute the features of the frozen backbone once, and train the head on them.

    Args:
        network: its head is set.
        fit: the parts of the training.

    Returns:
        The logits of the validation images for each view of the TTA policy, and of the training images for these views,
        or with `probe_on=image` for the unchanged image only.

    """
    config, rows = fit.config, fit.train.manifest
    copies = _augmented_copies(fit)
    policy = "none" if config.probe_on == "image" else config.tta
    n_views = view_count(policy)
    with fit.timer("features"):
        # Features of validation images decide and are reported: in float32, as the bundle will compute them.
        exact = network_engine(network.features, fit.spec.preprocess, fit.device)
        engine = feature_engine(network.features, fit.spec.preprocess, exact, config.precision)
        val = split_views(sharded(TTAStack(exact, config.tta), fit.val.pixels, "features of validation"), config.tta)
        features = np.empty((n_views + len(copies), len(rows), val.shape[2]), np.float32)
        features[:n_views] = split_views(
            sharded(TTAStack(engine, policy), fit.train.pixels, "features of train"), policy
        )
        for number, copy in enumerate(copies):
            what = f"features of copy {number + 1} of {len(copies)}"
            features[n_views + number] = sharded(engine, copy, what)
    shown = features
    if config.probe_on == "tta-mean":
        shown = np.concatenate([features[:n_views].mean(0, keepdims=True), features[n_views:]])
    with fit.timer("linear probe"):
        head = fit_linear_probe(
            shown,
            rows.targets,
            val.mean(0),  # the mean of a linear head's outputs is its output for the mean
            fit.val.manifest.targets,
            config,
            fit.run,
            class_weights=fit.class_weights,
            weights=fit.sample_weights,
            seed=fit.seed,
            stop=fit.timer.expired,
        )
    network.head.weight.data.copy_(head.weight)
    network.head.bias.data.copy_(head.bias)
    return ViewLogits(head(features[:n_views]), rows.targets, head(val))


def _augmented_copies(fit: Fit) -> list[AugmentedImages]:
    """Make random views of the training images, the same whenever they are asked for."""
    config = fit.config
    if not config.augmented_copies:
        return []
    stored = fit.at_size(config.resize_size)
    augment = augment_of(config)
    streams = (np.random.default_rng([fit.seed, VIEW, number]) for number in range(config.augmented_copies))
    return [AugmentedImages(stored, augment, augment.sample_params(len(stored), rng)) for rng in streams]


def fit_linear_probe(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    held: NDArray[np.float32],
    held_targets: NDArray[np.int64],
    config: TrainConfig,
    run: RunDir,
    *,
    class_weights: Tensor,
    weights: Tensor | None = None,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> LinearHead:
    """Train a head by the same loop as a network.

    Args:
        features: of the training images, float32 (n, features), or (views, n, features): of the images themselves,
            or of the views that are answered with, and of random ones, of which each step takes one.
        targets: their classes, (n,).
        held: features of the validation images.
        held_targets: their classes.
        config: see `TrainConfig`; with `standardize` it works on features of mean 0 and length about 1.
        run: logs and checkpoints go there.
        class_weights: float (classes,), of the loss.
        weights: of each training image in the loss, float (n,); by default 1.
        seed: of the order and MixUp.
        stop: asked after every step; True ends the training.

    Raises:
        NevusError: the loss is not finite.

    """
    given, looked = torch.from_numpy(features), torch.from_numpy(held)
    classes, width = len(class_weights), given.shape[-1]
    mean, std = torch.zeros(width), torch.ones(width)
    if config.standardize_features:
        # Divided by the root of the width as well, features have length 1 on average: the curvature of the
        # loss is then at most 1/4, and one learning rate suits every backbone.
        every = given.view(-1, width)
        mean, std = every.mean(0), every.std(0, correction=0).clamp_min(1e-6) * width**0.5
    shown, looked = (given - mean).div_(std), (looked - mean).div_(std)

    def validate(net: nn.Module) -> ValidationResult:
        with torch.inference_mode():
            return validation_result(net(looked.to(next(net.parameters()).device)).float().cpu().numpy(), held_targets)

    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    labels = soft_labels(targets, classes, config.label_smoothing)
    if weights is not None:
        labels = labels * weights[:, None]
    compute = device(config.precision)
    if compute.bf16 and not config.mixup:
        shown = shown.bfloat16()  # as every step would round them
    batches = FeatureBatches(shown, labels, config, seed)
    train(
        head,
        batches,
        validate,
        config,
        run,
        compute,
        images=len(targets),
        objective=CrossEntropy(class_weights),
        stop=stop,
    )
    # w (x - m) / s + b = (w / s) x + (b - w m / s)
    weight = head.weight.detach().cpu() / std
    return LinearHead(weight, head.bias.detach().cpu() - weight @ mean)


def validation_result(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> ValidationResult:
    """Loss and accuracy of logits (n, classes)."""
    p = softmax(logits)
    loss = float(scores.cross_entropy(targets, p, np.ones(len(targets))))
    return ValidationResult(loss, float((p.argmax(1) == targets).mean()))
