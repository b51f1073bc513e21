"""What views and a probe are worth, on the validation split of each run; no test split is touched.

    python -m experiments.transfer head-dermoscopy-official full-dermoscopy-official
    python -m experiments.views

`full-short` is what `full` was before: 10 epochs from a head of zeros, without taps.
"""

from __future__ import annotations

from experiments.common import RUNS, evaluate, keep
from nevus.runtime.views import NUMBERS

WAYS = ("head", "full-short", "full")


if __name__ == "__main__":
    kept = []
    for way in WAYS:
        run = RUNS / "transfer" / f"{way}-dermoscopy-official"
        for views in NUMBERS if way != "full-short" else (1, 8):
            found = evaluate(run, run / "manifest.parquet", "--views", views, split="validation")
            figures = found["evaluation"]["figures"]
            shown = {name: figures[name] for name in ("accuracy", "auroc", "cross_entropy")}
            kept.append({"way": way, "views": views, "figures": shown, "command": found["command"]})
    keep("views", {"rows": kept})
