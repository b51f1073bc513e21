"""Changes to a recipe, field by field."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import field, fields, make_dataclass, replace
from typing import TYPE_CHECKING, Any, get_type_hints

from nevus.data.transforms import CHANGES
from nevus.errors import NevusError
from nevus.training.config import VIEWS_IN_FULL, DatasetStats, Mode, TrainConfig, recipe_named

_OWN = ("name", "mode")  # flags of their own
OF_VIEWS = {"resize", "crop", *CHANGES}
"""Fields of a recipe that say what its random views are like."""
_WHOLE: dict[str, Any] = {"crop": (1.0, 1.0), **CHANGES, "mirror": False}
"""What these are where whole images are seen."""

if TYPE_CHECKING:

    class Overrides:
        """Every field of `TrainConfig` but its name and mode; None leaves it as the recipe says."""

else:
    _hints = get_type_hints(TrainConfig)
    Overrides = make_dataclass(
        "RecipeChanges",
        [(f.name, _hints[f.name] | None, field(default=None)) for f in fields(TrainConfig) if f.name not in _OWN],
        frozen=True,
        namespace={"__doc__": TrainConfig.__doc__, "__module__": __name__},
    )


def changed(changes: Overrides) -> dict[str, Any]:
    """The fields that were set, with their values."""
    return {name: value for name, value in vars(changes).items() if value is not None}


def make_config(
    name: str, facts: DatasetStats, mode: Mode, *, epochs: float | None = None, changes: Overrides | None = None
) -> TrainConfig:
    """A recipe by name for a training set, with changes.

    `batch`, and `epochs` or `steps`, go through the recipe's own scaling of learning rate and schedule; every
    other change is then made as it stands. Where `side` changes and `resize` does not, `resize` keeps its
    proportion.

    Raises:
        NevusError: there is no such recipe, a value makes no sense, or a change does nothing in this mode.

    """
    size = recipe_named(name)(facts, mode).batch

    def made(batch: int | None, epochs: float | None) -> TrainConfig:
        return recipe_named(name)(facts, mode, batch=batch, epochs=epochs)

    refuse_idle(changes, (mode,))
    recipe = with_changes(made, facts.images, size, epochs, changes)
    if mode == "head" and not recipe.views:  # what is recorded is what was done
        return replace(recipe, **_WHOLE, resize=recipe.side)
    return recipe


def idle(changes: Overrides | None, mode: Mode) -> list[str]:
    """Changed fields to which training in a mode does nothing."""
    given = changed(changes) if changes is not None else {}
    if mode == "full":
        return [name for name in given if name in ("views", "on_means") and given[name]]
    return [] if given.get("views") else [name for name in given if name in OF_VIEWS]


def useful(changes: Overrides, mode: Mode) -> Overrides:
    """The changes without those that are idle in a mode."""
    given: dict[str, Any] = {**vars(changes), **dict.fromkeys(idle(changes, mode))}
    return Overrides(**given)


def refuse_idle(changes: Overrides | None, modes: Collection[Mode]) -> None:
    """Refuse changes that do nothing in any of some modes.

    Raises:
        NevusError: there is one.

    """
    every = [set(idle(changes, mode)) for mode in modes]
    for name in sorted(set.intersection(*every)) if every else ():
        if name == "views":
            raise NevusError(VIEWS_IN_FULL)
        flag = name.replace("_", "-")
        raise NevusError(
            f"mode head sees whole images, to which --{flag} does nothing; ask for views of them with --views, "
            "or leave it out."
        )


def with_changes(
    made: Callable[[int | None, float | None], TrainConfig],
    images: int,
    size: int,
    epochs: float | None,
    changes: Overrides | None,
) -> TrainConfig:
    """A recipe with changes; see `make_config`.

    Args:
        made: batch and epochs, or None for its own, to a recipe.
        images: in the training set.
        size: the recipe's own batch.
        epochs: passes over the images.
        changes: to its fields.

    Raises:
        NevusError: a value makes no sense.

    """
    wanted = changed(changes) if changes is not None else {}
    batch, steps = wanted.get("batch"), wanted.get("steps")
    if epochs is not None and not 0 < epochs < math.inf:
        raise NevusError(f"{epochs} epochs are no length of a training; correct --epochs.")
    if epochs is not None and steps is not None:
        raise NevusError("--epochs and --steps both set the length of the training; give one of them.")
    if steps is not None:  # warm-up, decays and looks keep their place in the schedule
        epochs = max(1, steps) * (batch or size) / images
    recipe = made(batch, epochs)
    if "side" in wanted and "resize" not in wanted:
        wanted["resize"] = round(wanted["side"] * recipe.resize / recipe.side)
    return replace(recipe, **wanted)
