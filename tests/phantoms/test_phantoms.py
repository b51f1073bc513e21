import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nevus.data.images import decode
from nevus.data.readers.dispatch import read
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.phantoms.abcd import AbcdParameters, bayes_accuracy, chance_of_malignancy, draw_abcd
from nevus.phantoms.dataset import PhantomConfig, bayes_of, render, write
from nevus.phantoms.dataset import phantoms as described


def test_score_is_that_of_the_rule():
    assert AbcdParameters(2, 8, 6, 5).score == pytest.approx(1.3 * 2 + 0.8 + 3.0 + 2.5)
    assert AbcdParameters(0, 0, 1, 1).score == pytest.approx(1.0)


def test_bayes_accuracy_is_what_the_best_reader_reaches():
    rng = np.random.default_rng(0)
    right = []
    for _ in range(20_000):
        chance = chance_of_malignancy(draw_abcd(rng).score, 0.5)
        malignant = rng.random() < chance
        right.append(malignant == (chance > 0.5))
    assert np.mean(right) == pytest.approx(bayes_accuracy(0.5), abs=0.01)
    assert bayes_accuracy(0) == pytest.approx(1)
    assert bayes_accuracy(0.3) > bayes_accuracy(0.7) > 0.8


def test_same_seed_same_bytes(tmp_path):
    config = PhantomConfig(n=6, image_size=48, seed=9)
    write(config, tmp_path / "one", workers=1)
    write(config, tmp_path / "two", workers=1)
    table = pd.read_csv(tmp_path / "one" / "manifest.csv")
    for name in [*table["image"], "manifest.csv", "contact-sheet.jpg"]:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_processes_draw_the_same(tmp_path):
    write(PhantomConfig(n=100, image_size=32), tmp_path / "one", workers=1)
    write(PhantomConfig(n=100, image_size=32), tmp_path / "two", workers=2)
    names = pd.read_csv(tmp_path / "one" / "manifest.csv")["image"]
    assert all((tmp_path / "one" / n).read_bytes() == (tmp_path / "two" / n).read_bytes() for n in names)


def test_labels_follow_the_law():
    drawn = list(described(PhantomConfig(n=3000, repeats=0)))
    chance = np.array([p.chance for p in drawn])
    malignant = np.array([p.malignant for p in drawn])
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        here = (chance >= low) & (chance < low + 0.2)
        assert malignant[here].mean() == pytest.approx(chance[here].mean(), abs=0.1)
    assert 0.4 < malignant.mean() < 0.6


def test_captures_say_nothing_of_the_label():
    """No artifact may be a short cut: its mean must not differ between the classes."""
    drawn = list(described(PhantomConfig(n=3000, repeats=0)))
    malignant = np.array([p.malignant for p in drawn])
    for name in ("hairs", "bubbles", "vignette", "ruler", "warmth", "exposure", "zoom", "quality"):
        values = np.array([float(getattr(p.how, name)) for p in drawn])
        gap = abs(values[malignant].mean() - values[~malignant].mean())
        assert gap < 4 * values.std() * np.sqrt(2 / len(values) * 2)
    skin = np.array([p.lesion.skin for p in drawn])
    assert abs(skin[malignant].mean() - skin[~malignant].mean()) < 0.25


def test_skin_reaches_over_the_whole_fitzpatrick_range():
    drawn = list(described(PhantomConfig(n=400)))
    types = {p.row()["fitzpatrick_skin_type"] for p in drawn}
    assert types == {"I", "II", "III", "IV", "V", "VI"}
    light = min(drawn, key=lambda p: p.lesion.skin)
    dark = max(drawn, key=lambda p: p.lesion.skin)
    assert np.median(render(light, 0, 64)) > np.median(render(dark, 0, 64)) + 40


def test_two_images_of_one_lesion_share_their_group_and_split(phantoms):
    manifest = read(phantoms)
    assert manifest.table.groupby("group")["split"].nunique().max() == 1
    assert manifest.table.groupby("group")["label"].nunique().max() == 1
    made = with_splits(manifest, SplitConfig())
    assert made.table.groupby("group")["split"].nunique().max() == 1


def test_files_are_what_the_manifest_says(phantoms):
    table = pd.read_csv(phantoms / "manifest.csv")
    assert len(table) == 60
    for row in table.itertuples():
        assert decode(phantoms / row.image).shape == (64, 64, 3)
        assert f"/{row.label}/" in row.image
    with Image.open(phantoms / "contact-sheet.jpg") as image:
        assert image.width > 1000
    law, drawn = bayes_of(table, PhantomConfig())
    assert law == bayes_accuracy(0.5)
    assert 0.8 < drawn < 1


def test_a_folder_with_a_set_is_kept(phantoms):
    with pytest.raises(NevusError, match="holds a data set already"):
        write(PhantomConfig(n=3), phantoms)
    with pytest.raises(NevusError, match="Correct --image-size"):
        PhantomConfig(image_size=5)
