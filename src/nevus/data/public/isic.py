"""The ISIC archive and its challenges of 2016 to 2020 and 2024."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus.data.manifest import ISIC_COLUMNS
from nevus.data.public.base import Archive, first, numbers, one_hot
from nevus.data.table_file import csv_columns, read_csv
from nevus.errors import NevusError

_SPLIT = (("train", "train"), ("valid", "validation"), ("test", "test"))


def _split_of(path: Path) -> str:
    name = path.name.lower()
    return next((split for word, split in _SPLIT if word in name), "")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted({p for deep in ("", "*/", "*/*/") for p in folder.glob(deep + pattern)})


def _several(folder: Path, pattern: str) -> pd.DataFrame:
    """Read all ground-truth files of a challenge, with the split of each one's name; a single file has none."""
    files = _files(folder, pattern)
    parts = [read_csv(path)[0].assign(split=_split_of(path)) for path in files]
    table = pd.concat(parts, ignore_index=True)
    return table if len(files) > 1 else table.assign(split="")


def _table_2016(folder: Path) -> pd.DataFrame:
    files = _files(folder, "ISBI2016_ISIC_Part3*_GroundTruth.csv")
    parts = [_two_columns(p).assign(split=_split_of(p)) for p in files]
    table = pd.concat(parts, ignore_index=True)
    # Training says benign and malignant, test 0.0 and 1.0.
    table["label"] = table["label"].replace({"0.0": "benign", "1.0": "malignant", "0": "benign", "1": "malignant"})
    return table if len(files) > 1 else table.assign(split="")


def _two_columns(path: Path) -> pd.DataFrame:
    """Read a table without header; its first row is an image, too."""
    table, _ = read_csv(path)
    if len(table.columns) != 2:
        raise NevusError(f"Cannot read '{path}': it has {len(table.columns)} columns instead of image and class.")
    first_row = pd.DataFrame([list(table.columns)], columns=["id", "label"])
    return pd.concat([first_row, table.set_axis(["id", "label"], axis=1)], ignore_index=True)


def _table_2017(folder: Path) -> pd.DataFrame:
    """Read ISIC 2017: nevus is neither of the two columns. Copies with `labels.csv` have all three classes there."""
    own = folder / "labels.csv"
    if own.is_file():
        table, _ = read_csv(own, _COLUMNS_2017)
        return pd.DataFrame(
            {
                "id": table["image_id"],
                "label": table["diagnosis"],
                "split": table["split"].replace({"valid": "validation"}),
                "age_approx": pd.to_numeric(table["age"], errors="coerce"),
                "sex": table["sex"],
                "image_type": "dermoscopic",
            }
        )
    table = _several(folder, "ISIC-2017_*Part3_GroundTruth*.csv")
    label = pd.Series("nevus", index=table.index)
    label[numbers(table["melanoma"]) == 1] = "melanoma"
    label[numbers(table["seborrheic_keratosis"]) == 1] = "seborrheic_keratosis"
    return pd.DataFrame({"id": table["image_id"], "label": label, "split": table["split"], "image_type": "dermoscopic"})


_COLUMNS_2017 = ("image_id", "split", "diagnosis", "age", "sex")


def _recognize_2017(folder: Path) -> bool:
    own = folder / "labels.csv"
    if own.is_file():
        return csv_columns(own) == _COLUMNS_2017
    columns = {"image_id", "melanoma", "seborrheic_keratosis"}
    return any(columns <= set(csv_columns(path)) for path in _files(folder, "ISIC-2017_*Part3_GroundTruth*.csv"))


_CLASSES_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
_CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def _table_2018(folder: Path) -> pd.DataFrame:
    table = _several(folder, "ISIC2018_Task3_*GroundTruth.csv")
    made = pd.DataFrame({"id": table["image"], "label": one_hot(table, _CLASSES_2018), "split": table["split"]})
    groupings = first(folder, "ISIC2018_Task3_*LesionGroupings.csv")
    if groupings:
        known = read_csv(groupings, ("image", "lesion_id", "diagnosis_confirm_type"))[0].set_index("image")
        made["lesion_id"] = made["id"].map(known["lesion_id"])
        made["diagnosis_confirm_type"] = made["id"].map(known["diagnosis_confirm_type"])
    return made


