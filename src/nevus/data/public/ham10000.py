"""HAM10000 (Tschandl et al. 2018): 10,015 dermoscopic images of seven diagnoses."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nevus.data.public.base import Archive, first


def _file(folder: Path) -> Path | None:
    return first(folder, "HAM10000_metadata.csv", "HAM10000_metadata")


def _table(folder: Path) -> pd.DataFrame:
    path = _file(folder)
    assert path is not None
    table = pd.read_csv(path, dtype=str)
    return pd.DataFrame(
        {
            "id": table["image_id"],
            "label": table["dx"],
            "lesion_id": table["lesion_id"],
            "age_approx": table["age"],
            "sex": table["sex"],
            "anatom_site_general": table["localization"],
            "image_type": "dermoscopic",
            "diagnosis_confirm_type": table["dx_type"],
        }
    )


HAM10000 = Archive("ham10000", lambda f: _file(f) is not None, _table, frozenset({"mel", "bcc", "akiec"}))
