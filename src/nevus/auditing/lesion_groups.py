"""Lesion groups: images of one lesion, by duplicates and by ids."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nevus._io import sha256_bytes, to_json
from nevus.auditing.duplicates.search import find_pairs
from nevus.auditing.duplicates.thresholds import default_thresholds
from nevus.bundle.training_overlap import isic_id
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedImages, decode_dataset
from nevus.data.manifest import REQUIRED, Manifest
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE

VERSION = 4
"""Of the search; another version invalidates cached pairs."""


@dataclass(frozen=True)
class LesionGroups:
    """Images of a data set and of references, and their groups.

    Attributes:
        images: one row for each image of all sets: `set` (number of the set, 0 for the data set), `image` (absolute
            path), `label`, `split`, `source`, `group` (name of its group) and `given` (its group before).
        pairs: see `nevus.auditing.duplicates.search.find_pairs`; `a` and `b` are rows of `images`.
        codes: group of each row, int64 (n,).
        faults: one sentence for each image that cannot be used.
        squares: the usable images.
        usable_rows: their rows.
        digest: of the groups of the data set. A training on an audit's manifest has the same digest as the audit.

    """

    images: pd.DataFrame
    pairs: pd.DataFrame
    codes: NDArray[np.int64]
    faults: tuple[str, ...]
    squares: DecodedImages
    usable_rows: NDArray[np.int64]
    digest: str

    def is_own(self) -> NDArray[np.bool_]:
        """Return which rows are of the data set, bool (n,)."""
        return (self.images["set"] == 0).to_numpy()

    def apply(self, manifest: Manifest) -> Manifest:
        """Return the data set with the groups that were found, and with lesion ids that references know."""
        own = self.images[self.is_own()].reset_index(drop=True)
        table = manifest.table.copy()
        table["group"] = own["group"].tolist()
        lesions = self.images["lesion_id"]
        inherited = named_once(self.codes, lesions)
        if (inherited != "").any():
            mine = lesions[self.is_own()].to_numpy()
            table["lesion_id"] = np.where(mine != "", mine, inherited[self.is_own()])
        return manifest.with_table(table)


def named_once(codes: NDArray[np.int64], ids: pd.Series[str]) -> NDArray[np.str_]:
    """Return the id of each row's group; empty where the group has none, or several."""
    table = pd.DataFrame({"code": codes, "id": ids.to_numpy()})
    known = table[table["id"] != ""].groupby("code")["id"].agg(["nunique", "first"])
    single = known.loc[known["nunique"] == 1, "first"].to_dict()
    return np.array([single.get(code, "") for code in codes.tolist()], str)


def group_lesions(
    manifest: Manifest, references: Sequence[Manifest], cache: Cache, *, also: Collection[int] = ()
) -> LesionGroups:
    """Group the images of a data set by lesion, also through images and ids of references.

    Args:
        manifest: the data set.
        references: other data sets.
        cache: of decoded images. Pairs that were found in the same images before are cached, too.
        also: sizes that the images will be needed at, see `decode_dataset`.

    Raises:
        NevusError: no image can be used.

    """
    images = pd.concat([_rows(number, m) for number, m in enumerate((manifest, *references))], ignore_index=True)
    combined = Manifest(
        images.assign(row=np.arange(len(images)))[[*REQUIRED, "row"]],
        Path("/"),
        tuple(sorted(set(images["label"]))),
        " + ".join([manifest.name, *(m.name for m in references)]),
    )
    decoded = decode_dataset(combined, AUDIT_IMAGE_SIZE, cache, also=also, what="decoding for the audit")
    usable_rows = decoded.manifest.table["row"].to_numpy(np.int64)
    pairs = _cached_pairs(decoded.pixels, cache)
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
    ).assign(display_name=[f"{manifest.name}/{image}" for image in table["image"]])


def _cached_pairs(squares: DecodedImages, cache: Cache) -> pd.DataFrame:
    """Return the pairs that were found in the same images before, or find them."""
    thresholds = {k: v for k, v in asdict(default_thresholds()).items() if k != "measured"}
    order = np.argsort(squares.digests, kind="stable")
    key = sha256_bytes(to_json([VERSION, AUDIT_IMAGE_SIZE, thresholds, sorted(squares.digests)]).encode())
    value = cache.get("pairs", key)
    if value is None:
        pairs = find_pairs(squares)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        buffer = io.BytesIO()
        pairs.assign(a=place[pairs["a"].to_numpy(np.int64)], b=place[pairs["b"].to_numpy(np.int64)]).to_parquet(buffer)
        cache.put("pairs", key, buffer.getvalue())
        return pairs
    pairs = pd.read_parquet(io.BytesIO(value))
    a, b = order[pairs["a"].to_numpy(np.int64)], order[pairs["b"].to_numpy(np.int64)]
    return pairs.assign(a=np.minimum(a, b), b=np.maximum(a, b))


def joined_groups(n: int, pairs: pd.DataFrame, ids: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Find the connected components of pairs and equal ids: a code for each of n rows, in the order of first rows.

    Args:
        n: number of rows.
        pairs: columns `a` and `b`, rows of one group.
        ids: columns of n ids: rows with equal ids are of one group; empty ids are ignored.

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
    """Name the groups: the alphabetically first of the names that the rows of a group had before.

    Args:
        codes: of each row's group.
        names: that each row's group had.
        known: whether it is an id of the data, not the image's own name; ids are preferred.

    """
    table = pd.DataFrame({"code": codes, "name": list(names), "rank": ~np.asarray(known)})
    first = table.sort_values(["rank", "name"]).drop_duplicates("code").set_index("code")["name"]
    return pd.Series(codes).map(first).tolist()
