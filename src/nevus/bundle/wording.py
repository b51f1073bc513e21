"""What a prediction means, in words for a clinician. All wording of outcomes is in this file."""

from __future__ import annotations

from nevus.bundle.bundle import Bundle
from nevus.bundle.decision import UNVALIDATED, DecisionRule
from nevus.bundle.prediction import Prediction
from nevus.bundle.test_log import read_test_result

FLAGS = {
    "blank": "The image is blank.",
    "cut off": "A part of the image is missing.",
    "no color": "The image has no color.",
    "overexposed": "The image is overexposed.",
    "foreign": "This does not look like a skin lesion.",
    "blurred": "The image is blurred or too small.",
    "unvalidated kind": "The classifier was not validated on this kind of image (dermoscopic or photograph).",
}
"""A sentence for each flag."""


def outcome(prediction: Prediction, rule: DecisionRule) -> str:
    """Return the outcome of a prediction in one or two sentences: what cannot be judged first, then what is not sure.

    Args:
        prediction: of an image that could be read.
        rule: of the bundle.

    """
    if prediction.flag == UNVALIDATED:
        return f"Cannot judge. {kind_sentence(rule, prediction.kind)}"
    if prediction.flag:
        return f"Cannot judge. {FLAGS[prediction.flag]}"
    if len(prediction.members) > 1:
        return f"Not sure: {' or '.join(prediction.members)}. The classifier cannot exclude either."
    point = rule.operating_point
    if point is None or point.threshold is None:
        return f"Most probable: {prediction.decision}."
    return f"Decision: {prediction.decision}, at the threshold for a sensitivity of {point.sensitivity:.0%}."


KINDS = {"dermoscopic": "dermoscopic images", "clinical": "clinical photographs"}
"""Kinds of image, for people."""


def kind_sentence(rule: DecisionRule, kind: str) -> str:
    """Return what is known of a bundle on a kind of image.

    Args:
        rule: of the bundle.
        kind: `dermoscopic` or `clinical`.

    """
    result, name = rule.kinds.get(kind), KINDS.get(kind, kind)
    measured = ""
    if result is not None and result.sensitivity is not None:
        where = f"images of {result.data}" if result.data else "validation images"
        measured = (
            f"sensitivity {result.sensitivity:.1%} on the {result.positives:,} positive of {result.images:,} {where}"
        )
    if rule.is_validated(kind):
        return f"The classifier was validated on {name}{f': {measured}' if measured else ''}."
    return f"The classifier was not validated on {name}{f': {measured}' if measured else ''}."


def prevalence_sentence(rule: DecisionRule, positive: str, prevalence: float | None = None) -> str:
    """Return which share of the positive class the probabilities are for; empty where it is not known.

    Args:
        rule: of the bundle.
        positive: name of the positive class.
        prevalence: that was asked for.

    """
    if len(rule.class_shares) != 2:
        return ""
    own = f"{rule.class_shares[1]:.0%}"
    if prevalence is None:
        return f"Probabilities are for a share of {own} {positive}, as among the validation images."
    return f"Probabilities are for a share of {prevalence:.1%} {positive}; the threshold is for those at {own}."


def test_result_sentence(bundle: Bundle) -> str:
    """Return what the operating point cost on a test split, or on sources left out; empty where neither is known.

    Args:
        bundle: a saved one of two classes.

    """
    result = read_test_result(bundle)
    if result is None:
        return left_out_sentence(bundle)
    sensitivity, specificity = (
        f"{name} {one['value']:.1%} ({one['ci_low']:.1%} to {one['ci_high']:.1%})"
        for name in ("sensitivity", "specificity")
        if (one := result[name])
    )
    return (
        f"At this threshold on the split {result['split']} of {result['data']} ({result['n']:,} images, "
        f"{result['positives']:,} {bundle.classes[-1]}): {sensitivity}, {specificity}."
    )


def left_out_sentence(bundle: Bundle) -> str:
    """Return what a classifier reached on sources that were left out of its training; empty where it is not known."""
    task = " or ".join(reversed(bundle.classes))
    rows = [row for row in bundle.provenance.get("left_out", ()) if row["task"] == task]
    if not rows:
        return ""
    n = len({row["source"] for row in rows})
    ranges = {name: [row[name] for row in rows] for name in ("auroc", "sensitivity", "specificity")}
    area = f"AUROC {min(ranges['auroc']):.2f} to {max(ranges['auroc']):.2f}"
    both = ", ".join(
        f"{name} {min(ranges[name]):.0%} to {max(ranges[name]):.0%}" for name in ("sensitivity", "specificity")
    )
    return f"On {n} sources, each left out of the training in turn: {area}; at the threshold for 95%: {both}."


def operating_point_sentence(rule: DecisionRule, positive: str) -> str:
    """Return which operating point decides, and what it costs, in one sentence.

    Args:
        rule: of the bundle.
        positive: name of the positive class.

    """
    point = rule.operating_point
    if point is None:
        return "Decisions are the most probable class: the bundle has no operating point."
    if point.threshold is None:
        return (
            f"Decisions are the most probable class: a guaranteed sensitivity of {point.sensitivity:.0%} needs "
            f"{point.missing} more validation cases of {positive}."
        )
    cost = "" if point.specificity is None else f" The specificity there was {point.specificity:.1%}."
    return (
        f"{positive} is decided from p_{positive} = {point.threshold:.3f} on: a sensitivity of at least "
        f"{point.sensitivity:.0%} with {point.confidence:.0%} confidence, on {point.positives:,} validation cases."
        f"{cost}"
    )
