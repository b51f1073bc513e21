"""Choose the recipe `default` for isic-malignant-benign, on its validation split only.

    python -m experiments.recipe_search

Each setting is one run of `nevus train`; finished ones are not repeated.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, keep, train

SETTINGS: dict[str, list[object]] = {
    "lr 0.03": ["--lr", 0.03],
    "lr 0.1": ["--lr", 0.1],
    "lr 0.1, no clipping": ["--lr", 0.1, "--clip", 0],
    "weight decay 1e-4": ["--weight-decay", 1e-4],
    "no average": ["--average", 0],
    "MixUp 0.1": ["--mixup", 0.1],
    "whole recipe": [],
}

if __name__ == "__main__":
    found = {}
    for name, flags in SETTINGS.items():
        out = RUNS / "recipe-search" / name.replace(" ", "-").replace(",", "")
        found[name] = train(out, DATA / "isic-malignant-benign", *flags)
        found[name].pop("history")
        keep("recipe-search", {"settings": found})
