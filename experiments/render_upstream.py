"""docs/upstream.md: how the trunks that come with the package were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nevus.training.loop import duration

_COLUMNS = "| C | within: accuracy | within: AUROC | HAM10000 to isic2017: AUROC | isic2017 to HAM10000: AUROC |"


def upstream_page(
    found: Mapping[str, Any],
    images: Mapping[str, Mapping[str, int]],
    lesions: Mapping[str, Any],
    heads: Mapping[str, Any],
    stages: Mapping[str, Any],
    unseen: Mapping[str, Any],
    pooling: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> str:
    """The log of every stage.

    Args:
        found: results/upstream.json: by stage its command and what its trunk says of itself.
        images: results/upstream-images.json: by table the number of natural images of each set.
        lesions: results/lesions.json: by table the number of images of each source and label.
        heads: results/trunks.json: what a linear head on each is worth on validation.
        stages: results/stages.json: what a logistic regression on each is worth, out of fold and out of source.
        unseen: results/unseen.json: trunks on images that they were and were not taught on, beside teachers.
        pooling: results/pooling.json: what the spread of the stages is worth.
        sizes: results/sizes.json: what larger trunks would cost.

    """
    lines = [
        "# Upstream",
        "",
        "How the trunks that come with the package were trained: in stages, each from the weights of the one "
        "before, by `python -m experiments.upstream STAGE`. Which images were used is listed beside the weights by "
        "their names and digests. In the package, under the names of `bit-r26x0.5-generic` and "
        "`bit-r26x0.5-dermoscopy`, are `generic-3` and `adapted-5`; before them there were `generic-2` and "
        "`adapted-2`. A command names the files as they lay then; what it began with is told by the digest. Files "
        "that are equal byte by byte are listed once.",
        "",
        "## Images",
        "",
    ]
    for table, counts in images.items():
        listed = ", ".join(f"{source} {n:,}" for source, n in counts.items())
        lines.append(f"- Natural images, {sum(counts.values()):,} (`{table}`): {listed}")
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
            f"| license | {run['license']} |",
            f"| images | {run['data']['images']:,}, manifest {run['data']['digest'][:20]} |",
            *(f"| teacher | {t['origin']} ({t['license']}) |" for t in run.get("teachers", [])),
            f"| steps | {r['steps']:,} of {r['batch']} images of {r['side']} px |",
            f"| learning rate | {r['lr']:g}, {r['schedule']} |",
            f"| time | {duration(run['seconds'])} on {run['machine']['device']}, "
            f"{run['machine']['threads']} threads, {run['machine']['precision']} |",
            f"| held-out images | loss {judged['loss']:.3f}, score {judged['score']:.1%} |",
            "",
        ]
    return "\n".join(
        [*lines, *_heads(heads), *_stages(stages), *_unseen(unseen), *_pooling(pooling), *_sizes(sizes, found)]
    )


def _heads(found: Mapping[str, Any]) -> list[str]:
    lines = [
        "## What they are worth",
        "",
        "A linear head on four stages of the frozen trunk, on the validation split of isic-malignant-benign that "
        "is cut between the audit's groups. `adapted-3`, which was taught its stages by larger views of better "
        "teachers, and on that set's own images, too, is no better than `adapted-2`, and nothing went on from it; "
        "its score above is that of another lesson, and not to be compared. On so few images none of these "
        "differences can be told from chance: see the next sections. Times are of two machines, those of "
        "`generic-3` and later in bfloat16.",
        "",
        "| trunk and side in pixels | accuracy | AUROC | n | features |",
        "|---|---|---|---|---|",
    ]
    for name, run in found.items():
        a, b = run["accuracy"], run["auroc"]
        lines.append(
            f"| {name} | {a['value']:.1%} ({a['low']:.1%} to {a['high']:.1%}) "
            f"| {b['value']:.3f} ({b['low']:.3f} to {b['high']:.3f}) | {a['n']} "
            f"| {run['seconds']['features']:.0f} s |"
        )
    return [*lines, "", "Other work ran beside some of these. `python -m experiments.backbones`", ""]


_WAYS = {"within": "within", "there": "to isic2017", "back": "back"}


def _gain(found: Mapping[str, Any], new: str, old: str, ways: tuple[str, ...] = tuple(_WAYS)) -> str:
    """What a trunk's AUROC is above another's, each with the strength that is best for it, in words."""
    gains = []
    for way in ways:
        after, before = (max(row["auroc"] for row in found[name][way]) for name in (new, old))
        gains.append(f"{after - before:+.3f} {_WAYS[way]}")
    return f"the best AUROC of `{new}` less that of `{old}` is " + ", ".join(gains)


def _stages(found: Mapping[str, Any]) -> list[str]:
    first = next(iter(found.values()))
    lines = [
        "## Between groups and between sources",
        "",
        "A logistic regression on the same features at 128 px, by the strength that is left to the weights "
        "(scikit-learn's C): within isic-malignant-benign's "
        f"{first['within'][0]['n']:,} training images, out of fold between groups, and between sources, melanoma "
        f"against nevus: HAM10000 to isic2017's {first['there'][0]['n']:,} training images, and back to "
        f"{first['back'][0]['n']:,} of HAM10000. "
        "`generic-3` and, from it, `adapted-4` were taught by better teachers on larger views of "
        "more images; "
        + _gain(found, "generic-3", "generic-2")
        + ", and "
        + _gain(found, "adapted-4", "adapted-2")
        + ". The training of `generic-3` was halted for other work in between: its time above is too long.",
        "",
        f"| trunk {_COLUMNS}",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        for own, there, back in zip(rows["within"], rows["there"], rows["back"], strict=True):
            lines.append(
                f"| {name} | {own['strength']:g} | {own['accuracy']:.1%} | {own['auroc']:.3f} "
                f"| {there['auroc']:.3f} | {back['auroc']:.3f} |"
            )
    return [*lines, "", "`python -m experiments.stages`", ""]


def _unseen(found: Mapping[str, Any]) -> list[str]:
    first = next(iter(found.values()))
    n = {part: first["within"][0][part]["n"] for part in ("taught", "unseen")}

    def best(name: str, part: str) -> float:
        return max(float(row[part]["auroc"]) for row in found[name]["within"])

    lines = [
        "## Taught on and unseen, beside the teachers",
        "",
        "A logistic regression on features in bfloat16, by scikit-learn's C; trunks at 192 px, four stages and the "
        "last layer, teachers at their 224 px. Within isic-malignant-benign's training images, out of fold between "
        f"groups: {n['taught']:,} whose lesion the later stages were taught on, without labels, in this picture or "
        f"one of HAM10000, and {n['unseen']:,} whose lesion they were not. Between sources, melanoma against "
        "nevus. The teachers' own features "
        "are what a student may reach.",
        "",
    ]
    new, old = "adapted-5", "adapted-2"
    if new in found:
        gains = {part: f"{best(new, part) - best(old, part):+.3f}" for part in n}
        lines += [
            f"`{new}` was taught its stages, too, at 160 px. Its best AUROC less that of `{old}` is "
            f"{gains['taught']} on the lesions that it was taught on and {gains['unseen']} on the unseen, "
            "where alone it says what new lesions gain. Between sources it gains nothing from one view of an image "
            f"({_gain(found, new, old, ('there', 'back'))}); from the mean of six the differences lie within the "
            f"intervals, see "
            "[there](results.md#chosen-by-sources-that-were-not-trained-on).",
            "",
        ]
    lines += [
        "| | px | C | taught on: accuracy | AUROC | unseen: accuracy | AUROC | HAM10000 to isic2017 | back |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        for own, there, back in zip(rows["within"], rows["there"], rows["back"], strict=True):
            parts = " | ".join(f"{own[part]['accuracy']:.1%} | {own[part]['auroc']:.3f}" for part in n)
            lines.append(
                f"| {name} | {rows['side']} | {own['strength']:g} | {parts} | {there['auroc']:.3f} "
                f"| {back['auroc']:.3f} |"
            )
    return [*lines, "", "`python -m experiments.unseen`", ""]


def _pooling(found: Mapping[str, Any]) -> list[str]:
    columns = ("within", "there", "back")
    by = {(name, row["pooling"], row["strength"]): row for name in columns for row in found[name]}
    sizes = {name: found[name][0]["n"] for name in columns}
    lines = [
        "## Means, and their spread",
        "",
        f"A logistic regression on four stages and the last layer of `{found['backbone']}` at 128 px, of their means "
        "alone, and with their standard deviations and maxima (`--spread`), by the strength that is left to "
        f"the weights (scikit-learn's C). Within: isic-malignant-benign's {sizes['within']:,} training images, out "
        "of fold between groups. Between sources, melanoma against nevus: HAM10000 to isic2017's "
        f"{sizes['there']:,} training images, and back to {sizes['back']:,} of HAM10000.",
        "",
        f"| {_COLUMNS}",
        "|---|---|---|---|---|---|",
    ]
    for row in found["within"]:
        key = (row["pooling"], row["strength"])
        there, back = (by[(name, *key)]["auroc"] for name in ("there", "back"))
        lines.append(
            f"| {key[0]} | {key[1]:g} | {row['accuracy']:.1%} | {row['auroc']:.3f} | {there:.3f} | {back:.3f} |"
        )
    return [*lines, "", "`python -m experiments.pooling`", ""]


def _sizes(found: Mapping[str, Any], stages: Mapping[str, Any]) -> list[str]:
    first = found["rows"][0]
    hours = sum(run["seconds"] for run in stages.values()) / 3600
    lines = [
        "## Why no larger trunk comes with the package",
        "",
        "At 128 px, random weights; training in steps of 32 images, inference of one at a time by the default "
        "engine.",
        "",
        "| trunk | weights | in half precision | training | inference | the stages above, in all |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        slower = first["training"] / row["training"]
        lines.append(
            f"| `{row['backbone']}` | {row['parameters'] / 1e6:.1f} M | {2 * row['parameters'] / 1e6:.0f} MB "
            f"| {row['training']:.0f} images/s | {row['milliseconds']:.0f} ms | {hours * slower:.1f} h |"
        )
    lines += [
        "",
        "Two trunks and two classifiers come with the package, each with weights of its own, and the whole is to "
        "stay below 40 MB. The last column is what the stages above took, and would take at the measured speed of "
        "training.",
        "",
    ]
    machine = found["machine"]
    return [*lines, f"On {machine['device']}, {machine['threads']} threads. `{found['command']}`", ""]
