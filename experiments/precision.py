"""What bfloat16 costs: recipe `default` on isic-malignant-benign in both precisions, on its validation split only.

    python -m experiments.precision

Two seeds of each, for fewer passes than the recipe's 40: the spread between seeds is the measure of the difference.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, keep, train

EPOCHS, SEEDS = 5, (0, 1)

if __name__ == "__main__":
    found = {}
    for seed in SEEDS:
        for precision in ("bf16", "fp32"):
            out = RUNS / "precision" / f"{precision}-{seed}"
            flags = ["--epochs", EPOCHS, "--precision", precision, "--seed", seed]
            run = train(out, DATA / "isic-malignant-benign", *flags)
            run.pop("history")
            found[f"{precision}, seed {seed}"] = run
            keep("precision", {"epochs": EPOCHS, "runs": found})
