"""The ISIC archive and its challenges of 2016 to 2020 and 2024."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus.data.manifest import ISIC_COLUMNS
from nevus.data.public.base import Archive, first, one_hot

_SPLIT = (("train", "train"), ("valid", "validation"), ("test", "test"))


def _split_of(path: Path) -> str:
    name = path.name.lower()
    return next((split for word, split in _SPLIT if word in name), "")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted({p for deep in ("", "*/", "*/*/") for p in folder.glob(deep + pattern)})


def _several(folder: Path, pattern: str) -> pd.DataFrame:
    """All of a challenge's ground-truth files, with the split that each one's name says; one file alone has
    none.
    """
    files = _files(folder, pattern)
    parts = [pd.read_csv(path, dtype=str).assign(split=_split_of(path)) for path in files]
    table = pd.concat(parts, ignore_index=True)
    return table if len(files) > 1 else table.assign(split="")


def _table_2016(folder: Path) -> pd.DataFrame:
    files = _files(folder, "ISBI2016_ISIC_Part3*_GroundTruth.csv")
    parts = [pd.read_csv(p, header=None, names=["id", "label"], dtype=str).assign(split=_split_of(p)) for p in files]
    table = pd.concat(parts, ignore_index=True)
    # Training says benign and malignant, test 0.0 and 1.0.
    table["label"] = table["label"].replace({"0.0": "benign", "1.0": "malignant", "0": "benign", "1": "malignant"})
    return table if len(files) > 1 else table.assign(split="")


def _table_2017(folder: Path) -> pd.DataFrame:
    """The third class is what is neither: nevus. Copies with one table, `labels.csv`, say all three there."""
    own = folder / "labels.csv"
    if own.is_file():
        table = pd.read_csv(own, dtype=str)
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
    label[table["melanoma"].astype(float) == 1] = "melanoma"
    label[table["seborrheic_keratosis"].astype(float) == 1] = "seborrheic_keratosis"
    return pd.DataFrame({"id": table["image_id"], "label": label, "split": table["split"], "image_type": "dermoscopic"})


def _recognize_2017(folder: Path) -> bool:
    own = folder / "labels.csv"
    if own.is_file():
        with own.open(encoding="utf-8") as file:
            return file.readline().strip() == "image_id,split,diagnosis,age,sex"
    return bool(_files(folder, "ISIC-2017_*Part3_GroundTruth*.csv"))


_CLASSES_2018 = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
_CLASSES_2019 = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")


def _table_2018(folder: Path) -> pd.DataFrame:
    table = _several(folder, "ISIC2018_Task3_*GroundTruth.csv")
    made = pd.DataFrame({"id": table["image"], "label": one_hot(table, _CLASSES_2018), "split": table["split"]})
    groupings = first(folder, "ISIC2018_Task3_*LesionGroupings.csv")
    if groupings:
        known = pd.read_csv(groupings, dtype=str).set_index("image")
        made["lesion_id"] = made["id"].map(known["lesion_id"])
        made["diagnosis_confirm_type"] = made["id"].map(known["diagnosis_confirm_type"])
    return made


def _table_2019(folder: Path) -> pd.DataFrame:
    table = _several(folder, "ISIC_2019_*GroundTruth.csv")
    made = pd.DataFrame({"id": table["image"], "label": one_hot(table, _CLASSES_2019), "split": table["split"]})
    files = _files(folder, "ISIC_2019_*Metadata.csv")
    if files:
        known = pd.concat([pd.read_csv(p, dtype=str) for p in files]).set_index("image")
        for column in ("age_approx", "anatom_site_general", "lesion_id", "sex"):
            if column in known.columns:
                made[column] = made["id"].map(known[column])
    return made


def _file_2020(folder: Path) -> Path | None:
    path = first(folder, "ISIC_2020_Training_GroundTruth*.csv", "train.csv")
    return path if path and _has(path, "image_name", "benign_malignant") else None


def _table_2020(folder: Path) -> pd.DataFrame:
    path = _file_2020(folder)
    assert path is not None
    table = pd.read_csv(path, dtype=str).rename(
        columns={
            "image_name": "id",
            "benign_malignant": "label",
            "anatom_site_general_challenge": "anatom_site_general",
        }
    )
    kept = ("id", "label", "patient_id", "lesion_id", "sex", "age_approx", "anatom_site_general", "diagnosis")
    return table[[c for c in kept if c in table.columns]]


def _file_2024(folder: Path) -> Path | None:
    path = first(folder, "train-metadata.csv", "ISIC_2024_Training_*GroundTruth.csv")
    return path if path and _has(path, "isic_id") else None


def _table_2024(folder: Path) -> pd.DataFrame:
    path = _file_2024(folder)
    assert path is not None
    table = pd.read_csv(path, dtype=str, low_memory=False).rename(columns={"isic_id": "id"})
    target = table["target"] if "target" in table.columns else table["malignant"]
    table["label"] = (target.astype(float) == 1).map({True: "malignant", False: "benign"})
    kept = ("id", "label", "patient_id", "lesion_id", "age_approx", "sex", "anatom_site_general", "image_type")
    return table[[c for c in kept if c in table.columns]]


def _file_archive(folder: Path) -> Path | None:
    path = first(folder, "metadata.csv")
    return path if path and _has(path, "isic_id") else None


def _table_archive(folder: Path) -> pd.DataFrame:
    """What the archive's own client writes. Older exports say `benign_malignant`, newer ones `diagnosis_1`;
    images without a definite answer are left out.
    """
    path = _file_archive(folder)
    assert path is not None
    table = pd.read_csv(path, dtype=str, low_memory=False).rename(columns={"isic_id": "id"})
    label = table["diagnosis_1"] if "diagnosis_1" in table.columns else table["benign_malignant"]
    table["label"] = label.str.lower().str.strip()
    table = table[table["label"].isin(["benign", "malignant"])]
    kept = ("id", "label", *ISIC_COLUMNS, "diagnosis", "diagnosis_2", "diagnosis_3")
    return table[[c for c in kept if c in table.columns]]


def _has(path: Path, *columns: str) -> bool:
    head = pd.read_csv(path, nrows=0).columns
    return all(c in head for c in columns)


ISIC = (
    Archive("isic2016", lambda f: bool(_files(f, "ISBI2016_ISIC_Part3*_GroundTruth.csv")), _table_2016, None),
    Archive("isic2017", _recognize_2017, _table_2017, frozenset({"melanoma"})),
    Archive(
        "isic2018",
        lambda f: bool(_files(f, "ISIC2018_Task3_*GroundTruth.csv")),
        _table_2018,
        frozenset({"mel", "bcc", "akiec"}),
    ),
    Archive(
        "isic2019",
        lambda f: bool(_files(f, "ISIC_2019_*GroundTruth.csv")),
        _table_2019,
        frozenset({"mel", "bcc", "ak", "scc"}),
    ),
    Archive("isic2020", lambda f: _file_2020(f) is not None, _table_2020, None),
    Archive("isic2024", lambda f: _file_2024(f) is not None, _table_2024, None),
    Archive("isic-archive", lambda f: _file_archive(f) is not None, _table_archive, None),
)
