"""Choose the audit's thresholds on one half of HAM10000's lesions, and measure precision and recall on the other.

    python -m experiments.thresholds

To each half come edited copies of some of its images, each edited in one way. Which pairs are true is known by the
edit, or by `lesion_id`. Of the pairs with two ids many are of one lesion all the same, as a look shows; so how many
are false is estimated from those that have two diagnoses: of two lesions taken at random, that is known how many
have. Writes results/thresholds.json and the package's src/nevus/audit/thresholds.json.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

from experiments.common import DATA, ROOT, RUNS, keep
from nevus._progress import progress
from nevus.audit.duplicates.descriptors import AUDIT_IMAGE_SIZE
from nevus.audit.duplicates.search import find_pairs
from nevus.audit.duplicates.thresholds import Thresholds
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.readers.dispatch import read
from nevus.metrics.intervals import wilson_interval

EDITS = 2000
"""Images of each half that are edited."""
PRECISION = 0.98
"""Lower end of its interval that is asked for on the half on which is chosen."""
NEARLY = 0.99
"""Share of the most true pairs that is as good."""
ALL = Thresholds(copy=0.3, overlap=0.0, matches=4, lesion=0.2, measured={})
"""So low that every pair is seen that could matter."""

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Through a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cropped(image: Image.Image, share: float, x: float = 0.5, y: float = 0.5) -> Image.Image:
    """Without a share of width and height."""
    width, height = image.size
    left, top = width * share * x, height * share * y
    return image.crop(
        (round(left), round(top), round(left + width * (1 - share)), round(top + height * (1 - share)))
    )


EDITED: dict[str, Edit] = {
    "squeezed to a square of 224": lambda image, _: image.resize((224, 224), Image.Resampling.BICUBIC),
    "reduced to half": lambda image, _: image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "turned by 90 degrees": lambda image, rng: image.rotate(90 * int(rng.choice([1, 3])), expand=True),
    "turned upside down": lambda image, _: image.rotate(180),
    "JPEG of quality 30": lambda image, _: compressed(image, 30),
    "shifted by 3 %": lambda image, rng: cropped(image, 0.03, *rng.choice([0.0, 1.0], 2)),
    "brightness changed by 30 %": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.choice([0.7, 1.3])),
    "cropped by 20 %": lambda image, rng: cropped(image, 0.2, *rng.random(2)),
    "all but turned": lambda image, rng: compressed(
        ImageEnhance.Brightness(cropped(image, 0.05, *rng.random(2)).resize((224, 224))).enhance(
            rng.uniform(0.8, 1.2)
        ),
        60,
    ),
}


def edited(table: pd.DataFrame, images: Path, folder: Path, seed: int) -> pd.DataFrame:
    """Rows for edited copies of some images, whose files are written."""
    rng = np.random.default_rng(seed)
    rows = []
    chosen = rng.choice(len(table), EDITS, replace=False)
    with progress() as bar:
        task = bar.add_task("editing", total=EDITS, note="")
        for number, row in enumerate(chosen):
            source = table.iloc[int(row)]
            name = list(EDITED)[number % len(EDITED)]
            with Image.open(images / source["image"]) as image:
                path = folder / f"{number}.jpg"
                EDITED[name](image.convert("RGB"), rng).save(path, quality=90)
            rows.append({**source, "image": str(path), "origin": source["image"], "edit": name})
            bar.advance(task)
    return pd.DataFrame(rows)


def found_in(half: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All pairs of a half of the lesions and their edits, with what is known of them; and the images. Both are kept
    in the folder of runs, so that choosing can be looked at again.
    """
    kept = [RUNS / "thresholds" / f"{name}-{half}.parquet" for name in ("pairs", "images")]
    if not all(path.exists() for path in kept):
        kept[0].parent.mkdir(parents=True, exist_ok=True)
        for path, table in zip(kept, _found_in(half), strict=True):
            table.to_parquet(path)
    return pd.read_parquet(kept[0]), pd.read_parquet(kept[1])