def _table_2019(folder: Path) -> pd.DataFrame:
    table = _several(folder, "ISIC_2019_*GroundTruth.csv")
    made = pd.DataFrame({"id": table["image"], "label": one_hot(table, _CLASSES_2019), "split": table["split"]})
    files = _files(folder, "ISIC_2019_*Metadata.csv")
    if files:
        known = pd.concat([read_csv(p, ("image",))[0] for p in files]).set_index("image")
        for column in ("age_approx", "anatom_site_general", "lesion_id", "sex"):
            if column in known.columns:
                values = made["id"].map(known[column])
                made[column] = pd.to_numeric(values, errors="coerce") if column == "age_approx" else values
    return made


def _file_2020(folder: Path) -> Path | None:
    path = first(folder, "ISIC_2020_Training_GroundTruth*.csv", "train.csv")
    return path if path and _has(path, "image_name", "benign_malignant") else None


def _table_2020(folder: Path) -> pd.DataFrame:
    path = _file_2020(folder)
    assert path is not None
    table = read_csv(path)[0].rename(
        columns={
            "image_name": "id",
            "benign_malignant": "label",
            "anatom_site_general_challenge": "anatom_site_general",
        }
    )
    kept = ("id", "label", "patient_id", "lesion_id", "sex", "age_approx", "anatom_site_general", "diagnosis")
    return _with_ages(table[[c for c in kept if c in table.columns]])


def _file_2024(folder: Path) -> Path | None:
    path = first(folder, "train-metadata.csv", "ISIC_2024_Training_*GroundTruth.csv")
    return path if path and _has(path, "isic_id") else None


def _table_2024(folder: Path) -> pd.DataFrame:
    path = _file_2024(folder)
    assert path is not None
    table = read_csv(path)[0].rename(columns={"isic_id": "id"})
    column = "target" if "target" in table.columns else "malignant"
    if column not in table.columns:
        raise NevusError(f"Cannot read '{path}': it has no column target or malignant.")
    table["label"] = (numbers(table[column]) == 1).map({True: "malignant", False: "benign"})
    kept = ("id", "label", "patient_id", "lesion_id", "age_approx", "sex", "anatom_site_general", "image_type")
    return _with_ages(table[[c for c in kept if c in table.columns]])


def _file_archive(folder: Path) -> Path | None:
    path = first(folder, "metadata.csv")
    columns = csv_columns(path)
    return path if "isic_id" in columns and {"diagnosis_1", "benign_malignant"} & set(columns) else None


def _table_archive(folder: Path) -> pd.DataFrame:
    """Read what the archive's own client writes: older exports have `benign_malignant`, newer ones `diagnosis_1`."""
    path = _file_archive(folder)
    assert path is not None
    table = read_csv(path)[0].rename(columns={"isic_id": "id"})
    column = "diagnosis_1" if "diagnosis_1" in table.columns else "benign_malignant"
    label = table[column].str.lower()
    table["label"] = label.where(label.isin(["benign", "malignant"]), "")  # indeterminate: listed as left out
    kept = ("id", "label", *ISIC_COLUMNS, "diagnosis", "diagnosis_2", "diagnosis_3")
    return _with_ages(table[[c for c in kept if c in table.columns]])


def _with_ages(table: pd.DataFrame) -> pd.DataFrame:
    if "age_approx" not in table.columns:
        return table
    return table.assign(age_approx=pd.to_numeric(table["age_approx"], errors="coerce"))


def _has(path: Path, *columns: str) -> bool:
    return set(columns) <= set(csv_columns(path))


def _any_has(folder: Path, pattern: str, *columns: str) -> bool:
    return any(_has(path, *columns) for path in _files(folder, pattern))


ISIC = (
    Archive("isic2016", lambda f: bool(_files(f, "ISBI2016_ISIC_Part3*_GroundTruth.csv")), _table_2016, None),
    Archive("isic2017", _recognize_2017, _table_2017, frozenset({"melanoma"})),
    Archive(
        "isic2018",
        lambda f: _any_has(f, "ISIC2018_Task3_*GroundTruth.csv", "image", "MEL", "NV"),
        _table_2018,
        frozenset({"mel", "bcc", "akiec"}),
    ),
    Archive(
        "isic2019",
        lambda f: _any_has(f, "ISIC_2019_*GroundTruth.csv", "image", "MEL", "NV"),
        _table_2019,
        frozenset({"mel", "bcc", "ak", "scc"}),
    ),
    Archive("isic2020", lambda f: _file_2020(f) is not None, _table_2020, None),
    Archive("isic2024", lambda f: _file_2024(f) is not None, _table_2024, None),
    Archive("isic-archive", lambda f: _file_archive(f) is not None, _table_archive, None),
)
