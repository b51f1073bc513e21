"""The items of CLEAR Derm and TRIPOD+AI, answered from a bundle.

Sources: CLEAR Derm, Daneshjou et al., JAMA Dermatology 2022; TRIPOD+AI, Collins et al., BMJ 2024. An item that nothing
in the bundle answers says "not known": the author of a study has to add it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

from nevus.bundle.bundle import Bundle

UNKNOWN = "not known"
USE = (
    "Research on classifiers of skin lesions. A second look at one image of one lesion, beside the judgment of a "
    "dermatologist"
)


def shares(data: Mapping[str, Any], column: str) -> str:
    """Return the images by value of a column of the data, as `female (120), male (130)`; or "not known".

    Args:
        data: of the provenance; `columns` has counts by column, value and label.
        column: name.

    """
    values = data.get("columns", {}).get(column)
    if not values:
        return UNKNOWN
    return ", ".join(f"{value} ({sum(counts.values()):,})" for value, counts in values.items())


def confirmed(data: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return how many images of some labels histopathology confirmed; or "not known"."""
    values = data.get("columns", {}).get("diagnosis_confirm_type") or {}
    total, sure = 0, 0
    for value, counts in values.items():
        n = sum(counts.get(label, 0) for label in labels)
        total += n
        sure += n if "histo" in value.lower() else 0
    return f"{sure:,} of {total:,} images of {', '.join(labels)}" if total else UNKNOWN


class _Answers:
    """Answers that both checklists share."""

    def __init__(self, bundle: Bundle, validation: Mapping[str, Mapping[str, Any]]) -> None:
        provenance, rule = bundle.provenance, bundle.rule
        data, config = provenance["data"], provenance.get("config", {})
        self.sizes = "; ".join(f"{split}: {sum(by.values()):,}" for split, by in data["counts"].items())
        self.balance = "; ".join(
            f"{split}: {', '.join(f'{name} {n:,}' for name, n in by.items())}" for split, by in data["counts"].items()
        )
        self.sources = ", ".join(data.get("sources", [])) or UNKNOWN
        self.kinds = ", ".join(f"{kind} {one.images:,}" for kind, one in rule.kinds.items() if not one.data) or UNKNOWN
        skin = shares(data, "fitzpatrick_skin_type")
        self.skin = skin if skin == UNKNOWN else f"{skin}, from the data set; none is estimated from pixels"
        self.people = "; ".join(
            f"{name}: {shares(data, column)}"
            for name, column in (("age", "age_group"), ("sex", "sex"), ("site", "anatom_site_general"))
        )
        self.missing = f"{data.get('skipped', 0):,} images could not be read and were left out"
        self.partition = f"{data['protocol']}; images of one group (lesion or patient) stay together"
        self.labels = f"{', '.join(bundle.classes)}" + (
            f"; {'; '.join(f'{k} is {v}' for k, v in bundle.spec.label_groups.describe().items())}"
            if bundle.spec.label_groups
            else ""
        )
        self.confirmation = shares(data, "diagnosis_confirm_type")
        groups = bundle.spec.label_groups
        positive = [groups.fine_classes[k] for k in groups.indices[-1]] if groups else bundle.classes[-1:]
        self.histology = confirmed(data, positive if len(bundle.classes) == 2 else bundle.spec.fine_classes)
        self.input = f"whole images, resized to {bundle.spec.image_size} x {bundle.spec.image_size} pixels"
        self.model = (
            f"{bundle.spec.backbone}, pooling {bundle.spec.pooling}, initial weights: "
            f"{provenance['backbone_weights']}; preset {config.get('preset', UNKNOWN)}, "
            f"seed {provenance.get('seed', UNKNOWN)}"
        )
        auroc = validation.get("auroc") or validation.get("auroc_macro")
        self.performance = (
            f"AUROC {auroc['value']:.3f} ({auroc['ci_low']:.3f} to {auroc['ci_high']:.3f}) on validation; see Metrics"
            if auroc and isfinite(auroc["ci_low"] or nan)
            else "see Metrics"
        )
        point = rule.operating_point
        self.output = "calibrated probabilities" if rule.calibration else "probabilities, not calibrated"
        if point and point.threshold is not None:
            self.output += f", a decision at p = {point.threshold:.3f}"
        if rule.set_thresholds:
            self.output += f", a conformal set with a coverage of {1 - rule.alpha:.0%}"
        self.ood = "images unlike skin lesions, blurred, blank, cut off or overexposed are flagged and not judged"
        self.balance_method = (
            f"class weights: {config.get('class_weights', UNKNOWN)}; "
            f"sample weighting: {config.get('sample_weighting', UNKNOWN)}"
        )
        self.external = (
            "; ".join(
                f"{one.data}, {kind}, n {one.images:,}: sensitivity {one.sensitivity:.3f}, "
                f"specificity {one.specificity:.3f}"
                for kind, one in rule.kinds.items()
                if one.data and one.sensitivity is not None and one.specificity is not None
            )
            or "none when this card was written; test_log.jsonl lists later ones"
        )


