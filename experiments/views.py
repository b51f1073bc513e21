"""What views, a probe and a larger side are worth, on the validation split of each run; no test split is touched.

    python -m experiments.transfer head-dermoscopy-official full-dermoscopy-wide-official ...
    python -m experiments.views

`wide` sees 224 px. What was measured on trunks that came with the package before stays, and with it `full-short`,
10 epochs from a head of zeros, without taps.
"""

from __future__ import annotations

from experiments.common import RESULTS, RUNS, evaluate, keep, read

EVERY = (1, 4, 8, 32)
"""But 6, which are for heads that were trained on them, and 2, which 8 hold."""
FEW = (1, 8)
WAYS = {
    "head": ("head-dermoscopy-official", EVERY),
    "head-wide": ("head-dermoscopy-wide-official", FEW),
    "full": ("full-dermoscopy-official", EVERY),
    "full-wide": ("full-dermoscopy-wide-official", FEW),
}
"""Runs, and in how many views their images are seen."""


if __name__ == "__main__":
    path = RESULTS / "views.json"
    before = read(path)["rows"] if path.exists() else []
    kept = [row for row in before if row["way"].endswith("-before")]
    for way, (name, numbers) in WAYS.items():
        run = RUNS / "transfer" / name
        if not run.exists():
            kept += [row for row in before if row["way"] == way]
            continue  # it is on another machine
        for views in numbers:
            found = evaluate(run, run / "manifest.parquet", "--views", views, split="validation")
            figures = found["evaluation"]["figures"]
            shown = {name: figures[name] for name in ("accuracy", "auroc", "cross_entropy")}
            kept.append({"way": way, "views": views, "figures": shown, "command": found["command"]})
    keep("views", {"rows": kept})
