"""What settings do on sources that were not trained on: the shipped classifier is chosen by it.

    python -m experiments.lesions
    python -m experiments.outside [NAME ...]

Trained on HAM10000 without isic2017's lesions and judged on isic2017's training images, and the other way round. No
test split is touched.
"""

from __future__ import annotations

import argparse

from experiments.common import RESULTS, RUNS, evaluate, keep, read, train
from experiments.transfer import (
    ADAPTED,
    ANSWER,
    AROUND,
    FIRM,
    GENERIC,
    HEAD,
    MEANS,
    RARE,
    SHORTER,
    STANDARD,
    TABLES,
    VIEWS,
)

GENTLE = ["--epochs", 4, "--lr", 0.01]
SETTINGS: dict[str, list[object]] = {
    "head, generic": ["--trunk", GENERIC, *HEAD],
    "head, dermoscopy": ["--trunk", ADAPTED, *HEAD],
    "head, dermoscopy, firm": ["--trunk", ADAPTED, *HEAD, *FIRM],
    "head, dermoscopy, last layer": ["--trunk", ADAPTED, "--mode", "head"],
    "full, dermoscopy": ["--trunk", ADAPTED, *SHORTER],
    "full, dermoscopy, strong views": ["--trunk", ADAPTED, *SHORTER, *VIEWS],
    "full, dermoscopy, probed": ["--trunk", ADAPTED, "--taps", 4, "--probe", "True", *GENTLE],
}
for _name in ("head, dermoscopy", "head, dermoscopy, firm"):
    for _apart in ("", ", two", ", rare"):
        SETTINGS[f"{_name}{_apart}, 192 px, mean of 4"] = [*SETTINGS[_name], *AROUND]
        SETTINGS[f"{_name}{_apart}, 192 px, mean of 6"] = [*SETTINGS[_name], *STANDARD]
        SETTINGS[f"{_name}{_apart}, 192 px, on means of 6"] = [*SETTINGS[_name], *MEANS]
VIEWED: dict[str, tuple[str, int]] = {
    f"head, dermoscopy, firm, {views} views": ("head, dermoscopy, firm", views) for views in (4, 8)
}
"""Settings that are judged on several views of each image: how they are trained, and how many."""
WAYS: dict[str, tuple[str, list[str], list[str], str]] = {
    "there": ("ham", ANSWER, RARE, "isic-judge"),
    "back": (
        "isic",
        ["--answer", "benign=nv,bkl", "malignant=mel"],
        ["--answer", "benign=nv,bkl:0.1", "malignant=mel"],
        "ham-judge",
    ),
}
"""By name: what is trained on, with which answer, with which where others than melanomas and nevi are to be rare,
and what is judged on.
"""


def run(name: str) -> None:
    """Train both ways, judge, and keep."""
    trained, views = VIEWED.get(name, (name, 1))
    pair = {}
    for way, (shown, answer, rare, judged) in WAYS.items():
        if ", rare" in name:
            answer = rare
        if ", two" in name:  # trained on nothing but melanomas and nevi
            shown, answer = f"{shown}-two", []
        out = RUNS / "outside" / f"{trained.replace(', ', '-').replace(' ', '-')}-{way}"
        train(out, TABLES / f"{shown}.parquet", *SETTINGS[trained], *answer, "--no-audit", "--seed", 0)
        seen = ["--views", views] if views > 1 else []
        found = evaluate(out, TABLES / f"{judged}.parquet", *seen, split="validation")
        pair[way] = found["evaluation"]["figures"]["auroc"]
    path = RESULTS / "outside.json"
    before = read(path)["settings"] if path.exists() else {}
    keep("outside", {"settings": {**before, name: pair}})


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("names", nargs="*", choices=[*SETTINGS, *VIEWED, []])
    given = words.parse_args()
    for chosen in given.names or [*SETTINGS, *VIEWED]:
        run(chosen)
