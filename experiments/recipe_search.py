"""Single changes to the recipe `default` on isic-malignant-benign, on its validation split only.

    python -m experiments.recipe_search

Each setting is one run of `nevus train`; finished ones are not repeated.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, keep, train

SETTINGS: dict[str, list[object]] = {
    "as it stands": [],
    "no average of the weights": ["--average", 0],
    "MixUp 0.1": ["--mixup", 0.1],
}
"""Changes to the recipe, each alone."""

EPOCHS = 15
"""Of the recipe's 40, so that the search ends within the hour on two cores."""


if __name__ == "__main__":
    found = {}
    for name, flags in SETTINGS.items():
        out = RUNS / "recipe-search" / name.replace(" ", "-")
        found[name] = train(out, DATA / "isic-malignant-benign", "--epochs", EPOCHS, *flags)
        found[name].pop("history")
        keep("recipe-search", {"settings": found})
