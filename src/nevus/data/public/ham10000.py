"""HAM10000 (Tschandl et al. 2018): 10,015 dermoscopic images of seven diagnoses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus.data.public.base import Archive, first
from nevus.data.table_file import csv_columns, read_csv

COLUMNS = ("image_id", "dx", "lesion_id", "dx_type", "age", "sex", "localization")


def _file(folder: Path) -> Path | None:
    # The archive itself ships .tab, which is separated by tabs or commas.
    path = first(folder, "HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata")
    return path if {"image_id", "dx"} <= set(csv_columns(path)) else None


def _table(folder: Path) -> pd.DataFrame:
    path = _file(folder)
    assert path is not None
    table, _ = read_csv(path, COLUMNS)
    values = {
        "id": table["image_id"],
        "label": table["dx"],
        "lesion_id": table["lesion_id"],
        "age_approx": pd.to_numeric(table["age"], errors="coerce"),
        "sex": table["sex"],
        "anatom_site_general": table["localization"],
        "image_type": "dermoscopic",
        "diagnosis_confirm_type": table["dx_type"],
    }
    if "dataset" in table.columns:  # rosendahl, vidir_modern, vienna_dias, vidir_molemax
        values["source"] = "ham10000:" + table["dataset"]
    return pd.DataFrame(values)


HAM10000 = Archive("ham10000", lambda f: _file(f) is not None, _table, frozenset({"mel", "bcc", "akiec"}))
