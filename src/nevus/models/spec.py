"""ModelSpec: everything that a network is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from nevus.data.preprocess import HALF, Preprocess
from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups

Pooling = Literal["avg", "stats"]
"""How the feature maps of the stages become features: `avg` takes the mean of each channel, `stats` also its standard
deviation and its maximum."""

HANDCRAFTED = "handcrafted"
"""Backbone of a classifier on handcrafted features."""
ENSEMBLE = "ensemble"
"""Backbone of a bundle that holds several networks."""


@dataclass(frozen=True)
class ModelSpec:
    """The structure of a classifier and of its input; `nevus.models.model.build_model` makes the network.

    Attributes:
        backbone: name, see `nevus.models.registry`, or `handcrafted`, or `ensemble`.
        classes: names in the order of the outputs; of two, the second is positive.
        feature_stages: number of final stages whose pooled features are concatenated with the last-layer features.
        pooling: of these stages.
        label_groups: fine classes that the network distinguishes inside; None if these are the classes.
        image_size: side of the square input in pixels.
        mean: of the input's channels (red, green, blue), of values in [0, 1].
        std: of the input's channels, of values in [0, 1].

    Raises:
        NevusError: the values do not fit together.

    """

    backbone: str
    classes: tuple[str, ...]
    feature_stages: int = 0
    pooling: Pooling = "avg"
    label_groups: LabelGroups | None = None
    image_size: int = 128
    mean: tuple[float, float, float] = field(default=HALF)
    std: tuple[float, float, float] = field(default=HALF)

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise NevusError(f"Cannot describe the model: {fault}.")

    def _fault(self) -> str:
        numbers = (*self.mean, *self.std)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            return "it needs two different classes at least"
        if not all(isinstance(name, str) and name for name in (self.backbone, *self.classes)):
            return "a name is empty or no text"
        if self.label_groups is not None and sorted(self.label_groups.classes) != sorted(self.classes):
            return "its label groups have other classes"
        if self.pooling not in get_args(Pooling):
            return f"there is no pooling '{self.pooling}'; choose avg or stats"
        if self.pooling == "stats" and not self.feature_stages:
            return "pooling stats needs feature stages; set feature_stages to 4"
        if not isinstance(self.feature_stages, int) or not 0 <= self.feature_stages <= 64:
            return f"feature_stages of {self.feature_stages} is not between 0 and 64"
        if not isinstance(self.image_size, int) or not 16 <= self.image_size <= 4096:
            return f"an image size of {self.image_size} is not between 16 and 4096 pixels"
        if len(numbers) != 6 or not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers):
            return "mean and std must be three numbers each"
        return "std must be positive" if min(self.std) <= 0 else ""

    @property
    def preprocess(self) -> Preprocess:
        """How pixels become the network's input."""
        return Preprocess(self.image_size, self.mean, self.std)

    @property
    def fine_classes(self) -> tuple[str, ...]:
        """The classes that the network was trained on."""
        return self.label_groups.fine_classes if self.label_groups else self.classes

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "backbone": self.backbone,
            "classes": list(self.classes),
            "feature_stages": self.feature_stages,
            "pooling": self.pooling,
            "fine_classes": list(self.fine_classes),
            "label_groups": self.label_groups.as_dict() if self.label_groups else None,
            "class_prior": self.label_groups.prior_dict() if self.label_groups else None,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Read what `as_dict` wrote.

        Raises:
            NevusError: a value makes no sense.
            KeyError, TypeError, ValueError, AttributeError: it is no such thing at all.

        """
        groups = values["label_groups"]
        return cls(
            backbone=values["backbone"],
            classes=tuple(values["classes"]),
            feature_stages=values["feature_stages"],
            pooling=values["pooling"],
            label_groups=LabelGroups.from_dict(groups, values["fine_classes"], values["class_prior"])
            if groups
            else None,
            image_size=values["image_size"],
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
        )
