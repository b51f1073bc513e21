"""Fine-tuning of every weight, from a zero head or from the linear probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus.models.model import ImageClassifier
from nevus.runtime.device import device
from nevus.runtime.feature_engine import TorchEngine, network_engine
from nevus.training.batches import ImageBatches, soft_labels
from nevus.training.fit import Fit, ViewLogits, predict_views, sharded
from nevus.training.linear_probe import validation_result
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy

C = 0.003
"""Inverse strength of the L2 penalty of scikit-learn, on features of unit variance."""
FEATURE_NORM = 4.0
"""Mean length of the standardized features during fine-tuning. It decides how far one step moves the head: at length
1 the head would hardly follow the backbone, at unit variance one step would overthrow it."""


def fine_tune(network: ImageClassifier, fit: Fit) -> ViewLogits:
    """Train every weight, the head from zero.

    Args:
        network: trained in place.
        fit: the parts of the training.

    """
    _train(network, fit)
    return predict_views(network, fit)


def _train(network: ImageClassifier, fit: Fit) -> None:
    config, rows = fit.config, fit.train.manifest
    compute = device(config.precision)

    def validate(net: nn.Module) -> ValidationResult:
        engine = TorchEngine(net, fit.spec.preprocess, compute.device)  # new weights each time: no graph would pay
        logits = sharded(engine, fit.val.pixels, "validation")
        return validation_result(logits, fit.val.manifest.targets)

    # Weights of images scale their labels; weights of classes are part of the objective.
    labels = soft_labels(rows.targets, len(rows.classes), config.label_smoothing) * fit.sample_weights[:, None]
    with fit.timer("training"):
        train(
            network,
            ImageBatches(fit.train.pixels, labels, config, fit.spec.preprocess, fit.seed),
            validate,
            config,
            fit.run,
            compute,
            images=len(rows),
            objective=CrossEntropy(fit.class_weights),
            stop=fit.timer.expired,
        )


def lp_ft(network: ImageClassifier, fit: Fit) -> ViewLogits:
    """Train every weight, the head from the linear probe of the frozen backbone (Kumar et al. 2022).

    Args:
        network: trained in place.
        fit: the parts of the training.

    """
    rows, whole = fit.train.manifest, fit.at_size(fit.config.image_size)
    with fit.timer("features"):
        engine = network_engine(network.features, fit.spec.preprocess, fit.device)
        features = sharded(engine, whole, "features of train")
    with fit.timer("linear probe"):
        weights = fit.sample_weights * fit.class_weights[rows.targets]
        probe = WarmStartHead.fit(features, rows.targets, weights.double().numpy())
    with probe.attached(network.head):
        _train(network, fit)
    return predict_views(network, fit)


@dataclass(frozen=True)
class WarmStartHead:
    """A linear head on standardized features, (features - mean) / scale.

    With a zero-initialized head, early gradients distort the pretrained features (Kumar et al. 2022, *Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution*); starting from the linear probe prevents that.

    Attributes:
        mean: of the features, float32 (features,).
        scale: of the features: their standard deviation times a common factor, float32 (features,).
        weight: float32 (classes, features), of standardized features.
        bias: float32 (classes,).

    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(
        cls, features: NDArray[np.float32], targets: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> WarmStartHead:
        """Fit a logistic regression.

        Args:
            features: of the training images by the frozen backbone, (n, features).
            targets: their classes, 0 to k - 1, each present.
            weights: of each image, (n,).

        """
        from sklearn.linear_model import LogisticRegression  # half a second that linear probes do not need

        mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
        fitted = LogisticRegression(C=C, max_iter=1000)
        fitted.fit((features - mean) / std, targets, sample_weight=weights)
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes have one logit there, and two here
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        factor = features.shape[1] ** 0.5 / FEATURE_NORM
        parts = (mean, std * factor, weight * factor, bias)
        return cls(*(torch.from_numpy(np.asarray(part, np.float32)) for part in parts))

    @contextlib.contextmanager
    def attached(self, head: nn.Linear) -> Iterator[None]:
        """Put it into a network's head, whose input is standardized as long as the context lasts.

        Evaluations within it see the same input. Afterwards the standardization is part of the head's weights.
        """
        head.weight.data.copy_(self.weight)
        head.bias.data.copy_(self.bias)

        def standardized(_: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
            x: Tensor = given[0]
            return ((x - self.mean.to(x)) / self.scale.to(x),)

        hook = head.register_forward_pre_hook(standardized)
        try:
            yield
        finally:
            hook.remove()
        # w (x - m) / s + b = (w / s) x + (b - (w / s) m)
        flat = head.weight.data / self.scale.to(head.weight)
        head.weight.data.copy_(flat)
        head.bias.data.sub_(flat @ self.mean.to(flat))
