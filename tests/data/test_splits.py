from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.data.manifest import Manifest
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError


def manifest(labels, groups=None, splits=None):
    n = len(labels)
    table = pd.DataFrame(
        {
            "image": [f"{i}.jpg" for i in range(n)],
            "label": labels,
            "group": groups or [f"g{i}" for i in range(n)],
            "split": splits or [""] * n,
            "source": ["s"] * n,
        }
    )
    return Manifest(table, Path(), tuple(sorted(set(labels))), "skin")


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=80, max_size=160),
    seed=st.integers(0, 5),
    share=st.sampled_from([0.1, 0.15, 0.2, 0.25, 0.5]),
)
def test_no_group_is_split_apart_and_classes_keep_their_share(sizes, seed, share):
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    labels = ["ab"[i % 2] for i, size in enumerate(sizes) for _ in range(size)]
    made = with_splits(manifest(labels, groups), SplitConfig(val_fraction=share, test_fraction=0.2, split_seed=seed))
    assert made.table.groupby("group")["split"].nunique().max() == 1
    assert set(made.table["split"]) == {"train", "validation", "test"}
    counts = made.counts()
    assert abs(counts.loc["test"].sum() / len(made) - 0.2) < 0.06
    rest = counts.loc["train"].sum() + counts.loc["validation"].sum()
    assert abs(counts.loc["validation"].sum() / rest - share) < 0.08
    of_a = counts["a"] / counts.sum(axis=1)
    assert of_a.max() - of_a.min() < 0.2


def test_seed_decides():
    one = with_splits(manifest(["a", "b"] * 50), SplitConfig(split_seed=1))
    again = with_splits(manifest(["a", "b"] * 50), SplitConfig(split_seed=1))
    other = with_splits(manifest(["a", "b"] * 50), SplitConfig(split_seed=2))
    assert one.digest == again.digest
    assert one.digest != other.digest


def test_given_splits_stay():
    splits = (["train"] * 4 + ["test"]) * 20
    made = with_splits(manifest(["a", "b"] * 50, splits=splits), SplitConfig())
    assert [s == "test" for s in made.table["split"]] == [s == "test" for s in splits]
    assert made.counts().loc["validation"].sum() == pytest.approx(12, abs=1)
    full = manifest(["a", "b"] * 6, splits=["train", "train", "validation", "validation"] * 3)
    assert with_splits(full, SplitConfig()).digest == full.digest


def test_faults_get_one_sentence():
    with pytest.raises(NevusError, match=r"has one class only \('a'\)"):
        with_splits(manifest(["a"] * 9), SplitConfig())
    with pytest.raises(NevusError, match="the class 'b' has 3 independent images, fewer than the"):
        with_splits(manifest(["a"] * 90 + ["b"] * 3), SplitConfig(test_fraction=0))
    with pytest.raises(NevusError, match="has no train split"):
        with_splits(manifest(["a", "b"], splits=["test", "test"]), SplitConfig())
    with pytest.raises(NevusError, match="not between 0 and 1"):
        with_splits(manifest(["a", "b"] * 9), SplitConfig(val_fraction=1.5))


def test_a_rare_class_gets_a_coarser_cut_before_it_is_refused():
    made = with_splits(manifest(["a"] * 90 + ["b"] * 8, splits=["train"] * 98), SplitConfig(val_fraction=0.15))
    assert made.counts().loc["validation"].min() >= 1


def test_given_splits_that_break_groups_are_kept_and_told(capsys):
    splits = ["train", "test"] * 30
    groups = [f"g{i // 2}" for i in range(60)]
    labels = ["a", "a", "b", "b"] * 15
    made = with_splits(manifest(labels, groups, splits), SplitConfig())
    assert (made.table["split"] == "test").sum() == 30
    assert "in several splits of skin: 30" in capsys.readouterr().err
    with pytest.raises(NevusError, match="Correct --split-seed"):
        with_splits(manifest(["a", "b"] * 9), SplitConfig(split_seed=-1))
