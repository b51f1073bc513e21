"""The measured rows of the presets, from finished runs to `results/headline.csv`.

    python -m reproduce.headline RUN [RUN ...]

A run is a folder that `nevus train --out RUN` wrote, with the evaluation that
`nevus evaluate RUN/manifest.parquet --bundle RUN/bundle --out RUN/evaluation` wrote into it. Each row is also added to
`results/selection_history.csv`, and the pages are rendered again.
"""

from __future__ import annotations

import json
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.render import RESULTS, render

KEY = ["preset", "data", "protocol", "data_digest"]
METRICS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc", "auroc_macro")


def row(run: Path) -> dict[str, Any]:
    """Read one run: its preset, its data, its metrics with 95 % intervals, and its minutes."""
    settings = tomllib.loads((run / "train.toml").read_text("utf-8"))
    if settings.get("overrides"):
        raise SystemExit(f"Cannot add {run}: it overrides its preset, and is no row of it. Train it without overrides.")
    evaluation = json.loads((run / "evaluation/evaluation.json").read_text("utf-8"))
    fit = json.loads((run / "fit.json").read_text("utf-8"))
    values: dict[str, Any] = {
        "preset": settings["preset"],
        "data": evaluation["data"]["name"],
        "protocol": evaluation["bundle"]["trained_on"]["protocol"],
        "classes": len(evaluation["classes"]),
        "n": evaluation["n"],
    }
    for name in METRICS:
        metric = evaluation["metrics"].get(name)
        for column, key in ((name, "value"), (f"{name}_low", "ci_low"), (f"{name}_high", "ci_high")):
            values[column] = metric[key] if metric else None
    return values | {
        "training_accuracy": fit["training_accuracy"],
        "minutes": minutes(run, fit["seconds"]),
        "machine": f"{fit['machine']['device']}, {fit['machine']['threads']} threads, {fit['machine']['precision']}",
        "bundle": evaluation["bundle"]["digest"],
        "data_digest": evaluation["data"]["digest"],
        "seed": settings["seed"],
        "date": date.today().isoformat(),
    }


def minutes(run: Path, seconds: dict[str, float]) -> float:
    """Return the minutes of a training; those of the steps before it was resumed are in its log."""
    if "training" not in seconds:
        return sum(seconds.values()) / 60
    batch = json.loads((run / "config.json").read_text("utf-8"))["config"]["batch_size"]
    lines = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    logged = sum(batch / line["images_per_second"] for line in lines if line.get("images_per_second"))
    rest = sum(value for stage, value in seconds.items() if stage != "training")
    return (rest + max(seconds["training"], logged)) / 60


def history(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as lines of the selection history."""
    return pd.DataFrame(
        {
            "setting": "preset " + rows["preset"],
            "trained_on": rows["data"],
            "auroc": rows["auroc"].fillna(rows["auroc_macro"]),
            "test_evaluations": 1,
            **{name: rows[name] for name in ("date", "data", "protocol", "data_digest", "n", "accuracy")},
        }
    )


def add(path: Path, rows: pd.DataFrame, key: list[str] | None = None) -> None:
    """Add rows to a csv file; rows with the same key replace older ones."""
    table = pd.concat([pd.read_csv(path), rows]) if path.exists() else rows
    if key:
        table = table.drop_duplicates(key, keep="last").sort_values(key)
    aside = path.with_suffix(".part")
    table.to_csv(aside, index=False, lineterminator="\n", float_format="%.6g")
    aside.replace(path)


def main(runs: list[Path]) -> None:
    """Add the rows of runs and render the pages."""
    rows = pd.DataFrame([row(run) for run in runs])
    add(RESULTS / "headline.csv", rows, KEY)
    add(RESULTS / "selection_history.csv", history(rows))
    render()


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
