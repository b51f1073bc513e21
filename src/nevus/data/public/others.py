"""PAD-UFES-20, Fitzpatrick17k, Derm7pt and PH2."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus.data.public.base import Archive, first
from nevus.data.table_file import csv_columns, read_csv
from nevus.errors import NevusError

_PAD = ("img_id", "diagnostic", "patient_id", "lesion_id", "age", "gender", "region", "fitspatrick", "biopsed")
_FITZPATRICK = ("md5hash", "three_partition_label", "label", "fitzpatrick_scale")
_DERM7PT = ("derm", "clinic", "diagnosis", "case_num", "sex", "location")
ROMAN = {"1": "I", "2": "II", "3": "III", "4": "IV", "5": "V", "6": "VI"}


def _roman(column: pd.Series[str]) -> pd.Series[str]:
    """Fitzpatrick types as the ISIC archive writes them; what is no type (-1, empty) is unknown."""
    return column.astype(str).str.replace(r"\.0$", "", regex=True).map(ROMAN)


def _file_pad(folder: Path) -> Path | None:
    path = first(folder, "metadata.csv")
    return path if set(_PAD) <= set(csv_columns(path)) else None


def _table_pad(folder: Path) -> pd.DataFrame:
    """PAD-UFES-20 (Pacheco et al. 2020): telephone photographs, six diagnoses."""
    path = _file_pad(folder)
    assert path is not None
    table, _ = read_csv(path, _PAD)
    return pd.DataFrame(
        {
            "id": table["img_id"],
            "label": table["diagnostic"].str.lower(),
            "patient_id": table["patient_id"],
            "lesion_id": table["lesion_id"],
            "age_approx": pd.to_numeric(table["age"], errors="coerce"),
            "sex": table["gender"].str.lower(),
            "anatom_site_general": table["region"].str.lower(),
            "fitzpatrick_skin_type": _roman(table["fitspatrick"]),
            "image_type": "clinical",
            "diagnosis_confirm_type": table["biopsed"]
            .str.lower()
            .map({"true": "histopathology", "false": "clinical consensus"}),
        }
    )


def _file_fitzpatrick(folder: Path) -> Path | None:
    path = first(folder, "fitzpatrick17k.csv")
    return path if set(_FITZPATRICK) <= set(csv_columns(path)) else None


def _table_fitzpatrick(folder: Path) -> pd.DataFrame:
    """Read Fitzpatrick17k (Groh et al. 2021): clinical photographs from two atlases.

    The label is its partition into benign, malignant and non-neoplastic; the column `disease` has the disease.
    """
    path = _file_fitzpatrick(folder)
    assert path is not None
    table, _ = read_csv(path, _FITZPATRICK)
    return pd.DataFrame(
        {
            "id": table["md5hash"],
            "label": table["three_partition_label"],
            "disease": table["label"],
            "fitzpatrick_skin_type": _roman(table["fitzpatrick_scale"]),
            "image_type": "clinical",
        }
    )


def _file_derm7pt(folder: Path) -> Path | None:
    path = first(folder, "meta/meta.csv", "meta.csv")
    return path if {"derm", "clinic", "diagnosis"} <= set(csv_columns(path)) else None


def _table_derm7pt(folder: Path) -> pd.DataFrame:
    """Read Derm7pt (Kawahara et al. 2019): a dermoscopic and a clinical image of each case, with its own split.

    The two images of a case are one group. Nevi of every kind are `nevus`, melanomas of every stage `melanoma`.
    """
    path = _file_derm7pt(folder)
    assert path is not None
    table, _ = read_csv(path, _DERM7PT)
    label = table["diagnosis"].str.lower()
    label = label.where(~label.str.contains("nevus"), "nevus").where(~label.str.contains("melanoma"), "melanoma")
    split = pd.Series("", index=table.index)
    for name, of in (("train", "train"), ("valid", "validation"), ("test", "test")):
        indexes = path.with_name(f"{name}_indexes.csv")
        if indexes.is_file():
            split.iloc[_indexes(indexes, len(table))] = of
    common = {
        "label": label,
        "lesion_id": table["case_num"],
        "sex": table["sex"],
        "anatom_site_general": table["location"],
        "diagnosis": table["diagnosis"],
        "split": split,
    }
    parts = [
        pd.DataFrame({"id": table[column], "image_type": kind, **common})
        for column, kind in (("derm", "dermoscopic"), ("clinic", "clinical"))
    ]
    both = pd.concat(parts, ignore_index=True)
    return both.assign(id=["images/" + name if not name.startswith("images/") else name for name in both["id"]])


_PH2 = {"0": "nevus", "1": "atypical nevus", "2": "melanoma"}


def _indexes(path: Path, images: int) -> list[int]:
    column = read_csv(path, ("indexes",))[0]["indexes"]
    found = pd.to_numeric(column, errors="coerce")
    wrong = found.isna() | (found < 0) | (found >= images)
    if wrong.any():
        raise NevusError(f"Cannot read '{path}': '{column[wrong].iloc[0]}' is no row of {images} images.")
    return found.astype(int).tolist()


def _file_ph2(folder: Path) -> Path | None:
    return first(folder, "PH2_dataset.txt")


def _table_ph2(folder: Path) -> pd.DataFrame:
    """PH2 (Mendonca et al. 2013): 200 dermoscopic images. Its table is text with columns between `||`."""
    path = _file_ph2(folder)
    assert path is not None
    rows, place = [], None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [cell.strip() for cell in line.strip().removeprefix("||").removesuffix("||").split("||")]
        if "Clinical Diagnosis" in cells:
            place = cells.index("Clinical Diagnosis")
        elif cells[0].startswith("IMD") and place is not None:
            said = cells[place] if place < len(cells) else ""
            if said not in _PH2:
                raise NevusError(
                    f"Cannot read '{path}': the clinical diagnosis '{said}' of {cells[0]} is none of 0, 1, 2."
                )
            rows.append({"id": cells[0], "label": _PH2[said], "image_type": "dermoscopic"})
    if not rows:
        raise NevusError(f"Cannot read '{path}': it lists no images. Unpack PH2 again.")
    return pd.DataFrame(rows)


PAD_UFES_20 = Archive("pad-ufes-20", lambda f: _file_pad(f) is not None, _table_pad, frozenset({"mel", "bcc", "scc"}))
FITZPATRICK17K = Archive(
    "fitzpatrick17k", lambda f: _file_fitzpatrick(f) is not None, _table_fitzpatrick, frozenset({"malignant"})
)
DERM7PT = Archive(
    "derm7pt",
    lambda f: _file_derm7pt(f) is not None,
    _table_derm7pt,
    frozenset({"melanoma", "basal cell carcinoma"}),
)
PH2 = Archive("ph2", lambda f: _file_ph2(f) is not None, _table_ph2, frozenset({"melanoma"}))
