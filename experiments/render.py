"""Render docs/results.md and its figures from results/*.json: `make results`.

No figure on that page is typed by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.common import RESULTS, ROOT, read
from experiments.render_audit import AUDIT_PARTS
from experiments.render_comparison import parts as comparison_parts
from experiments.render_goals import goals
from experiments.render_head import PARTS as HEAD_PARTS
from experiments.render_transfer import parts as transfer_parts
from experiments.render_upstream import upstream_page
from nevus._io import write_text
from nevus.bundle.model_card import DISCLAIMER
from nevus.report import plots
from nevus.report.evaluation import humanize

SHOWN = (
    "accuracy",
    "balanced_accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "mcc",
    "auroc",
    "auprc",
    "brier",
    "cross_entropy",
)


def cell(figure: Mapping[str, Any], percent: bool = False) -> str:
    """`87.4 % (84.6 to 89.7)` or `0.9512 (0.934 to 0.968)`."""
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None:
        return "undefined"
    if percent and low is None:
        return f"{100 * value:.2f} %"
    if percent:
        return f"{100 * value:.2f} % ({100 * low:.1f} to {100 * high:.1f})"
    return f"{value:.4f} ({low:.3f} to {high:.3f})" if low is not None else f"{value:.4f}"


PERCENT = {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv"}


def spent(fit: Mapping[str, Any]) -> float:
    """Seconds of training, the features of a frozen trunk included."""
    return sum(
        seconds for stage, seconds in fit["seconds"].items() if stage not in ("audit", "decoding", "judging")
    )


def first_light(found: Mapping[str, Any], docs: Path) -> str:
    """The floor from random weights."""
    runs = found["runs"]
    lines = [
        "## The floor: random weights",
        "",
        f"`bit-r26x0.5` from random weights on {found['data']}, {found['split']} split; the validation split is "
        "cut from train, and chose everything; the test split was looked at once by each bundle.",
        "",
        "| | " + " | ".join(f"mode `{run['mode']}`" for run in runs) + " |",
        "|---|" + "---|" * len(runs),
    ]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    fits = [run["train"]["fit"] for run in runs]
    judged = [run["evaluate"]["evaluation"] for run in runs]
    row("test images", [str(e["n"]) for e in judged])
    for name in SHOWN:
        row(f"test {humanize(name)}", [cell(e["figures"][name], name in PERCENT) for e in judged])
    row("TP / TN / FP / FN", [" / ".join(str(e["counts"][k]) for k in ("tp", "tn", "fp", "fn")) for e in judged])
    row(
        "validation accuracy",
        [f"{cell(f['validation']['accuracy'], True)}, n {f['validation']['accuracy']['n']}" for f in fits],
    )
    row("validation AUROC", [cell(f["validation"]["auroc"]) for f in fits])
    row("training accuracy", [f"{100 * f['training_accuracy']:.2f} %, n {f['training_n']:,}" for f in fits])
    row("training less validation accuracy", [f"{100 * f['gap']:+.2f} points" for f in fits])
    row(
        "seconds to decode and train",
        [f"{f['seconds']['decoding']:.0f} + {spent(f):.0f}" for f in fits],
    )
    machines = [f["machine"] for f in fits]
    row("on", [f"{m['device']}, {m['threads']} threads, {m['precision']}" for m in machines])
    row("looks at test", [str(run["evaluate"]["looks_at_test"]) for run in runs])
    lines += [
        "",
        "Proportions have Wilson intervals, AUROC DeLong's, the others a bootstrap of whole groups "
        f"({judged[0]['bootstrap']['replicates']:,} draws); all 95 %. This set has no lesion ids, so that each "
        "image counts as a group of its own; where it repeats lesions, the intervals are too narrow. "
        "Other work ran beside the trainings, so that their seconds are no measure of speed.",
        "",
        f"Manifest of the test split: `{judged[0]['data']['digest']}`",
        "",
        "```",
        *(command for run in runs for command in (run["train"]["command"], run["evaluate"]["command"])),
        "```",
        "",
    ]
    for run in runs:
        name = f"first-light-{run['mode']}.svg"
        plots.save(plots.training_curves(run["train"]["history"], run["train"]["fit"]), docs / "figures" / name)
        lines += [f"![Accuracy and loss by epoch, mode {run['mode']}](figures/{name})", ""]
    return "\n".join(lines)


def recipe_search(found: Mapping[str, Any], _docs: Path) -> str:
    """What single changes to the recipe `default` do."""
    lines = [
        "## What single changes to the recipe `default` do",
        "",
        "Validation split only, `bit-r26x0.5` from random weights, one seed, 15 of the recipe's 40 "
        "epochs; each row changes one value. Other work ran beside some of them, so that their seconds are no "
        "measure.",
        "",
        "| setting | accuracy | AUROC | cross-entropy | training accuracy | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in found["settings"].items():
        fit = run["fit"]
        validation = fit["validation"]
        lines.append(
            f"| {name} | {cell(validation['accuracy'], True)} | {cell(validation['auroc'])} | "
            f"{cell(validation['cross_entropy'])} | {100 * fit['training_accuracy']:.1f} % | "
            f"{spent(fit):.0f} |"
        )
    commands = [run["command"] for run in found["settings"].values()]
    return "\n".join([*lines, "", "```", *commands, "```", ""])


def recipes(found: Mapping[str, Any], _docs: Path) -> str:
    """The published recipes beside the default one."""
    runs = {"default": _full(), **found["runs"]}
    lines = [
        "## Recipes, from random weights",
        "",
        f"`bit-r26x0.5` on {found['data']}, {found['split']} split, the test split looked at once by each bundle. "
        "`hyperrule` and `paper` at full length, but at 128 px where they ask for 480 and 224, which would have "
        "taken hours here (`nevus recipe` says how many). They are recipes for transfer, made for networks that "
        "have seen millions of images.",
        "",
        "| recipe | passes | test accuracy | test AUROC | validation accuracy | validation AUROC | gap | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        fit, recipe = run["train"]["fit"], run["train"]["config"]["recipe"]
        figures, validation = run["evaluate"]["evaluation"]["figures"], fit["validation"]
        passes = recipe["steps"] * recipe["batch"] / fit["training_n"]
        lines.append(
            f"| `{name}` | {passes:.0f} | {cell(figures['accuracy'], True)} | {cell(figures['auroc'])} | "
            f"{cell(validation['accuracy'], True)} | {cell(validation['auroc'])} | {100 * fit['gap']:+.1f} | "
            f"{spent(fit):.0f} |"
        )
    commands = [c for r in found["runs"].values() for c in (r["train"]["command"], r["evaluate"]["command"])]
    official = f"{runs['paper']['train']['command'].split(' --')[0]} --out runs/official --trunk bit-m-r50x1"
    return "\n".join(
        [
            *lines,
            "",
            "Other work ran beside the trainings, so that their seconds are no measure of speed.",
            "",
            "```",
            *commands,
            "```",
            "",
            "The official R50x1 wants its weights on the machine (`nevus models --download bit-m-r50x1`). They "
            "were not here, so that nothing is reported; this would do it:",
            "",
            "```",
            f"{official} --recipe paper",
            "```",
            "",
        ]
    )


def _full() -> dict[str, Any]:
    runs = read(RESULTS / "first-light.json")["runs"]
    full: dict[str, Any] = next(run for run in runs if run["mode"] == "full")
    return full


def ham10000(found: Mapping[str, Any], _docs: Path) -> str:
    """Seven classes from random weights."""
    fit, judged = found["train"]["fit"], found["evaluate"]["evaluation"]
    figures = judged["figures"]
    lines = [
        "## HAM10000, seven classes, from random weights",
        "",
        f"`bit-r26x0.5`, {found['train']['config']['recipe']['steps']:,} steps of the recipe `default`, split "
        f"{found['split']}; {judged['n']:,} test images, looked at {found['evaluate']['looks_at_test']} time. The "
        "floor for pre-training.",
        "",
        "| figure | test |",
        "|---|---|",
        *(
            f"| {humanize(name)} | {cell(figures[name], name in PERCENT)} |"
            for name in ("accuracy", "balanced_accuracy", "mcc", "auroc", "brier", "cross_entropy")
            if name in figures
        ),
        *(
            f"| {humanize(name)} | {cell(figure, True)} |"
            for name, figure in figures.items()
            if name.startswith("recall:")
        ),
        f"| validation accuracy | {cell(fit['validation']['accuracy'], True)} |",
        f"| training less validation accuracy | {100 * fit['gap']:+.2f} points |",
        "",
        f"Manifest of the test split: `{judged['data']['digest']}`",
        "",
        "```",
        found["train"]["command"],
        found["evaluate"]["command"],
        "```",
        "",
    ]
    return "\n".join(lines)


def precision(found: Mapping[str, Any], _docs: Path) -> str:
    """What bfloat16 costs."""
    lines = [
        "## What bfloat16 costs",
        "",
        f"Recipe `default`, {found['epochs']} of its 40 epochs, isic-malignant-benign, validation split only. "
        "The difference between the precisions is to be read against that between the seeds.",
        "",
        "| training | accuracy | AUROC | cross-entropy | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, run in found["runs"].items():
        v = run["fit"]["validation"]
        lines.append(
            f"| {name} | {cell(v['accuracy'], True)} | {cell(v['auroc'])} | {cell(v['cross_entropy'])} | "
            f"{run['fit']['seconds']['training']:.0f} |"
        )
    return "\n".join([*lines, "", "```", *(run["command"] for run in found["runs"].values()), "```", ""])


def speed(found: Mapping[str, Any], _docs: Path) -> str:
    """Training steps and inference beside the peers'."""
    peaks = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in found.get("peak_gflops", {}).items())
    training_in = found["rows"][0]["precision"]
    lines = [
        f"## Speed beside timm and transformers, training in {training_in}",
        "",
        f"Images a second, medians of at least {found['rounds']} turns, on {found['machine']['device']}, "
        f"{found['machine']['threads']} threads, torch {found['torch']}; same weights, one process; timm in the "
        "faster of its two memory formats. A step is forward, loss, backward and SGD. "
        + (f"The machine's matrix product runs {peaks}. " if peaks else "")
        + "*Alone* is timm before anything of ours is in the process: our kernels let the C library "
        "keep freed memory, and timm gains by that, too.",
        "",
        "| work | network | px | batch | in | nevus | timm | alone | transformers | nevus / timm | of the peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        rates = row["images_per_second"]
        alone = f"{row['timm_alone']:.1f}" if "timm_alone" in row else ""
        share = f"{100 * row['of_peak']:.0f} %" if "of_peak" in row else ""
        lines.append(
            f"| {row['work']} | `{row['network']}` | {row['side']} | {row['batch']} | {row['precision']} | "
            f"{rates['nevus']:.1f} | {rates['timm ' + row['timm_layout']]:.1f} ({row['timm_layout']}) | {alone} | "
            f"{rates['transformers']:.1f} | **{row['over_timm']:.2f}** | {share} |"
        )
    return "\n".join([*lines, "", "```", "python -m benchmarks.speed --keep", "```", ""])


def engines(found: Mapping[str, Any], _docs: Path) -> str:
    """Inference by every engine, on each machine."""
    lines = [
        "## Inference by every engine",
        "",
        "Milliseconds an image from uint8 pixels to probabilities, medians; in brackets how many times as fast as "
        "timm in PyTorch; same weights, one process, in turns. float32 where nothing else is said.",
        "",
    ]
    for one in found["machines"].values():
        lines += [*_engines(one), ""]
    return "\n".join([*lines, "```", "python -m benchmarks.engines --keep", "```", ""])


def _engines(found: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for row in found["rows"] for name in row["ms"]))
    base = names[0]
    lines = [
        f"On {found['machine']['device']}, torch {found['torch']}, OpenVINO {found['openvino']}:",
        "",
        "| network | px | cores | batch | " + " | ".join(names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    for row in found["rows"]:
        cells = [f"{row['ms'][name]:.1f} ({row['ms'][base] / row['ms'][name]:.2f})" for name in names]
        lines.append(
            f"| `{row['network']}` | {row['side']} | {row['threads']} | {row['batch']} | "
            + " | ".join(cells)
            + " |"
        )
    for name in dict.fromkeys(row["network"] for row in found["rows"]):
        one = next(row for row in found["rows"] if row["network"] == name and row["threads"] == 1)
        lines += [
            "",
            f"An image takes `{name}` {one['gigaflop']:.2f} GFLOP. One core of this machine reaches "
            f"{one['gigaflops']:.1f} GFLOP/s in a product of two large float32 matrices: at that rate, which no "
            f"network reaches as a whole, {1000 * one['gigaflop'] / one['gigaflops']:.1f} ms.",
        ]
    return lines


def memory(found: Mapping[str, Any], _docs: Path) -> str:
    """Private memory by the number of images."""
    lines = [
        "## Memory by the number of images",
        "",
        f"What a training's data takes of the process' own memory, squares of {found['side']} pixels, after "
        f"{found['batches']} batches; beside it what the squares would take if they were held.",
        "",
        "| images | growth | if held | to decode | the next time |",
        "|---|---|---|---|---|",
        *(
            f"| {row['images']:,} | {row['growth']:.0f} MB | {row['held']:.0f} MB | {row['first']:.1f} s | "
            f"{row['again']:.1f} s |"
            for row in found["rows"]
        ),
    ]
    return "\n".join([*lines, "", "```", "python -m benchmarks.memory --keep", "```", ""])


PARTS = {
    **comparison_parts(),
    **transfer_parts(cell),
    **HEAD_PARTS,
    **AUDIT_PARTS,
    "first-light": first_light,
    "recipe-search": recipe_search,
    "recipes": recipes,
    "ham10000": ham10000,
    "precision": precision,
    "speed-bfloat16": speed,
    "speed-float32": speed,
    "engines": engines,
    "memory": memory,
}


PAGES = ("upstream", "upstream-images", "lesions", "trunks", "stages", "unseen", "pooling", "sizes")
"""Results that docs/upstream.md is made of."""


GOALS_OF = ("transfer", "engines", "lesions", "cold")
"""Results that the table of what was set out for is made of."""


def render(results: Path, docs: Path) -> list[str]:
    """Write `docs/results.md`; the names of the results that it shows."""
    shown = []
    page = [
        "# Results",
        "",
        f"**{DISCLAIMER}** Each figure was written by a command of the project into `results/`, and this page is "
        "made from there by `make results`.",
        "",
    ]
    for name, part in PARTS.items():
        path = results / f"{name}.json"
        if path.exists():
            page.append(part(read(path), docs))
            shown.append(name)
            if name == "transfer":
                page.append(goals(*(read(results / f"{one}.json") for one in GOALS_OF), cell))
    write_text(docs / "results.md", "\n".join(page))
    if (results / "upstream.json").exists():
        write_text(
            docs / "upstream.md",
            upstream_page(*(read(results / f"{name}.json") for name in PAGES)),
        )
        shown.append("upstream")
    return shown


if __name__ == "__main__":
    print(json.dumps(render(RESULTS, ROOT / "docs")))
    sys.exit(0)
