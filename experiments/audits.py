"""Audit the real data sets, and see what of HAM10000's known repeats is found from pixels alone.

python -m experiments.audits
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.common import DATA, RUNS, keep, nevus, read
from nevus.data.readers.dispatch import read as read_data

AUDITS: dict[str, tuple[str, ...]] = {
    "isic-malignant-benign": (),
    "isic-malignant-benign against ham10000 and isic2017": ("ham10000", "isic2017"),
    "ham10000": (),
    "isic2017": (),
}
KEPT = (
    "data",
    "against",
    "counts",
    "warnings",
    "shortcuts",
    "sources",
    "sources_are_clusters",
    "labels_in_other_sets",
)


def known_repeats(pairs: pd.DataFrame) -> dict[str, Any]:
    """Found pairs of HAM10000 beside its lesion ids."""
    table = read_data(DATA / "ham10000").table
    lesion = dict(zip("ham10000/" + table["image"], table["lesion_id"], strict=True))
    dx = dict(zip("ham10000/" + table["image"], table["label"], strict=True))
    one = pairs["a"].map(lesion) == pairs["b"].map(lesion)
    sizes = table["lesion_id"].value_counts()
    groups = table[table["lesion_id"].map(sizes) > 1]
    found = set(pairs["a"][one]) | set(pairs["b"][one])
    others = pairs[~one]
    return {
        "repeats": int((sizes * (sizes - 1) // 2).sum()),
        "found": int(one.sum()),
        "images_with_repeats": len(groups),
        "images_joined_to_a_repeat": int(("ham10000/" + groups["image"]).isin(found).sum()),
        "joined_with_two_ids": len(others),
        "of_these_with_one_diagnosis": int((others["a"].map(dx) == others["b"].map(dx)).sum()),
        "by_kind": {str(k): int(v) for k, v in others["kind"].value_counts().items()},
    }


if __name__ == "__main__":
    found: dict[str, Any] = {}
    for name, others in AUDITS.items():
        out = RUNS / "audits" / name.replace(" ", "-")
        words = ["audit", DATA / name.split()[0], "--out", out]
        if others:
            words += ["--against", *(DATA / other for other in others)]
        command = nevus(*words)
        result = read(out / "audit.json")
        found[name] = {"command": command, **{key: result[key] for key in KEPT}}
        if name == "ham10000":
            found[name]["known_repeats"] = known_repeats(pd.DataFrame(result["pairs"]))
    keep("audits", {"audits": found})
