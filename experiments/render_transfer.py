"""What the trunks that come with the package are worth, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nevus.report.evaluation import humanize

Cell = Callable[..., str]
KINDS = {
    "official": "isic-malignant-benign, official split",
    "leak-free": "isic-malignant-benign, leak-free",
    "ham10000": "HAM10000, seven classes, the fold of lesions that comes with the package",
    "ham": "isic2017, melanoma against nevus, the whole set; trained on HAM10000 without its lesions",
    "shipped": "isic2017's test split, melanoma against the rest; trained on HAM10000 and isic2017",
}
"""What a setting's last word says that it is judged on."""
BESIDE = {
    "official": ("official: accuracy", "accuracy"),
    "leak-free": ("leak-free: accuracy", "accuracy"),
    "ham10000": ("in source, HAM10000: balanced accuracy", "balanced_accuracy"),
    "ham": ("out of source, HAM10000 to isic2017: AUROC", "auroc"),
}
"""Column and figure of a test where ways of training stand side by side."""
SHOWN = {
    "ham10000": ("accuracy", "balanced_accuracy", "auroc"),
    "": ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc"),
}
PERCENT = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
PAPER = 88.13


def kind_of(name: str) -> str:
    """Which of `KINDS` a setting belongs to."""
    return next(kind for kind in KINDS if name.endswith(kind))


