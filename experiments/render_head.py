"""A head on a frozen trunk: what it may be shown, and how long it takes, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.mirrored import SIDES, best
from experiments.pooling import MEANS, POOLINGS


def mirrored(found: Mapping[str, Any]) -> str:
    """Out of fold by side, views and pooling: the strength with the larger AUROC."""
    rows = found["rows"]
    backbones = list(dict.fromkeys(row["trunk"] for row in rows))
    lines = [
        "## A side, a mirror image and the spread of the stages",
        "",
        "A logistic regression on four stages and the last layer of each trunk, out of fold between groups, on "
        f"isic-malignant-benign's {rows[0]['n']:,} training images: of one view of each image, and of the mean of "
        "the image and its mirror image; of the stages' means alone, and with their standard deviations and maxima "
        "(`--spread`). Of each setting the strength with the larger AUROC. No test split was looked at; the images "
        "that a training holds out for validation are among these, so that the validation figures of "
        "`head-*-mirrored` and of `head-*-smaller`, the image alone at 160 px with spread, which were chosen by "
        "this table, have seen the choice. Seconds are those of the features with their spread, in bfloat16.",
        "",
        "| trunk | px | views | means: accuracy | AUROC | with spread: accuracy | AUROC | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for backbone in backbones:
        for side in SIDES:
            for views in (1, 2):
                each = [best(rows, backbone, side, views, pooling) for pooling in POOLINGS]
                cells = " | ".join(f"{row['accuracy']:.2%} | {row['auroc']:.4f}" for row in each)
                lines.append(f"| `{backbone}` | {side} | {views} | {cells} | {each[0]['seconds']:.0f} |")
    for backbone in backbones:
        lines += ["", _gain(rows, backbone)]
    return "\n".join([*lines, "", "```", "python -m experiments.mirrored", "```", ""])


def _gain(rows: list[dict[str, Any]], backbone: str) -> str:
    wide, small = best(rows, backbone, 224, 1, MEANS), best(rows, backbone, 160, 2, POOLINGS[1])
    return (
        f"`{backbone}`: the image and its mirror image at 160 px with the spread of the stages, in place of one view "
        f"at 224 px without: accuracy {wide['accuracy']:.2%} to {small['accuracy']:.2%}, AUROC "
        f"{wide['auroc']:.4f} to {small['auroc']:.4f}."
    )


def cold(found: Mapping[str, Any]) -> str:
    """Seconds on the clock, and by stage, with nothing remembered."""
    rows = found["rows"]
    machine = rows[0]["fit"]["machine"]
    told = (stage for row in rows for stage, seconds in row["fit"]["seconds"].items() if f"{seconds:.1f}" != "0.0")
    stages = list(dict.fromkeys(told))
    lines = [
        "## From image files to a bundle",
        "",
        "isic-malignant-benign's official training split, in a process of its own with an empty cache and nothing "
        f"else on the machine ({machine['device']}, {machine['threads']} threads): seconds on the clock from the "
        "start of the process to its end, and by stage; what is left are the start of Python, the split "
        "and the files of a run. With the audit, which finds pictures of one lesion among all the "
        "images so that validation has none of training's; and without (`--no-audit`), as in the paper.",
        "",
        "| | audited | on the clock | " + " | ".join(stages) + " |",
        "|---|---|---|" + "---|" * len(stages),
    ]
    for row in rows:
        seconds = row["fit"]["seconds"]
        cells = " | ".join(f"{seconds[stage]:.1f} s" if stage in seconds else "" for stage in stages)
        lines.append(f"| `{row['way']}` | {'yes' if row['audited'] else 'no'} | {row['wall']:.1f} s | {cells} |")
    commands = [row["command"] for row in rows]
    return "\n".join([*lines, "", "```", *commands, "```", "", "`python -m experiments.cold`", ""])


PARTS: dict[str, Callable[[Mapping[str, Any], Path], str]] = {
    "mirrored": lambda found, _docs: mirrored(found),
    "cold": lambda found, _docs: cold(found),
}
"""By the name of the result."""
