"""The model card that stands in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nevus.models.label_groups import LabelGroups

DISCLAIMER = "Research use only. Not a medical device. Not for diagnosis."


def model_card(
    *,
    backbone: str,
    classes: tuple[str, ...],
    side: int,
    license: str,
    provenance: Mapping[str, Any],
    validation: Mapping[str, Mapping[str, Any]],
    answer: LabelGroups | None = None,
) -> str:
    """Markdown that says what the classifier is, what it was trained on, and how good it is on validation.

    Args:
        trunk: name of the network.
        classes: names.
        side: of the image that the network sees, in pixels.
        license: of the weights.
        provenance: see `Bundle`.
        validation: figures by name, each with `value`, `low`, `high`, `n`.
        answer: how the classes are added up from diagnoses.

    """
    data, recipe = provenance["data"], provenance["recipe"]
    labels = list(next(iter(data["counts"].values())))
    cells = [_cell(name) for name in labels]
    added = "".join(f"\n- {name}: {parts}, added up" for name, parts in (answer.sums() if answer else {}).items())
    rows = "\n".join(
        f"| {_cell(name.replace('_', ' '))} | {_number(f['value'])} | {_number(f['low'])} to {_number(f['high'])} "
        f"| {f['n']} |"
        for name, f in validation.items()
    )
    counts = "\n".join(
        f"| {split} | " + " | ".join(str(by.get(name, 0)) for name in labels) + " |"
        for split, by in data["counts"].items()
    )
    return f"""# {backbone} for {" / ".join(classes)}

**{DISCLAIMER}**

- Network: `{backbone}`, images squeezed to {side} x {side} pixels
- Classes: {", ".join(classes)}{added}
- Weights to begin with: {provenance["weights"]}
- Trained on: {data["name"]}, manifest {data["digest"]}
- Split: {data["protocol"]}; {_audited(data["audit"])}
- Recipe: {_recipe(recipe)}
- Seed: {provenance["seed"]}
- License of the weights: {license}
- Made by: nevus {provenance["versions"]["nevus"]}

## Images by split

| split | {" | ".join(cells)} |
|---|{"---|" * len(labels)}
{counts}

## Figures on the validation split, which was looked at in choosing

| figure | value | 95 % interval | n |
|---|---|---|---|
{rows}

These are no test figures. Looks at test splits are counted in `test_evaluations.jsonl`, a line for each.

## Limits

These figures say nothing of other cameras, clinics or populations than the data set's own.
"""


def _audited(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not audited"
    pairs = sum(found["pairs"].values())
    return (
        f"audit {found['digest']} found {pairs:,} pairs of images that belong together, {found['train']:,} "
        f"training images that show what test images show, and left out {found['dropped']:,}"
    )


def _recipe(recipe: Mapping[str, Any]) -> str:
    if "steps" in recipe:
        return f"`{recipe['name']}`, mode `{recipe['mode']}`, {recipe['steps']:,} steps of {recipe['batch']}"
    chosen = ", ".join(f"{name.rpartition('__')[2]} {value}" for name, value in recipe["chosen"].items())
    return f"`{recipe['name']}`, {recipe['what']}{f'; chosen by cross-validation: {chosen}' if chosen else ''}"


def _cell(name: str) -> str:
    return name.replace("|", "\\|")  # a bar would end the cell


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.4f}"
