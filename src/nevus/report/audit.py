"""The page of an audit: warnings, counts, and pairs of images side by side."""

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
from nevus.report.page import environment, humanize
from nevus.report.thumbnails import Tile, tile

MAX_PAIRS = 60
"""Largest number of pairs in a section of the page; audit.json lists all."""
TILE_SIZE = 110
"""Half the side of a thumbnail, in pixels."""
HEADLINE = {
    "images": "images",
    "exact_duplicate_pairs": "exact duplicates",
    "near_duplicate_pairs": "near-duplicates",
    "same_lesion_pairs": "other images of one lesion",
    "groups_across_splits": "groups across splits",
    "leaking_training_images": "leaking training images",
    "groups_with_two_labels": "groups with two labels",
    "pairs_with_other_sets": "pairs with references",
    "unreadable": "unreadable files",
    "files_with_issues": "files with issues",
    "label_issues": "suspected label errors",
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
            sections=list(_sections(audit, out)),
            shortcuts=plots.data_uri(plots.shortcuts(audit.shortcut_scores)) if audit.shortcut_scores else None,
            issues=_issues(audit),
            label_issues=_label_issues(audit),
        )
    )
    path = out / "audit.html"
    write_text(path, text)
    return path


def _sections(audit: Audit, out: Path) -> Iterable[tuple[str, str, int, list[tuple[Tile, Tile]]]]:
    own, pairs = audit.lesion_groups.is_own(), audit.pairs
    within = own[pairs["a"]] & own[pairs["b"]]
    least = "Sorted by increasing similarity."
    crossing = pairs[within & pairs["crosses"]]
    parts = [
        (
            "Labels that disagree",
            "Two images of one lesion with different labels.",
            pairs[within & pairs["disagrees"]],
        ),
        ("Across splits: other images of one lesion", least, crossing[crossing["kind"] == "same_lesion"]),
        ("Across splits: duplicates", least, crossing[crossing["kind"] != "same_lesion"]),
        (
            "Near-duplicates and same lesion within a split",
            least,
            pairs[within & ~pairs["crosses"] & (pairs["kind"] != "exact_duplicate")],
        ),
        (
            "Exact duplicates within a split",
            "",
            pairs[within & ~pairs["crosses"] & (pairs["kind"] == "exact_duplicate")],
        ),
        ("With references", least, pairs[~within]),
    ]
    for title, text, rows in parts:
        if len(rows):
            yield (
                title,
                text,
                len(rows),
                list(_tiles(audit, out, rows.iloc[np.argsort(rows["similarity"], kind="stable")])),
            )


def _tiles(audit: Audit, out: Path, rows: pd.DataFrame) -> Iterable[tuple[Tile, Tile]]:
    images = audit.lesion_groups.images
    made = 0
    for pair in rows.to_dict("records"):
        if made == MAX_PAIRS:
            return
        how = f"{humanize(pair['kind'])}, similarity {pair['similarity']:.2f}, {pair['matches']} points"
        first, second = (images.iloc[int(pair[column])] for column in ("a", "b"))
        one = tile(Path(first["image"]), first["display_name"], _caption(first), image_size=TILE_SIZE, link_from=out)
        other = tile(
            Path(second["image"]), second["display_name"], _caption(second), how, image_size=TILE_SIZE, link_from=out
        )
        if one and other:
            made += 1
            yield one, other


def _caption(row: pd.Series[Any]) -> str:
    return ", ".join(part for part in (row["label"], row["split"]) if part)


def _issues(audit: Audit) -> list[tuple[str, str]]:
    bad = (audit.metadata["issue"] != "").to_numpy()
    images = audit.manifest.table["image"].to_numpy()
    return list(zip(images[bad], audit.metadata["issue"].to_numpy()[bad], strict=True))


def _label_issues(audit: Audit) -> list[Tile]:
    tiles = []
    for issue in audit.label_issues.head(MAX_PAIRS).to_dict("records"):
        row = int(issue["row"])
        made = tile(
            audit.manifest.paths[row],
            audit.manifest.table["image"].iloc[row],
            f"label {issue['label']}, predicted {issue['suggested']}",
            f"probability of its label {issue['quality']:.2f}",
            image_size=TILE_SIZE,
        )
        if made:
            tiles.append(made)
    return tiles
