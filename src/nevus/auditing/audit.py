"""The Audit: duplicates, leakage, shortcuts, label errors and file problems of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from nevus._progress import progress
from nevus.auditing import shortcuts
from nevus.auditing.contamination import Overlap, TrainingImages, find_overlap
from nevus.auditing.duplicates.search import KINDS
from nevus.auditing.duplicates.thresholds import default_thresholds
from nevus.auditing.file_metadata import file_metadata
from nevus.auditing.label_errors import find_label_issues
from nevus.auditing.lesion_groups import LesionGroups, group_lesions
from nevus.auditing.shortcuts import Embed, OutOfFoldPredictions, ShortcutScore
from nevus.bundle.image_check import image_kinds
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest

ONE_SIDED = 0.98
"""Share of one class from which a source counts as having that class only."""


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        manifest: every row of the input, with the groups that were found.
        lesion_groups: images of the data set and of the references, and their groups.
        pairs: duplicates and images of one lesion, at least one of the data set, in order of decreasing similarity:
            rows `a` and `b` of `lesion_groups.images`, `kind`, `similarity`, `overlap`, `matches`, `crosses` (they
            are in different splits), `disagrees` (their labels differ).
        metadata: see `nevus.auditing.file_metadata.file_metadata`.
        groups: one row for each group of several images: `group`, `images`, `splits`, `labels` (each joined by |).
        reference_labels: labels of the data set by those of the same lesions in the references: `label`, `set`,
            `other`, `images`.
        shortcut_scores: how well label and source are predicted from each region.
        sources: images by source (rows) and class (columns).
        sources_are_clusters: whether the sources are clusters of capture style, because the data name one only.
        label_issues: see `nevus.auditing.label_errors.find_label_issues`; `row` is a row of the manifest.
        overlaps: images that built-in networks were trained on, for the networks that were asked about.
        warnings: what a user has to know, one sentence each.
        about: data, settings and version.

    """

    manifest: Manifest
    lesion_groups: LesionGroups
    pairs: pd.DataFrame
    metadata: pd.DataFrame
    groups: pd.DataFrame
    reference_labels: pd.DataFrame
    shortcut_scores: tuple[ShortcutScore, ...]
    sources: pd.DataFrame
    sources_are_clusters: bool
    label_issues: pd.DataFrame
    overlaps: tuple[Overlap, ...]
    warnings: tuple[str, ...]
    about: Mapping[str, Any]

    def counts(self) -> dict[str, int]:
        """Return the numbers of the headline."""
        crossing = self.groups[self.groups["splits"].str.contains("|", regex=False)]
        split = self.manifest.table["split"]
        touched = self.manifest.table["group"].isin(crossing["group"])
        return {
            "images": len(self.manifest),
            "unreadable": int((self.metadata["digest"] == "").sum()),
            "files_with_issues": int(((self.metadata["issue"] != "") & (self.metadata["digest"] != "")).sum()),
            **{f"{kind}_pairs": int((self._within()["kind"] == kind).sum()) for kind in KINDS},
            "pairs_with_other_sets": len(self.pairs) - len(self._within()),
            "groups": int(self.manifest.table["group"].nunique()),
            "groups_of_several": len(self.groups),
            "groups_across_splits": len(crossing),
            "images_in_groups_across_splits": int(touched.sum()),
            "leaking_training_images": int((touched & (split == "train")).sum()),
            "leaking_test_images": int((touched & (split == "test")).sum()),
            "groups_with_two_labels": int(self.groups["labels"].str.contains("|", regex=False).sum()),
            "label_issues": len(self.label_issues),
        }

    def _within(self) -> pd.DataFrame:
        own = self.lesion_groups.is_own()
        return self.pairs[own[self.pairs["a"]] & own[self.pairs["b"]]]

    def files(self) -> dict[str, dict[str, int]]:
        """Return the images by kind, format, mode, size in pixels and quantization tables, most frequent first."""
        sizes = self.metadata["width"].astype(str) + " x " + self.metadata["height"].astype(str)
        kinds = self.manifest.table["image_type"]
        columns = {
            "kind of image": kinds,
            "format": self.metadata["format"],
            "mode": self.metadata["mode"],
            "size": sizes,
        }
        columns["quantization tables"] = self.metadata["tables"]
        return {
            name: {str(value): int(n) for value, n in column.value_counts().items()} for name, column in columns.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `audit.json`."""
        names = self.lesion_groups.images["display_name"].to_numpy()
        pairs = self.pairs.assign(a=names[self.pairs["a"]], b=names[self.pairs["b"]])
        images = self.manifest.table["image"].to_numpy()
        bad = self.metadata.assign(image=images)[["image", "issue"]][(self.metadata["issue"] != "").to_numpy()]
        return {
            **self.about,
            "counts": self.counts(),
            "warnings": list(self.warnings),
            "training_overlap": [one.as_dict(self.manifest) for one in self.overlaps],
            "shortcuts": [asdict(score) for score in self.shortcut_scores],
            "sources": {str(k): {str(c): int(v) for c, v in row.items()} for k, row in self.sources.iterrows()},
            "sources_are_clusters": self.sources_are_clusters,
            "files": self.files(),
            "files_with_issues": bad.to_dict("records"),
            "labels_in_other_sets": self.reference_labels.to_dict("records"),
            "groups": self.groups.to_dict("records"),
            "label_issues": self.label_issues.assign(image=images[self.label_issues["row"].to_numpy(int)]).to_dict(
                "records"
            ),
            "pairs": pairs.to_dict("records"),
        }


def audit(
    manifest: Manifest,
    references: Sequence[Manifest] = (),
    *,
    cache: Cache,
    lists: Sequence[TrainingImages] = (),
    embed: Embed | None = None,
    backbone: str | None = None,
    seed: int = 0,
) -> Audit:
    """Audit a data set.

    Args:
        manifest: the data set.
        references: other data sets: images of one lesion there are joined here, too.
        cache: of decoded images.
        lists: images that networks were trained on, see `nevus.auditing.contamination`.
        embed: see `nevus.auditing.shortcuts.region_features`.
        backbone: name of the backbone behind `embed`.
        seed: of folds, clusters and bootstrap.

    Raises:
        NevusError: no image can be used.

    """
    lesion_groups = group_lesions(manifest, references, cache)
    audited = lesion_groups.apply(manifest)
    metadata = file_metadata(manifest)
    own = lesion_groups.is_own()
    pairs = _marked(lesion_groups)
    usable = lesion_groups.usable_rows[own[lesion_groups.usable_rows]]
    squares = lesion_groups.squares.subset(slice(0, len(usable)))
    kinds = np.full(len(audited), "", object)
    kinds[usable] = image_kinds(squares)
    audited = audited.with_image_type(kinds.tolist())
    regions = shortcuts.region_features(squares, embed)
    file = shortcuts.file_features(metadata.iloc[usable])
    simple = regions if embed is None else shortcuts.region_features(squares)
    table = audited.table.iloc[usable]
    codes = lesion_groups.codes[usable]
    labels, sources = table["label"].tolist(), table["source"].tolist()
    sources_are_clusters = len(set(sources)) < 2
    if sources_are_clusters:
        sources = shortcuts.cluster_capture_style(simple["border ring"], file, seed=seed)
    predictors = {
        **regions,
        shortcuts.COLOR: simple["whole image"][:, :6],
        shortcuts.FILE: file,
        shortcuts.SOURCE: _one_hot(sources),
    }
    scores: list[ShortcutScore] = []
    whole_image: OutOfFoldPredictions | None = None
    with progress(unit="regions") as bar:
        task = bar.add_task("shortcuts", total=len(predictors) * (1 if sources_are_clusters else 2), note="")
        for what, names in (("label", labels), ("source", [] if sources_are_clusters else sources)):
            for region, features in predictors.items() if names else ():
                if what == region:
                    continue
                predictions = shortcuts.cross_validate(features, names, codes, seed=seed)
                if what == "label" and region == "whole image":
                    whole_image = predictions
                if predictions:
                    scores.append(shortcuts.score_shortcut(what, region, predictions, seed=seed))
                bar.advance(task)
    counted = pd.crosstab(pd.Series(sources, name="source"), pd.Series(labels, name="label"))
    label_issues = find_label_issues(whole_image)
    label_issues["row"] = usable[label_issues["row"].to_numpy(int)]
    about = {
        "digest": lesion_groups.digest,
        "data": {"name": manifest.name, "digest": manifest.digest, "rows_digest": manifest.rows_digest},
        "references": [{"name": m.name, "digest": m.digest, "images": len(m)} for m in references],
        "thresholds": asdict(default_thresholds()),
        "backbone": backbone,
        "seed": seed,
        "nevus": version("nevus"),
    }
    result = Audit(
        manifest=audited,
        lesion_groups=lesion_groups,
        pairs=pairs,
        metadata=metadata,
        groups=_groups(audited),
        reference_labels=_reference_labels(lesion_groups, [manifest.name, *(m.name for m in references)]),
        shortcut_scores=tuple(scores),
        sources=counted,
        sources_are_clusters=sources_are_clusters,
        label_issues=label_issues,
        overlaps=find_overlap(audited, lesion_groups, lists) if lists else (),
        warnings=(),
        about=about,
    )
    return replace(result, warnings=tuple(_warnings(result)))


def _one_hot(names: Sequence[str]) -> Any:
    return pd.get_dummies(pd.Series(list(names))).to_numpy(np.float32)


def _marked(lesion_groups: LesionGroups) -> pd.DataFrame:
    own, pairs = lesion_groups.is_own(), lesion_groups.pairs
    a, b = pairs["a"].to_numpy(np.int64), pairs["b"].to_numpy(np.int64)
    split, label = lesion_groups.images["split"].to_numpy(), lesion_groups.images["label"].to_numpy()
    both = own[a] & own[b]
    marked = pairs.assign(crosses=both & (split[a] != split[b]), disagrees=both & (label[a] != label[b]))
    concerned: pd.DataFrame = marked.loc[own[a] | own[b]].reset_index(drop=True)
    return concerned


def _groups(manifest: Manifest) -> pd.DataFrame:
    def joined(values: pd.Series[str]) -> str:
        return "|".join(sorted(set(values)))

    table = manifest.table.groupby("group").agg(
        images=("image", "size"), splits=("split", joined), labels=("label", joined)
    )
    return table[table["images"] > 1].reset_index().sort_values(["images", "group"], ascending=[False, True])


def _reference_labels(lesion_groups: LesionGroups, names: Sequence[str]) -> pd.DataFrame:
    """Count by pairs alone: images that only a chain of pairs joins are not compared."""
    own, images = lesion_groups.is_own(), lesion_groups.images
    a, b = (lesion_groups.pairs[column].to_numpy(np.int64) for column in ("a", "b"))
    across = own[a] != own[b]
    mine, other = np.where(own[a], a, b)[across], np.where(own[a], b, a)[across]
    table = pd.DataFrame(
        {
            "label": images["label"].to_numpy()[mine],
            "set": [names[number] for number in images["set"].to_numpy()[other]],
            "other": images["label"].to_numpy()[other],
            "image": mine,
        }
    )
    return table.groupby(["label", "set", "other"])["image"].nunique().rename("images").reset_index()


def _warnings(audit: Audit) -> list[str]:
    n, warnings = audit.counts(), []
    if n["groups_across_splits"]:
        warnings.append(
            f"{_counted(n['groups_across_splits'], 'lesion')} in several splits of {audit.manifest.name}: "
            f"{_counted(n['leaking_training_images'], 'training image')} and "
            f"{_counted(n['leaking_test_images'], 'test image')} show the same lesions. Metrics on this test split are "
            "too optimistic. Train on manifest.parquet with --drop-leaks, or make a new split with nevus split."
        )
    if n["groups_with_two_labels"]:
        warnings.append(f"{_counted(n['groups_with_two_labels'], 'group')} with two labels. Review before training.")
    shortcut = [
        score
        for score in audit.shortcut_scores
        if score.what == "label" and score.view in shortcuts.NON_LESION and score.lower_bound > shortcuts.SHORTCUT_AUROC
    ]
    if shortcut:
        worst = max(shortcut, key=lambda score: score.auroc)
        warnings.append(
            f"The label is predictable without the lesion, from '{worst.view}', with an AUROC of {worst.auroc:.2f} "
            f"(at least {worst.lower_bound:.2f}). A network will learn this shortcut, and metrics on this data set "
            "will not carry over to other sources. Evaluate on another source."
        )
    share: pd.Series[float] = audit.sources.max(axis=1) / audit.sources.sum(axis=1)
    lone = audit.sources.index[(share >= ONE_SIDED) & (audit.sources.sum(axis=1) >= shortcuts.MIN_IMAGES)]
    if len(lone) and len(audit.sources.columns) > 1:
        kind = "capture styles" if audit.sources_are_clusters else "sources"
        warnings.append(
            f"Of {len(audit.sources)} {kind}, these have one class only: {', '.join(map(str, lone[:5]))}"
            f"{' and others' if len(lone) > 5 else ''}. The source predicts the label there."
        )
    warnings += [one.sentence(audit.manifest) for one in audit.overlaps if len(one.found)]
    if n["unreadable"]:
        first = audit.metadata.loc[audit.metadata["digest"] == "", "issue"].iloc[0]
        warnings.append(f"{_counted(n['unreadable'], 'image')} cannot be used; the first: {first}")
    if n["files_with_issues"]:
        warnings.append(f"{_counted(n['files_with_issues'], 'file')} may not show a lesion. See the list of files.")
    return warnings


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
