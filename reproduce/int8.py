"""What 8 bits cost a classifier on its validation images: rows of results/int8.csv.

    python -m reproduce.int8 NAME EXPORT ...

NAME is what the classifier is called in the results. Each EXPORT is the `export.json` of
`nevus export --precision int8`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.rows import keep, show


def main() -> None:
    """Print the rows and write them."""
    name, *exports = sys.argv[1:]
    rows = []
    for path in exports:
        about = json.loads(Path(path).read_text("utf-8"))
        checked = about["checked"]
        found = {key: checked["accuracy"][key] for key in ("n", "before", "after", "difference", "ci_low", "ci_high")}
        area = checked["accuracy"]["metrics"]["auroc"]["value"]
        rows.append(
            {
                "classifier": name,
                "format": about["format"],
                **found,
                "auroc_after": area,
                "largest_difference": checked["largest_difference"],
            }
        )
    show(rows, "8 bits, on validation", digits=3)
    keep(rows, "int8", ["classifier", "format"])


if __name__ == "__main__":
    main()
