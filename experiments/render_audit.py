"""The parts of docs/results.md that tell of the audit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nevus.audit.contamination import APART
from nevus.metrics.intervals import wilson_interval


def rate(found: Mapping[str, Any]) -> str:
    """`99.5 % (99.1 to 99.7), n 2,000`."""
    n = f", n {found['n']:,}" if "n" in found else ""
    return f"{100 * found['value']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f}){n}"


def thresholds(found: Mapping[str, Any], _docs: Path) -> str:
    """How well pictures that belong together are found."""
    at, measured = found["thresholds"], found["measured"]
    lines = [
        "## Pictures that belong together: precision and recall",
        "",
        f"Chosen on one half of HAM10000's lesions: copies from a similarity of {at['copy']}, pictures of one "
        "lesion from "
        f"{at['matches']} matching key points and a similarity of {at['lesion']}. Measured on the other half, "
        f"{measured['images']:,} images, edited copies included:",
        "",
        "| | share (95 % interval) |",
        "|---|---|",
        *(f"| copies found: {name} | {rate(value)} |" for name, value in measured["recall_of_edits"].items()),
        f"| **copies found, all** | **{rate(measured['recall_of_all_edits'])}** |",
        f"| pairs of pictures of one lesion found, without ids | {rate(measured['recall_of_lesions'])} |",
        f"| precision of nearly equal pictures, by the ids | {rate(measured['precision_of_copies'])} |",
        f"| precision of all pairs of unedited images, estimated | {rate(measured['precision'])}, "
        f"n {measured['precision']['pairs']:,} |",
        "",
        f"By `lesion_id` alone the last would be {100 * measured['precision']['by_lesion_id']:.1f} %: some "
        "lesions have "
        "two ids. It is estimated from pairs with two diagnoses, see `experiments/thresholds.py`.",
    ]
    return "\n".join([*lines, "", "```", "python -m experiments.thresholds", "```", ""])


COUNTED = {
    "images": "images",
    "exact_pairs": "equal pictures, pairs",
    "copy_pairs": "nearly equal pictures, pairs",
    "lesion_pairs": "other pictures of one lesion, pairs",
    "pairs_with_other_sets": "pairs with other sets",
    "groups": "groups",
    "groups_across_splits": "groups across splits",
    "train_images_that_leak": "training images in them",
    "test_images_touched": "test images in them",
    "groups_with_two_labels": "groups with two labels",
    "suspect_labels": "doubtful labels",
    "unreadable": "unreadable files",
    "odd": "odd files",
}


def audits(found: Mapping[str, Any], _docs: Path) -> str:
    """What the audits of the real sets found."""
    sets = found["audits"]
    lines = [
        "## The audited data sets",
        "",
        "| | " + " | ".join(sets) + " |",
        "|---|" + "---|" * len(sets),
        *(
            f"| {words} | " + " | ".join(f"{one['counts'][key]:,}" for one in sets.values()) + " |"
            for key, words in COUNTED.items()
        ),
        "",
        "How well the label can be told, AUROC out of fold, of color and texture alone:",
        "",
        "| from | " + " | ".join(sets) + " |",
        "|---|" + "---|" * len(sets),
    ]
    told = {name: {t["view"]: t for t in one["shortcuts"] if t["what"] == "label"} for name, one in sets.items()}
    for view in next(iter(told.values())):
        cells = []
        for by in told.values():
            t = by.get(view)
            cells.append(f"{t['auroc']:.3f} ({t['low']:.3f} to {t['high']:.3f})" if t and t["low"] else "")
        lines.append(f"| {view} | " + " | ".join(cells) + " |")
    lines.append("")
    for name, one in sets.items():
        if one["labels_in_other_sets"]:
            lines += [
                f"Labels of the same lesions, {name}:",
                "",
                "| label here | set | label there | images |",
                "|---|---|---|---|",
                *(
                    f"| {r['label']} | {r['set']} | {r['other']} | {r['images']:,} |"
                    for r in one["labels_in_other_sets"]
                ),
                "",
            ]
        if "known_repeats" in one:
            k = one["known_repeats"]
            lines += [
                f"Of {k['repeats']:,} pairs of images that share a `lesion_id` in HAM10000, **{k['found']:,} "
                f"({100 * k['found'] / k['repeats']:.1f} %)** were found from the pixels alone, and "
                f"{k['images_joined_to_a_repeat']:,} of {k['images_with_repeats']:,} images that have a repeat "
                "were joined "
                f"to one. {k['joined_with_two_ids']} pairs have two ids; {k['of_these_with_one_diagnosis']} of "
                "these have "
                "one diagnosis.",
                "",
            ]
    lines += ["Warnings that the audits gave:", ""]
    lines += [f"- {name}: {text}" for name, one in sets.items() for text in one["warnings"]]
    return "\n".join([*lines, "", "```", *(one["command"] for one in sets.values()), "```", ""])


def judged(found: Mapping[str, Any], _docs: Path) -> str:
    """Found pairs, looked at."""
    lines = [
        "## Found pairs, looked at by eye",
        "",
        found["how"],
        "",
        "| pairs | looked at | belong together | cannot be told | do not | precision |",
        "|---|---|---|---|---|---|",
    ]
    for name, verdicts in found["verdicts"].items():
        yes, unsure, no = (verdicts.count(mark) for mark in "y?n")
        low, high = wilson_interval(yes, len(verdicts))
        share = f"{100 * yes / len(verdicts):.1f} % ({100 * low:.1f} to {100 * high:.1f})"
        lines.append(f"| {name} | {len(verdicts)} | {yes} | {unsure} | {no} | {share} |")
    return "\n".join([*lines, "", "What cannot be told counts as wrong.", "", "```", found["command"], "```", ""])


def corrected(found: Mapping[str, Any], _docs: Path) -> str:
    """The splits that come with the package."""
    mb, ham = found["isic-malignant-benign"], found["ham10000"]
    rows = [
        f"| isic-malignant-benign, {kind} | {split} | "
        + ", ".join(f"{n:,} {name}" for name, n in by.items())
        + " |"
        for kind in ("official", "corrected")
        for split, by in mb[kind].items()
    ]
    rows += [
        f"| ham10000 | {split} | " + ", ".join(f"{n:,} {name}" for name, n in by.items()) + " |"
        for split, by in ham["fold"].items()
    ]
    return "\n".join(
        [
            "## The corrected splits",
            "",
            "| set | split | images |",
            "|---|---|---|",
            *rows,
            "",
            f"Of isic-malignant-benign's {mb['groups']:,} groups {mb['official_groups_on_two_sides']} stand on "
            "two sides of "
            f"the official split and {mb['groups_on_two_sides']} of the corrected one. The test fold of "
            "ham10000 holds "
            f"{ham['test_lesions_shared_with_isic_malignant_benign']} groups that stand in a test split of "
            f"isic-malignant-benign; {ham['of_these_in_train']} images of these are in its training part.",
            "",
            "```",
            "python -m experiments.corrected",
            "```",
            "",
        ]
    )


def audit_speed(found: Mapping[str, Any], _docs: Path) -> str:
    """The audit's search beside two peers, and by the number of images."""
    compared = found["compared"]
    first = compared["rows"][0]["seconds"]
    lines = [
        "## Finding copies beside imagededup and cleanvision",
        "",
        f"{compared['copies']} edited copies among {compared['images']:,} images of different lesions of "
        "HAM10000, from files "
        f"to pairs, on {found['machine']['device']}, {found['machine']['threads']} threads. nevus also finds "
        "other pictures "
        "of one lesion, of which some are here unknown to the ids: they count as wrong.",
        "",
        "| | pairs | copies found | precision | seconds | times nevus |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['name']} | {r['pairs']:,} | {100 * r['recall']:.1f} % | "
            f"{100 * r['precision']:.1f} % | {r['seconds']:.1f} | {r['seconds'] / first:.2f} |"
            for r in compared["rows"]
        ),
        "",
        "The search alone, by the number of images (the real ones, then different parts of these, turned, "
        "mirrored, enlarged, brighter or darker, with noise). Parts of one image that overlap belong together, so "
        "that of the largest number far more pairs are compared and found:",
        "",
        "| images | seconds | ms an image | most memory, mapped files included | pairs | pairs an image |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['images']:,} | {r['seconds']:.0f} | {r['ms_per_image']:.1f} | {r['megabytes']:,.0f} MB | "
            f"{r['pairs']:,} | {r['pairs'] / r['images']:.2f} |"
            for r in found["scale"]
        ),
    ]
    return "\n".join([*lines, "", "```", "python -m benchmarks.audit --keep", "```", ""])


