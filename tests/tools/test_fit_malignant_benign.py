"""Weights and calibration of the built-in classifier: what a network was trained on counts little."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tools.fit_malignant_benign import TRAINED_WEIGHT, MemberSpec, ensemble_rows, pooled, weights_of
from tools.lesion_sources import CLASSES, JUDGED

from nevus.data.manifest import Manifest


def manifest(rows):
    """Images of one group each, by label and source."""
    table = pd.DataFrame(rows, columns=["label", "source"])
    table["image"] = [f"{number}.jpg" for number in range(len(table))]
    table["group"], table["split"] = table["image"], ""
    return Manifest(table, Path("/"), CLASSES, "made")


ROWS = [
    *[("mel", "ham10000:rosendahl")] * 9,
    *[("mel", "isic2017")] * 4,
    *[("nv", "isic2017")] * 16,
    *[("vasc", "ham10000:rosendahl")] * 5,
]


def test_only_a_network_with_labels_was_trained_on_a_data_set():
    rows = manifest(ROWS)
    trained = MemberSpec("a", "xception-keras", 254, 0, "none", "MIT", trained_on="ham10000")
    assert trained.was_trained_on(rows).tolist() == [source.startswith("ham10000") for _, source in ROWS]
    assert not MemberSpec("b", "efficientnet-lite2", 260, 4, "none", "MIT").was_trained_on(rows).any()


@pytest.mark.parametrize("factor", [1, TRAINED_WEIGHT])
def test_classes_weigh_alike_and_trained_images_less(factor):
    rows = manifest(ROWS)
    ham = rows.table["source"].str.startswith("ham10000").to_numpy()
    found = weights_of(rows, ham if factor < 1 else np.zeros(len(rows), bool))
    labels = rows.table["label"].to_numpy()
    totals = [found[labels == name].sum() for name in ("mel", "nv", "vasc")]
    assert np.allclose(totals, len(rows) / 3)
    # Totals of the two sources of melanomas: the roots of 9 and 4 images.
    melanomas = found[:9].sum() / found[9:13].sum()
    assert melanomas == pytest.approx(factor * 3 / 2)


def test_the_metrics_of_a_source_use_nothing_of_it_but_its_own_images():
    """Wrong labels in one source change the pool and the threshold of the others, not its own."""
    rng = np.random.default_rng(0)
    rows = manifest([(label, source) for source in JUDGED for label in ("mel", "nv") * 60])
    y = (rows.table["label"] == "mel").to_numpy(np.int64)
    margins = [rng.normal(shift * y, 1) for shift in (0.5, 1.5)]
    each = [np.stack([-margin / 2, margin / 2], 1) for margin in margins]
    new = ~rows.table["source"].str.startswith("ham10000").to_numpy(bool)
    own = (rows.table["source"] == "isic2017").to_numpy(bool)
    logits, calibrations = pooled(each, y, new & ~own)
    wrong, same = pooled(each, np.where(own, 1 - y, y), new & ~own)
    assert np.array_equal(logits, wrong)
    assert calibrations == same
    assert pooled(each, np.where(own, 1 - y, y), new)[1] != calibrations

    def by_source(labels):
        found = ensemble_rows(each, labels, rows, new)
        return {row["source"]: row["sensitivity"] for row in found if row["task"] == "melanoma or nevus"}

    before, after = by_source(y), by_source(np.where(own, 1 - y, y))
    assert before["isic2017"] == after["isic2017"]
    assert any(before[source] != after[source] for source in JUDGED if source != "isic2017")
