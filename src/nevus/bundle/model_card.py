"""The model card of a bundle: README.md with the front matter of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nevus.bundle.bundle import Bundle
from nevus.bundle.checklists import USE, clear_derm, tripod_ai
from nevus.bundle.wording import KINDS, kind_sentence, operating_point_sentence

DISCLAIMER = "Research use only. Not a medical device. Not for diagnosis."


def model_card(bundle: Bundle, validation: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what a classifier is, what it was trained on, and its metrics on the validation split.

    Args:
        bundle: with its provenance.
        validation: metrics by name, each with `value`, `ci_low`, `ci_high`, `n`.

    """
    spec, provenance = bundle.spec, bundle.provenance
    data = provenance["data"]
    members = provenance.get("members")
    chosen = (
        "The metrics are on the images that the decision rule was fitted on."
        if members
        else "The validation split was used to choose the weights."
    )
    labels = list(next(iter(data["counts"].values())))
    rows = "\n".join(
        f"| {_cell(name.replace('_', ' '))} | {_number(m['value'])} | {_interval(m)} | {m['n']} |"
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

- Backbone: {_backbone(bundle)}
- Input: the whole image, resized to {spec.image_size} x {spec.image_size} pixels
- Test-time augmentation: {"that of each network" if members else f"`{bundle.tta}`"}
- Classes: {", ".join(spec.classes)}{_positive(data)}{sums}
- Pretrained weights: {provenance["backbone_weights"]}
- Trained on: {data["name"]}, manifest {data["digest"]}
- Split: {data["protocol"]}; {_duplicates(data["audit"])}
- Training: {_training(provenance["config"])}, seed {provenance["seed"]}{_minutes(provenance)}
- License of the weights: {bundle.license}
- Made by: nevus {provenance["versions"]["nevus"]}

## Images by split

| split | {" | ".join(_cell(name) for name in labels)} |
|---|{"---|" * len(labels)}
{counts}

## Metrics on the validation split

{chosen} Evaluations on test splits are listed in `test_log.jsonl`.

| metric | value | 95 % interval | n |
|---|---|---|---|
{rows}
{_left_out(bundle)}
## Decisions

{_decision_data(bundle)} Images are not judged when they look unlike skin lesions, or are blurred,
blank, cut off or overexposed.

{_decisions(bundle)}

## Intended use

{USE}.{_positive_class(bundle)}

## Limits

These metrics do not apply to other cameras, clinics or populations than those of the training data. A guarantee holds
for images like the validation images. Evaluate on your own images first: `nevus evaluate DATA --bundle THIS_FOLDER`.

## CLEAR Derm

{_checklist(clear_derm(bundle, validation))}

## TRIPOD+AI

{_checklist(tripod_ai(bundle, validation))}
"""


def _decision_data(bundle: Bundle) -> str:
    rule, data = bundle.rule, bundle.provenance.get("decision_data")
    if not (rule.calibration or rule.operating_point or rule.set_thresholds):
        return "No decision rule was fitted."
    if data:
        how = "each predicted by networks that were not trained with its label" if data.get("out_of_fold") else ""
        return f"Fitted on {data['n']:,} images of {data['name']}, {how or 'on which nothing was trained'}."
    return "Fitted on the validation split."


def _decisions(bundle: Bundle) -> str:
    rule, lines = bundle.rule, []
    if rule.calibration is None:
        what = "the mean of those of the networks" if bundle.provenance.get("members") else "those of the network"
        lines.append(f"- Calibration: none; the probabilities are {what}.")
    else:
        kind = "temperature" if len(set(rule.calibration.scale)) == 1 else "vector scaling"
        kind = "Platt scaling" if len(bundle.classes) == 2 and any(rule.calibration.shift) else kind
        scales = ", ".join(f"{value:.3f}" for value in dict.fromkeys(rule.calibration.scale))
        lines.append(f"- Calibration: {kind}; logits are multiplied by {scales}.")
    before, after = (bundle.provenance.get("fit", {}).get(key, {}) for key in ("uncalibrated", "validation"))
    for name, text in (("ece", "ECE"), ("brier", "Brier score")):
        if rule.calibration and name in before and name in after:
            lines.append(
                f"- {text} on validation: {_number(before[name]['value'])} before calibration, "
                f"{_number(after[name]['value'])} after."
            )
    lines.append(f"- Operating point: {operating_point_sentence(rule, bundle.classes[-1])}")
    others = [point for point in rule.points if point is not rule.operating_point]
    if others:
        values = ", ".join(f"{one.sensitivity:.0%} from p = {one.threshold:.3f} on" for one in others)
        lines.append(f"- Thresholds for other sensitivities (`--sensitivity`): {values}.")
    if rule.set_thresholds and not any(rule.set_thresholds):
        lines.append("- Conformal sets: too few validation images of each class; every set has all classes.")
    elif rule.set_thresholds:
        least = ", ".join(
            f"{_cell(name)} from p = {value:.3f} on"
            for name, value in zip(bundle.classes, rule.set_thresholds, strict=True)
        )
        lines.append(f"- Conformal sets, coverage {1 - rule.alpha:.0%} for each class: {least}.")
    else:
        lines.append("- Conformal sets: none.")
    lines += [f"- {kind_sentence(rule, kind)}" for kind in KINDS]
    return "\n".join(lines)


def _positive_class(bundle: Bundle) -> str:
    return f" The positive class is {_cell(bundle.classes[1])}." if len(bundle.classes) == 2 else ""


def _left_out(bundle: Bundle) -> str:
    """The metrics on sources that were left out of the training in turn, where they are known."""
    rows = [row for row in bundle.provenance.get("left_out", ()) if len(bundle.classes) > 2 or "sensitivity" in row]
    if not rows:
        return ""
    names: tuple[str, ...]
    if len(bundle.classes) == 2:
        how = "Sensitivity and specificity are at the threshold that the other sources give for a sensitivity of 95 %. "
        names = ("auroc", "sensitivity", "specificity")
        heads = "n (positive) | AUROC | sensitivity | specificity"
    else:
        how, names, heads = "", ("auroc", "balanced_accuracy"), "n | AUROC | balanced accuracy"
    lines = [
        f"| {_cell(row['source'])} | {row['task']} | {_count(row)} | {' | '.join(_ends(row, name) for name in names)} |"
        for row in rows
    ]
    text = (
        "\n## Sources left out of the training in turn\n\n"
        f"{how}{bundle.provenance.get('left_out_note', '')}\n\n"
        f"| source | task | {heads} |\n|{'---|' * (3 + len(names))}\n"
    )
    return text + "\n".join(lines) + "\n"


def _count(row: Mapping[str, Any]) -> str:
    return f"{row['n']:,} ({row['positives']:,})" if "positives" in row else f"{row['n']:,}"


def _ends(row: Mapping[str, Any], name: str) -> str:
    return "" if name not in row else f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"


def _checklist(items: list[tuple[str, str]]) -> str:
    lines = [f"| {number} | {_cell(item)} | {_cell(answer)} |" for number, (item, answer) in enumerate(items, 1)]
    return "\n".join(["| | item | answer |", "|---|---|---|", *lines])


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


def _backbone(bundle: Bundle) -> str:
    members = bundle.provenance.get("members")
    if members:
        parts = "; ".join(f"`{one['backbone']}`, seed {one['seed']}, {one['bundle']}" for one in members)
        return f"an ensemble of {len(members)} networks, the mean of their calibrated log-probabilities: {parts}"
    return f"`{bundle.spec.backbone}`, {bundle.spec.feature_stages} feature stages, pooling `{bundle.spec.pooling}`"


def _minutes(provenance: Mapping[str, Any]) -> str:
    fit = provenance.get("fit", {})
    if not fit.get("seconds"):
        return ""
    machine = fit.get("machine", {})
    where = f" on {machine['device']}, {machine['threads']} threads, {machine['precision']}" if machine else ""
    return f"; {sum(fit['seconds'].values()) / 60:.1f} minutes{where}"


def _cell(name: str) -> str:
    return name.replace("|", "\\|")  # a bar would end the cell


def _interval(metric: Mapping[str, Any]) -> str:
    ends = [_number(metric[end]) for end in ("ci_low", "ci_high")]
    return "undefined" if "undefined" in ends else " to ".join(ends)


def _number(value: float | None) -> str:
    return "undefined" if value is None or value != value else f"{value:.4f}"
