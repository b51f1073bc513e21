"""The Audit: what of a data set cannot be trusted."""

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
from nevus.auditing.duplicates.thresholds import chosen
from nevus.auditing.file_metadata import file_metadata
from nevus.auditing.label_errors import find_label_issues
from nevus.auditing.lesion_groups import LesionGroups, group_lesions
from nevus.auditing.shortcuts import Embed, OutOfFoldPredictions, ShortcutScore
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest

ONE_SIDED = 0.98
"""Share of one class from which a source is said to hold that class only."""


@dataclass(frozen=True)
class Audit:
    """What was found in a data set.

    Attributes:
        manifest: every row of the input, with the groups that were found.
        relations: which images belong together, those of the other sets included.
        pairs: of images, at least one of the set in question, the surest first: rows `a` and `b` of
            `relations.images`, `kind`, `similarity`, `overlap`, `matches`, `crosses` (they stand in different
            splits of the set), `disagrees` (both are of the set and their labels differ).
        facts: see `nevus.auditing.file_metadata.file_metadata`.
        groups: a row a group of several images of the set: `group`, `images`, `splits`, `labels` (each joined by
            |).
        against: how labels of the set go with those of other sets' images of the same lesion: `label`, `set`,
            `other`, `images`.
        told: how well the label and the source can be told, by view.
        sources: images by source (rows) and class (columns).
        styled: whether the sources are clusters of capture style, for want of given ones.
        suspects: see `nevus.auditing.label_errors.find_label_issues`; `row` is one of the manifest.
        overlaps: what of the set networks were trained on that come with the package, those that were asked about.
        warnings: what a user has to know, in plain words.
        about: what was audited, how and by which version.

    """

    manifest: Manifest
    relations: LesionGroups
    pairs: pd.DataFrame
    facts: pd.DataFrame
    groups: pd.DataFrame
    against: pd.DataFrame
    told: tuple[ShortcutScore, ...]
    sources: pd.DataFrame
    styled: bool
    suspects: pd.DataFrame
    overlaps: tuple[Overlap, ...]
    warnings: tuple[str, ...]
    about: Mapping[str, Any]

    def counts(self) -> dict[str, int]:
        """The figures of the headline."""
        crossing = self.groups[self.groups["splits"].str.contains("|", regex=False)]
        split = self.manifest.table["split"]
        touched = self.manifest.table["group"].isin(crossing["group"])
        return {
            "images": len(self.manifest),
            "unreadable": int((self.facts["digest"] == "").sum()),
            "odd": int(((self.facts["odd"] != "") & (self.facts["digest"] != "")).sum()),
            **{f"{kind}_pairs": int((self._within()["kind"] == kind).sum()) for kind in KINDS},
            "pairs_with_other_sets": len(self.pairs) - len(self._within()),
            "groups": int(self.manifest.table["group"].nunique()),
            "groups_of_several": len(self.groups),
            "groups_across_splits": len(crossing),
            "images_in_groups_across_splits": int(touched.sum()),
            "train_images_that_leak": int((touched & (split == "train")).sum()),
            "test_images_touched": int((touched & (split == "test")).sum()),
            "groups_with_two_labels": int(self.groups["labels"].str.contains("|", regex=False).sum()),
            "suspect_labels": len(self.suspects),
        }

    def _within(self) -> pd.DataFrame:
        own = self.relations.is_own()
        return self.pairs[own[self.pairs["a"]] & own[self.pairs["b"]]]

    def files(self) -> dict[str, dict[str, int]]:
        """Images by format, by mode, by size in pixels and by quantization tables, the most frequent first."""
        sizes = self.facts["width"].astype(str) + " x " + self.facts["height"].astype(str)
        columns = {"format": self.facts["format"], "mode": self.facts["mode"], "size": sizes}
        columns["quantization tables"] = self.facts["tables"]
        return {
            name: {str(value): int(n) for value, n in column.value_counts().items()} for name, column in columns.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `audit.json`."""
        shown = self.relations.images["shown"].to_numpy()
        pairs = self.pairs.assign(a=shown[self.pairs["a"]], b=shown[self.pairs["b"]])
        images = self.manifest.table["image"].to_numpy()
        bad = self.facts.assign(image=images)[["image", "odd"]][(self.facts["odd"] != "").to_numpy()]
        return {
            **self.about,
            "counts": self.counts(),
            "warnings": list(self.warnings),
            "taught": [one.as_dict(self.manifest) for one in self.overlaps],
            "shortcuts": [asdict(told) for told in self.told],
            "sources": {str(k): {str(c): int(v) for c, v in row.items()} for k, row in self.sources.iterrows()},
            "sources_are_clusters": self.styled,
            "files": self.files(),
            "odd_files": bad.to_dict("records"),
            "labels_in_other_sets": self.against.to_dict("records"),
            "groups": self.groups.to_dict("records"),
            "suspects": self.suspects.assign(image=images[self.suspects["row"].to_numpy(int)]).to_dict("records"),
            "pairs": pairs.to_dict("records"),
        }


def audit(
    manifest: Manifest,
    against: Sequence[Manifest] = (),
    *,
    cache: Cache,
    lists: Sequence[TrainingImages] = (),
    embed: Embed | None = None,
    backbone: str | None = None,
    seed: int = 0,
) -> Audit:
    """Audit a data set.

    Args:
        manifest: the set in question.
        against: other sets, whose images and ids join its images.
        cache: keeps decoded images.
        lists: of what networks were trained on, see `nevus.auditing.contamination`.
        embed: see `nevus.auditing.shortcuts.region_features`.
        backbone: name of the backbone behind `embed`.
        seed: of folds, clusters and bootstrap.

    Raises:
        NevusError: no image can be used.

    """
    relations = group_lesions(manifest, against, cache)
    audited = relations.apply(manifest)
    facts = file_metadata(manifest)
    own = relations.is_own()
    pairs = _marked(relations)
    several = _groups(audited)
    seen = relations.usable_rows[own[relations.usable_rows]]
    views = shortcuts.region_features(relations.squares.subset(slice(0, len(seen))), embed)
    file = shortcuts.file_features(facts.iloc[seen])
    simple = views if embed is None else shortcuts.region_features(relations.squares.subset(slice(0, len(seen))))
    table = audited.table.iloc[seen]
    codes = relations.codes[seen]
    labels, sources = table["label"].tolist(), table["source"].tolist()
    styled = len(set(sources)) < 2
    if styled:
        sources = shortcuts.cluster_capture_style(simple["border ring"], file, seed=seed)
    shown = {
        **views,
        shortcuts.COLOR: simple["whole image"][:, :6],
        shortcuts.FILE: file,
        shortcuts.SOURCE: _one_hot(sources),
    }
    told: list[ShortcutScore] = []
    whole: OutOfFoldPredictions | None = None
    with progress(unit="views") as bar:
        task = bar.add_task("what tells the label", total=len(shown) * (1 if styled else 2), note="")
        for what, names in (("label", labels), ("source", [] if styled else sources)):
            for view, features in shown.items() if names else ():
                if what == view:
                    continue
                found = shortcuts.cross_validate(features, names, codes, seed=seed)
                if what == "label" and view == "whole image":
                    whole = found
                if found:
                    told.append(shortcuts.score_shortcut(what, view, found, seed=seed))
                bar.advance(task)
    counted = pd.crosstab(pd.Series(sources, name="source"), pd.Series(labels, name="label"))
    suspects = find_label_issues(whole)
    suspects["row"] = seen[suspects["row"].to_numpy(int)]
    about = {
        "digest": relations.digest,
        "data": {"name": manifest.name, "digest": manifest.digest, "rows_digest": manifest.rows_digest},
        "against": [{"name": m.name, "digest": m.digest, "images": len(m)} for m in against],
        "thresholds": asdict(chosen()),
        "backbone": backbone,
        "seed": seed,
        "nevus": version("nevus"),
    }
    made = Audit(
        manifest=audited,
        relations=relations,
        pairs=pairs,
        facts=facts,
        groups=several,
        against=_labels_elsewhere(relations, [manifest.name, *(m.name for m in against)]),
        told=tuple(told),
        sources=counted,
        styled=styled,
        suspects=suspects,
        overlaps=find_overlap(audited, relations, lists) if lists else (),
        warnings=(),
        about=about,
    )
    return replace(made, warnings=tuple(_warnings(made)))


def _one_hot(names: Sequence[str]) -> Any:
    return pd.get_dummies(pd.Series(list(names))).to_numpy(np.float32)


def _marked(relations: LesionGroups) -> pd.DataFrame:
    own, pairs = relations.is_own(), relations.pairs
    a, b = pairs["a"].to_numpy(np.int64), pairs["b"].to_numpy(np.int64)
    split, label = relations.images["split"].to_numpy(), relations.images["label"].to_numpy()
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


def _labels_elsewhere(relations: LesionGroups, names: Sequence[str]) -> pd.DataFrame:
    """By the found pairs alone: what a chain of them joins is not compared."""
    own, images = relations.is_own(), relations.images
    a, b = (relations.pairs[image_size].to_numpy(np.int64) for image_size in ("a", "b"))
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


def _warnings(found: Audit) -> list[str]:
    n, said = found.counts(), []
    if n["groups_across_splits"]:
        said.append(
            f"{_counted(n['groups_across_splits'], 'lesion')} on two sides of the splits of {found.manifest.name}: "
            f"{_counted(n['train_images_that_leak'], 'training image')} and "
            f"{_counted(n['test_images_touched'], 'test image')} show the same. Figures on this test split are too "
            "good; train with --drop-leaks, or make a new split with nevus split."
        )
    if n["groups_with_two_labels"]:
        said.append(f"{_counted(n['groups_with_two_labels'], 'group')} with two labels: look before you train.")
    blind = [t for t in found.told if t.what == "label" and t.view in shortcuts.BLIND and t.at_least > shortcuts.TELLS]
    if blind:
        worst = max(blind, key=lambda t: t.auroc)
        said.append(
            f"The label can be told without the lesion, from the view '{worst.view}' with an AUROC of "
            f"{worst.auroc:.2f} (at least {worst.at_least:.2f}). A network will learn that, too, and figures "
            "on this set will not carry over to images from elsewhere; judge it on another source."
        )
    share: pd.Series[float] = found.sources.max(axis=1) / found.sources.sum(axis=1)
    lone = found.sources.index[(share >= ONE_SIDED) & (found.sources.sum(axis=1) >= shortcuts.LEAST)]
    if len(lone) and len(found.sources.columns) > 1:
        kind = "capture styles" if found.styled else "sources"
        said.append(
            f"Of {len(found.sources)} {kind} these hold one class only: {', '.join(map(str, lone[:5]))}"
            f"{' and others' if len(lone) > 5 else ''}. There the source tells the label."
        )
    said += [one.sentence(found.manifest) for one in found.overlaps if len(one.found)]
    if n["unreadable"]:
        first = found.facts.loc[found.facts["digest"] == "", "odd"].iloc[0]
        said.append(f"{_counted(n['unreadable'], 'image')} cannot be used; the first: {first}")
    if n["odd"]:
        said.append(f"{_counted(n['odd'], 'file')} with no ordinary picture of a lesion; see the list.")
    return said


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