def taught(found: Mapping[str, Any], _docs: Path) -> str:
    """What the lists of the networks that come with the package say of the test splits."""
    sets = list(dict.fromkeys(row["data"] for row in found["splits"]))
    networks = list(dict.fromkeys(row["network"] for row in found["splits"]))
    of = {(row["network"], row["data"]): row for row in found["splits"]}

    def said(row: Mapping[str, Any]) -> str:
        ways = ", ".join(f"{n} by {by}" for by, n in row["by"].items())
        return f"{row['found']} of {row['images']:,}" + (f" ({ways})" if ways else "")

    alone = [(row, look) for row in found["splits"] for look in row["looks"]]
    hints = " ".join(
        f"By eye: {look['image']} of {row['data']}, for {look['like']}: {look['seen']}." for row, look in alone
    )
    lines = [
        "## What the networks in the package were taught on",
        "",
        "Images of each test split (HAM10000: the fold that comes with the package) that are in the list of a "
        "network, or show a lesion that is, by file, ISIC id, lesion id and look, as `nevus audit --against NAME` "
        "finds them:",
        "",
        "| | taught on | " + " | ".join(sets) + " |",
        "|---|---|" + "---|" * len(sets),
        *(
            f"| `{name}` | {of[name, sets[0]]['listed']:,} | {' | '.join(said(of[name, one]) for one in sets)} |"
            for name in networks
        ),
        "",
        "Looks are hashes of 143 bits. Of isic-malignant-benign's images, copied from HAM10000 at another size and "
        "squeezed, these are told to be in it, by the bits that may differ; what the audit finds on aligned "
        f"pixels is taken for the truth. {APART} are allowed. A look alone is a hint. {hints}",
        "",
        "| bits | told | right | of all that are there |",
        "|---|---|---|---|",
        *(
            f"| {row['bits']} | {row['told']:,} | {row['copies']:,} | {100 * row['copies'] / row['of']:.1f} % |"
            for row in found["looks"]
        ),
    ]
    return "\n".join([*lines, "", "```", "python -m experiments.taught", "```", ""])


AUDIT_PARTS = {
    "audits": audits,
    "thresholds": thresholds,
    "judged-pairs": judged,
    "corrected": corrected,
    "taught": taught,
    "audit-speed": audit_speed,
}
