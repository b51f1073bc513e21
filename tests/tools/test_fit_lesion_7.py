"""The seven diagnoses of the built-in classifier, and its metrics on a source."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tools.fit_lesion_7 import ALL, SEVEN, in_equal_shares, source_rows
from tools.lesion_sources import CLASSES

from nevus.data.manifest import Manifest


def test_every_diagnosis_has_one_class():
    assert SEVEN.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")  # those of HAM10000
    coarse = np.asarray(SEVEN.group_targets(np.arange(len(CLASSES))))
    assert [SEVEN.classes[one] for one in coarse] == ["akiec" if name == "scc" else name for name in CLASSES]


def test_rare_classes_are_repeated():
    y = np.array([0, 2, 2, 2, 2, 1, 1])
    rows = in_equal_shares(y)
    assert np.bincount(y[rows]).tolist() == [4, 4, 4]
    assert set(rows) == set(range(7))


def test_a_source_is_judged_on_the_diagnoses_that_it_has_enough_images_of():
    rng = np.random.default_rng(0)
    labels = np.repeat(["bkl", "mel", "nv", "df"], [40, 50, 60, 5])  # too few dermatofibromas
    table = pd.DataFrame({"image": [f"{n}.jpg" for n in range(155)], "label": labels, "source": "a", "split": ""})
    rows = Manifest(table.assign(group=table["image"]), None, CLASSES, "made")
    y = np.array([SEVEN.classes.index(name) for name in labels])
    logits = rng.normal(size=(155, 7)) + 1.5 * np.eye(7)[y]
    pair, every = source_rows("a", logits, y, rows)
    two = np.isin(labels, ["mel", "nv"])
    margin = logits[two, 4] - logits[two, 5]
    assert pair["auroc"] == pytest.approx(roc_auc_score(labels[two] == "mel", margin))
    three = labels != "df"
    chosen = logits[three][:, [2, 4, 5]]
    p = np.exp(chosen) / np.exp(chosen).sum(1, keepdims=True)
    assert (every["task"], every["n"]) == (ALL, 150)
    assert every["auroc"] == pytest.approx(roc_auc_score(labels[three], p, multi_class="ovr"))
    guessed = np.array(["bkl", "mel", "nv"])[p.argmax(1)]
    assert every["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[three], guessed))
    assert every["auroc_low"] < every["auroc"] < every["auroc_high"]
