import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.auditing.conftest import EDITS

from nevus.auditing import lesion_groups as lesion_groups_module
from nevus.auditing.audit import audit
from nevus.auditing.leakage import drop_leaking, drop_overlap, group_duplicates, leaking_rows, protocol_of
from nevus.auditing.lesion_groups import group_lesions, named_once
from nevus.errors import NevusError


@pytest.fixture
def leaky(lesions, tmp_path, manifest_of):
    """The first three test images are edited copies of the first three for training; copy 1 has another label."""
    paths = sorted(lesions.rglob("*/*.jpg"))
    folder = tmp_path / "leaky" / "x"
    folder.mkdir(parents=True)
    rows = []
    for number, path in enumerate(paths[:20]):
        image = Image.open(path).convert("RGB")
        image.save(folder / f"train{number:02d}.png")
        rows.append((folder / f"train{number:02d}.png", "ab"[number % 2], "train"))
    for number, edit in enumerate(("squeezed", "compressed", "shifted")):
        EDITS[edit](Image.open(paths[number]).convert("RGB")).save(folder / f"test{number:02d}.png")
        rows.append((folder / f"test{number:02d}.png", "ab"[(number + (number == 1)) % 2], "test"))
    for number, path in enumerate(paths[20:24]):
        Image.open(path).convert("RGB").save(folder / f"test{number + 3:02d}.png")
        rows.append((folder / f"test{number + 3:02d}.png", "ab"[number % 2], "test"))
    return manifest_of(rows)


def test_leaks_are_found_counted_and_dropped(leaky, cache):
    found, leaks = group_duplicates(leaky, cache)
    assert (leaks.crossing, leaks.train, leaks.test) == (3, 3, 3)
    assert leaks.pairs["near_duplicate"] == 3
    assert "training images with a lesion of the test split: 3; such test images: 3" in leaks.sentence()
    assert protocol_of(found, corrected=False) == "official"
    clean, dropped = drop_leaking(found)
    assert dropped == 3
    assert not leaking_rows(clean).any()
    assert (clean.table["split"] == "test").sum() == 7
    assert protocol_of(clean, corrected=False) == "leak-free"
    assert protocol_of(clean, corrected=True) == "corrected"
    evaluated, dropped = drop_leaking(found, from_split="test")
    assert dropped == 3
    assert (evaluated.table["split"] == "test").sum() == 4
    assert (evaluated.table["split"] == "train").sum() == 20


def test_external_images_that_overlap_are_left_out(leaky, cache):
    test = (leaky.table["split"] == "test").to_numpy()
    trained, external = leaky.where(~test), leaky.where(test)
    left, known = drop_overlap(external, trained, cache)
    assert known == 3  # copies of the first three for training
    assert left.table["image"].tolist() == external.table["image"].tolist()[3:]
    with pytest.raises(NevusError, match="Give other images"):
        drop_overlap(external.where(np.arange(3)), trained, cache)


def test_a_test_split_that_leaks_completely_is_an_error(leaky, cache):
    only = leaky.where(leaky.table["image"].str.contains("train0[012]|test0[012]", regex=True).to_numpy())
    found, _ = group_duplicates(only, cache)
    with pytest.raises(NevusError, match="Make a new split with nevus split"):
        drop_leaking(found, from_split="test")


def test_ids_join_too_and_pixels_join_ids(leaky, cache, manifest_of):
    table = leaky.table.copy()
    table.loc[[0, 5], "group"] = "lesion 1"
    found = group_lesions(leaky.with_table(table), (), cache)
    groups = found.apply(leaky.with_table(table)).table["group"]
    assert groups[0] == groups[5] == groups[20] == "lesion 1"
    assert groups.nunique() == len(leaky) - 4


def test_references_give_lesion_ids_and_join_groups(leaky, cache, manifest_of, tmp_path, lesions):
    """Two images here, of which each is a copy of one there, are one lesion where the ids there say so."""
    folder = tmp_path / "other" / "y"
    folder.mkdir(parents=True)
    rows = []
    for name, source in (("p", 6), ("q", 9)):
        with Image.open(leaky.paths[source]) as image:
            EDITS["reduced"](image).save(folder / f"{name}.png")
        rows.append((folder / f"{name}.png", "nv", ""))
    other = manifest_of(rows, name="other", lesion_id=["L1", "L1"])
    other = other.with_table(other.table.assign(group="other:L1"))
    found = audit(leaky, [other], cache=cache)
    table = found.manifest.table
    assert len(table) == len(leaky)
    assert table["group"][6] == table["group"][9] == "other:L1"
    assert table["lesion_id"][[6, 9]].tolist() == ["L1", "L1"]
    assert (table["lesion_id"].drop([6, 9]) == "").all()
    assert found.counts()["pairs_with_other_sets"] == 2
    assert found.reference_labels["images"].sum() == 2
    assert found.about["references"][0]["name"] == "other"


def test_the_audit_counts_what_was_planted(leaky, cache):
    found = audit(leaky, cache=cache)
    counts = found.counts()
    assert counts["groups_across_splits"] == counts["leaking_training_images"] == counts["leaking_test_images"] == 3
    assert counts["groups_with_two_labels"] == 1
    assert counts["near_duplicate_pairs"] == 3
    assert found.pairs["disagrees"].sum() == 1
    assert found.pairs["crosses"].all()
    assert any("in several splits" in warning for warning in found.warnings)
    assert any("with two labels" in warning for warning in found.warnings)


def test_unreadable_images_stay_in_the_table(leaky, cache):
    leaky.paths[4].write_bytes(b"no image")
    found = audit(leaky, cache=cache)
    assert len(found.manifest) == len(leaky)
    assert found.counts()["unreadable"] == 1
    assert found.counts()["near_duplicate_pairs"] == 3
    assert any("train04.png" in warning for warning in found.warnings)


def test_pairs_are_cached_in_any_order_of_the_images(leaky, cache, monkeypatch):
    first, leaks = group_duplicates(leaky, cache)
    monkeypatch.setattr(lesion_groups_module, "find_pairs", lambda *_: pytest.fail("it was searched again"))
    order = np.random.default_rng(0).permutation(len(leaky))
    again, same = group_duplicates(leaky.where(order), cache)
    groups = dict(zip(first.table["image"], first.table["group"], strict=True))
    assert dict(zip(again.table["image"], again.table["group"], strict=True)) == groups
    assert same == leaks


def test_an_id_is_lent_where_it_is_the_only_one():
    codes, ids = np.array([0, 0, 1, 1, 1, 2]), pd.Series(["", "x", "y", "z", "", ""])
    assert named_once(codes, ids).tolist() == ["x", "x", "", "", "", ""]


def test_equal_isic_names_are_one_image(lesions, tmp_path, manifest_of, cache):
    """Though their pixels say nothing."""
    paths = sorted(lesions.rglob("*/*.jpg"))
    rows = []
    for number, folder in enumerate(("here", "there")):
        (tmp_path / folder / "x").mkdir(parents=True)
        rows.append(tmp_path / folder / "x" / "ISIC_0000001.png")
        rows[-1].write_bytes(paths[number].read_bytes())
    here, there = (manifest_of([(path, "x", "")], name=path.parent.parent.name) for path in rows)
    found = group_lesions(here, [there], cache)
    assert found.codes.tolist() == [0, 0]
