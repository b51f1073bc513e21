"""The plan of a comparison: its trials, and the time that each may take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from nevus.baselines.learners import LEARNERS, fit_baseline
from nevus.baselines.methods import is_network, method_spec, resolve_method
from nevus.comparison.config import ComparisonConfig
from nevus.comparison.trial import Trial
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.models.cached import on_this_machine
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE, names
from nevus.models.registry import AUTO, RANDOM, backbone_spec
from nevus.models.spec import ModelSpec
from nevus.models.weights import resolve_backbone
from nevus.training.config import TrainConfig, Tuning
from nevus.training.overrides import check_unused, checked
from nevus.training.preparation import Preparation
from nevus.training.runtime_estimate import Throughput, estimate_seconds, measure_throughput
from nevus.training.trainer import Trainer

EVERY_WEIGHT = ("full", "lp-ft")
"""Kinds of tuning that train every weight: their number of epochs is fitted to the time limit."""
ESTIMATE_IMAGES = 200
"""Images on which the time of a method with handcrafted features is measured."""
FIT_ROUNDS = 4
"""Corrections of the number of epochs by the time that it would take."""


def make_trials(config: ComparisonConfig) -> tuple[list[Trial], list[str]]:
    """List what is trained: networks with pretrained weights on this machine, and handcrafted features.

    Networks from random weights are trained on request only, with every weight: a linear probe of random features
    is no comparison.

    Returns:
        The trials, and a sentence for each network that has no pretrained weights here.

    Raises:
        NevusError: weights that were asked for are not on this machine.

    """
    pretrained: dict[str, tuple[str, str]] = {}
    lacking = []
    for name in filter(is_network, config.systems):
        weights = config.weights.get(name, AUTO)
        if weights == RANDOM:
            continue
        try:
            backbone, weights = resolve_method(method_spec(name), weights, config.backbone)
            backbone = resolve_backbone(backbone)
            if weights == AUTO:
                _check_weights(backbone)
            pretrained[name] = backbone, weights
        except NevusError as error:
            if config.weights.get(name, AUTO) != AUTO or (name == "bit" and config.backbone != AUTO):
                raise
            lacking.append(str(error))
    trials: list[Trial] = []
    for seed in range(config.seeds):
        for name in config.systems:
            if not is_network(name):
                trials.append(Trial(name, seed, "features"))
                continue
            if name in pretrained:
                backbone, weights = pretrained[name]
                for tuning in config.tunings:
                    trials.append(Trial(name, seed, "pretrained", tuning, backbone, weights, config.preset))
            if config.random or config.weights.get(name) == RANDOM:
                backbone, weights = resolve_method(method_spec(name), RANDOM, config.backbone)
                trials.append(Trial(name, seed, "random", "full", backbone, weights, config.preset))
    return trials, lacking


def _check_weights(backbone: str) -> None:
    spec = backbone_spec(backbone)
    if spec.origin == RANDOM:
        raise NevusError(
            f"Cannot compare {backbone}: it has no pretrained weights. Choose another --backbone, or use --weights "
            "bit=random or bit=PATH."
        )
    if not on_this_machine(spec):
        raise NevusError(
            f"Cannot compare {backbone}: its weights are not on this machine. Download them with nevus models "
            f"--download {backbone}, or choose another --backbone."
        )


def with_time_estimates(
    config: ComparisonConfig, trials: Sequence[Trial], manifest: Manifest, known: Sequence[Trial] = ()
) -> list[Trial]:
    """Estimate the training time of each trial, and set time limits.

    With a budget every trial has the same limit: the budget divided by the number of trials. Without one, all
    networks from random weights have the time that the first of them takes by its preset. Trainings of every weight
    get as many epochs as are expected to fit into their limit.

    Args:
        config: see `ComparisonConfig`.
        trials: what is trained.
        manifest: the data set with its splits.
        known: trials of an earlier start, whose limits are kept.

    Raises:
        NevusError: an override has no effect on any trial.

    """
    networks = [trial for trial in trials if is_network(trial.system)]
    check_unused(checked(config.overrides), [cast(Tuning, trial.tuning) for trial in networks])
    estimator = _Estimator(config, manifest)
    estimated = [replace(trial, expected=estimator.seconds(trial)) for trial in trials]
    limits = [trial.time_limit for trial in known if trial.time_limit]
    if config.budget:
        limit = limits[0] if limits else config.budget / len(trials)
        return [estimator.limited(trial, limit) for trial in estimated]
    random = [trial.expected for trial in estimated if trial.initialization == "random"]
    if not random:
        return estimated
    limit = limits[0] if limits else random[0]
    return [estimator.limited(one, limit) if one.initialization == "random" else one for one in estimated]


class _Estimator:
    """Measures each kind of trial once."""

    def __init__(self, config: ComparisonConfig, manifest: Manifest) -> None:
        self._config, self._manifest = config, manifest
        self._images = len(manifest.split("train"))
        self._throughput: dict[tuple[str, str], Throughput] = {}
        self._seconds: dict[tuple[str, str], float] = {}

    def seconds(self, trial: Trial) -> float:
        """Return the seconds that a trial is expected to take, without decoding."""
        key = trial.backbone or trial.system, trial.tuning
        if key not in self._seconds:
            self._seconds[key] = self._estimate(trial)
        return self._seconds[key]

    def limited(self, trial: Trial, limit: float) -> Trial:
        """Return a trial with a time limit, and with epochs that are expected to fit; one step at least."""
        if trial.tuning not in EVERY_WEIGHT:
            return replace(trial, expected=min(trial.expected, limit), time_limit=limit)
        throughput = self._throughput[trial.backbone or trial.system, trial.tuning]
        config = self._plan(trial)[1]
        one_step = config.batch_size / self._images
        epochs, seconds = config.steps * one_step, throughput.seconds(config, self._images)
        for _ in range(FIT_ROUNDS):  # the number of evaluations does not grow with the epochs as that of steps does
            epochs = float(f"{max(epochs * limit / seconds, one_step):.3g}")
            seconds = throughput.seconds(self._plan(replace(trial, epochs=epochs))[1], self._images)
        return replace(trial, epochs=epochs, expected=limit, time_limit=limit)

    def _plan(self, trial: Trial) -> tuple[ModelSpec, TrainConfig]:
        trainer = trial.trainer(Preparation(), self._config.overrides)
        assert isinstance(trainer, Trainer)
        return trainer.plan(self._manifest)

    def _estimate(self, trial: Trial) -> float:
        if not is_network(trial.system):
            return self._estimate_baseline(trial)
        spec, config = self._plan(trial)
        if trial.tuning not in EVERY_WEIGHT:
            return estimate_seconds(config, spec, self._images)
        throughput = measure_throughput(config, spec)
        self._throughput[trial.backbone or trial.system, trial.tuning] = throughput
        return throughput.seconds(config, self._images)

    def _estimate_baseline(self, trial: Trial) -> float:
        rng = np.random.default_rng(0)
        size = HANDCRAFTED_IMAGE_SIZE
        began = time.perf_counter()
        vectors(rng.integers(0, 256, (8, size, size, 3), dtype=np.uint8))
        describing = (time.perf_counter() - began) / 8 * self._images * 1.2
        train = self._manifest.split("train")
        rows = np.sort(rng.permutation(len(train))[:ESTIMATE_IMAGES])
        part = train.where(rows)
        features = rng.normal(size=(len(part), len(names()))).astype(np.float32)
        began = time.perf_counter()
        try:
            fit_baseline(LEARNERS[trial.system], features, part.targets, part.groups, (features, part.targets), 0)
        except ValueError:
            return describing  # it cannot learn these classes; its row will give the reason
        growth = len(train) / len(part)
        return describing + (time.perf_counter() - began) * (growth**2 if trial.system == "svm" else growth)
