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
from nevus.data.decoded import Decoded, Squares, decode_all
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import Viewed
from nevus.metrics.report import figures
from nevus.models.label_groups import Answer, Summed
from nevus.models.registry import head_of, trunk_of
from nevus.runtime.device import device
from nevus.runtime.distributed import processes
from nevus.runtime.engines import Engine, TorchEngine, engine, frozen, many, rounds, softmax
from nevus.runtime.tta import Each, apart
from nevus.training.batches import VIEW, ImageBatches, augment_of, soft_labels
from nevus.training.config import Recipe
from nevus.training.history import Stopwatch
from nevus.training.linear_probe import Probe, fit_head, judgement
from nevus.training.loop import Judgement, train
from nevus.training.losses import CrossEntropy, class_weights, source_weights
from nevus.training.record import Judged, Trained, record
from nevus.training.run_dir import Run
from nevus.training.runtime_estimate import SHOWN_AGAIN


@dataclass(frozen=True)
class Fitting:
    """What every step of a fit needs.

    Attributes:
        manifest: the whole data set, with its splits.
        shown: training images.
        held: validation images.
        preprocess: of the network.
        recipe: see `Recipe`.
        run: the folder.
        cache: of decoded images.
        watch: takes the time of each stage.
        seed: of everything random.

    """

    manifest: Manifest
    shown: Decoded
    held: Decoded
    preprocess: Preprocess
    recipe: Recipe
    run: Run
    cache: Cache
    watch: Stopwatch
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
        def judge(net: nn.Module) -> Judgement:
            ready = TorchEngine(net, self.preprocess, where.device)  # new weights each time: no graph would pay
            return judgement(_each_its_part(ready, self.held.pixels, "validation"), self.held.manifest.targets)

        recipe, rows = self.recipe, self.shown.manifest
        where = device(recipe.precision)
        labels = soft_labels(rows.targets, len(rows.classes), recipe.label_smoothing)
        labels = labels * source_weights(rows, recipe)[:, None]
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

    def _probe(self, made: nn.Module) -> Probe:
        """The head of the frozen trunk, from whole images, as in evaluation."""
        recipe, rows = self.recipe, self.shown.manifest
        whole = self._stored(recipe.side)
        with self.watch("features"):
            ready = engine(trunk_of(made), self.preprocess, device(recipe.precision).device)
            features = _each_its_part(ready, whole, "features of train")
        with self.watch("probe"):
            weights = (
                source_weights(rows, recipe) * class_weights(rows.targets, len(rows.classes), recipe)[rows.targets]
            )
            return Probe.of(features, rows.targets, weights.double().numpy())

    def _views(self) -> list[Viewed]:
        """Random views of the training images, the same whenever they are asked for."""
        if not self.recipe.views:
            return []
        stored = self._stored(self.recipe.resize)
        augment = augment_of(self.recipe)
        every = (np.random.default_rng([self.seed, VIEW, number]) for number in range(self.recipe.views))
        return [Viewed(stored, augment, augment.draws(len(stored), rng)) for rng in every]

    def _stored(self, side: int) -> Squares:
        """The training images at another side, decoded ahead, each as it was first read."""
        together = processes()
        begin = together.index / together.count
        with self.watch("decoding"):
            decode_all(self.shown.manifest, side, self.cache, begin=begin, what="decoding train")
        return self.shown.pixels.at(side)

    def _head(self, made: nn.Module) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = self.shown.manifest
        random, ways = self._views(), self.recipe.mean_of
        with self.watch("features"):
            # What is said of validation images decides and is reported: in float32, as the bundle will say it.
            exact = engine(trunk_of(made), self.preprocess, device(self.recipe.precision).device)
            ready = frozen(trunk_of(made), exact, self.recipe.precision)
            held = apart(_each_its_part(Each(exact, ways), self.held.pixels, "features of validation"), ways)
            features = np.empty((ways + len(random), len(rows), held.shape[2]), np.float32)
            features[:ways] = apart(_each_its_part(Each(ready, ways), self.shown.pixels, "features of train"), ways)
            for number, view in enumerate(random):
                what = f"features of view {number + 1} of {len(random)}"
                features[ways + number] = _each_its_part(ready, view, what)
        shown = features
        if self.recipe.on_means:
            shown = np.concatenate([features[:ways].mean(0, keepdims=True), features[ways:]])
        with self.watch("head"):
            head = fit_head(
                shown,
                rows.targets,
                held.mean(0),  # the mean of a linear head's answers is its answer to the mean
                self.held.manifest.targets,
                self.recipe,
                self.run,
                class_weights=class_weights(rows.targets, len(rows.classes), self.recipe),
                weights=source_weights(rows, self.recipe),
                seed=self.seed,
            )
        final = _linear_head(made)
        assert final.bias is not None
        final.weight.data.copy_(head.weight.view_as(final.weight))
        final.bias.data.copy_(head.bias)
        return head(features[:ways]), head(held)


def _linear_head(made: nn.Module) -> nn.Linear | nn.Conv2d:
    final = head_of(made)
    assert isinstance(final, nn.Linear | nn.Conv2d)
    return final


def _each_its_part(ready: Engine, pixels: Squares | Viewed, what: str) -> NDArray[np.float32]:
    return processes().shared(len(pixels), lambda part: many(ready, pixels.part(part), what=what))


def save(
    fitting: Fitting,
    made: nn.Module,
    said: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    trunk: str,
    taps: int,
    spread: bool,
    answer: Answer | None,
    begun: Mapping[str, Any],
) -> None:
    """Judge a network once more, and write its record and its bundle.

    Args:
        fitting: see `Fitting`.
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
            ready = Each(plain, recipe.mean_of)
            held_logits = apart(many(ready, fitting.held.pixels, what="validation"), recipe.mean_of)
            rows = np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_AGAIN)).astype(int)
            again = decode_all(
                fitting.shown.manifest.where(rows), recipe.side, fitting.cache, what="decoding train"
            )
            logits = apart(many(ready, again.pixels, what="train once more"), recipe.mean_of)
            targets = again.manifest.targets
        held_targets, classes, more = held.targets, manifest.classes, {}
        if answer:
            told = figures(held_targets, softmax(held_logits.mean(0)), classes, held.groups)
            more = {"diagnoses": {name: figure.as_dict() for name, figure in told.items()}}
            # Of each view, before the mean, as the bundle does it: the log of a sum is not linear.
            logits, held_logits = (np.stack([answer.logits(view) for view in one]) for one in (logits, held_logits))
            targets, held_targets, classes = answer.targets(targets), answer.targets(held_targets), answer.classes
    bf16 = rounds(recipe.precision) if recipe.mode == "head" else device(recipe.precision).bf16
    trained = Trained(
        trunk=trunk,
        network=Summed(made, answer) if answer else made,
        preprocess=fitting.preprocess,
        classes=classes,
        manifest=manifest,
        recipe=asdict(recipe),
        seed=fitting.seed,
        begun=begun,
        shown=Judged(logits.mean(0), targets, np.arange(len(targets))),
        held=Judged(held_logits.mean(0), held_targets, held.groups),
        skipped=len(fitting.shown.faults) + len(fitting.held.faults),
        seconds=fitting.watch.seconds,
        precision="bf16" if bf16 else "fp32",
        taps=taps,
        spread=spread,
        answer=answer,
        more=more,
    )
    record(trained, fitting.run)