def transfer(found: Mapping[str, Any], cell: Cell) -> str:
    """A table for each test, the settings as rows: first those on the trunks that are in the package."""
    found = dict(sorted(found.items(), key=lambda one: "-before-" in one[0]))
    lines = [
        "## Fine-tuned from the trunks that come with the package",
        "",
        "`bit-r26x0.5` on two cores. `generic` saw natural images only, `dermoscopy` also lesions "
        "without their labels; neither saw a lesion of a test split. Where a name says `before`, they were stages "
        "that came with the package before, `generic-2` and `adapted-2` ([upstream](upstream.md)), or the first of "
        "all in `head-first`; the commands are the same, and give other weights now. Their figures on the test "
        "splits were known by the time of the others; the settings of isic-malignant-benign's and HAM10000's "
        "trainings were kept as they were, but `mirrored` and `smaller` were chosen [out of "
        "fold](#a-side-a-mirror-image-and-the-spread-of-the-stages), of whole networks `smaller` on validation, "
        "when the figures of other settings were known. `head` trains a linear head on four stages of the frozen "
        "trunk; `full` begins with that head, trains every weight and is judged on the mean of eight views of each "
        "image; `full-short` began with a head of zeros, had fewer epochs and one view. What else tells settings "
        "apart stands [by itself](#settings). Settings were compared on validation, out of fold or, for images "
        "from elsewhere, between sources. *Looks* counts, as far as it was logged, what a bundle was judged on, "
        "every split: what ships is one bundle on several sets.",
        "",
        "*What ships.* `head-rare-even` comes with the package as `malignant-benign`, as `head-rare-even-before`, "
        "`head-wide-even-before`, `head-even-four-before` and `head-even-before` did in their time; `even` are "
        "calls evened on validation. Other tries stand here, too: `head-first-before` from the trunks' first "
        "stage, `head-firmer-before`, `head-fewer-before` with four fifths of the images, a fifth having been left "
        "for a test that nothing looked at. isic-malignant-benign is not trained on: every benign image "
        "of it shows a lesion of HAM10000 ([audit](#the-audited-data-sets)), so that it would add malignant ones "
        "alone, and their source would tell the label. **What ships is not independent of isic2017's test split**: "
        "figures of earlier tries there were known when the settings of later ones were looked for, and when calls "
        "were evened. So its figures there are rather too good; another set must judge, as "
        "isic-malignant-benign's test split does below (`malignant-benign`, and `-before` what shipped before), of "
        "which it has seen nothing but what HAM10000 and isic2017 share with its training images, while its "
        "trunk was taught on many of these, without their labels. " + _shipped(found, cell),
        "",
        "`full-seven` and `head-seven` are trained on HAM10000 without what stands in any test split, isic2017's "
        "too; `full-seven-wide` comes with the package as `lesion-7`, as `full-seven-wide-before`, "
        "`full-seven-before` and `head-seven-before` did in their time, and before these `lesion-7-before`, the "
        "diagnoses of `head-before-builtin_names`. Each but the last was chosen on validation, and the figures of those "
        "before it on the same fold were known by then. " + _in_place(found, cell),
        "",
        f"The paper's figure is {PAPER} %, with neither interval nor leak check.",
        "",
    ]
    lines += _side_by_side(found, cell)
    for kind, title in KINDS.items():
        runs = {name: run for name, run in found.items() if kind_of(name) == kind}
        if runs:
            lines += _table(kind, title, runs, cell)
    lines += _settings(found)
    lines += ["### Time by stage", ""]
    lines += ["| | audit | decoding | features | probe | head or training | judging | machine |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, run in found.items():
        seconds, machine = run["train"]["fit"]["seconds"], run["train"]["fit"]["machine"]
        work = seconds.get("head", seconds.get("training", 0.0))
        stages = (seconds.get("audit"), seconds["decoding"], seconds.get("features"), seconds.get("probe"), work)
        stages += (seconds["judging"],)
        cells = " | ".join("" if s is None else f"{s:.1f} s" for s in stages)
        lines.append(f"| `{name}` | {cells} | {machine['device']}, {machine['threads']} threads |")
    lines += [
        "",
        "*Probe*: the head that a whole network begins with. An audit whose pairs are remembered from before takes "
        "no time, and decoded images come from the cache. Other work ran beside some of these.",
        "",
    ]
    return "\n".join(lines)


SHIPS = (
    ("head-even-before-shipped", "malignant-benign-before-official"),
    ("head-even-four-before-shipped", "malignant-benign-four-before-official"),
    ("head-wide-even-before-shipped", "malignant-benign-wide-before-official"),
    ("head-rare-even-before-shipped", "malignant-benign-rare-before-official"),
    ("head-rare-even-shipped", "malignant-benign-official"),
)
"""What shipped, from the first on, on isic2017's test split and on isic-malignant-benign's."""


def _in_place(found: Mapping[str, Any], cell: Cell) -> str:
    """What the last change of `lesion-7` did on validation, in words."""
    now, then = (found[f"full-seven-wide{way}-ham10000"]["train"]["fit"]["validation"] for way in ("", "-before"))
    told = [
        f"{humanize(figure)} {cell(now[figure], True)} in place of {cell(then[figure], True)}"
        for figure in ("accuracy", "balanced_accuracy")
    ]
    return f"The last took the place of the one before it with the trunk, at {' and '.join(told)} on validation."


def _shipped(found: Mapping[str, Any], cell: Cell) -> str:
    """Both sets' figures of what shipped, side by side."""
    pairs = [[found[name]["evaluate"]["evaluation"]["figures"]["auroc"] for name in pair] for pair in SHIPS]
    there, here = (", ".join(cell(figure) for figure in figures) for figures in zip(*pairs, strict=True))
    moved = [figures[-1]["value"] - figures[0]["value"] for figures in zip(*pairs, strict=True)]
    ways = ["rose" if by > 0 else "fell" for by in moved]
    return (
        f"From the first that shipped to this one, AUROC {ways[0]} on isic2017's test split ({there}) and "
        f"{ways[1]} on isic-malignant-benign's ({here})."
    )


def _settings(found: Mapping[str, Any]) -> list[str]:
    """What tells settings apart, as their runs recorded it."""
    lines = [
        "### Settings",
        "",
        "*Trained on*: views of each image that a head was trained on, or the mean of their features; *judged on*: "
        "whose mean was the answer. Besides, `two` was trained on melanomas and nevi alone, and in the sums of "
        "`rare` other diagnoses count as if they were a tenth as frequent as among the training images; "
        "`mirrored` and `smaller` see the spread of the stages, too. Features of a frozen trunk are in bfloat16 "
        "where it was asked for.",
        "",
        "| | side, px | training in | weight decay | class weights | weights kept | trained on | judged on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, run in found.items():
        recipe = run["train"]["config"]["recipe"]
        judged = run["evaluate"]["evaluation"].get("views") or 1
        lines.append(
            f"| `{name}` | {recipe['side']} | {precision_of(run['train'])} | {recipe['weight_decay']:g} "
            f"| {recipe['class_weights']} | {recipe['keep']} | {_trained_on(recipe)} | {judged} |"
        )
    return [*lines, ""]


def precision_of(trained: Mapping[str, Any]) -> str:
    """What was computed in; of heads older runs say what the machine would have trained in, not what was asked."""
    recipe, machine = trained["config"]["recipe"], trained["fit"]["machine"]
    if recipe["mode"] == "head":
        return "bf16" if recipe["precision"] == "bf16" else "fp32"
    return str(machine["precision"])


def _trained_on(recipe: Mapping[str, Any]) -> str:
    number = recipe.get("mean_of", 1)
    return f"mean of {number}" if recipe.get("on_means") else f"{number}"


def _side_by_side(found: Mapping[str, Any], cell: Cell) -> list[str]:
    """What each way of training on each trunk does on every test: in source, without leaks, and out of source."""
    kinds = [kind for kind in KINDS if kind != "shipped"]
    ways = list(dict.fromkeys(name.removesuffix(f"-{kind_of(name)}") for name in found if kind_of(name) in kinds))
    lines = ["### Side by side", ""]
    lines += [
        "One way of training on every test; side, weight decay and class weights differ between the tests, see "
        "[the settings](#settings).",
        "",
        "| | " + " | ".join(BESIDE[kind][0] for kind in kinds) + " |",
    ]
    lines += ["|---|" + "---|" * len(kinds)]
    for way in ways:
        runs = [(found.get(f"{way}-{kind}"), BESIDE[kind][1]) for kind in kinds]
        cells = [
            cell(run["evaluate"]["evaluation"]["figures"][key], key in PERCENT) if run else "" for run, key in runs
        ]
        lines.append(f"| `{way}` | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _table(kind: str, title: str, runs: Mapping[str, Any], cell: Cell) -> list[str]:
    shown = SHOWN.get(kind, SHOWN[""])
    chosen = "balanced_accuracy" if kind == "ham10000" else "accuracy"
    lines = [
        f"### {title}",
        "",
        "| | " + " | ".join(humanize(name) for name in shown) + f" | n | validation {humanize(chosen)} | looks |",
        "|---|" + "---|" * (len(shown) + 3),
    ]
    for name, run in runs.items():
        judged, fit = run["evaluate"]["evaluation"], run["train"]["fit"]
        cells = [cell(judged["figures"][f], f in PERCENT) if f in judged["figures"] else "" for f in shown]
        lines.append(
            f"| `{name}` | "
            + " | ".join(cells)
            + f" | {judged['n']} | {cell(fit['validation'][chosen], True)} "
            + f"| {run['evaluate']['looks_at_test']} |"
        )
    if kind == "ham10000":
        lines += ["", "Recall of each class:", ""]
        for name, run in runs.items():
            figures = run["evaluate"]["evaluation"]["figures"]
            each = [f"{f.partition(':')[2]} {cell(v, True)}" for f, v in figures.items() if f.startswith("recall:")]
            lines.append(f"- `{name}`: " + ", ".join(each))
    first = next(iter(runs.values()))["evaluate"]["evaluation"]
    lines += ["", f"Manifest of the test split: `{first['data']['digest']}`", "", "```"]
    for pair in dict.fromkeys((run["train"]["command"], run["evaluate"]["command"]) for run in runs.values()):
        lines += pair
    return [*lines, "```", ""]


def outside(found: Mapping[str, Any], cell: Cell) -> str:
    """What single settings do on sources that were not trained on: what the shipped classifier was chosen by."""
    lines = [
        "## Chosen by sources that were not trained on",
        "",
        "Trained on one source, judged on the other's training images, melanoma against nevus, AUROC: HAM10000 "
        "without isic2017's lesions on isic2017, and isic2017 on HAM10000. No test split is touched, and the two "
        "share no lesion. The trunk was taught, without labels, on HAM10000's images, those that are judged in the "
        "second column among them: that one is too good by as much as this helps. The images of the first column "
        "are also part of the test on isic2017 as a whole, on which what was chosen here is judged above: those "
        "figures have seen the choice, and are too good by as much as it fits to these images. `before`: on the "
        "trunk that came with the package before, `adapted-2`.",
        "",
        "| setting | HAM10000 to isic2017 | isic2017 to HAM10000 | mean |",
        "|---|---|---|---|",
    ]
    for name, pair in sorted(found["settings"].items(), key=lambda one: one[0].startswith("before")):
        values = [pair[way]["value"] for way in ("there", "back")]
        mean = f"{sum(values) / 2:.4f}"
        lines.append(f"| {name} | {cell(pair['there'])} | {cell(pair['back'])} | {mean} |")
    return "\n".join([*lines, "", "```", "python -m experiments.outside", "```", ""])


def views(found: Mapping[str, Any], cell: Cell) -> str:
    """What views and the probe are worth on validation."""
    lines = [
        "## Views, and a head to begin with",
        "",
        "On the validation split of isic-malignant-benign, official split, trunk `dermoscopy`, and `before` the "
        "one that came with the package before; the settings of `full` were chosen by it then, before `full` "
        "looked at its test split. `wide` sees 224 px; `full-short` had 10 epochs from a head of zeros.",
        "",
        "| | views of an image | accuracy | AUROC | cross entropy |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        f = row["figures"]
        cells = (cell(f["accuracy"], True), cell(f["auroc"]), cell(f["cross_entropy"]))
        lines.append(f"| `{row['way']}` | {row['views']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "```", "python -m experiments.views", "```", ""])


def parts(cell: Cell) -> dict[str, Callable[[Mapping[str, Any], Path], str]]:
    """By the name of the result."""
    return {
        "transfer": lambda found, _docs: transfer(found, cell),
        "views": lambda found, _docs: views(found, cell),
        "outside": lambda found, _docs: outside(found, cell),
    }
