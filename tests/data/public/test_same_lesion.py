import re

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nevus.data.public.same_lesion import join_groups, same_lesion_pairs
from nevus.data.readers.dispatch import read

CONFIRMED = ("one lesion", "one field")


def test_the_table_holds_ids_only():
    pairs = same_lesion_pairs()
    assert len(pairs) == len(pairs.drop_duplicates(["image_a", "image_b"]))
    assert pairs[["image_a", "image_b"]].map(lambda text: bool(re.fullmatch(r"ISIC_\d{7}", text))).all(axis=None)
    assert pairs[["lesion_a", "lesion_b"]].map(lambda text: bool(re.fullmatch(r"HAM_\d{7}", text))).all(axis=None)
    assert (pairs["lesion_a"] != pairs["lesion_b"]).all()
    assert set(pairs["shows"]) == {*CONFIRMED, "uncertain", "different lesions"}


def test_groups_are_the_connected_components_of_confirmed_pairs():
    pairs = same_lesion_pairs()
    lesion = pd.concat(
        [pairs[[f"image_{side}", f"lesion_{side}"]].set_axis(["id", "lesion"], axis=1) for side in "ab"]
    ).drop_duplicates("id", ignore_index=True)
    joined = join_groups(lesion["id"], lesion["lesion"])
    codes, names = pd.factorize(lesion["lesion"])
    code = pd.Series(codes, index=lesion["id"])
    confirmed = pairs[pairs["shows"].isin(CONFIRMED)]
    a, b = code[confirmed["image_a"]], code[confirmed["image_b"]]
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(names), len(names)))
    expected = connected_components(graph, directed=False)[1][codes]
    # The same partition: each group has one component, and each component one group.
    together = pd.DataFrame({"joined": joined, "expected": expected}).drop_duplicates()
    assert together["joined"].is_unique
    assert together["expected"].is_unique


@pytest.mark.parametrize("suffix", ["", ".jpg"])
def test_ids_are_found_with_suffix_and_folder(suffix):
    pair = same_lesion_pairs().query("shows == 'one lesion'").iloc[0]
    ids = pd.Series([f"images/{pair['image_a']}{suffix}", f"images/{pair['image_b']}{suffix}", "images/other"])
    assert join_groups(ids, pd.Series(["b", "a", "c"])).tolist() == ["a", "a", "c"]


def test_other_data_keep_their_groups():
    groups = pd.Series(["a", "b"])
    assert join_groups(pd.Series(["x.jpg", "y.jpg"]), groups).equals(groups)


def test_ham10000_has_fewer_groups_than_lesion_ids(real):
    table = read(real / "ham10000").table
    pairs = same_lesion_pairs().query("shows in ('one lesion', 'one field')")
    group = table.set_index(table["image"].str.extract(r"(ISIC_\d+)")[0])["group"]
    assert (pairs["image_a"].map(group).to_numpy() == pairs["image_b"].map(group).to_numpy()).all()
    assert table.groupby("lesion_id")["group"].nunique().max() == 1
    assert table["group"].nunique() < table["lesion_id"].nunique()
