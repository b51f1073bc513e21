"""The model card of a bundle: README.md with the front matter of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nevus.bundle.bundle import Bundle

DISCLAIMER = "Research use only. Not a medical device. Not for diagnosis."


def model_card(bundle: Bundle, validation: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what a classifier is, what it was trained on, and its metrics on the validation split.

    Args:
        bundle: with its provenance.
        validation: metrics by name, each with `value`, `ci_low`, `ci_high`, `n`.

    """
    spec, provenance = bundle.spec, bundle.provenance
    data = provenance["data"]
    labels = list(next(iter(data["counts"].values())))
    rows = "\n".join(
        f"| {_cell(name.replace('_', ' '))} | {_number(m['value'])} "
        f"| {_number(m['ci_low'])} to {_number(m['ci_high'])} | {m['n']} |"
        for name, m in validation.items()
    )
    counts = "\n".join(
        f"| {split} | " + " | ".join(str(by.get(name, 0)) for name in labels) + " |"
        for split, by in data["counts"].items()
    )
    groups = spec.label_groups.describe() if spec.label_groups else {}
    sums = "".join(f"\n- {name} is the sum of {parts}" for name, parts in groups.items())
    return f"""{_front_matter(bundle)}
# {spec.backbone} for {" / ".join(spec.classes)}

**{DISCLAIMER}**

- Backbone: `{spec.backbone}`, {spec.feature_stages} feature stages, pooling `{spec.pooling}`
- Input: the whole image, resized to {spec.image_size} x {spec.image_size} pixels
- Test-time augmentation: `{bundle.tta}`
- Classes: {", ".join(spec.classes)}{_positive(data)}{sums}
- Pretrained weights: {provenance["backbone_weights"]}
- Trained on: {data["name"]}, manifest {data["digest"]}
- Split: {data["protocol"]}; {_duplicates(data["audit"])}
- Training: {_training(provenance["config"])}, seed {provenance["seed"]}
- License of the weights: {bundle.license}
- Made by: nevus {provenance["versions"]["nevus"]}

## Images by split

| split | {" | ".join(_cell(name) for name in labels)} |
|---|{"---|" * len(labels)}
{counts}

## Metrics on the validation split

The validation split was used to choose the weights. Evaluations on test splits are listed in `test_log.jsonl`.

| metric | value | 95 % interval | n |
|---|---|---|---|
{rows}

## Limits

These metrics do not apply to other cameras, clinics or populations than those of the training data.
{_shift(bundle)}"""


def _front_matter(bundle: Bundle) -> str:
    """The front matter: strings in JSON's form, which YAML reads."""
    free = bundle.license == "Apache-2.0"
    lines = [
        "---",
        "library_name: nevus",
        "pipeline_tag: image-classification",
        "license: apache-2.0" if free else "license: other",
        *([] if free else [f"license_name: {json.dumps(bundle.license, ensure_ascii=False)}"]),
        "tags:",
        *(f"- {tag}" for tag in ("dermoscopy", "skin-lesion", "melanoma", "bit", "research-use-only")),
        "---",
        "",
    ]
    return "\n".join(lines)


def _positive(data: Mapping[str, Any]) -> str:
    positive = data.get("positive_class")
    return f"; positive class: {_cell(positive)}" if positive else ""


def _duplicates(audit: Mapping[str, Any] | None) -> str:
    if audit is None:
        return "not checked for duplicates"
    pairs = sum(audit["pairs"].values())
    return (
        f"duplicate check {audit['digest']}: {pairs:,} pairs of near-duplicates or same-lesion images, "
        f"{audit['train']:,} training images share a lesion with test images, {audit['dropped']:,} excluded"
    )


def _training(config: Mapping[str, Any]) -> str:
    if "steps" in config:
        return (
            f"preset `{config['preset']}`, tuning `{config['tuning']}`, {config['steps']:,} steps of "
            f"{config['batch_size']} images"
        )
    chosen = ", ".join(f"{name.rpartition('__')[2]} {value}" for name, value in config["chosen"].items())
    return f"`{config['preset']}`, {config['what']}{f'; chosen by cross-validation: {chosen}' if chosen else ''}"


def _shift(bundle: Bundle) -> str:
    shift = bundle.provenance.get("fit", {}).get("logit_shift")
    if shift is None:
        return ""
    return (
        f"\n## Threshold\n\nThe logit of {bundle.classes[1]} is shifted by {shift:+.3f}, chosen on validation, so that "
        "sensitivity and specificity are equal there. The probabilities are therefore not calibrated.\n"
    )


def _cell(name: str) -> str:
    return name.replace("|", "\\|")  # a bar would end the cell


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.4f}"
