"""Make the corrected splits that come with the package: src/nevus/data/corrected/*.csv.

    python -m experiments.corrected

isic-malignant-benign is grouped by its own pixels and by the lesions of ham10000 and isic2017, and cut anew in the
proportions of its official split, from the lesions that its test split shows. Of ham10000 a fifth of the lesions of
each diagnosis is a fixed test fold, which holds every lesion that stands in the official test split of
isic-malignant-benign, and so in the corrected one.
"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from experiments.common import DATA, ROOT, keep
from nevus._io import write_text
from nevus.audit.lesion_groups import LesionGroups, group_lesions
from nevus.data.cache import Cache, CacheConfig, pixel_digest
from nevus.data.images import decode
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read

SEED = 0
SHARE = 0.2
SETS = ("isic-malignant-benign", "ham10000", "isic2017")


def corrected(manifest: Manifest) -> pd.DataFrame:
    """A new split: `digest`, `group`, `split`, `label`, `official`.

    Its test lesions are some of those that the official test split shows, as many of each class as keep the number
    of
    images: so whatever was trained without these can be judged on either.
    """
    table = manifest.table
    held: set[str] = set()
    rng = np.random.default_rng(SEED)
    sizes = table.groupby("group").agg(images=("group", "size"), label=("label", "first"))
    touched = sizes[sizes.index.isin(table.loc[table["split"] == "test", "group"])]
    for label, groups in touched.groupby("label"):
        wanted = int(((table["split"] == "test") & (table["label"] == label)).sum())
        order = groups.iloc[rng.permutation(len(groups))]
        held |= set(order.index[order["images"].cumsum() <= wanted])
    made = pd.DataFrame(
        {
            "digest": [pixel_digest(decode(path)) for path in manifest.paths],
            "group": table["group"],
            "split": np.where(table["group"].isin(held), "test", "train"),
            "label": table["label"],
            "official": table["split"],
        }
    )
    return made.drop_duplicates("digest").sort_values("digest")


def lesion_fold(relations: LesionGroups, codes: set[int], manifest: Manifest) -> pd.DataFrame:
    """The fixed fold of ham10000: `image`, `group`, `split`, `label`."""
    rows = (relations.images["set"] == 1).to_numpy()
    table = pd.DataFrame(
        {
            "image": [path.stem for path in manifest.paths],
            "group": relations.images["group"][rows].str.removeprefix("ham10000:").to_numpy(),
            "code": relations.codes[rows],
            "label": manifest.table["label"],
        }
    )
    test = set(table["code"]) & codes
    rng = np.random.default_rng(SEED)
    first = table.sort_values("image").drop_duplicates("code")
    for _, one in first.groupby("label"):
        wanted = SHARE * len(one)
        held = int(one["code"].isin(test).sum())
        free = one.loc[~one["code"].isin(test), "code"].to_numpy()
        test |= set(rng.permutation(free)[: max(0, round(wanted - held))].tolist())
    table["split"] = np.where(table["code"].isin(test), "test", "train")
    return table.sort_values("image")


def written(name: str, table: pd.DataFrame) -> None:
    """Into the package."""
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(ROOT / "src" / "nevus" / "data" / "corrected" / f"{name}.csv", text.getvalue())


def counted(table: pd.DataFrame, split: str = "split") -> dict[str, dict[str, int]]:
    """Images by split and class."""
    return {
        str(k): {str(c): int(n) for c, n in row.items()}
        for k, row in pd.crosstab(table[split], table["label"]).iterrows()
    }


if __name__ == "__main__":
    sets = [read(DATA / name) for name in SETS]
    relations = group_lesions(sets[0], sets[1:], Cache(CacheConfig()))
    own = relations.apply(sets[0])
    table = corrected(own)
    written(SETS[0], table[["digest", "group", "split"]])
    held = {int(code) for code in relations.codes[: len(own)][(own.table["split"] == "test").to_numpy()]}
    fold = lesion_fold(relations, held, sets[1])
    written(SETS[1], fold[["image", "group", "split"]])
    keep(
        "corrected",
        {
            SETS[0]: {
                "official": counted(table, "official"),
                "corrected": counted(table),
                "groups": int(table["group"].nunique()),
                "groups_on_two_sides": int((table.groupby("group")["split"].nunique() > 1).sum()),
                "official_groups_on_two_sides": int((table.groupby("group")["official"].nunique() > 1).sum()),
            },
            SETS[1]: {
                "fold": counted(fold),
                "groups": int(fold["group"].nunique()),
                "groups_on_two_sides": int((fold.groupby("group")["split"].nunique() > 1).sum()),
                "test_lesions_shared_with_isic_malignant_benign": len(set(fold["code"]) & held),
                "of_these_in_train": int(fold.loc[fold["code"].isin(held), "split"].eq("train").sum()),
            },
            "seed": SEED,
        },
    )
