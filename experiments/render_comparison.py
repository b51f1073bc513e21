"""The paper's table, on real data, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nevus.comparison.plan import HALVES
from nevus.comparison.published import READERS
from nevus.comparison.table import Row
from nevus.metrics.figures import Figure
from nevus.metrics.paired import DeLong, McNemar
from nevus.report import comparison_plots, plots
from nevus.report.comparison_page import cells, heads, names
from nevus.report.comparison_plots import label

TITLES = {
    "official": "isic-malignant-benign, official split",
    "leak-free": "isic-malignant-benign, leak-free",
    "random": "isic-malignant-benign, official split, networks from random weights",
    "ham10000": "HAM10000, seven classes, the fold of lesions that comes with the package",
}
LEFT_OUT = ("starts from", "the paper's %", "balanced accuracy %")
"""Columns that stand below the table, in a list, or in the CSV alone."""


def row_of(plain: Mapping[str, Any]) -> Row:
    """A row as it was kept."""
    nan = float("nan")

    def number(value: float | None) -> float:
        return nan if value is None else value

    def figures(held: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Figure] | None:
        if held is None:
            return None
        return {
            name: Figure(number(f["value"]), f["n"], number(f["low"]), number(f["high"]), f["method"])
            for name, f in held.items()
        }

    numbers = {key: number(value) for key, value in plain.items() if value is None or isinstance(value, float)}
    return Row(
        **{
            **plain,
            **{key: value for key, value in numbers.items() if key not in ("parameters", "mcnemar", "delong")},
            "figures": figures(plain["figures"]),
            "elsewhere": figures(plain["elsewhere"]),
            "accuracies": tuple(plain["accuracies"]),
            "areas": tuple(plain["areas"]),
            "mcnemar": McNemar(**plain["mcnemar"]) if plain["mcnemar"] else None,
            "delong": DeLong(**{k: number(v) for k, v in plain["delong"].items()}) if plain["delong"] else None,
        }
    )


def comparison(found: Mapping[str, Any], docs: Path) -> str:
    """A table for each protocol, and the paper's figures."""
    lines = [
        "## The table of the paper, with intervals",
        "",
        "Each system on the same split and machine, chosen on validation, looked at the test split once; in "
        "percent with 95 % intervals. McNemar's and DeLong's tests are against the BiT of the same part of the "
        "table, p after Holm's correction. Parts began differently and are not ranked with one another. "
        "*Elsewhere*: isic2017 without the lesions of this set, melanoma against the rest.",
        "",
    ]
    for key, title in TITLES.items():
        if key in found:
            lines += _part(key, title, found[key], docs)
    lines += [
        "Dermatologists, **on other images**: "
        + "; ".join(
            f"{r.readers} ({r.study}, {r.images}) sensitivity {100 * r.sensitivity:.1f} %, "
            f"specificity {100 * r.specificity:.1f} %"
            for r in READERS
        )
        + ".",
        "",
    ]
    return "\n".join(lines)


def _part(key: str, title: str, one: Mapping[str, Any], docs: Path) -> list[str]:
    found = [row_of(plain) for plain in one["rows"]]
    columns, shown = heads(found), names(found)
    kept = [k for k, head in enumerate(columns) if head not in LEFT_OUT]
    away = any(row.elsewhere for row in found)
    lines = [
        f"### {title}",
        "",
        f"{one['about']['n']['test']} test images"
        + (f", {one['about']['n']['elsewhere']:,} from elsewhere" if away else "")
        + f"; on {one['machine']['device']}, {one['machine']['threads']} threads.",
        "",
        "| system | " + " | ".join(columns[k] for k in kept) + " |",
        "|---|" + "---|" * len(kept),
    ]
    for half, words in HALVES.items():
        ours = [row for row in found if row.half == half]
        if ours:
            lines.append(f"| *{words}* |" + " |" * len(kept))
        for row in ours:
            if row.failure:
                lines.append(f"| {label(row)} | {row.failure} |" + " |" * (len(kept) - 1))
                continue
            values = cells(row, shown, elsewhere=away)
            lines.append(f"| {label(row)} | " + " | ".join(values[k] for k in kept) + " |")
    starts = {f"{label(row)}: {row.start}": None for row in found if row.half != "features" and row.start}
    lines += ["", "The networks start from:", "", *(f"- {text}" for text in starts), ""]
    lines += [f"Manifest of the test split: `{one['about']['data']['test']['digest']}`", ""]
    lines += ["```", *one["commands"], "```", ""]
    for name, draw in (
        ("accuracy", comparison_plots.accuracies),
        ("time", comparison_plots.times),
        ("trade", comparison_plots.trade),
    ):
        file = f"comparison-{key}-{name}.svg"
        plots.save(draw(found), docs / "figures" / file)
        lines += [f"![{title}: {name}](figures/{file})", ""]
    return lines


def parts() -> dict[str, Callable[[Mapping[str, Any], Path], str]]:
    """By the name of the result."""
    return {"comparison": comparison}
