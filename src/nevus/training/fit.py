"""One fit: the parts of a training while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, DecodedImages, decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import AugmentedImages
from nevus.metrics.report import compute_metrics
from nevus.models.label_groups import LabelGroups, GroupedLogits
from nevus.models.registry import classifier_head, without_head
from nevus.runtime.device import device
from nevus.runtime.distributed import current_world
from nevus.runtime.engines import Engine, TorchEngine, make_engine, feature_engine, run_batched, features_in_bf16, softmax
from nevus.runtime.tta import TTAStack, split_views
from nevus.training.batches import VIEW, ImageBatches, augment_of, soft_labels
from nevus.training.config import TrainConfig
from nevus.training.history import StageTimer
from nevus.training.linear_probe import WarmStartHead, fit_linear_probe, validation_result
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy, class_weights, source_balancing_weights
from nevus.training.record import Predictions, FitResult, write_result
from nevus.training.run_dir import RunDir
from nevus.training.runtime_estimate import SHOWN_AGAIN


@dataclass(frozen=True)
class _Fit:
    """What every step of a fit needs.

    Attributes:
        manifest: the whole data set, with its splits.
        shown: training images.
        held: validation images.
        preprocess: of the network.
        recipe: see `TrainConfig`.
        run: the folder.
        cache: of decoded images.
        watch: takes the time of each stage.
        seed: of everything random.

    """

    manifest: Manifest
    shown: DecodedDataset
    held: DecodedDataset
    preprocess: Preprocess
    recipe: TrainConfig
    run: RunDir
    cache: Cache
    watch: StageTimer
    seed: int

    def train(self, made: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Train a network in place.

        Returns:
            In mode `head` the logits of each view of the training and the validation images, float32
            (views, n, classes), so that they need not be computed again.

        """
        if self.recipe.mode == "head":
            return self._head(made)
        self._all(made)
        return None

    def _all(self, made: nn.Module) -> None:
        def judge(net: nn.Module) -> ValidationResult:
            ready = TorchEngine(net, self.preprocess, where.device)  # new weights each time: no graph would pay
            return validation_result(_each_its_part(ready, self.held.pixels, "validation"), self.held.manifest.targets)

        recipe, rows = self.recipe, self.shown.manifest
        where = device(recipe.precision)
        labels = soft_labels(rows.targets, len(rows.classes), recipe.label_smoothing)
        labels = labels * source_balancing_weights(rows, recipe)[:, None]
        begun = self._probe(made).begun(_linear_head(made)) if recipe.probe else contextlib.nullcontext()
        with self.watch("training"), begun:
            train(
                made,
                ImageBatches(self.shown.pixels, labels, recipe, self.preprocess, self.seed),
                judge,
                recipe,
                self.run,
                where,
                images=len(rows),
                objective=CrossEntropy(class_weights(rows.targets, len(rows.classes), recipe)),
            )

    def _probe(self, made: nn.Module) -> WarmStartHead:
        """The head of the frozen trunk, from whole images, as in evaluation."""
        recipe, rows = self.recipe, self.shown.manifest
        whole = self._stored(recipe.side)
        with self.watch("features"):
            ready = make_engine(without_head(made), self.preprocess, device(recipe.precision).device)
            features = _each_its_part(ready, whole, "features of train")
        with self.watch("probe"):
            weights = (
                source_balancing_weights(rows, recipe) * class_weights(rows.targets, len(rows.classes), recipe)[rows.targets]
            )
            return WarmStartHead.of(features, rows.targets, weights.double().numpy())

    def _views(self) -> list[AugmentedImages]:
        """Random views of the training images, the same whenever they are asked for."""
        if not self.recipe.views:
            return []
        stored = self._stored(self.recipe.resize)
        augment = augment_of(self.recipe)
        every = (np.random.default_rng([self.seed, VIEW, number]) for number in range(self.recipe.views))
        return [AugmentedImages(stored, augment, augment.draws(len(stored), rng)) for rng in every]

    def _stored(self, side: int) -> DecodedImages:
        """The training images at another side, decoded ahead, each as it was first read."""
        world = current_world()
        begin = world.index / world.count
        with self.watch("decoding"):
            decode_dataset(self.shown.manifest, side, self.cache, begin=begin, what="decoding train")
        return self.shown.pixels.at(side)

    def _head(self, made: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = self.shown.manifest
        random, ways = self._views(), self.recipe.mean_of
        with self.watch("features"):
            # What is said of validation images decides and is reported: in float32, as the bundle will say it.
            exact = make_engine(without_head(made), self.preprocess, device(self.recipe.precision).device)
            ready = feature_engine(without_head(made), exact, self.recipe.precision)
            held = split_views(_each_its_part(TTAStack(exact, ways), self.held.pixels, "features of validation"), ways)
            features = np.empty((ways + len(random), len(rows), held.shape[2]), np.float32)
            features[:ways] = split_views(_each_its_part(TTAStack(ready, ways), self.shown.pixels, "features of train"), ways)
            for number, view in enumerate(random):
                what = f"features of view {number + 1} of {len(random)}"
                features[ways + number] = _each_its_part(ready, view, what)
        shown = features
        if self.recipe.on_means:
            shown = np.concatenate([features[:ways].mean(0, keepdims=True), features[ways:]])
        with self.watch("head"):
            head = fit_linear_probe(
                shown,
                rows.targets,
                held.mean(0),  # the mean of a linear head's answers is its answer to the mean
                self.held.manifest.targets,
                self.recipe,
                self.run,
                class_weights=class_weights(rows.targets, len(rows.classes), self.recipe),
                weights=source_balancing_weights(rows, self.recipe),
                seed=self.seed,
            )
        final = _linear_head(made)
        assert final.bias is not None
        final.weight.data.copy_(head.weight.view_as(final.weight))
        final.bias.data.copy_(head.bias)
        return head(features[:ways]), head(held)


def _linear_head(made: nn.Module) -> nn.Linear | nn.Conv2d:
    final = classifier_head(made)
    assert isinstance(final, nn.Linear | nn.Conv2d)
    return final


def _each_its_part(ready: Engine, pixels: DecodedImages | AugmentedImages, what: str) -> NDArray[np.float32]:
    return current_world().shared(len(pixels), lambda part: run_batched(ready, pixels.part(part), what=what))


def save_result(
    fitting: _Fit,
    made: nn.Module,
    said: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    backbone: str,
    taps: int,
    spread: bool,
    answer: LabelGroups | None,
    begun: Mapping[str, Any],
) -> None:
    """Judge a network once more, and write its record and its bundle.

    Args:
        fitting: see `_Fit`.
        made: the trained network.
        said: its logits of each view of the training and the validation images, float32 (views, n, classes), where
            they are known already.
        trunk: its name.
        taps: see `Bundle`; likewise `spread`.
        answer: the classes to answer with; None for those of the data.
        begun: what is known from before: weights, changes, the protocol of the split.

    """
    manifest, recipe = fitting.manifest, fitting.recipe
    made = made.cpu()
    with fitting.watch("judging"):
        targets, held = fitting.shown.manifest.targets, fitting.held.manifest
        if said:  # the trunk was frozen: nothing need be computed again
            logits, held_logits = said
        else:
            plain = TorchEngine(made, fitting.preprocess, device(recipe.precision).device)
            ready = TTAStack(plain, recipe.mean_of)
            held_logits = split_views(run_batched(ready, fitting.held.pixels, what="validation"), recipe.mean_of)
            rows = np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_AGAIN)).astype(int)
            again = decode_dataset(
                fitting.shown.manifest.where(rows), recipe.side, fitting.cache, what="decoding train"
            )
            logits = split_views(run_batched(ready, again.pixels, what="train once more"), recipe.mean_of)
            targets = again.manifest.targets
        held_targets, classes, more = held.targets, manifest.classes, {}
        if answer:
            told = compute_metrics(held_targets, softmax(held_logits.mean(0)), classes, held.groups)
            more = {"diagnoses": {name: figure.as_dict() for name, figure in told.items()}}
            # Of each view, before the mean, as the bundle does it: the log of a sum is not linear.
            logits, held_logits = (np.stack([answer.logits(view) for view in one]) for one in (logits, held_logits))
            targets, held_targets, classes = answer.targets(targets), answer.targets(held_targets), answer.classes
    bf16 = features_in_bf16(recipe.precision) if recipe.mode == "head" else device(recipe.precision).bf16
    trained = FitResult(
        backbone=backbone,
        network=GroupedLogits(made, answer) if answer else made,
        preprocess=fitting.preprocess,
        classes=classes,
        manifest=manifest,
        recipe=asdict(recipe),
        seed=fitting.seed,
        begun=begun,
        shown=Predictions(logits.mean(0), targets, np.arange(len(targets))),
        held=Predictions(held_logits.mean(0), held_targets, held.groups),
        skipped=len(fitting.shown.faults) + len(fitting.held.faults),
        seconds=fitting.watch.seconds,
        precision="bf16" if bf16 else "fp32",
        taps=taps,
        spread=spread,
        answer=answer,
        more=more,
    )
    write_result(trained, fitting.run)
