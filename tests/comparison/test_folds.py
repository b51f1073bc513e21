"""Comparison by cross-validation against scikit-learn and a direct DeLong test."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from nevus.cli.main import main
from nevus.metrics.significance import delong_difference
from nevus.phantoms.dataset import PhantomConfig, write


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Two methods on 72 phantoms of three sources, one source left out at a time."""
    folder = tmp_path_factory.mktemp("folds")
    table = write(PhantomConfig(n=72, image_size=48, test=0, seed=4), folder / "set", workers=1).reset_index(drop=True)
    listed = pd.DataFrame({"image": table["image"], "label": table["label"], "source": list("abc") * 24})
    listed.to_csv(folder / "set" / "listed.csv", index=False)
    words = ["compare", str(folder / "set" / "listed.csv"), "--by", "source", "--methods", "bit", "abcd-rule"]
    words += ["--set", "image_size=32", "steps=50", "--no-check-duplicates", "--out", str(folder / "out")]
    assert main(words) == 0
    return words, folder / "out"


def predictions(out, trial):
    table = pd.read_csv(out / "trials" / trial / "predictions.csv").set_index("image")
    return table["label"] == "malignant", table["p_malignant"], table["fold"]


def test_pooled_mean_and_worst_are_those_of_scikit_learn(compared):
    out = compared[1]
    for row in pd.read_csv(out / "table.csv").to_dict("records"):
        y, p, fold = predictions(out, row["trial"])
        assert row["auroc"] == pytest.approx(roc_auc_score(y, p))
        each = [roc_auc_score(y[fold == name], p[fold == name]) for name in "abc"]
        assert row["auroc_mean"] == pytest.approx(np.mean(each))
        assert row["auroc_worst"] == pytest.approx(min(each))
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_the_difference_from_bit_is_delongs_on_the_same_images(compared):
    out = compared[1]
    table = pd.read_csv(out / "table.csv").set_index("system")
    y, ours, _ = predictions(out, table.loc["bit", "trial"])
    _, theirs, _ = predictions(out, table.loc["abcd-rule", "trial"])
    test = delong_difference(y.to_numpy(), theirs[y.index].to_numpy(), ours.to_numpy())
    assert table.loc["abcd-rule", "auroc_difference"] == pytest.approx(test.difference)
    assert table.loc["abcd-rule", "delong_p"] == pytest.approx(test.p)
    assert table.loc["bit", "reference"]
    page = (out / "table.html").read_text()
    assert "Research use only" in page
    assert "reference" in page


def test_started_again_it_repeats_nothing_and_other_folds_are_refused(compared, capsys):
    words, out = compared
    done = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/folds/*/bundle/config.json")}
    assert len(done) == 6
    assert main(words) == 0
    assert done == {path: path.stat().st_mtime_ns for path in done}
    capsys.readouterr()
    assert main([*words[:2], "--by", "group", *words[4:]]) == 2
    assert "of other data or folds" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("flag", [("--budget", "30s"), ("--random-weights",), ("--test-fraction", "0.3")])
def test_flags_of_a_test_split_are_refused(compared, flag, tmp_path, capsys):
    words = [*compared[0][:-1], str(tmp_path / "other"), *flag]
    assert main(words) == 2
    assert "with --by: there is no test split" in " ".join(capsys.readouterr().err.split())