def _found_in(half: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    data = read(DATA / "ham10000")
    lesions = np.random.default_rng(0).permutation(sorted(set(data.table["lesion_id"])))
    own = data.table[data.table["lesion_id"].isin(lesions[half::2])]
    own = own.assign(image=[str((data.root / image).absolute()) for image in own["image"]], edit="")
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.concat([own.assign(origin=own["image"]), edited(own, Path("/"), Path(folder), half)])
        manifest = data.with_table(rows)
        decoded = decode_dataset(manifest, AUDIT_IMAGE_SIZE, Cache(CacheConfig()))
        pairs = find_pairs(decoded.pixels, ALL)
    images = decoded.manifest.table
    a, b = (images.iloc[pairs[side]].reset_index(drop=True) for side in ("a", "b"))
    pairs["true"] = (a["lesion_id"] == b["lesion_id"]).to_numpy()
    pairs["same_picture"] = (a["origin"] == b["origin"]).to_numpy()
    pairs["two_diagnoses"] = (a["label"] != b["label"]).to_numpy()
    pairs["edit"] = np.where(a["edit"] == "", b["edit"], a["edit"])
    pairs["edits"] = (a["edit"] != "").to_numpy().astype(int) + (b["edit"] != "").to_numpy()
    return pairs, images


def taken(pairs: pd.DataFrame, at: Thresholds) -> np.ndarray:
    """Which pairs thresholds let through."""
    sure = pairs["matches"] >= at.matches
    copy = (pairs["similarity"] >= at.copy) & (sure | (pairs["overlap"] >= at.overlap))
    return (copy | (sure & (pairs["similarity"] >= at.lesion))).to_numpy()


def differing(pairs: pd.DataFrame) -> float:
    """Share with two diagnoses among pairs that are false: of two lesions by the ids, and with matches so few that
    chance gives them. (It is below that of images taken at random: what looks alike is often a nevus twice.)
    """
    false = pairs[(pairs["edits"] == 0) & ~pairs["true"] & (pairs["matches"] == ALL.matches)]
    return float(false["two_diagnoses"].mean())


def precision(pairs: pd.DataFrame, chance: float) -> dict[str, Any]:
    """Of found pairs: by the diagnoses, and, too low, by the ids."""
    n, two = len(pairs), int(pairs["two_diagnoses"].sum())
    low, high = wilson_interval(two, n)
    return {
        "pairs": n,
        "two_diagnoses": two,
        "value": 1 - min(1.0, two / n / chance),
        "low": 1 - min(1.0, high / chance),
        "high": 1 - min(1.0, low / chance),
        "by_lesion_id": float(pairs["true"].mean()),
    }


def choose(pairs: pd.DataFrame) -> Thresholds:
    """Of the thresholds at which precision is surely as asked for, those that find most true pairs; of those that
    find nearly as many, the most precise by the ids.

    At least six matches are asked for: how many agree by chance grows with the square of a set's size, which a half
    of one set does not show.
    """
    chance = differing(pairs)
    plain = pairs["edits"] == 0
    fit: list[tuple[int, float, Thresholds]] = []
    for matches in range(6, 16):
        few = pairs["matches"] < matches
        for copy in np.round(np.arange(0.70, 0.96, 0.05), 2):
            # Found by their looks alone: here ids are held against it, for a copy has the same one.
            alone = pairs[few & (pairs["similarity"] >= copy) & (pairs["overlap"] >= 0.5)]
            if len(alone) and wilson_interval(int(alone["true"].sum()), len(alone))[0] < PRECISION:
                continue
            for lesion in np.round(np.arange(0.30, 0.71, 0.05), 2):
                at = Thresholds(float(copy), 0.5, matches, float(lesion), {})
                let = taken(pairs, at)
                if precision(pairs[let & plain], chance)["low"] >= PRECISION:
                    fit.append((int(pairs["true"][let].sum()), float(pairs["true"][let & plain].mean()), at))
    most = max(found for found, _, _ in fit)
    return max((one for one in fit if one[0] >= NEARLY * most), key=lambda one: (one[1], one[0]))[2]


def share(found: int, n: int) -> dict[str, Any]:
    """A proportion with its interval."""
    low, high = wilson_interval(found, n)
    return {"value": found / n, "low": low, "high": high, "n": n}


def measure(pairs: pd.DataFrame, images: pd.DataFrame, at: Thresholds) -> dict[str, Any]:
    """Precision and recall at some thresholds."""
    kept = pairs[taken(pairs, at)]
    direct = kept[kept["same_picture"] & (kept["edits"] == 1)]
    edits = images[images["edit"] != ""]["edit"].value_counts()
    plain = kept[kept["edits"] == 0]
    sizes = images[images["edit"] == ""]["lesion_id"].value_counts()
    repeats = int((sizes * (sizes - 1) // 2).sum())
    copies = kept[(kept["similarity"] >= at.copy) & (kept["edits"] == 1)]
    return {
        "images": len(images),
        "precision": precision(plain, differing(pairs)),
        "precision_of_copies": share(int(copies["true"].sum()), len(copies)),
        "recall_of_edits": {name: share(int((direct["edit"] == name).sum()), int(n)) for name, n in edits.items()},
        "recall_of_all_edits": share(len(direct), int(edits.sum())),
        "recall_of_lesions": share(int(plain["true"].sum()), repeats),
    }


if __name__ == "__main__":
    pairs, images = found_in(0)
    at = choose(pairs)
    chosen_on = measure(pairs, images, at)
    measured = measure(*found_in(1), at)
    p, edits, lesions = (measured[name] for name in ("precision", "recall_of_all_edits", "recall_of_lesions"))
    measured["summary"] = (
        f"On {measured['images']:,} images of HAM10000 that had no part in choosing the thresholds, "
        f"{100 * edits['value']:.1f} % of {edits['n']:,} edited copies were found and "
        f"{100 * lesions['value']:.1f} % of {lesions['n']:,} pairs of pictures of one lesion; of the pairs found, "
        f"an estimated {100 * p['value']:.1f} % ({100 * p['low']:.1f} to {100 * p['high']:.1f}) belong together."
    )
    values = {"copy": at.copy, "overlap": at.overlap, "matches": at.matches, "lesion": at.lesion}
    keep("thresholds", {"thresholds": values, "chosen_on": chosen_on, "measured": measured})
    path = ROOT / "src" / "nevus" / "audit" / "thresholds.json"
    path.write_text(json.dumps({**values, "measured": measured}, indent=1) + "\n", encoding="utf-8")
    print(measured["summary"])
