"""The head that a frozen trunk gets, as the start of a fine-tuning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from nevus.metrics import scores
from nevus.runtime.device import device
from nevus.runtime.engines import softmax
from nevus.training.batches import FeatureBatches, soft_labels
from nevus.training.config import TrainConfig
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy
from nevus.training.run_dir import RunDir

C = 0.003
"""Scikit-learn's C on features of unit variance."""
FEATURE_NORM = 4.0
"""Length that standardized features have on average while the network is trained: on it hangs how far one step
moves the head. At length 1 it would hardly follow the trunk; at unit variance, one step would throw it over."""


@dataclass(frozen=True)
class WarmStartHead:
    """A linear head on standardized features, (features - mean) / scale.

    A head of zeros sends gradients without meaning through the trunk, and spoils what it knows before the head has
    learnt to ask for it; begun from the frozen trunk's own head, that does not happen (Kumar et al. 2022,
    *Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution*).

    Attributes:
        mean: of the features, float32 (features,).
        scale: likewise, their standard deviation by a common factor.
        weight: float32 (classes, features), of standardized features.
        bias: float32 (classes,).

    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, features: NDArray[np.float32], targets: NDArray[np.int64], weights: NDArray[np.float64]) -> WarmStartHead:
        """Fit one.

        Args:
            features: of the training images by the frozen trunk, (n, features).
            targets: their classes, 0 to k - 1, each there.
            weights: of each image, (n,).

        """
        mean, std = features.mean(0), np.maximum(features.std(0), 1e-6)
        fitted = LogisticRegression(C=C, max_iter=1000)
        fitted.fit((features - mean) / std, targets, sample_weight=weights)
        weight, bias = fitted.coef_, fitted.intercept_
        if len(weight) == 1:  # two classes have one logit there, and two here
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        factor = features.shape[1] ** 0.5 / FEATURE_NORM
        found = (mean, std * factor, weight * factor, bias)
        return cls(*(torch.from_numpy(np.asarray(part, np.float32)) for part in found))

    @contextlib.contextmanager
    def begun(self, head: nn.Linear | nn.Conv2d) -> Iterator[None]:
        """Put it into a network's head, which sees standardized features as long as this lasts.

        Afterwards the head has taken the standardization into its weights and sees features as they are.
        """
        assert head.bias is not None
        head.weight.data.copy_(self.weight.view_as(head.weight))
        head.bias.data.copy_(self.bias)

        def standardized(_: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
            x: Tensor = given[0]
            shape = (1, -1, *(1 for _ in range(x.dim() - 2)))
            return ((x - self.mean.to(x).view(shape)) / self.scale.to(x).view(shape),)

        hook = head.register_forward_pre_hook(standardized)
        try:
            yield
        finally:
            hook.remove()
        # w (x - m) / s + b = (w / s) x + (b - (w / s) m)
        flat = head.weight.data.flatten(1) / self.scale.to(head.weight)
        head.weight.data.copy_(flat.view_as(head.weight))
        head.bias.data.sub_(flat @ self.mean.to(flat))


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

        Summed in float64: what is said of a row must not hang on which rows stand beside it, as it does where
        the processor adds up in another order for other numbers of rows.
        """
        weight, bias = self.weight.double(), self.bias.double()
        rows = torch.from_numpy(features).reshape(-1, features.shape[-1])
        said = torch.cat([part.double() @ weight.T + bias for part in torch.split(rows, ROWS)])
        return np.asarray(said.float().view(*features.shape[:-1], -1).numpy(), np.float32)


def fit_linear_probe(
    features: NDArray[np.float32],
    targets: NDArray[np.int64],
    held: NDArray[np.float32],
    held_targets: NDArray[np.int64],
    recipe: TrainConfig,
    run: RunDir,
    *,
    class_weights: Tensor,
    weights: Tensor | None = None,
    seed: int,
) -> LinearHead:
    """Train a head by the same loop as a network.

    Args:
        features: of the training images, float32 (n, features), or (views, n, features): of the images themselves,
            or of the views that are answered with, and of random ones, of which each step takes one.
        targets: their classes, (n,).
        held: features of the validation images.
        held_targets: their classes.
        recipe: see `TrainConfig`; with `standardize` it works on features of mean 0 and length about 1.
        run: logs and checkpoints go there.
        class_weights: float (classes,), of the loss.
        weights: of each training image in the loss, float (n,); by default 1.
        seed: of the order and MixUp.

    Raises:
        NevusError: the loss is not finite.

    """
    given, looked = torch.from_numpy(features), torch.from_numpy(held)
    classes, width = len(class_weights), given.shape[-1]
    mean, std = torch.zeros(width), torch.ones(width)
    if recipe.standardize:
        # Divided by the root of the width as well, features have length 1 on average: the curvature of the
        # loss is then at most 1/4, and one learning rate suits every trunk.
        every = given.view(-1, width)
        mean, std = every.mean(0), every.std(0, correction=0).clamp_min(1e-6) * width**0.5
    shown, looked = (given - mean).div_(std), (looked - mean).div_(std)

    def judge(net: nn.Module) -> ValidationResult:
        with torch.inference_mode():
            return validation_result(net(looked.to(next(net.parameters()).device)).float().cpu().numpy(), held_targets)

    head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    labels = soft_labels(targets, classes, recipe.label_smoothing)
    if weights is not None:
        labels = labels * weights[:, None]
    batches = FeatureBatches(shown, labels, recipe, seed)
    train(
        head,
        batches,
        judge,
        recipe,
        run,
        device(recipe.precision),
        images=len(targets),
        objective=CrossEntropy(class_weights),
    )
    # w (x - m) / s + b = (w / s) x + (b - w m / s)
    weight = head.weight.detach().cpu() / std
    return LinearHead(weight, head.bias.detach().cpu() - weight @ mean)


def validation_result(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> ValidationResult:
    """Loss and accuracy of logits (n, classes)."""
    p = softmax(logits)
    loss = float(scores.cross_entropy(targets, p, np.ones(len(targets))))
    return ValidationResult(loss, float((p.argmax(1) == targets).mean()))
