"""ComparisonConfig: what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nevus.baselines.methods import METHODS, is_network, method_spec
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.training.overrides import Overrides


@dataclass(frozen=True)
class ComparisonConfig:
    """What is compared.

    Attributes:
        methods: names of methods, or `all`.
        tunings: of networks with pretrained weights: `linear-probe`, `full`, `lp-ft`, or several.
        seeds: number of seeds, from 0 on.
        weights: by method, the path of a file or `random`; the other networks use what is on this machine.
        random: train every network from random weights, too.
        budget: training time in seconds of all trials together, shared equally; 0 sets no limit.
        backbone: of `bit`.
        preset: of networks.
        overrides: to the preset.

    Raises:
        NevusError: a method does not exist, weights are given for a method without any, or there is no trial.

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
                raise NevusError(f"Cannot use --weights {name}: the method has no pretrained weights. Leave it out.")
            if name not in self.systems:
                raise NevusError(f"Cannot use --weights {name}: the method is not compared. Add it to --methods.")
        if self.seeds < 1 or not self.tunings:
            raise NevusError("Cannot compare: there must be at least one seed and one tuning. Correct --seeds.")

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the methods, in the order of the table."""
        if "all" in self.methods:
            return tuple(METHODS)
        return tuple(name for name in METHODS if name in self.methods) + tuple(
            name for name in self.methods if name not in METHODS
        )
