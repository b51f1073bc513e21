import threading
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nevus.auditing.image_regions import describe_region, everything, lesion, only, ring, surroundings
from nevus.auditing.label_errors import find_label_issues
from nevus.auditing.shortcuts import (
    cluster_capture_style,
    cross_val_predict,
    cross_validate,
    file_features,
    region_features,
    score_shortcut,
    usable,
)

SIDE = 128


def spot(rng, lesion_color, skin=(205, 160, 140), radius=24):
    """A dark disc on skin, with noise."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2 + rng.integers(-8, 8, 2)[:, None, None]
    inside = np.hypot(x, y) < radius
    image = np.where(inside[..., None], lesion_color, skin) + rng.normal(0, 6, (SIDE, SIDE, 3))
    return image.clip(0, 255).astype(np.uint8), inside


def test_the_lesion_s_mask_covers_the_lesion_and_little_else():
    rng = np.random.default_rng(0)
    for color in ((90, 50, 40), (150, 90, 80), (60, 60, 90)):
        image, inside = spot(rng, color)
        mask = lesion(image)
        assert mask[inside].all()
        assert mask.mean() < 3 * inside.mean()
        assert not (surroundings(image) & inside).any()


def test_a_mask_of_nothing_or_of_black():
    for image in (np.full((SIDE, SIDE, 3), 200, np.uint8), np.zeros((SIDE, SIDE, 3), np.uint8)):
        mask = lesion(image)
        assert 0.1 < mask.mean() < 0.5
        assert np.isfinite(describe_region(image, mask)).all()


def test_views():
    image, _ = spot(np.random.default_rng(1), (90, 50, 40))
    assert everything(image).all()
    assert ring(image).mean() == pytest.approx(1 - (1 - 2 * 13 / 128) ** 2)
    hidden = only(image, ring(image))
    assert (hidden[64, 64] == 128).all()
    assert np.array_equal(hidden[0], image[0])
    assert describe_region(image, np.zeros((SIDE, SIDE), bool)).tolist() == [0.0] * 47


def set_of(colors, skins, n=60):
    """n images; class 0 and 1 have the given colors of lesion and skin."""
    rng = np.random.default_rng(3)
    y = np.arange(n) % 2
    return [spot(rng, colors[c], skins[c])[0] for c in y], np.where(y, "b", "a").tolist()


SKIN, PALE, BROWN, BLACK = (205, 160, 140), (225, 190, 175), (110, 70, 50), (60, 40, 40)


@pytest.mark.parametrize(
    ("colors", "skins", "by_lesion", "by_ring"),
    [
        ((BROWN, BLACK), (SKIN, SKIN), True, False),
        ((BROWN, BROWN), (SKIN, PALE), False, True),
        ((BROWN, BROWN), (SKIN, SKIN), False, False),
    ],
)
def test_a_planted_shortcut_is_seen_and_no_other(squares_of, colors, skins, by_lesion, by_ring):
    images, labels = set_of(colors, skins, n=120)
    views = region_features(squares_of(images))
    groups = np.arange(len(images))
    found = {
        view: score_shortcut("label", view, cross_validate(features, labels, groups))
        for view, features in views.items()
    }
    assert (found["border ring"].lower_bound > 0.6) == by_ring
    assert (found["lesion masked out"].lower_bound > 0.6) == by_ring
    assert (found["whole image"].lower_bound > 0.6) == (by_lesion or by_ring)
    assert all(one.lower_bound <= one.auroc <= 1 and one.n == 120 for one in found.values())


def test_the_auroc_is_that_of_scikit_learn_out_of_fold():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    features = (rng.normal(size=(200, 4)) + y[:, None] * 0.5).astype(np.float32)
    names = np.where(y, "b", "a").tolist()
    groups = np.arange(200) // 2
    found = score_shortcut("label", "whole image", cross_validate(features, names, groups))
    p = cross_val_predict(features, y, groups)
    assert found.auroc == pytest.approx(roc_auc_score(y, p[:, 1]))
    assert found.classes == ("a", "b")


def test_no_thread_of_scikit_learn_s_touches_the_warning_filters(monkeypatch):
    """They belong to the process, and two threads that set them aside and back again lose them."""

    def start(thread):
        raise AssertionError(f"{thread} would set the warning filters of all")

    monkeypatch.setattr(threading.Thread, "start", start)
    rng = np.random.default_rng(0)
    y, before = rng.integers(0, 2, 100), list(warnings.filters)
    for width in (4, 300):
        assert np.isfinite(cross_val_predict(rng.normal(size=(100, width)).astype(np.float32), y, np.arange(100))).all()
    assert list(warnings.filters) == before


def test_small_classes_and_unknown_names_are_left_out():
    names = ["a"] * 30 + ["b"] * 30 + ["c"] * 3 + [""] * 40
    kept, y, classes = usable(names, np.arange(103))
    assert classes == ("a", "b")
    assert kept.sum() == len(y) == 60
    assert cross_validate(np.zeros((103, 2), np.float32), ["a"] * 103, np.arange(103)) is None


def test_a_group_that_repeats_its_features_does_not_tell_itself():
    rng = np.random.default_rng(0)
    lesions = rng.normal(size=(40, 300)).astype(np.float32)
    features, groups = np.repeat(lesions, 4, axis=0), np.repeat(np.arange(40), 4)
    names = np.where(np.repeat(np.arange(40) % 2, 4), "b", "a").tolist()
    assert score_shortcut("label", "x", cross_validate(features, names, groups)).low < 0.6


def test_styles_find_two_cameras():
    rng = np.random.default_rng(0)
    camera = np.arange(200) % 2
    rings = (rng.normal(size=(200, 5)) + 8 * camera[:, None]).astype(np.float32)
    names = np.array(cluster_capture_style(rings, np.zeros((200, 2), np.float32)))
    table = pd.crosstab(names, camera)
    assert (table.min(axis=1) == 0).all()
    assert table.loc["style 1"].sum() == table.sum(axis=1).max()


def test_file_facts_as_numbers():
    facts = pd.DataFrame({"format": ["JPEG", "PNG"], "mode": ["RGB", "RGB"], "width": [100, 0], "height": [50, 0]})
    facts = facts.assign(bytes=[500, 0], tables=["ab", ""], coarseness=[9.0, 0.0], orientation=0, profile=[False, True])
    found = file_features(facts)
    assert found.shape == (2, 10)
    assert found[0, :5].tolist() == [100, 50, 2, pytest.approx(0.1), 9]
    assert np.isfinite(found).all()


def test_swapped_labels_are_doubted_and_others_hardly():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    features = (rng.normal(size=(200, 5)) + 4 * y[:, None]).astype(np.float32)
    names = np.where(y, "b", "a")
    swapped = [3, 50, 77, 120]
    names[swapped] = np.where(names[swapped] == "a", "b", "a")
    found = find_label_issues(cross_validate(features, names.tolist(), np.arange(200)))
    assert set(swapped) <= set(found["row"])
    assert len(found) <= 8
    assert found["quality"].is_monotonic_increasing
    assert (found["label"] != found["suggested"]).all()
    assert find_label_issues(cross_validate(features, ["a"] * 200, np.arange(200))).empty
