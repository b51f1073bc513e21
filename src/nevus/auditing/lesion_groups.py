"""Which images of some data sets belong together."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nevus._io import atomic_path, cache_folder, sha256_bytes, to_json
from nevus.auditing.duplicates.descriptors import AUDIT_IMAGE_SIZE
from nevus.auditing.duplicates.search import COLUMNS, find_pairs
from nevus.auditing.duplicates.thresholds import chosen
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedImages, decode_dataset
from nevus.data.manifest import REQUIRED, Manifest
from nevus.errors import NevusError

VERSION = 2
"""Of what is found in the same images; a new one makes remembered pairs worthless."""
_ISIC = re.compile(r"ISIC_\d{7}")


@dataclass(frozen=True)
class LesionGroups:
    """Images, of one data set or several, and which of them belong together.

    Attributes:
        images: a row an image of all sets: `set` (its number, 0 for the set in question), `image` (path, absolute),
            `label`, `split`, `source`, `group` (the name of its group) and `given` (what its group was before).
        pairs: see `nevus.auditing.duplicates.search.find_pairs`; `a` and `b` are rows of `images`.
        codes: group of each row, int64 (n,).
        faults: one sentence for each image that cannot be used.
        squares: the images that can.
        seen: their rows.
        digest: of the groups of the set in question: an audit's. Who trains on what an audit wrote finds it again.

    """

    images: pd.DataFrame
    pairs: pd.DataFrame
    codes: NDArray[np.int64]
    faults: tuple[str, ...]
    squares: DecodedImages
    usable_rows: NDArray[np.int64]
    digest: str

    def is_own(self) -> NDArray[np.bool_]:
        """Which rows are of the set in question."""
        return (self.images["set"] == 0).to_numpy()

    def apply(self, manifest: Manifest) -> Manifest:
        """The set in question with the groups that were found, and the lesion's id where another set knows it."""
        own = self.images[self.is_own()].reset_index(drop=True)
        table = manifest.table.copy()
        table["group"] = own["group"].tolist()
        lesions = self.images["lesion_id"]
        inherited = named_once(self.codes, lesions)
        if (inherited != "").any():
            mine = lesions[self.is_own()].to_numpy()
            table["lesion_id"] = np.where(mine != "", mine, inherited[self.is_own()])
        return manifest.with_table(table)


def isic_id(path: str) -> str:
    """The ISIC archive's id in a file's name, or nothing."""
    return next(iter(_ISIC.findall(Path(path).stem)), "")


def named_once(codes: NDArray[np.int64], ids: pd.Series[str]) -> NDArray[np.str_]:
    """The id that a group has, for each of its rows; empty where it has none, or several."""
    table = pd.DataFrame({"code": codes, "id": ids.to_numpy()})
    known = table[table["id"] != ""].groupby("code")["id"].agg(["nunique", "first"])
    single = known.loc[known["nunique"] == 1, "first"].to_dict()
    return np.array([single.get(code, "") for code in codes.tolist()], str)


def group_lesions(manifest: Manifest, against: Sequence[Manifest], cache: Cache) -> LesionGroups:
    """Find which images of a data set belong together, also by way of other data sets' images and ids.

    Args:
        manifest: the set in question.
        against: other sets.
        cache: keeps the decoded images. What was found in the same images before is remembered beside.

    Raises:
        NevusError: no image can be used.

    """
    images = pd.concat([_rows(number, m) for number, m in enumerate((manifest, *against))], ignore_index=True)
    combined = Manifest(
        images.assign(row=np.arange(len(images)))[[*REQUIRED, "row"]],
        Path("/"),
        tuple(sorted(set(images["label"]))),
        " + ".join([manifest.name, *(m.name for m in against)]),
    )
    decoded = decode_dataset(combined, AUDIT_IMAGE_SIZE, cache, what="decoding for the audit")
    usable_rows = decoded.manifest.table["row"].to_numpy(np.int64)
    pairs = _remembered(decoded.pixels)
    pairs = pairs.assign(a=usable_rows[pairs["a"].to_numpy(np.int64)], b=usable_rows[pairs["b"].to_numpy(np.int64)])
    given = images["set"].astype(str) + ":" + images["given"]
    isic = images["image"].map(isic_id)
    codes = joined_groups(len(images), pairs, [given.tolist(), isic.tolist()])
    images["group"] = named(codes, images["given"].tolist(), (images["given"] != images["name"]).to_numpy())
    mine = images[images["set"] == 0]
    found = sorted(zip(mine["name"], mine["group"], strict=True))
    return LesionGroups(
        images, pairs, codes, decoded.faults, decoded.pixels, usable_rows, sha256_bytes(to_json(found).encode())
    )


