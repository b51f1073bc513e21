"""Tables of lesions to train on and to judge on, none of which shares a lesion with a test split that judges it.

    python -m experiments.lesions

Written into runs/lesions: `upstream` (to be taught on, no labels: HAM10000, and isic-malignant-benign's training
images, without the lesions on which trunks are compared), `ham` (to train on without isic2017), `ham-two` (its
melanomas and nevi), `both` (with isic2017's training and validation images), `isic` (these alone), `isic-two`,
`seven` (HAM10000, for its seven diagnoses), to choose by `isic-judge` and `ham-judge`
(melanoma against nevus, what the
other one is not trained on), and to judge on `isic2017-nevus` (melanoma against nevus, the whole set),
`isic2017-test` (melanoma against the rest, the challenge's test split), `ham-test` (the fold of HAM10000 that
comes with the package) and `isic2017-elsewhere` (melanoma against the rest, without the lesions of
isic-malignant-benign). What is said of a lesion by follow-up alone is left out of training for sets from elsewhere:
half of HAM10000's nevi, nearly all from one device, so that the device would tell the label.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.common import DATA, RUNS, keep
from nevus.audit.lesion_groups import LesionGroups, group_lesions
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import REQUIRED, Manifest, ordered_classes
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import read
from nevus.training.history import StageTimer
from nevus.training.preparation import Preparation

TABLES = RUNS / "lesions"
SETS = ("ham10000", "isic-malignant-benign", "isic2017")
NAMES = {"melanoma": "mel", "nevus": "nv", "seborrheic_keratosis": "bkl"}
"""Of isic2017 in HAM10000's words: its 'benign keratosis' holds seborrheic keratoses, and more."""
MALIGNANT = ("mel", "bcc", "akiec")


@cache
def related() -> tuple[list[Manifest], LesionGroups]:
    """The three sets, and which of their images show one lesion."""
    sets = [with_corrected_split(read(DATA / SETS[0])), *(read(DATA / name) for name in SETS[1:])]
    return sets, group_lesions(sets[0], sets[1:], Cache(CacheConfig()))


def free(number: int, *, of_isic2017: bool) -> NDArray[np.bool_]:
    """Rows of a set that show no lesion of a test split, nor, where asked for, any of isic2017."""
    _, relations = related()
    images = relations.images
    seen = (images["split"] == "test").to_numpy() | (of_isic2017 & (images["set"] == 2).to_numpy())
    forbidden = list(set(relations.codes[seen].tolist()))
    return ~np.isin(relations.codes[(images["set"] == number).to_numpy()], forbidden)


def rows_of(number: int, which: NDArray[np.bool_], split: str = "") -> pd.DataFrame:
    """Rows of a set with absolute paths and the groups that were found."""
    sets, relations = related()
    own = (relations.images["set"] == number).to_numpy()
    table = sets[number].table.assign(
        image=[str(path.absolute()) for path in sets[number].paths],
        group=[f"lesion-{code}" for code in relations.codes[own]],
        split=split,
    )
    kept = [*REQUIRED, *(name for name in ("lesion_id", "diagnosis_confirm_type") if name in table.columns)]
    return table.loc[which, kept].replace({"label": NAMES})


def confirmed() -> NDArray[np.bool_]:
    """Rows of HAM10000 whose diagnosis rests on more than follow-up."""
    column = related()[0][0].table["diagnosis_confirm_type"].astype(str)
    return ~column.str.contains("follow", case=False).to_numpy()


def taught() -> NDArray[np.bool_]:
    """Rows of isic-malignant-benign to be taught on: not its test split, nor what trainings on it validate on."""
    sets, relations = related()
    codes = relations.codes[(relations.images["set"] == 1).to_numpy()]
    cut, _ = Preparation().of(sets[1], StageTimer())
    held = sets[1].table["image"].isin(cut.split("validation").table["image"]).to_numpy()
    return free(1, of_isic2017=True) & ~np.isin(codes, codes[held]) & (sets[1].table["split"] == "train").to_numpy()


def elsewhere() -> NDArray[np.bool_]:
    """Rows of isic2017 that show no lesion of isic-malignant-benign."""
    _, relations = related()
    of = relations.images["set"].to_numpy()
    return ~np.isin(relations.codes[of == 2], relations.codes[of == 1])


def two(table: pd.DataFrame) -> pd.DataFrame:
    """Benign or malignant, in place of diagnoses."""
    return table.assign(label=np.where(table["label"].isin(MALIGNANT), "malignant", "benign"))


def tables() -> dict[str, pd.DataFrame]:
    """By name."""
    sets, _ = related()
    isic = sets[2].table
    nevus = isic["label"].isin(["melanoma", "nevus"]).to_numpy()
    test = (isic["split"] == "test").to_numpy()
    fold = (sets[0].table["split"] == "test").to_numpy()
    apart = free(0, of_isic2017=True)
    told = sets[0].table["label"].isin(["mel", "nv"]).to_numpy()
    return {
        "upstream": pd.concat([rows_of(0, apart, "train"), rows_of(1, taught(), "train")], ignore_index=True),
        "ham": rows_of(0, apart & confirmed()),
        "ham-two": two(rows_of(0, apart & confirmed() & told)),
        "both": pd.concat(
            [rows_of(0, free(0, of_isic2017=False) & confirmed()), rows_of(2, free(2, of_isic2017=False) & ~test)],
            ignore_index=True,
        ),
        "seven": rows_of(0, free(0, of_isic2017=False)),
        "isic": rows_of(2, free(2, of_isic2017=False) & ~test),
        "isic-two": two(rows_of(2, free(2, of_isic2017=False) & ~test & nevus)),
        "isic-judge": two(rows_of(2, free(2, of_isic2017=False) & ~test & nevus, "validation")),
        "ham-judge": two(rows_of(0, apart & confirmed() & told, "validation")),
        "isic2017-nevus": two(rows_of(2, nevus, "test")),
        "isic2017-test": two(rows_of(2, test, "test")),
        "ham-test": rows_of(0, fold, "test"),
        "isic2017-elsewhere": two(rows_of(2, elsewhere(), "test")),
    }


def written(name: str, table: pd.DataFrame) -> Path:
    """Write a table; its path."""
    path = TABLES / f"{name}.parquet"
    TABLES.mkdir(parents=True, exist_ok=True)
    table = table.fillna("").reset_index(drop=True)
    Manifest(table, Path("/"), ordered_classes(table["label"]), name).save(path)
    return path


if __name__ == "__main__":
    counts = {}
    for name, table in tables().items():
        written(name, table)
        by = table.groupby(["source", "label"]).size()
        counts[name] = {f"{source} {label}": int(n) for (source, label), n in by.items()}
        print(name, counts[name])
    keep("lesions", counts)
