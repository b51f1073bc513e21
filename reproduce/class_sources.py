"""In which public data sets the images of each class of isic-malignant-benign are.

    python -m reproduce.class_sources AUDIT ISIC_MALIGNANT_BENIGN

AUDIT is `audit.json` of isic-malignant-benign with ham10000 and isic2017 as references: an image counts as one of them
where the audit finds it, or another image of its lesion, there. Rows of results/duplicates.csv.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from benchmarks.rows import keep

from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read

DATA = "isic-malignant-benign"


def found_in(audit: Path) -> pd.DataFrame:
    """Return a row for each image of the data set and each reference that has it: `image`, `set`."""
    pairs = pd.DataFrame(json.loads(audit.read_text("utf-8"))["pairs"])[["a", "b"]]
    both = pd.concat([pairs, pairs.rename(columns={"a": "b", "b": "a"})])
    both = both[both["a"].str.startswith(f"{DATA}/")]
    table = pd.DataFrame({"image": both["a"].str.removeprefix(f"{DATA}/"), "set": both["b"].str.split("/").str[0]})
    return table[table["set"] != DATA].drop_duplicates()


def main(audit: Path, folder: str) -> None:
    """Count, and write the rows."""
    manifest: Manifest = read(folder)
    labels = manifest.table.set_index("image")["label"]
    table = found_in(audit)
    table["label"] = table["image"].map(labels)
    rows = [
        {
            "table": "class sources",
            "what": f"{label}, in {name}",
            "n": int((labels == label).sum()),
            "value": int(((table["label"] == label) & (table["set"] == name)).sum()),
        }
        for label in manifest.classes
        for name in sorted(set(table["set"]))
    ]
    print(pd.DataFrame(rows).to_string())
    keep(rows, "duplicates", ["table", "what"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
