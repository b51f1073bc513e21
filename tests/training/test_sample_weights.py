from pathlib import Path

import numpy as np
import pandas as pd

from nevus.data.manifest import Manifest
from nevus.training.config import DatasetStats
from nevus.training.losses import MAX_WEIGHT, source_balancing_weights
from nevus.training.overrides import make_config


def manifest(rows):
    table = pd.DataFrame(rows, columns=["label", "source"]).astype(str)
    table = table.assign(image=[f"{k}.png" for k in range(len(table))], split="train")
    table["group"] = table["image"]
    return Manifest(table[["image", "label", "group", "split", "source"]], Path("/"), ("a", "b"), "made")


def recipe(reweigh):
    return make_config("best", DatasetStats(60, 1, 32), {"sample_weighting": reweigh})


def test_under_the_weights_the_source_tells_nothing():
    rows = manifest([("a", "x")] * 30 + [("b", "x")] * 10 + [("a", "y")] * 5 + [("b", "y")] * 15)
    weights = source_balancing_weights(rows, recipe("source")).numpy()
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    table = rows.table.assign(weight=weights, positive=(rows.table["label"] == "b").to_numpy())
    share = [(g["weight"] * g["positive"]).sum() / g["weight"].sum() for _, g in table.groupby("source")]
    np.testing.assert_allclose(share, 25 / 60, rtol=1e-5)


def test_without_it_all_weigh_the_same_and_none_too_much():
    rows = manifest([("a", "x")] * 500 + [("b", "x")] + [("b", "y")] * 500)
    assert source_balancing_weights(rows, recipe("none")).tolist() == [1] * 1001
    weights = source_balancing_weights(rows, recipe("source"))
    assert weights.max() / weights.min() <= MAX_WEIGHT / 0.4
