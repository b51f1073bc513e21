"""Finding pictures that belong together: time and memory by their number, and two peers on the same files.

    python -m benchmarks.audit [--sizes 1000 10000 100000] [--no-peers] [--keep]

The images are HAM10000's, at $NEVUS_DATA, and where more are asked for, different parts of these, turned,
mirrored, enlarged, brighter or darker, and with noise; they are written to a file before the time is taken. Parts
of one image that overlap are found to belong together, so that of more images more pairs are compared. The peers,
imagededup and cleanvision, come with `pip install -e ".[peers]"`; they look for copies, so copies are what all
three are judged on. `--no-peers` leaves the other programs out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.edits import DATA, EDITED
from benchmarks.rows import keep
from nevus.auditing.duplicates.search import find_pairs
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import DecodedImages, decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE
from nevus.data.readers.dispatch import read

COMPARED, COPIES = 2000, 400
"""Images of different lesions, and edited copies of some of them, that all are given."""


class Perturbed:
    """Any number of squares in a file: the real ones, then these again, each changed in its own way."""

    def __init__(self, squares: DecodedImages, n: int, folder: Path) -> None:
        self.image_size = AUDIT_IMAGE_SIZE
        self._kept = np.lib.format.open_memmap(
            folder / f"{n}.npy", "w+", np.uint8, (n, AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE, 3)
        )
        for row in range(n):
            source = row % len(squares)
            self._kept[row] = self._one(squares[source : source + 1][0], row, row >= len(squares))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.array(self._kept[rows])

    def _one(self, image: np.ndarray, row: int, again: bool) -> np.ndarray:
        if not again:
            return image
        rng = np.random.default_rng(row)
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        warp = cv2.getRotationMatrix2D(rng.uniform(32, 96, 2), rng.uniform(-180, 180), rng.uniform(2.0, 3.0))
        moved = cv2.warpAffine(image, warp, (AUDIT_IMAGE_SIZE, AUDIT_IMAGE_SIZE), borderMode=cv2.BORDER_REFLECT).astype(
            np.float32
        )
        return (moved * rng.uniform(0.8, 1.2) + rng.normal(0, 3, moved.shape)).clip(0, 255).astype(np.uint8)


@contextlib.contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Seconds, and the most memory of its own that this process took meanwhile beyond what it had, in MB."""
    process, found, over = psutil.Process(), {"seconds": 0.0, "megabytes": 0.0}, threading.Event()
    before = process.memory_full_info().uss

    def watch() -> None:
        while not over.wait(0.2):
            found["megabytes"] = max(found["megabytes"], (process.memory_full_info().uss - before) / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.perf_counter()
    try:
        yield found
    finally:
        found["seconds"] = time.perf_counter() - began
        over.set()
        thread.join()


def scale(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Time and memory by the number of images, without decoding."""
    squares = decode_dataset(read(DATA / "ham10000"), AUDIT_IMAGE_SIZE, Cache(CacheConfig())).pixels
    for n in sizes:
        with tempfile.TemporaryDirectory() as place:
            images = Perturbed(squares, n, Path(place))
            with watched() as cost:
                pairs = find_pairs(images)  # type: ignore[arg-type]
        row = {"images": n, **cost, "ms_per_image": 1000 * cost["seconds"] / n, "pairs": len(pairs)}
        print(row, flush=True)
        yield row


def given(folder: Path) -> set[tuple[str, str]]:
    """Write the files that all are given; the true pairs by name."""
    table = read(DATA / "ham10000").table.drop_duplicates("lesion_id")
    chosen = table.sample(COMPARED, random_state=0)["image"].tolist()
    rng, names = np.random.default_rng(0), list(EDITED)
    true = set()
    for number, image in enumerate(chosen):
        source = DATA / "ham10000" / image
        (folder / f"{number:05d}.jpg").write_bytes(source.read_bytes())
        if number < COPIES:
            with Image.open(source) as opened:
                EDITED[names[number % len(names)]](opened.convert("RGB"), rng).save(
                    folder / f"{number:05d}e.jpg", quality=90
                )
            true.add((f"{number:05d}.jpg", f"{number:05d}e.jpg"))
    return true


Pairs = set[tuple[str, str]]


def ours(folder: Path) -> Pairs:
    """Files to pairs, with nothing in the cache."""
    names = sorted(path.name for path in folder.iterdir())
    table = pd.DataFrame({"image": names, "label": "x", "group": names, "split": "", "source": "x"})
    with tempfile.TemporaryDirectory() as cache:
        found = decode_dataset(Manifest(table, folder, ("x",), "x"), AUDIT_IMAGE_SIZE, Cache(CacheConfig(Path(cache))))
        pairs = find_pairs(found.pixels)
    return {(names[a], names[b]) for a, b in zip(pairs["a"], pairs["b"], strict=True)}


def imagededup(method: str, distance: int) -> Callable[[Path], Pairs]:
    """One of its hashes at the distance that it takes by default, 10, or another."""

    def work(folder: Path) -> Pairs:
        from imagededup import methods

        found = getattr(methods, method)(verbose=False).find_duplicates(
            image_dir=str(folder), max_distance_threshold=distance, num_enc_workers=2, num_dist_workers=2
        )
        return {(min(a, b), max(a, b)) for a, others in found.items() for b in others}

    return work


def cleanvision(folder: Path) -> Pairs:
    """Its exact and near duplicates, as they come."""
    from cleanvision import Imagelab

    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(data_path=str(folder))
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=2, verbose=False)
    pairs = set()
    for kind in ("exact_duplicates", "near_duplicates"):
        for group in lab.info[kind]["sets"]:
            names = sorted(Path(path).name for path in group)
            pairs |= {(a, b) for number, a in enumerate(names) for b in names[number + 1 :]}
    return pairs


WORKS: dict[str, Callable[[Path], Pairs]] = {
    "nevus": ours,
    "imagededup PHash, distance 10": imagededup("PHash", 10),
    "imagededup PHash, distance 4": imagededup("PHash", 4),
    "imagededup DHash, distance 10": imagededup("DHash", 10),
    "cleanvision": cleanvision,
}


def peers() -> list[dict[str, Any]]:
    """Copies found, precision and time of each on the same files."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        true = given(folder)
        for name, work in WORKS.items():
            random.seed(0)
            began = time.perf_counter()
            found = work(folder)
            seconds = time.perf_counter() - began
            right = len(found & true)
            rows.append(
                {
                    "name": name,
                    "pairs": len(found),
                    "copies_found": right,
                    "recall": right / len(true),
                    "precision": right / len(found) if found else None,
                    "seconds": seconds,
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print the tables; with --keep also write them to results/duplicates.csv."""
    words = argparse.ArgumentParser()
    words.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    words.add_argument("--keep", action="store_true")
    words.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    chosen = words.parse_args()
    rows = peers() if chosen.peers else []
    measured = [
        {"table": "peers", "what": row["name"], "value": row["recall"], "n": COPIES}
        | {key: row[key] for key in ("precision", "seconds")}
        for row in rows
    ]
    for row in scale(chosen.sizes):
        count = row["images"]
        measured.append(
            {"table": "scale", "what": f"{count:,} images", "value": row["ms_per_image"], "n": count}
            | {"seconds": row["seconds"]}
        )
    if chosen.keep:
        keep(measured, "duplicates", ["table", "what"])
    if not rows:
        return
    table = Table(title=f"{COPIES} edited copies among {COMPARED} images")
    for name in ("program", "pairs", "copies found", "precision", "seconds", "ratio of time"):
        table.add_column(name, justify="left" if name == "program" else "right")
    for row in rows:
        precision = "undefined" if row["precision"] is None else f"{row['precision']:.3f}"
        ratio = f"{row['seconds'] / rows[0]['seconds']:.2f}"
        table.add_row(
            row["name"], f"{row['pairs']:,}", f"{row['recall']:.1%}", precision, f"{row['seconds']:.1f}", ratio
        )
    Console().print(table)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
