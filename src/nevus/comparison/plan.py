"""What a comparison will do, and how long it should take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from nevus.baselines.learners import LEARNERS, fit_baseline
from nevus.baselines.methods import METHODS, is_network, method_spec, resolve_method
from nevus.comparison.trial import Initialization, Trial
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.models.cached import on_this_machine
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE, names
from nevus.models.registry import AUTO, RANDOM, backbone_spec
from nevus.models.spec import ModelSpec
from nevus.models.weights import resolve_backbone
from nevus.training.config import TrainConfig, Tuning
from nevus.training.overrides import Overrides, check_unused, checked
from nevus.training.preparation import Preparation
from nevus.training.runtime_estimate import Throughput, estimate_seconds, measure_throughput
from nevus.training.trainer import Trainer

WHOLE = ("full", "lp-ft")
"""Kinds of tuning that train every weight."""
TRIED = 200
"""Images on which the time of a learner is taken."""
FITTING = 4
"""Times that the number of passes is corrected by what it would take."""


@dataclass(frozen=True)
class ComparisonConfig:
    """What is to be compared.

    Attributes:
        methods: names of systems, or `all`.
        tunings: of networks with pretrained weights: `head`, `full` or both.
        seeds: how many, from 0 on.
        weights: by system, the path of a file or `random`; others take what is on this machine.
        random: train every network from random weights, too.
        budget: seconds for everything: what heads and other systems leave is shared among trainings of whole
            networks; 0 for the recipes' own length.
        backbone: of `bit`.
        preset: of networks.
        overrides: to the preset.

    """

    methods: tuple[str, ...] = ("all",)
    tunings: tuple[str, ...] = ("linear-probe",)
    seeds: int = 1
    weights: Mapping[str, str] = field(default_factory=dict)
    random: bool = False
    budget: float = 0.0
    backbone: str = AUTO
    preset: str = "best"
    overrides: Overrides = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.systems, *self.weights):
            method_spec(name)
        for name in self.weights:
            if not is_network(name):
                raise NevusError(f"{name} learns from handcrafted features and takes no weights; leave it out.")
            if name not in self.systems:
                raise NevusError(f"--weights names {name}, which is not compared; add it to --methods.")
        if self.seeds < 1 or not self.tunings:
            raise NevusError("a comparison wants at least one seed and one tuning; correct --seeds or --tuning.")

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of systems, in the order of the table."""
        if "all" in self.methods:
            return tuple(METHODS)
        return tuple(name for name in METHODS if name in self.methods) + tuple(
            name for name in self.methods if name not in METHODS
        )


def make_trials(wanted: ComparisonConfig) -> tuple[list[Trial], list[str]]:
    """Everything to be trained, and a sentence for each network that has no pretrained weights here.

    Where one has none, the networks are also trained from random weights, all of them, so that what is compared
    began alike; in tuning `full` only, for a frozen random backbone says nothing.
    """
    begun: dict[str, tuple[str, str]] = {}
    lacking = []
    for name in filter(is_network, wanted.systems):
        one = method_spec(name)
        given = wanted.weights.get(name, AUTO)
        if given == RANDOM:
            continue
        try:
            backbone, weights = resolve_method(one, given, wanted.backbone)
            begun[name] = (
                _with_weights(resolve_backbone(backbone)) if weights == AUTO else resolve_backbone(backbone),
                weights,
            )
        except NevusError as error:
            if given != AUTO or (name == "bit" and wanted.backbone != AUTO):
                raise
            lacking.append(str(error))
    found: list[Trial] = []
    for seed in range(wanted.seeds):
        for name in wanted.systems:
            if not is_network(name):
                found.append(Trial(name, seed, "features"))
                continue
            if name in begun:
                backbone, weights = begun[name]
                for tuning in wanted.tunings:
                    found.append(Trial(name, seed, "pretrained", tuning, backbone, weights, wanted.preset))
            if wanted.random or wanted.weights.get(name) == RANDOM:
                backbone, weights = resolve_method(method_spec(name), RANDOM, wanted.backbone)
                found.append(Trial(name, seed, "random", "full", backbone, weights, wanted.preset))
    return found, lacking


def _with_weights(backbone: str) -> str:
    """A backbone that brings weights of its own, on this machine."""
    spec = backbone_spec(backbone)
    if spec.origin == RANDOM:
        raise NevusError(
            f"{backbone} has no weights of its own; compare another --backbone, or use --weights bit=random or "
            "bit=PATH."
        )
    if not on_this_machine(spec):
        raise NevusError(
            f"the weights of {backbone} are not on this machine; download them with nevus models --download {backbone} "
            "or compare another --backbone."
        )
    return backbone


