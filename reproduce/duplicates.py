"""Precision and recall of the duplicate check, on the half of HAM10000 that its thresholds were not chosen on.

    python -m reproduce.duplicates HAM10000 [AUDIT ...]

To that half of the lesions come edited copies of 2,000 of its images, each edited in one way. Which pairs are true is
known by the edit, or by `lesion_id`. Many pairs with two ids are of one lesion all the same, as a review shows. So the
number of false pairs is estimated from those with two diagnoses: how often two lesions that look alike have two is
known from pairs with so few matching key points that chance gives them. Rows of results/duplicates.csv, and what every
audit's page says of its own check (`thresholds.json`). The counts of each AUDIT, an `audit.json`, are rows, too.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks.edits import EDITED
from benchmarks.rows import keep
from PIL import Image

from nevus.auditing.duplicates.search import find_pairs
from nevus.auditing.duplicates.thresholds import default_thresholds
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE
from nevus.data.readers.dispatch import read
from nevus.metrics.intervals import wilson_interval

EDITS = 2000
"""Images that are edited."""
LOOSE = {"near_duplicate": 0.3, "overlap": 0.0, "matches": 4, "same_lesion": 0.2}
"""Thresholds so low that pairs of different lesions are found."""
AUDIT_COUNTS = {
    "images": "images",
    "near-duplicate pairs": "near_duplicate_pairs",
    "same-lesion pairs": "same_lesion_pairs",
    "groups across splits": "groups_across_splits",
    "training images that leak": "leaking_training_images",
    "test images that leak": "leaking_test_images",
}
"""Counts of an audit, by what they are called in the results."""
MEASURED = Path(__file__).resolve().parents[1] / "src" / "nevus" / "auditing" / "duplicates" / "thresholds.json"


def held_out(data: Manifest, folder: Path) -> Manifest:
    """Return the second half of the lesions, with edited copies, which are written to a folder."""
    lesions = np.random.default_rng(0).permutation(sorted(set(data.table["lesion_id"])))
    own = data.table[data.table["lesion_id"].isin(lesions[1::2])]
    paths = [str((data.root / image).absolute()) for image in own["image"]]
    own = own.assign(image=paths, origin=paths, edit="")
    rng, names, rows = np.random.default_rng(1), list(EDITED), []
    for number, row in enumerate(rng.choice(len(own), EDITS, replace=False).tolist()):
        source, name = own.iloc[row], names[number % len(names)]
        path = folder / f"{number}.jpg"
        with Image.open(source["image"]) as image:
            EDITED[name](image.convert("RGB"), rng).save(path, quality=90)
        rows.append({**source, "image": str(path), "edit": name})
    return data.with_table(pd.concat([own, pd.DataFrame(rows)], ignore_index=True))


def described(pairs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs with what is known of them."""
    a, b = (images.iloc[pairs[side]].reset_index(drop=True) for side in ("a", "b"))
    return pairs.assign(
        true=(a["lesion_id"] == b["lesion_id"]).to_numpy(),
        same_image=(a["origin"] == b["origin"]).to_numpy(),
        two_diagnoses=(a["label"] != b["label"]).to_numpy(),
        edit=np.where(a["edit"] == "", b["edit"], a["edit"]),
        edits=(a["edit"] != "").to_numpy().astype(int) + (b["edit"] != "").to_numpy(),
    )


def share(found: int, n: int) -> dict[str, Any]:
    """Return a proportion with its Wilson interval."""
    low, high = wilson_interval(found, n)
    return {"value": found / n, "low": low, "high": high, "n": n}


