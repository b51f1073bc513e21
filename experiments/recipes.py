"""The published recipes on isic-malignant-benign, from random weights, each judged on the test split once.

    python -m experiments.recipes

`hyperrule` and `paper` at full length (500 steps of 512 images), but at 128 px, so that each ends within the hour
on two cores: hyperrule's own setting for small images (160 -> 128), and the paper's crop of 7/8 of the side.
Beside them in the results stands `default`, from `experiments.first_light`.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, evaluate, keep, train

MICRO = ["--micro-batch", 64]
"""Images in memory at once; gradients add up, so the recipe stays what it is."""
SETTINGS: dict[str, list[object]] = {
    "hyperrule": ["--side", 128, "--resize", 160, "--crop", 0.8, 0.8, *MICRO],
    "paper": ["--side", 128, "--resize", 146, *MICRO],
}

if __name__ == "__main__":
    data = DATA / "isic-malignant-benign"
    runs = {}
    for name, flags in SETTINGS.items():
        out = RUNS / "recipes" / name
        trained = train(out, data, "--trunk", "bit-r26x0.5", "--recipe", name, "--seed", 0, *flags)
        runs[name] = {"train": trained, "evaluate": evaluate(out, data)}
        keep("recipes", {"data": "isic-malignant-benign", "split": "official", "runs": runs})
