"""An evaluation in sentences: its summary, its warnings, what to do next, and a methods paragraph."""

from __future__ import annotations

from collections import Counter

from nevus.bundle.classifier import Classifier
from nevus.bundle.decision import DecisionRule
from nevus.bundle.training_overlap import RULE
from nevus.evaluation import Evaluation

MANY_FLAGGED = 0.15
"""Share of flagged images from which a data set counts as unlike the validation images."""
MISCALIBRATED = 0.05
"""Calibration error, in the lower end of its interval, from which the page warns."""
FEW_IMAGES = 30
"""Images of a class below which the page warns of wide intervals."""


def summary(evaluation: Evaluation) -> str:
    """Return the result in a sentence or two."""
    counts, classes, n = evaluation.counts, evaluation.manifest.classes, len(evaluation.y)
    flagged = sum(map(bool, evaluation.flags))
    first = f"{flagged:,} of {n:,} images cannot be judged. " if flagged else ""
    if counts is None:
        right = int(evaluation.matrix.trace())
        return f"{first}{right:,} of {n:,} images are classified correctly."
    y, called = evaluation.y, evaluation.called
    positives, missed = int((y == 1).sum()), int(((y == 1) & (called == 0)).sum())
    negatives, alarms = int((y == 0).sum()), int(((y == 0) & (called == 1)).sum())
    where = "At the operating point" if evaluation.decisions.at_threshold else "At threshold 0.5"
    return first + (
        f"{where}: {positives - missed:,} of {positives:,} {classes[1]} images found, {missed:,} missed; {alarms:,} of "
        f"{negatives:,} {classes[0]} images called {classes[1]} (false alarms)."
    )


def warnings_of(evaluation: Evaluation, classifier: Classifier) -> list[str]:
    """Return what a reader of the metrics has to know, one sentence each."""
    trained = classifier.bundle.provenance["data"]
    warnings = []
    about, audit = evaluation.about, trained.get("audit") or {}
    if about["on_training_images"]:
        warnings.append("Training images are among these images. The metrics do not apply to new images.")
    elif is_external(evaluation, classifier) and not all_trained_on(evaluation):
        warnings.append(
            f"{about['data']['name']} is another data set than {trained['name']}, on which the classifier was trained. "
            "If it is of another source, this is an external test, and the threshold may not suit it."
        )
    for name, count in about["training_overlap"].items():
        verb = "was fitted" if name == RULE else "was trained"
        warnings.append(
            f"{name[0].upper()}{name[1:]} {verb} on {count:,} of these {len(evaluation.y):,} images, by file, "
            "ISIC id, lesion id or as copies. Metrics on them do not apply to new images."
        )
    leaks = audit.get("train", 0) and not audit.get("dropped") and not about["leaks_dropped"]
    if evaluation.split == "test" and leaks and not is_external(evaluation, classifier):
        warnings.append(
            f"The training found leakage: training images that share a lesion with test images: {audit['train']:,}; "
            f"such test images: {audit['test']:,}. These metrics are optimistic. Add --drop-leaks to exclude them."
        )
    warnings += unlike_training(evaluation, classifier)
    if evaluation.split == "validation":
        warnings.append("The weights were chosen on the validation split. These metrics are slightly optimistic.")
    if about["earlier_test_evaluations"]:
        warnings.append(
            f"Earlier evaluations of this bundle on test splits: {about['earlier_test_evaluations']:,}. A setting that "
            "is chosen by them makes the metrics optimistic."
        )
    few = [
        name for code, name in enumerate(evaluation.manifest.classes) if int((evaluation.y == code).sum()) < FEW_IMAGES
    ]
    if few:
        warnings.append(f"Fewer than {FEW_IMAGES} images of {' and of '.join(few)}: the intervals are wide.")
    return warnings


def unlike_training(evaluation: Evaluation, classifier: Classifier) -> list[str]:
    """Return the signs that the images are unlike those that the bundle was validated on."""
    rule, decisions, n = classifier.bundle.rule, evaluation.decisions, len(evaluation.flags)
    found = []
    counts = Counter(evaluation.flags)
    if counts["foreign"] > MANY_FLAGGED * n:
        found.append(f"Images that do not look like skin lesions: {counts['foreign'] / n:.0%}.")
    if counts["unvalidated kind"] > MANY_FLAGGED * n:
        found.append(f"Images of a kind that the bundle was not validated on: {counts['unvalidated kind'] / n:.0%}.")
    point = rule.operating_point
    reached = decisions.at_threshold.get("sensitivity")
    if point and reached and reached.ci_high < point.sensitivity:
        found.append(
            f"The operating point promises a sensitivity of {point.sensitivity:.0%}; on these images it is "
            f"{reached.value:.1%} ({reached.ci_low:.1%} to {reached.ci_high:.1%})."
        )
    for name, one in decisions.coverage.items():
        if one.ci_high < 1 - rule.alpha:
            found.append(
                f"The sets promise to contain {name} in {1 - rule.alpha:.0%} of its images; on these images they do in "
                f"{one.value:.1%} ({one.ci_low:.1%} to {one.ci_high:.1%})."
            )
    error = decisions.after["ece"]
    if error.ci_low > MISCALIBRATED:
        found.append(
            f"The probabilities are off by {error.value:.2f} on average ({error.ci_low:.2f} to {error.ci_high:.2f})."
        )
    return [f"Unlike the validation images. {sentence}" for sentence in found]