def measure(pairs: pd.DataFrame, loose: pd.DataFrame, images: pd.DataFrame) -> dict[str, Any]:
    """Return precision and recall.

    Args:
        pairs: that were found.
        loose: pairs at the thresholds `LOOSE`.
        images: all images.

    """
    by_chance = loose[(loose["edits"] == 0) & ~loose["true"] & (loose["matches"] == LOOSE["matches"])]
    chance = float(by_chance["two_diagnoses"].mean())
    plain, copies = pairs[pairs["edits"] == 0], pairs[(pairs["kind"] != "same_lesion") & (pairs["edits"] == 1)]
    direct = pairs[pairs["same_image"] & (pairs["edits"] == 1)]
    edits = images.loc[images["edit"] != "", "edit"].value_counts(sort=False)
    sizes = images.loc[images["edit"] == "", "lesion_id"].value_counts()
    two, n = int(plain["two_diagnoses"].sum()), len(plain)
    wrong = share(two, n)
    return {
        "images": len(images),
        "precision": {
            "pairs": n,
            "two_diagnoses": two,
            "value": 1 - min(1.0, wrong["value"] / chance),
            "low": 1 - min(1.0, wrong["high"] / chance),
            "high": 1 - min(1.0, wrong["low"] / chance),
            "by_lesion_id": float(plain["true"].mean()),
        },
        "precision_of_copies": share(int(copies["true"].sum()), len(copies)),
        "recall_of_edits": {name: share(int((direct["edit"] == name).sum()), int(k)) for name, k in edits.items()},
        "recall_of_all_edits": share(len(direct), int(edits.sum())),
        "recall_of_lesions": share(int(plain["true"].sum()), int((sizes * (sizes - 1) // 2).sum())),
    }


def table_rows(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of results/duplicates.csv."""
    named = {
        "precision of pairs of one lesion": {**measured["precision"], "n": measured["precision"]["pairs"]},
        "precision of near-duplicates": measured["precision_of_copies"],
        "recall of edited copies, all edits": measured["recall_of_all_edits"],
        **{f"recall of edited copies: {name}": one for name, one in measured["recall_of_edits"].items()},
        "recall of other images of a lesion": measured["recall_of_lesions"],
    }
    return [
        {"table": "detection", "what": what, "value": v["value"], "value_low": v["low"], "value_high": v["high"]}
        | {"n": v["n"]}
        for what, v in named.items()
    ]


def audit_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an audit."""
    found = json.loads(path.read_text("utf-8"))
    references = " and ".join(one["name"] for one in found["references"])
    name = f"audit: {found['data']['name']}" + (f" with references {references}" if references else "")
    counts = found["counts"]
    return [
        {"table": name, "what": what, "value": counts[key], "n": counts["images"]} for what, key in AUDIT_COUNTS.items()
    ]


def summary(measured: dict[str, Any]) -> str:
    """Return the measurement in one sentence, for audit pages."""
    p, edits, lesions = (measured[name] for name in ("precision", "recall_of_all_edits", "recall_of_lesions"))
    return (
        f"On {measured['images']:,} images of HAM10000 that had no part in choosing the thresholds, "
        f"{round(edits['value'] * edits['n']):,} of {edits['n']:,} edited copies were found and "
        f"{100 * lesions['value']:.1f} % of {lesions['n']:,} pairs of images of one lesion; of the pairs found, "
        f"an estimated {100 * p['value']:.1f} % ({100 * p['low']:.1f} to {100 * p['high']:.1f}) show one lesion."
    )


def main() -> None:
    """Measure, and write the rows and the audit's own sentence."""
    data, *audits = sys.argv[1:]
    at = default_thresholds()
    with tempfile.TemporaryDirectory() as folder:
        manifest = held_out(read(data), Path(folder))
        decoded = decode_dataset(manifest, AUDIT_IMAGE_SIZE, Cache(CacheConfig()))
        images = decoded.manifest.table
        pairs = described(find_pairs(decoded.pixels, at), images)
        loose = described(find_pairs(decoded.pixels, replace(at, **LOOSE)), images)
    measured = measure(pairs, loose, images)
    measured["summary"] = summary(measured)
    counted = [row for audit in audits for row in audit_rows(Path(audit))]
    keep([*table_rows(measured), *counted], "duplicates", ["table", "what"])
    MEASURED.write_text(json.dumps({**asdict(at), "measured": measured}, indent=1) + "\n", encoding="utf-8")
    print(measured["summary"])


if __name__ == "__main__":
    main()
