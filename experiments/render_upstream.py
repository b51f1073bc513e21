"""docs/upstream.md: how the trunks that come with the package were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nevus.training.loop import duration


def upstream_page(found: Mapping[str, Any], images: Mapping[str, int], lesions: Mapping[str, Any]) -> str:
    """The log of every stage.

    Args:
        found: results/upstream.json: by stage its command and what its trunk says of itself.
        images: results/upstream-images.json: the number of natural images of each set.
        lesions: results/lesions.json: by table the number of images of each source and label.

    """
    lines = [
        "# Upstream",
        "",
        "How the trunks that come with the package were trained: in stages, each from the weights of the one "
        "before, by `python -m experiments.upstream STAGE`. Which images were used is listed beside the weights by "
        "their names and digests.",
        "",
        "## Images",
        "",
    ]
    listed = ", ".join(f"{source} {n:,}" for source, n in images.items())
    lines.append(f"- Natural images, {sum(images.values()):,}: {listed}")
    by: dict[str, int] = {}
    for key, n in lesions["upstream"].items():
        by[key.split()[0]] = by.get(key.split()[0], 0) + n
    lines += [
        f"- Lesions, without their labels, {sum(by.values()):,}: HAM10000 {by['ham10000']:,} and, from",
        f"  `adapted-3` on, training images of isic-malignant-benign {by['isic-malignant-benign']:,};",
        "  none of a lesion of isic2017, of HAM10000's test fold or of isic-malignant-benign's test split. Of the",
        "  latter's own images those that trainings on it validate on are left out as well; HAM10000's photographs",
        "  of the same lesions are not.",
    ]
    lines.append("")
    for name, run in found.items():
        r, judged = run["recipe"], run["judged"]
        lines += [
            f"## {name}",
            "",
            "```",
            run["command"],
            "```",
            "",
            "| | |",
            "|---|---|",
            f"| network | `{run['architecture']}` |",
            f"| begins with | {run['weights']} |",
            f"| licence | {run['licence']} |",
            f"| images | {run['data']['images']:,}, manifest {run['data']['digest'][:20]} |",
            *(f"| teacher | {t['origin']} ({t['licence']}) |" for t in run.get("teachers", [])),
            f"| steps | {r['steps']:,} of {r['batch']} images of {r['side']} px |",
            f"| learning rate | {r['lr']:g}, {r['schedule']} |",
            f"| time | {duration(run['seconds'])} on {run['machine']['device']}, "
            f"{run['machine']['threads']} threads, {run['machine']['precision']} |",
            f"| held-out images | loss {judged['loss']:.3f}, score {judged['score']:.1%} |",
            "",
        ]
    return "\n".join(lines)
