import pandas as pd
import pytest

from nevus.data.public.corrected_splits import BY_DIGEST, BY_ID, corrected_table, with_corrected_split
from nevus.data.readers.dispatch import read


@pytest.mark.parametrize("name", [BY_DIGEST, BY_ID])
def test_published_splits_are_whole(name):
    table = corrected_table(name)
    key = "digest" if name == BY_DIGEST else "image"
    assert table[key].is_unique
    assert not table.isna().any().any()
    assert set(table["split"]) == {"train", "test"}
    assert (table.groupby("group")["split"].nunique() == 1).all()
    assert 0.17 < (table["split"] == "test").mean() < 0.23
    assert len(table) == {BY_DIGEST: 3297, BY_ID: 10015}[name] or (name == BY_DIGEST and len(table) > 3250)


def test_images_are_known_by_their_ids(tmp_path, picture):
    (tmp_path / "images").mkdir()
    known = corrected_table(BY_ID).iloc[:40]
    for image in known["image"]:
        picture(32, 24, 1).save(tmp_path / "images" / f"{image}.png")
    picture(32, 24, 1).save(tmp_path / "images" / "stranger.png")
    rows = [{"image": f"images/{image}.png", "label": "ab"[n % 2]} for n, image in enumerate(known["image"])]
    pd.DataFrame([*rows, {"image": "images/stranger.png", "label": "a"}]).to_csv(tmp_path / "mine.csv", index=False)
    found = with_corrected_split(read(tmp_path / "mine.csv"))
    assert len(found) == 40
    assert found.table["split"].tolist() == known["split"].tolist()
    assert found.table["group"].tolist() == known["group"].tolist()


def test_the_real_images_are_recognized_by_their_pixels(real):
    official = read(real / BY_DIGEST)
    found = with_corrected_split(official)
    assert len(found) == len(official)
    assert (found.table.groupby("group")["split"].nunique() == 1).all()
    new = pd.crosstab(found.table["split"], found.table["label"])
    old = pd.crosstab(official.table["split"], official.table["label"])
    assert (new - old).abs().max().max() <= 12


def test_the_fold_of_ham10000_holds_the_lesions_of_the_other_set_s_tests(real):
    fold = with_corrected_split(read(real / BY_ID))
    other = with_corrected_split(read(real / BY_DIGEST))
    shared = set(other.table["group"].str.removeprefix("ham10000:")) & set(fold.table["group"])
    assert len(shared) > 300
    tested = other.table["group"][other.table["split"] == "test"].str.removeprefix("ham10000:")
    there = fold.table[fold.table["group"].isin(set(tested))]
    assert (there["split"] == "test").all()