def clear_derm(bundle: Bundle, validation: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the 25 items of CLEAR Derm, each with its answer.

    Args:
        bundle: with its provenance and decision rule.
        validation: metrics by name, each with `value`, `ci_low`, `ci_high`, `n`.

    """
    a = _Answers(bundle, validation)
    return [
        ("Image types", f"{a.kinds} (validation)"),
        ("Image artifacts", UNKNOWN),
        ("How images were acquired", f"sources: {a.sources}; devices {UNKNOWN}"),
        ("Preprocessing", a.input),
        ("Synthetic images", "all" if "phantom" in a.sources.lower() else UNKNOWN),
        ("Public images referenced", a.sources),
        ("Metadata of patients", a.people),
        ("Skin color and how it was assessed", a.skin),
        ("Biases from patients and metadata", f"{UNKNOWN}; nevus evaluate --by compares subgroups"),
        ("How the data were partitioned", a.partition),
        ("Sizes of the splits", a.sizes),
        ("External test set", a.external),
        ("Images of several vendors", UNKNOWN),
        ("Class balance", a.balance),
        ("Out-of-distribution images", a.ood),
        ("How labels were made and by whom", a.confirmation),
        ("Diagnostic labels", a.labels),
        ("Histopathology of malignant lesions", a.histology),
        ("Development of the algorithm", a.model),
        ("How the public can evaluate it", "nevus evaluate DATA --bundle THIS_FOLDER; the program is open source"),
        ("Performance measures", a.performance),
        ("Benchmark and comparison", f"{UNKNOWN}; nevus compare trains other methods on the same data"),
        ("Assessment of bias", f"{UNKNOWN}; nevus evaluate --by compares subgroups"),
        ("Use cases and target conditions", f"{USE}; classes: {', '.join(bundle.classes)}"),
        ("Effects on health-care teams and patients", UNKNOWN),
    ]


def tripod_ai(bundle: Bundle, validation: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the 27 items of TRIPOD+AI, each with its answer.

    Args:
        bundle: with its provenance and decision rule.
        validation: metrics by name, each with `value`, `ci_low`, `ci_high`, `n`.

    """
    a = _Answers(bundle, validation)
    data, fit = bundle.provenance["data"], bundle.provenance.get("fit", {})
    point = bundle.rule.operating_point
    size = "none was calculated"
    if point:
        size += f"; {point.positives:,} positive validation cases, {point.missing:,} missing for the operating point"
    return [
        ("Title", f"{bundle.spec.backbone} for {' / '.join(bundle.classes)}"),
        ("Abstract", "this card"),
        ("Background", UNKNOWN),
        ("Objectives", f"diagnostic: {', '.join(bundle.classes)} from one image"),
        ("Data", f"{data['name']}, sources: {a.sources}; dates {UNKNOWN}"),
        ("Participants", a.people),
        ("Data preparation", a.input),
        ("Outcome", f"{a.labels}; confirmed by: {a.confirmation}"),
        ("Predictors", "the pixels of one image; no metadata"),
        ("Sample size", size),
        ("Missing data", a.missing),
        ("Analytical methods", a.model),
        ("Class imbalance", a.balance_method),
        ("Fairness", f"{UNKNOWN}; nevus evaluate --by compares subgroups"),
        ("Model output", a.output),
        ("Training versus evaluation", a.sizes),
        ("Ethical approval", UNKNOWN),
        ("Open science", f"license of the weights: {bundle.license}; code: nevus, Apache-2.0; funding {UNKNOWN}"),
        ("Patient and public involvement", UNKNOWN),
        ("Results: participants", a.balance),
        ("Results: model development", f"training accuracy {fit.get('training_accuracy', float('nan')):.3f}"),
        ("Results: model specification", "this folder is the whole model"),
        ("Results: model performance", a.performance),
        ("Results: model updating", "none"),
        ("Interpretation", UNKNOWN),
        ("Limitations", "see Limits"),
        ("Usability in current care", "research use only; not tested in care"),
    ]
