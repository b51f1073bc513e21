"""What a comparison will do, and how long it should take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nevus.baselines.learners import LEARNERS, fit_baseline
from nevus.baselines.methods import METHODS, is_network, resolve_method, method_spec
from nevus.comparison.trial import Initialization, Trial, without_length
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.models.handcrafted.classifier import vectors
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE, names
from nevus.models.registry import AUTO, RANDOM, backbone_spec
from nevus.models.weights import on_this_machine, resolve_backbone
from nevus.training.overrides import Overrides, make_config, refuse_idle, useful
from nevus.training.preparation import dataset_stats
from nevus.training.runtime_estimate import Throughput, estimate_seconds, speed

TRIED = 200
"""Images on which the time of a learner is taken."""
FITTING = 4
"""Times that the number of passes is corrected by what it would take."""


@dataclass(frozen=True)
class ComparisonConfig:
    """What is to be compared.

    Attributes:
        methods: names of systems, or `all`.
        modes: of networks with pretrained weights: `head`, `full` or both.
        seeds: how many, from 0 on.
        weights: by system, the path of a file or `random`; others take what is on this machine.
        random: train every network from random weights, too.
        budget: seconds for everything: what heads and other systems leave is shared among trainings of whole
            networks; 0 for the recipes' own length.
        trunk: of `bit`.
        recipe: of networks.
        taps: of networks in mode `head`.
        changes: to the recipe.

    """

    methods: tuple[str, ...] = ("all",)
    modes: tuple[str, ...] = ("head",)
    seeds: int = 1
    weights: Mapping[str, str] = field(default_factory=dict)
    random: bool = False
    budget: float = 0.0
    backbone: str = AUTO
    recipe: str = "default"
    taps: int = 0
    changes: Overrides = field(default_factory=Overrides)

    def __post_init__(self) -> None:
        for name in (*self.systems, *self.weights):
            method_spec(name)
        for name in self.weights:
            if not is_network(name):
                raise NevusError(f"{name} learns from handcrafted features and takes no weights; leave it out.")
            if name not in self.systems:
                raise NevusError(f"--weights names {name}, which is not compared; add it to --methods.")
        if self.seeds < 1 or not self.modes:
            raise NevusError("a comparison wants at least one seed and one mode; correct --seeds or --modes.")

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
    began alike; in mode `full` only, for a frozen random trunk says nothing.
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
            begun[name] = (_with_weights(resolve_backbone(backbone)) if weights == AUTO else resolve_backbone(backbone), weights)
        except NevusError as error:
            if given != AUTO or (name == "bit" and wanted.backbone != AUTO):
                raise
            lacking.append(str(error))
    found: list[Trial] = []
    every = [name for name in wanted.systems if is_network(name)]
    alike = wanted.random or len(begun) < len(every)
    for seed in range(wanted.seeds):
        for name in wanted.systems:
            if not is_network(name):
                found.append(Trial(name, seed, "features"))
                continue
            if name in begun:
                backbone, weights = begun[name]
                for mode in wanted.modes:
                    taps = wanted.taps if mode == "head" else 0
                    found.append(Trial(name, seed, "pretrained", mode, backbone, weights, wanted.recipe, taps=taps))
            if alike:
                backbone, weights = resolve_method(method_spec(name), RANDOM, wanted.backbone)
                found.append(Trial(name, seed, "random", "full", backbone, weights, wanted.recipe))
    return found, lacking


def _with_weights(backbone: str) -> str:
    """A trunk that brings weights of its own, on this machine."""
    spec = backbone_spec(backbone)
    if spec.origin == RANDOM:
        raise NevusError(
            f"{backbone} has no weights of its own; compare another --trunk, or say --weights bit=random or bit=PATH."
        )
    if not on_this_machine(spec):
        raise NevusError(
            f"the weights of {backbone} are not on this machine; download them with nevus models --download {backbone}, "
            "or compare another --trunk."
        )
    return backbone


def with_time_estimates(wanted: ComparisonConfig, chosen: Sequence[Trial], manifest: Manifest, known: Sequence[Trial] = ()) -> list[Trial]:
    """The same units with the seconds that each should take here, and those of whole networks shortened so that
    they fit their share of the budget.

    All that start from random weights are given one and the same time: that of the budget, else what the first
    of them takes by its recipe. Where some are known from an earlier start, theirs.

    Args:
        wanted: see `ComparisonConfig`.
        chosen: the units.
        manifest: the data set with its splits.
        known: units with their shares.

    Raises:
        NevusError: the budget is too short, there is nothing to share it among, or a change of the recipe does
            nothing to any unit.

    """
    networks = [unit for unit in chosen if is_network(unit.system)]
    refuse_idle(wanted.changes, ["head" if unit.mode == "head" else "full" for unit in networks])
    seconds: dict[tuple[str, str, str], float] = {}
    speeds: dict[tuple[str, str, str], Throughput] = {}
    described = any(unit.half == "features" for unit in known)
    wants = any(unit.half == "features" for unit in chosen)
    describing = _describing(manifest) if wants and not described else 0.0
    found: list[Trial] = []
    for unit in chosen:
        key = (unit.system, unit.mode, unit.backbone)
        if key not in seconds and unit.mode == "full":
            speeds[key], seconds[key] = _measured(unit, wanted, manifest)
        elif key not in seconds:
            seconds[key] = _expected(unit, wanted, manifest)
        begins = unit.half == "features" and not any(one.half == "features" for one in found)
        found.append(replace(unit, expected=seconds[key] + (describing if begins else 0.0)))
    whole = [unit for unit in found if unit.mode == "full"]
    before = [unit.expected for unit in known if unit.mode == "full" and (wanted.budget or unit.half == "random")]
    if wanted.budget:
        if not whole:
            raise NevusError(
                "--budget is shared among trainings of whole networks, and there are none; add --modes full."
            )
        share = before[0] if before else _share(wanted, found, len(whole))
        return [
            _fitted(unit, share, wanted, manifest, speeds[unit.system, unit.mode, unit.backbone])
            if unit.mode == "full"
            else unit
            for unit in found
        ]
    first = next(iter([*before, *(unit.expected for unit in whole if unit.half == "random")]), 0.0)
    return [
        _fitted(unit, first, wanted, manifest, speeds[unit.system, unit.mode, unit.backbone])
        if unit.half == "random"
        else unit
        for unit in found
    ]


def _share(wanted: ComparisonConfig, found: Sequence[Trial], whole: int) -> float:
    share = (wanted.budget - sum(unit.expected for unit in found if unit.mode != "full")) / whole
    if share <= 0:
        raise NevusError(
            f"the budget of {wanted.budget:.0f} s is spent before a whole network is trained; raise --budget."
        )
    return share


def _fitted(unit: Trial, share: float, wanted: ComparisonConfig, manifest: Manifest, measured: Throughput) -> Trial:
    """With as many epochs as a share of the time is good for; a step at least."""
    train = manifest.split("train")
    changes, facts = useful(wanted.changes, "full"), dataset_stats(train, unit.backbone)
    recipe = make_config(unit.recipe, facts, "full", changes=changes)
    step = recipe.batch / len(train)
    epochs, seconds = recipe.steps * step, measured.seconds(recipe, len(train))
    for _ in range(FITTING):  # looks do not grow with the passes as steps do
        epochs = float(f"{max(epochs * share / seconds, step):.3g}")
        longer = make_config(unit.recipe, facts, "full", epochs=epochs, changes=without_length(changes))
        seconds = measured.seconds(longer, len(train))
    return replace(unit, epochs=epochs, expected=share)


def _describing(manifest: Manifest) -> float:
    """Seconds that handcrafted features take: once, for they are remembered."""
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    vectors(rng.integers(0, 256, (8, HANDCRAFTED_IMAGE_SIZE, HANDCRAFTED_IMAGE_SIZE, 3), dtype=np.uint8))
    return (time.perf_counter() - began) / 8 * len(manifest.split("train")) * 1.2


def _measured(unit: Trial, wanted: ComparisonConfig, manifest: Manifest) -> tuple[Throughput, float]:
    """How fast a whole network is trained here, and the seconds of its recipe."""
    train = manifest.split("train")
    changes = useful(wanted.changes, "full")
    recipe = make_config(unit.recipe, dataset_stats(train, unit.backbone), "full", changes=changes)
    found = speed(recipe, unit.backbone, len(manifest.classes))
    return found, found.seconds(recipe, len(train))


def _expected(unit: Trial, wanted: ComparisonConfig, manifest: Manifest) -> float:
    """Of a head, or of what learns from handcrafted features."""
    train = manifest.split("train")
    if is_network(unit.system):
        facts = dataset_stats(train, unit.backbone)
        recipe = make_config(unit.recipe, facts, "head", changes=useful(wanted.changes, "head"))
        return estimate_seconds(recipe, unit.backbone, facts, len(manifest.classes))
    rng = np.random.default_rng(0)
    n = min(len(train), TRIED)
    rows = np.sort(rng.permutation(len(train))[:n])
    features = rng.normal(size=(n, len(names()))).astype(np.float32)
    began = time.perf_counter()
    part = train.where(np.isin(np.arange(len(train)), rows))
    try:
        fit_baseline(LEARNERS[unit.system], features, part.targets, part.groups, (features, part.targets), 0)
    except ValueError:
        return 0.0  # it cannot learn this, and will say so in its row
    times = len(train) / n
    growth = times**2 if unit.system == "svm" else times
    return (time.perf_counter() - began) * growth


INITIALIZATIONS: dict[Initialization, str] = {
    "pretrained": "Networks with pretrained weights",
    "random": "Networks from random weights, each given the same time by prediction",
    "features": "Handcrafted features",
    "readers": "Dermatologists, on other images: context, no comparison",
}