def _rows(number: int, manifest: Manifest) -> pd.DataFrame:
    table = manifest.table
    lesions = table["lesion_id"].fillna("") if "lesion_id" in table.columns else pd.Series("", index=table.index)
    return pd.DataFrame(
        {
            "set": number,
            "image": [str(path.absolute()) for path in manifest.paths],
            "name": table["image"],
            "label": table["label"],
            "split": table["split"],
            "source": table["source"],
            "given": table["group"],
            "group": table["group"],
            "lesion_id": lesions.astype(str),
        }
    ).assign(shown=[f"{manifest.name}/{image}" for image in table["image"]])


def _remembered(squares: DecodedImages) -> pd.DataFrame:
    """`find_pairs`, or what it found in the same images the last time."""
    thresholds = {k: v for k, v in asdict(chosen()).items() if k != "measured"}
    order = np.argsort(squares.digests, kind="stable")
    key = hashlib.sha256(to_json([VERSION, AUDIT_IMAGE_SIZE, thresholds, sorted(squares.digests)]).encode()).hexdigest()
    path = cache_folder("audit") / f"{key}.parquet"
    try:
        found: pd.DataFrame = parquet.read_table(path).to_pandas().loc[:, list(COLUMNS)]
    except (OSError, KeyError, pyarrow.ArrowInvalid):
        found = find_pairs(squares)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        kept = found.assign(a=place[found["a"].to_numpy(np.int64)], b=place[found["b"].to_numpy(np.int64)])
        with contextlib.suppress(NevusError), atomic_path(path, durable=False) as aside:  # if it can be kept
            kept.to_parquet(aside, index=False)
        return found
    a, b = order[found["a"].to_numpy(np.int64)], order[found["b"].to_numpy(np.int64)]
    return found.assign(a=np.minimum(a, b), b=np.maximum(a, b))


def joined_groups(n: int, pairs: pd.DataFrame, ids: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """The connected components of pairs and equal ids, as a code for each of n rows, in the order of their first
    rows.

    Args:
        n: rows.
        pairs: columns `a` and `b`, rows that belong together.
        ids: each a column of n ids: equal ones belong together, empty ones say nothing.

    """
    one, other = [pairs["a"].to_numpy(np.int64)], [pairs["b"].to_numpy(np.int64)]
    for column in ids:
        values = pd.Series(list(column), dtype=str)
        for value, rows in values.groupby(values).indices.items():
            if value:
                same = np.asarray(rows, np.int64)
                one.append(same[:-1])
                other.append(same[1:])
    a, b = np.concatenate(one), np.concatenate(other)
    _, codes = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)
    return pd.factorize(codes)[0].astype(np.int64)


def named(codes: NDArray[np.int64], names: Sequence[str], known: NDArray[np.bool_]) -> list[str]:
    """A name for each row's group: the first by the alphabet of those that its rows had before.

    Args:
        codes: of each row's group.
        names: that each row's group had.
        known: whether that is an id that someone gave, and not the image's own name; such names go first.

    """
    table = pd.DataFrame({"code": codes, "name": list(names), "rank": ~np.asarray(known)})
    first = table.sort_values(["rank", "name"]).drop_duplicates("code").set_index("code")["name"]
    return pd.Series(codes).map(first).tolist()
