"""The audit as a page: figures, warnings, and every kind of pair side by side."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nevus._io import ensure_writable, write_json, write_text
from nevus.auditing.audit import Audit
from nevus.bundle.model_card import DISCLAIMER
from nevus.report import plots
from nevus.report.evaluation import environment
from nevus.report.thumbnails import Tile, tile

SHOWN = 60
"""Pairs of a section that are shown; the others stand in audit.json."""
TILE = 110
"""Half the side of a thumbnail, in pixels."""
HEADLINE = {
    "images": "images",
    "exact_pairs": "equal pictures",
    "copy_pairs": "nearly equal pictures",
    "lesion_pairs": "other pictures of one lesion",
    "groups_across_splits": "groups across splits",
    "train_images_that_leak": "training images that leak",
    "groups_with_two_labels": "groups with two labels",
    "pairs_with_other_sets": "pairs with other sets",
    "unreadable": "unreadable files",
    "odd": "odd files",
    "suspect_labels": "doubtful labels",
}


def write_audit(audit: Audit, out: Path) -> Path:
    """Write `audit.json`, `manifest.parquet` and `audit.html`; returns the page's path.

    Raises:
        NevusError: the folder cannot be written.

    """
    ensure_writable(out)
    write_json(out / "audit.json", audit.as_dict())
    audit.manifest.save(out / "manifest.parquet")
    text = (
        environment()
        .get_template("audit.html")
        .render(
            disclaimer=DISCLAIMER,
            audit=audit,
            about=audit.about,
            counts=audit.counts(),
            headline=HEADLINE,
            sections=list(_sections(audit)),
            shortcuts=plots.data_uri(plots.shortcuts(audit.told)) if audit.told else None,
            odd=_odd(audit),
            suspects=_suspects(audit),
        )
    )
    path = out / "audit.html"
    write_text(path, text)
    return path


def _sections(audit: Audit) -> Iterable[tuple[str, str, int, list[tuple[Tile, Tile]]]]:
    own, pairs = audit.relations.is_own(), audit.pairs
    within = own[pairs["a"]] & own[pairs["b"]]
    least = "The least sure ones come first: where they are right, so are those below."
    crossing = pairs[within & pairs["crosses"]]
    parts = [
        (
            "Labels that disagree",
            "Two pictures that belong together with two labels.",
            pairs[within & pairs["disagrees"]],
        ),
        ("Across splits, other pictures of one lesion", least, crossing[crossing["kind"] == "lesion"]),
        ("Across splits, equal and nearly equal pictures", least, crossing[crossing["kind"] != "lesion"]),
        ("Within a split", least, pairs[within & ~pairs["crosses"] & (pairs["kind"] != "exact")]),
        ("Equal pictures within a split", "", pairs[within & ~pairs["crosses"] & (pairs["kind"] == "exact")]),
        ("With other sets", least, pairs[~within]),
    ]
    for title, text, rows in parts:
        if len(rows):
            yield (
                title,
                text,
                len(rows),
                list(_tiles(audit, rows.iloc[np.argsort(rows["similarity"], kind="stable")])),
            )


def _tiles(audit: Audit, rows: pd.DataFrame) -> Iterable[tuple[Tile, Tile]]:
    images = audit.relations.images
    made = 0
    for pair in rows.to_dict("records"):
        if made == SHOWN:
            return
        how = f"{pair['kind']}, similarity {pair['similarity']:.2f}, {pair['matches']} points"
        first, second = (images.iloc[int(pair[image_size])] for image_size in ("a", "b"))
        one = tile(Path(first["image"]), first["shown"], _said(first), image_size=TILE)
        other = tile(Path(second["image"]), second["shown"], _said(second), how, image_size=TILE)
        if one and other:
            made += 1
            yield one, other


def _said(row: pd.Series[Any]) -> str:
    return ", ".join(part for part in (row["label"], row["split"]) if part)


def _odd(audit: Audit) -> list[tuple[str, str]]:
    odd = (audit.facts["odd"] != "").to_numpy()
    images = audit.manifest.table["image"].to_numpy()
    return list(zip(images[odd], audit.facts["odd"].to_numpy()[odd], strict=True))


def _suspects(audit: Audit) -> list[Tile]:
    tiles = []
    for doubt in audit.suspects.head(SHOWN).to_dict("records"):
        row = int(doubt["row"])
        made = tile(
            audit.manifest.paths[row],
            audit.manifest.table["image"].iloc[row],
            f"is {doubt['label']}, looks like {doubt['suggested']}",
            f"probability of its label {doubt['quality']:.2f}",
            image_size=TILE,
        )
        if made:
            tiles.append(made)
    return tiles
