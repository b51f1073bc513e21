"""What the pairs that HAM10000 gives two lesion ids mean for splits by lesion.

    python -m reproduce.lesion_ids HAM10000 AUDIT

HAM10000 is the folder of the data set; AUDIT is `audit.json` of isic-malignant-benign with HAM10000 as reference, by
which the images of that set get lesion ids. The reviewed pairs come with nevus. Rows of results/duplicates.csv:
lesion ids joined, and lesions on both sides of random splits and of the official split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.rows import keep
from sklearn.model_selection import GroupShuffleSplit

from nevus.data.public.same_lesion import same_lesion_pairs
from nevus.data.readers.dispatch import read

SPLITS = 1000
"""Random splits by lesion id: 20 % of the ids are the test split."""


def random_splits(table: pd.DataFrame) -> np.ndarray:
    """Return the lesions on both sides of each random split by lesion id, shape (SPLITS,)."""
    lesions = table.drop_duplicates("lesion_id")
    several = lesions.groupby("group").filter(lambda group: len(group) > 1)
    splitter = GroupShuffleSplit(SPLITS, test_size=0.2, random_state=0)
    counts = []
    for _, test in splitter.split(lesions, groups=lesions["lesion_id"]):
        in_test = several["lesion_id"].isin(lesions["lesion_id"].iloc[test])
        shares = in_test.groupby(several["group"]).mean()
        counts.append(int(((shares > 0) & (shares < 1)).sum()))
    return np.array(counts)


def official_split(audit: Path, table: pd.DataFrame) -> tuple[int, int]:
    """Return the joined lesions in isic-malignant-benign, and those of them on both sides of its official split."""
    pairs = pd.DataFrame(json.loads(audit.read_text("utf-8"))["pairs"])
    ours, theirs = pairs["a"], pairs["b"]
    swap = ours.str.startswith("ham10000/")
    ours, theirs = ours.where(~swap, pairs["b"]), theirs.where(~swap, pairs["a"])
    across = ours.str.startswith("isic-malignant-benign/") & theirs.str.startswith("ham10000/")
    known = table.assign(image="ham10000/" + table["image"]).set_index("image")
    rows = pd.DataFrame({"image": ours[across], "theirs": theirs[across]})
    rows["lesion_id"] = rows["theirs"].map(known["lesion_id"])
    rows["group"] = rows["theirs"].map(known["group"])
    rows["split"] = rows["image"].str.split("/").str[1]
    several = rows.groupby("group").filter(lambda group: group["lesion_id"].nunique() > 1)
    sides = several.groupby("group")["split"].nunique()
    return len(sides), int((sides > 1).sum())


def main() -> None:
    """Count, and write the rows."""
    data, audit = sys.argv[1:]
    table = read(data).table
    pairs = same_lesion_pairs()
    shows = pairs["shows"].value_counts()
    confirmed = pairs[pairs["shows"].isin(["one lesion", "one field"])]
    ids = pd.concat([confirmed["lesion_a"], confirmed["lesion_b"]]).nunique()
    lesions = table[table["lesion_id"].isin([*confirmed["lesion_a"], *confirmed["lesion_b"]])]["group"].nunique()
    crossing = random_splits(table)
    low, high = np.quantile(crossing, [0.025, 0.975])
    joined, official = official_split(Path(audit), table)
    name = "lesion ids"
    rows = [
        {"what": "lesion ids that confirmed pairs join", "value": ids},
        {"what": "lesions that they are", "value": lesions},
        {
            "what": "lesions on both sides of a random split by lesion id, mean of 1,000 splits",
            "value": crossing.mean(),
            "value_low": low,
            "value_high": high,
        },
        {"what": "of these lesions, in isic-malignant-benign", "value": joined},
        {"what": "on both sides of its official split", "value": official},
    ]
    review = {
        "table": "reviewed pairs",
        "what": "ham10000, pairs with two ids",
        "value": len(confirmed) / len(pairs),
        "n": len(pairs),
        "uncertain": shows["uncertain"],
        "wrong": shows["different lesions"],
    }
    keep([*({"table": name, **row} for row in rows), review], "duplicates", ["table", "what"])
    print(pd.DataFrame([*rows, review]).to_string(index=False))


if __name__ == "__main__":
    main()
