"""The measured row of each preset, from finished runs to `results/presets.csv` and the page of results.

    python -m reproduce.presets RUN [RUN ...]    # add the rows of runs, then write the table
    python -m reproduce.presets                  # write the table again

A run is a folder that `nevus train --out RUN` wrote, with the evaluation that
`nevus evaluate RUN/manifest.parquet --bundle RUN/bundle --out RUN/evaluation` wrote into it.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "results/presets.csv"
PAGE = ROOT / "docs/results.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- presets: begin -->", "<!-- presets: end -->"
PAPER = 88.13
"""Accuracy in percent that the paper reports for BiT on this data set, see docs/explanation/bit.md."""
HEADLINE = "isic-malignant-benign"
KEY = ["preset", "data", "protocol", "data digest"]
METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")


def row(run: Path) -> dict[str, Any]:
    """Read one run: its preset, its data, its metrics with 95 % intervals, and its seconds."""
    settings = tomllib.loads((run / "train.toml").read_text("utf-8"))
    if settings.get("overrides"):
        raise SystemExit(f"Cannot add {run}: it overrides its preset, and is no row of it. Train it without overrides.")
    evaluation = json.loads((run / "evaluation/evaluation.json").read_text("utf-8"))
    fit = json.loads((run / "fit.json").read_text("utf-8"))
    trained_on = evaluation["bundle"]["trained_on"]
    values: dict[str, Any] = {
        "preset": settings["preset"],
        "data": evaluation["data"]["name"],
        "protocol": trained_on["protocol"],
        "classes": len(evaluation["classes"]),
        "n": evaluation["n"],
    }
    for name in METRICS:
        metric = evaluation["metrics"].get(name)
        for column, key in ((name, "value"), (f"{name} low", "ci_low"), (f"{name} high", "ci_high")):
            values[column] = metric[key] if metric else None
    return values | {
        "training accuracy": fit["training_accuracy"],
        "minutes": sum(fit["seconds"].values()) / 60,
        "machine": f"{fit['machine']['device']}, {fit['machine']['threads']} threads, {fit['machine']['precision']}",
        "bundle": evaluation["bundle"]["digest"],
        "data digest": evaluation["data"]["digest"],
    }


def markdown(rows: pd.DataFrame) -> str:
    """Write the rows as a table for the page."""

    def cell(values: pd.Series[Any], name: str, factor: float, digits: int) -> str:
        if pd.isna(values[name]):
            return "–"
        value, low, high = (factor * float(values[key]) for key in (name, f"{name} low", f"{name} high"))
        return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

    lines = [
        "| preset | data | split | n | accuracy % | balanced accuracy % | AUROC | training accuracy % | minutes "
        "| machine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for _, values in rows.iterrows():
        auroc = "auroc" if not pd.isna(values["auroc"]) else "auroc_macro"
        lines.append(
            f"| `{values['preset']}` | {values['data']}, {values['classes']} classes | {values['protocol']} "
            f"| {values['n']:,} | {cell(values, 'accuracy', 100, 2)} | {cell(values, 'balanced_accuracy', 100, 2)} "
            f"| {cell(values, auroc, 1, 3)} | {100 * values['training accuracy']:.2f} | {values['minutes']:.1f} "
            f"| {values['machine']} |"
        )
    return "\n".join(lines)


def headline(rows: pd.DataFrame) -> str:
    """Write the rows of the paper's data set as one list for the README."""
    lines = [f"On the test split of {HEADLINE} (the paper reports an accuracy of {PAPER} %):", ""]
    for _, values in rows[rows["data"] == HEADLINE].iterrows():
        low, high = (100 * values[f"accuracy {end}"] for end in ("low", "high"))
        lines.append(
            f"- `--preset {values['preset']}`, {values['protocol']} split: accuracy {100 * values['accuracy']:.2f} % "
            f"({low:.2f}–{high:.2f}), AUROC {values['auroc']:.3f}, {values['minutes']:.0f} min on two CPU threads"
        )
    return "\n".join(lines)


def insert(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


def main(runs: list[Path]) -> None:
    """Add the rows of runs and write the table."""
    rows = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame(columns=KEY)
    new = pd.DataFrame([row(run) for run in runs])
    rows = new if rows.empty else pd.concat([rows, new]) if runs else rows
    rows = rows.drop_duplicates(KEY, keep="last").sort_values(["data", "protocol", "preset"])
    aside = TABLE.with_suffix(".part")
    rows.to_csv(aside, index=False, lineterminator="\n")
    aside.replace(TABLE)
    insert(PAGE, markdown(rows))
    insert(README, headline(rows))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
