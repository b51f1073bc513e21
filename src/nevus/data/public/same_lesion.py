"""Images of one lesion or one field to which HAM10000 gives different lesion ids."""

from __future__ import annotations

import io
from importlib.resources import files

import pandas as pd


def same_lesion_pairs() -> pd.DataFrame:
    """Return the pairs that come with the package.

    `nevus audit` found them in HAM10000, and each was viewed. Rejected and uncertain pairs are part of the table, so
    that the review can be repeated.

    Returns:
        Columns `image_a`, `image_b` (ISIC ids), `lesion_a`, `lesion_b` (HAM10000's lesion ids) and `shows`: "one
        lesion", "one field" (neighboring lesions, both in each image), "uncertain" or "different lesions".

    """
    text = files("nevus.data.public").joinpath("corrected", "ham10000-same-lesion.csv").read_text(encoding="utf-8")
    return pd.read_csv(io.StringIO(text), dtype=str)


def join_groups(ids: pd.Series[str], groups: pd.Series[str]) -> pd.Series[str]:
    """Give images of one lesion or one field the same group.

    Args:
        ids: ISIC ids of the images, with or without a file's suffix.
        groups: Group of each image, with the same index.

    Returns:
        Groups; those that a confirmed pair connects have the name of the first of them in the order of the alphabet.

    """
    pairs = same_lesion_pairs()
    pairs = pairs[pairs["shows"].isin(["one lesion", "one field"])]
    stems = ids.astype(str).str.extract(r"([^/\\]+?)(?:\.\w+)?$")[0]
    group_of = dict(zip(stems, groups, strict=True))
    joined: dict[str, str] = {}

    def representative(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for a, b in zip(pairs["image_a"], pairs["image_b"], strict=True):
        if a in group_of and b in group_of:
            first, second = sorted((representative(group_of[a]), representative(group_of[b])))
            if first != second:
                joined[second] = first
    return groups.map(representative) if joined else groups