def with_time_estimates(
    wanted: ComparisonConfig, chosen: Sequence[Trial], manifest: Manifest, known: Sequence[Trial] = ()
) -> list[Trial]:
    """The same trials with the seconds that each should take here, and those of whole networks shortened so that
    they fit their share of the budget.

    All that start from random weights are given one and the same time: that of the budget, else what the first
    of them takes by its preset. Where some are known from an earlier start, theirs.

    Args:
        wanted: see `ComparisonConfig`.
        chosen: the trials.
        manifest: the data set with its splits.
        known: trials with their shares.

    Raises:
        NevusError: the budget is too short, there is nothing to share it among, or a change of the preset does
            nothing to any trial.

    """
    networks = [trial for trial in chosen if is_network(trial.system)]
    check_unused(checked(wanted.overrides), [cast(Tuning, trial.tuning) for trial in networks])
    seconds: dict[tuple[str, str, str], float] = {}
    speeds: dict[tuple[str, str, str], Throughput] = {}
    described = any(trial.initialization == "features" for trial in known)
    wants = any(trial.initialization == "features" for trial in chosen)
    describing = _describing(manifest) if wants and not described else 0.0
    found: list[Trial] = []
    for trial in chosen:
        key = (trial.system, trial.tuning, trial.backbone)
        if key not in seconds and trial.tuning in WHOLE:
            speeds[key], seconds[key] = _measured(trial, wanted, manifest)
        elif key not in seconds:
            seconds[key] = _expected(trial, wanted, manifest)
        begins = trial.initialization == "features" and not any(one.initialization == "features" for one in found)
        found.append(replace(trial, expected=seconds[key] + (describing if begins else 0.0)))
    whole = [trial for trial in found if trial.tuning in WHOLE]
    before = [
        trial.expected
        for trial in known
        if trial.tuning in WHOLE and (wanted.budget or trial.initialization == "random")
    ]
    if wanted.budget:
        if not whole:
            raise NevusError(
                "--budget is shared among trainings of whole networks, and there are none; add --tuning full."
            )
        share = before[0] if before else _share(wanted, found, len(whole))
        return [
            _fitted(trial, share, wanted, manifest, speeds[trial.system, trial.tuning, trial.backbone])
            if trial.tuning in WHOLE
            else trial
            for trial in found
        ]
    first = next(iter([*before, *(trial.expected for trial in whole if trial.initialization == "random")]), 0.0)
    return [
        _fitted(trial, first, wanted, manifest, speeds[trial.system, trial.tuning, trial.backbone])
        if trial.initialization == "random"
        else trial
        for trial in found
    ]


def _share(wanted: ComparisonConfig, found: Sequence[Trial], whole: int) -> float:
    share = (wanted.budget - sum(trial.expected for trial in found if trial.tuning not in WHOLE)) / whole
    if share <= 0:
        raise NevusError(
            f"the budget of {wanted.budget:.0f} s is spent before a whole network is trained; raise --budget."
        )
    return share


def _fitted(trial: Trial, share: float, wanted: ComparisonConfig, manifest: Manifest, measured: Throughput) -> Trial:
    """Set as many epochs as a share of the time allows; a step at least."""
    n = len(manifest.split("train"))
    config = _plan(trial, wanted, manifest)[1]
    step = config.batch_size / n
    epochs, seconds = config.steps * step, measured.seconds(config, n)
    for _ in range(FITTING):  # evaluations do not grow with the passes as steps do
        epochs = float(f"{max(epochs * share / seconds, step):.3g}")
        longer = _plan(replace(trial, epochs=epochs), wanted, manifest)[1]
        seconds = measured.seconds(longer, n)
    return replace(trial, epochs=epochs, expected=share)


def _plan(trial: Trial, wanted: ComparisonConfig, manifest: Manifest) -> tuple[ModelSpec, TrainConfig]:
    trainer = trial.method(Preparation(), wanted.overrides)
    assert isinstance(trainer, Trainer)
    return trainer.plan(manifest)


def _describing(manifest: Manifest) -> float:
    """Seconds that handcrafted features take: once, for they are remembered."""
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    vectors(rng.integers(0, 256, (8, HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), dtype=np.uint8))
    return (time.perf_counter() - began) / 8 * len(manifest.split("train")) * 1.2


def _measured(trial: Trial, wanted: ComparisonConfig, manifest: Manifest) -> tuple[Throughput, float]:
    """How fast a whole network is trained here, and the seconds of its preset."""
    spec, config = _plan(trial, wanted, manifest)
    throughput = measure_throughput(config, spec)
    return throughput, throughput.seconds(config, len(manifest.split("train")))


def _expected(trial: Trial, wanted: ComparisonConfig, manifest: Manifest) -> float:
    """Of a linear probe, or of a baseline on handcrafted features."""
    train = manifest.split("train")
    if is_network(trial.system):
        spec, config = _plan(trial, wanted, manifest)
        return estimate_seconds(config, spec, len(train))
    rng = np.random.default_rng(0)
    n = min(len(train), TRIED)
    rows = np.sort(rng.permutation(len(train))[:n])
    features = rng.normal(size=(n, len(names()))).astype(np.float32)
    began = time.perf_counter()
    part = train.where(np.isin(np.arange(len(train)), rows))
    try:
        fit_baseline(LEARNERS[trial.system], features, part.targets, part.groups, (features, part.targets), 0)
    except ValueError:
        return 0.0  # it cannot learn this, and will say so in its row
    times = len(train) / n
    growth = times**2 if trial.system == "svm" else times
    return (time.perf_counter() - began) * growth


INITIALIZATIONS: dict[Initialization, str] = {
    "pretrained": "Networks with pretrained weights",
    "random": "Networks from random weights, each given the same time by prediction",
    "features": "Handcrafted features",
    "readers": "Dermatologists, on other images: context, no comparison",
}
