"""Overrides: changes to a preset, field by field."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nevus.data.transforms import CHANGES
from nevus.errors import NevusError
from nevus.training.config import DatasetStats, TrainConfig, Tuning
from nevus.training.presets import DEFAULT_TUNING, preset_named

Overrides = Mapping[str, Any]
"""Values by the field of `TrainConfig`, as in `{"lr": 0.01, "tuning": "full"}`."""

VIEW_FIELDS = {"resize_size", "crop_scale", *CHANGES}
"""Fields that describe random views."""
WHOLE_IMAGES: dict[str, Any] = {"crop_scale": (1.0, 1.0), **CHANGES, "hflip": False}
"""Their values where whole images are used."""
_HINTS = get_type_hints(TrainConfig)


def make_config(
    preset: str, stats: DatasetStats, overrides: Overrides | None = None, *, epochs: float | None = None
) -> TrainConfig:
    """Make the configuration of a training from a preset and overrides.

    `tuning`, `batch_size`, and `epochs` or `steps` go through the preset's own scaling of learning rate and schedule;
    every other override is then applied unchanged. Where `image_size` changes and `resize_size` does not, `resize_size`
    keeps its proportion.

    Raises:
        NevusError: there is no such preset or field, a value is out of range, or an override has no effect.

    """
    build = preset_named(preset)
    overrides = checked(overrides or {})
    tuning: Tuning = overrides.get("tuning", DEFAULT_TUNING[preset])
    if tuning not in get_args(Tuning):
        raise NevusError(f"Cannot train with tuning={tuning}: there is none. Choose {', '.join(get_args(Tuning))}.")
    own = build(stats, tuning).batch_size

    def built(batch_size: int | None, epochs: float | None) -> TrainConfig:
        return build(stats, tuning, batch_size=batch_size, epochs=epochs)

    check_unused(overrides, (tuning,))
    config = with_overrides(built, stats.images, own, epochs, overrides)
    if config.tuning == "linear-probe" and not config.augmented_copies:  # what is recorded is what was done
        return replace(config, **WHOLE_IMAGES, resize_size=config.image_size)
    return config


def checked(overrides: Overrides) -> dict[str, Any]:
    """Check names and types, and convert text as the command line and files give it.

    Raises:
        NevusError: a field does not exist, or a value is of another type.

    """
    values = {}
    for name, value in overrides.items():
        if name not in _HINTS or name == "preset":
            near = difflib.get_close_matches(name, [f for f in _HINTS if f != "preset"], 1)
            meant = f" Did you mean {near[0]}?" if near else " See nevus train --help-all."
            raise NevusError(f"Cannot set {name}: a training has no such field.{meant}")
        values[name] = _converted(name, value, _HINTS[name])
    return values


def _converted(name: str, value: Any, kind: Any) -> Any:
    try:
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise ValueError(f"choose one of {', '.join(get_args(kind))}")
            return value
        if get_origin(kind) is tuple:
            parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
            inner = get_args(kind)
            if inner[-1] is not Ellipsis and len(parts) != len(inner):
                raise ValueError(f"give {len(inner)} numbers")
            return tuple(_converted(name, part, inner[0]) for part in parts)
        if kind is bool:
            words = {"true": True, "false": False}
            if isinstance(value, str) and value.lower() in words:
                return words[value.lower()]
            if not isinstance(value, bool):
                raise ValueError("give true or false")
            return value
        if isinstance(value, bool) or value is None:
            raise ValueError("give a number")
        number = float(value)
        if kind is int:
            if not number.is_integer():
                raise ValueError("give a whole number")
            return int(number)
        return number
    except (TypeError, ValueError) as error:
        reason = str(error) if "could not convert" not in str(error) else "give a number"
        raise NevusError(f"Cannot set {name}={value}: {reason}.") from None


def unused_overrides(overrides: Overrides, tuning: Tuning) -> list[str]:
    """Return the overridden fields that have no effect with a kind of tuning."""
    if tuning != "linear-probe":
        return [
            name
            for name, idle in (("augmented_copies", 0), ("probe_on", "views"), ("standardize_features", False))
            if overrides.get(name, idle) != idle
        ]
    if overrides.get("augmented_copies"):
        return []
    return [name for name in overrides if name in VIEW_FIELDS]


def drop_unused(overrides: Overrides, tuning: Tuning) -> dict[str, Any]:
    """Return the overrides that have an effect with a kind of tuning."""
    idle = unused_overrides(overrides, tuning)
    return {name: value for name, value in overrides.items() if name not in idle}


def check_unused(overrides: Overrides, tunings: Collection[Tuning]) -> None:
    """Refuse overrides that have no effect with any of several kinds of tuning.

    Raises:
        NevusError: there is one.

    """
    every = [set(unused_overrides(overrides, tuning)) for tuning in tunings]
    for name in sorted(set.intersection(*every)) if every else ():
        advice = "Set augmented_copies too" if name in VIEW_FIELDS else "Use tuning=linear-probe"
        raise NevusError(
            f"Cannot set {name}: it has no effect with tuning={' and '.join(tunings)}. {advice}, or leave it out."
        )


def with_overrides(
    build: Callable[[int | None, float | None], TrainConfig],
    images: int,
    batch_size: int,
    epochs: float | None,
    overrides: Overrides,
) -> TrainConfig:
    """Apply overrides to a configuration; see `make_config`.

    Args:
        build: batch size and epochs, or None for its own, to a configuration.
        images: in the training set.
        batch_size: the configuration's own.
        epochs: passes over the images.
        overrides: values by field.

    Raises:
        NevusError: a value is out of range.

    """
    values = dict(overrides)
    batch, steps = values.get("batch_size"), values.get("steps")
    if epochs is not None and not 0 < epochs < math.inf:
        raise NevusError(f"Cannot train for {epochs} epochs: the number must be above 0. Correct --epochs.")
    if epochs is not None and steps is not None:
        raise NevusError("Cannot use both --epochs and steps: each sets the length of the training. Give one.")
    if steps is not None:  # warm-up, milestones and evaluations keep their place in the schedule
        epochs = max(1, steps) * (batch or batch_size) / images
    config = build(batch, epochs)
    if "image_size" in values and "resize_size" not in values:
        values["resize_size"] = round(values["image_size"] * config.resize_size / config.image_size)
    if config.probe_on == "image" and values.get("tta", "none") not in ("none", "flip") and "probe_on" not in values:
        values["probe_on"] = "tta-mean"  # these views look different from the image
    if values.get("feature_stages") == 0 and "pooling" not in values:
        values["pooling"] = "avg"
    return replace(config, **values)