def next_step(evaluation: Evaluation) -> str:
    """Return what to do with an evaluation."""
    if evaluation.about["on_training_images"]:
        return "Evaluate on the test split: give manifest.parquet of the run."
    return "Look at the mistakes, the most confident first. Then evaluate on images of another clinic or camera."


def is_external(evaluation: Evaluation, classifier: Classifier) -> bool:
    """Return whether the data set is another one than that of the training, by name."""
    trained = classifier.bundle.provenance["data"]
    return str(evaluation.about["data"]["name"]) != str(trained["name"])


def all_trained_on(evaluation: Evaluation) -> bool:
    """Return whether the classifier, or its backbone, was trained on every one of the images, skipped ones included."""
    overlap, images = evaluation.about["training_overlap"], len(evaluation.y) + len(evaluation.skipped)
    return any(count >= images for name, count in overlap.items() if name != RULE)


def methods_paragraph(evaluation: Evaluation, classifier: Classifier) -> str:
    """Return a paragraph for the methods section of a paper: data, groups, split, training, seed, versions, digests."""
    bundle, about, table = classifier.bundle, evaluation.about, evaluation.manifest.table
    provenance, size = bundle.provenance, bundle.spec.image_size
    config, trained = provenance.get("config", {}), provenance["data"]
    counts = ", ".join(
        f"{int((evaluation.y == code).sum()):,} {name}" for code, name in enumerate(evaluation.manifest.classes)
    )
    names = [name for name in ("preset", "tuning", "steps", "batch_size") if name in config]
    training = "".join(f", {name.replace('_', ' ')} {config[name]}" for name in names)
    versions = provenance.get("versions", {})
    named = ", ".join(f"{name} {versions[name]}" for name in ("nevus", "torch", "timm") if versions.get(name))
    return " ".join(
        [
            f"The classifier ({bundle.spec.backbone}) was trained on {trained['name']} (manifest "
            f"{trained.get('digest', '')}) with {named or 'nevus'}{training}, seed {provenance.get('seed', 0)}; "
            f"initial weights: {provenance.get('backbone_weights', 'not known')}.",
            f"Images were resized to {size} x {size} pixels; test-time augmentation: {about['tta']}.",
            f"It was evaluated on the split {evaluation.split} of {about['data']['name']} (manifest "
            f"{about['data']['digest']}; protocol of the training: {trained.get('protocol', 'not known')}): "
            f"{len(table):,} images ({counts}) in {table['group'].nunique():,} groups.",
            "Intervals are 95 % intervals: Wilson for proportions, DeLong for AUROC; for all other metrics, and where",
            f"a group has several images, a bootstrap over groups with {about['bootstrap']['replicates']:,} samples.",
            _decision_methods(evaluation, bundle.rule),
            f"Bundle {about['bundle']['digest']}.",
        ]
    )


def _decision_methods(evaluation: Evaluation, rule: DecisionRule) -> str:
    parts = []
    if rule.calibration is not None:
        with_shift = "Platt scaling" if len(rule.calibration.shift) == 2 else "vector scaling"
        kind = with_shift if any(rule.calibration.shift) else "temperature scaling"
        parts.append(f"Probabilities were calibrated by {kind}.")
    point = rule.operating_point
    if point is not None and point.threshold is not None:
        parts.append(
            f"The operating point is a threshold of {point.threshold:.4f}, chosen on {point.positives:,} positive "
            f"cases for a sensitivity of at least {point.sensitivity:.0%} with {point.confidence:.0%} confidence."
        )
    if rule.set_thresholds:
        parts.append(f"Prediction sets are class-conditional conformal sets with a coverage of {1 - rule.alpha:.0%}.")
    if evaluation.decisions.prevalence is not None:
        parts.append(
            f"PPV, NPV and net benefit of decisions are for a prevalence of {evaluation.decisions.prevalence}."
        )
    return " ".join(parts)
