import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, roc_auc_score
from tests.processes import run_trial

from nevus.bundle.bundle import load_bundle
from nevus.comparison import plan, runner
from nevus.comparison.config import ComparisonConfig
from nevus.comparison.plan import make_trials, with_time_estimates
from nevus.comparison.runner import compare
from nevus.comparison.table import METRICS, comparison_table
from nevus.comparison.trial import DONE, PLAN, TRIALS, Trial, failure_path, load_predictions, run_planned
from nevus.data.readers.dispatch import read
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.models.checkpoint import save_backbone
from nevus.models.model import build_backbone
from nevus.report.comparison import as_console, as_latex, blocks, write_comparison
from nevus.training.config import DatasetStats
from nevus.training.overrides import make_config
from nevus.training.preparation import Preparation
from nevus.training.runtime_estimate import Throughput

WITHOUT_LENGTH = {"tta": "none", "feature_stages": 0, "image_size": 32, "batch_size": 8, "precision": "fp32"}
QUICK = {**WITHOUT_LENGTH, "steps": 40, "warmup_steps": 0, "eval_interval": 20}
PREPARATION = Preparation(check_duplicates=False)
BACKBONE = "bit-r26x0.5-generic"
CONFIG = ComparisonConfig(("bit", "svm", "abcd-rule"), seeds=2, overrides=QUICK, backbone=BACKBONE)


def _in_this_process(out, trial):
    return run_planned(out, trial.name)


@pytest.fixture(scope="module")
def external(tmp_path_factory):
    from nevus.phantoms.dataset import PhantomConfig, write

    folder = tmp_path_factory.mktemp("external") / "set"
    write(PhantomConfig(n=40, image_size=64, seed=9), folder, workers=1)
    return read(folder)


@pytest.fixture(scope="module")
def compared(phantoms, external, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_start", _in_this_process)
        compare(read(phantoms), out, CONFIG, PREPARATION, external=external)
    return out


@pytest.fixture
def in_process(monkeypatch):
    """Run trials in this process: a new one takes seconds to start."""
    monkeypatch.setattr(runner, "_start", _in_this_process)


def rows_of(out):
    table = comparison_table(out)
    return table[table["initialization"] != "readers"].to_dict("records")


def test_every_metric_of_the_table_follows_from_the_predictions(compared, monkeypatch):
    table = comparison_table(compared)
    keys = table[["system", "tuning", "initialization"]].itertuples(index=False, name=None)
    assert list(keys) == [
        ("bit", "linear-probe", "pretrained"),
        ("svm", "", "features"),
        ("abcd-rule", "", "features"),
        ("dermatologists", "", "readers"),
        ("dermatologists", "", "readers"),
    ]
    for row in rows_of(compared):
        for name, prefix in (("test", ""), ("external", "external_")):
            y, p, images = load_predictions(compared / TRIALS / row["trial"], name)
            assert len(set(images)) == len(y) == row[f"{prefix}accuracy_n"]
            assert row[f"{prefix}accuracy"] == pytest.approx(accuracy_score(y, p.argmax(1)))
            assert row[f"{prefix}auroc"] == pytest.approx(roc_auc_score(y, p[:, 1]))
        seeds = []
        for seed in (0, 1):
            y, p, _ = load_predictions(compared / TRIALS / row["trial"].replace("seed0", f"seed{seed}"), "test")
            seeds.append(accuracy_score(y, p.argmax(1)))
        assert row["seeds"] == 2
        assert row["accuracy_mean"] == pytest.approx(np.mean(seeds))
        assert row["accuracy_sd"] == pytest.approx(np.std(seeds, ddof=1))
        assert row["seconds"] > 0
        assert row["ms_per_image"] > 0
        assert not row["resumed"]
        folder = compared / TRIALS / row["trial"] / "bundle"
        assert row["bytes"] == sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".jsonl")
    bit = rows_of(compared)[0]
    assert bit["parameters"] > 3e6
    assert BACKBONE in bit["weights"]
    assert np.isnan(bit["paper_accuracy"])  # these are not the paper's images
    y = load_predictions(compared / TRIALS / bit["trial"], "test")[0]
    monkeypatch.setattr("nevus.comparison.table.SUPPORT", tuple(np.bincount(y).tolist()))
    found = rows_of(compared)
    assert found[0]["paper_accuracy"] == 0.8813
    assert np.isnan(found[2]["paper_accuracy"])


def test_cached_features_count_with_their_time(compared):
    first, second = (row for row in rows_of(compared) if row["initialization"] == "features")
    assert second["feature_seconds"] == pytest.approx(first["feature_seconds"], rel=0.5)
    assert all(row["seconds"] > row["feature_seconds"] for row in (first, second))


def test_each_trial_is_evaluated_on_the_test_split_once(compared):
    for folder in (compared / TRIALS).glob("*-seed?"):
        evaluations = (folder / "bundle" / "test_log.jsonl").read_text().splitlines()
        assert len(evaluations) == 2  # on the test split, and on the external images


@pytest.mark.usefixtures("in_process")
def test_finished_trials_are_kept_and_others_can_be_added(compared, phantoms, external, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob(DONE)}
    shutil.rmtree(out / TRIALS / "svm-seed1")
    more = ComparisonConfig(("bit", "svm", "kmeans"), seeds=2, overrides=QUICK, backbone=BACKBONE)
    compare(read(phantoms), out, more, PREPARATION, external=external)
    for path, then in before.items():
        if "svm-seed1" not in str(path):
            assert path.stat().st_mtime_ns == then
    assert [row["system"] for row in rows_of(out)] == ["bit", "svm", "kmeans", "abcd-rule"]
    a, b = (load_predictions(folder / TRIALS / "svm-seed1", "test")[1] for folder in (compared, out))
    assert (a == b).all()
    with pytest.raises(NevusError, match="another value of external"):
        compare(read(phantoms), out, more, PREPARATION)
    (out / PLAN).write_text("{")
    with pytest.raises(NevusError, match=r"plan\.json': it is damaged"):
        compare(read(phantoms), out, more, PREPARATION, external=external)


@pytest.mark.usefixtures("in_process")
def test_a_failed_method_is_a_row_with_the_reason(class_folders, tmp_path, monkeypatch):
    three = read(class_folders({"a": 12, "b": 12, "c": 12}))
    preparation = Preparation(SplitConfig(test_fraction=0.3), check_duplicates=False)
    drawn = []
    monkeypatch.setattr(runner, "DRAW_EVERY", 0.0)
    out = tmp_path / "out"
    compare(three, out, ComparisonConfig(("abcd-rule", "kmeans")), preparation, draw=drawn.append)
    assert len(drawn) == 3
    found = {row["system"]: row for row in rows_of(out)}
    assert "two classes" in found["abcd-rule"]["failure"]
    assert not found["kmeans"]["failure"]
    assert np.isnan(found["abcd-rule"]["seconds"])
    assert failure_path("abcd-rule-seed0", out / TRIALS).exists()
    write_comparison(out)
    for name in ("table.html", "table.tex", "table.csv"):
        assert "two classes" in (out / name).read_text()
    assert not (out / "readers.png").exists()  # three classes have no sensitivity


@pytest.mark.usefixtures("in_process")
def test_networks_are_tested_against_the_bit_of_their_own_initialization(phantoms, tmp_path):
    config = ComparisonConfig(("bit", "bit-bn"), random=True, overrides=QUICK, backbone=BACKBONE)
    out = tmp_path / "out"
    compare(read(phantoms), out, config, PREPARATION)
    for path in (out / TRIALS).glob(f"*/{DONE}"):  # these short trainings may predict one class only
        path.write_text(json.dumps({**json.loads(path.read_text()), "constant": False, "epochs": 1.0}))
    found = {(row["system"], row["initialization"]): row for row in rows_of(out)}
    assert set(found) == {("bit", "pretrained"), ("bit", "random"), ("bit-bn", "random")}
    assert found["bit", "pretrained"]["reference"]
    assert found["bit", "random"]["reference"]
    other = found["bit-bn", "random"]
    y, p, _ = load_predictions(out / TRIALS / other["trial"], "test")
    _, q, _ = load_predictions(out / TRIALS / found["bit", "random"]["trial"], "test")
    b = int(((p.argmax(1) == y) & (q.argmax(1) != y)).sum())
    c = int(((p.argmax(1) != y) & (q.argmax(1) == y)).sum())
    assert other["mcnemar_p"] == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)
    assert other["auroc_difference"] == pytest.approx(roc_auc_score(y, p[:, 1]) - roc_auc_score(y, q[:, 1]))
    assert "random" in other["weights"]
    assert load_bundle(out / TRIALS / other["trial"] / "bundle").provenance["config"]["tuning"] == "full"


def test_only_methods_with_pretrained_weights_are_planned_by_default():
    planned, lacking = make_trials(ComparisonConfig())
    assert sum("are not on this machine" in sentence for sentence in lacking) == 5
    assert {trial.initialization for trial in planned} == {"pretrained", "features"}
    every, _ = make_trials(ComparisonConfig(random=True))
    assert {trial.tuning for trial in every if trial.initialization == "random"} == {"full"}
    assert len({trial.name for trial in planned}) == len(planned)
    alone, lacking = make_trials(ComparisonConfig(("bit", "svm"), ("linear-probe", "full")))
    assert not lacking
    assert [trial.name for trial in alone] == ["bit-linear-probe-seed0", "bit-full-seed0", "svm-seed0"]
    asked, _ = make_trials(ComparisonConfig(("bit", "vgg16"), weights={"vgg16": "random"}))
    assert {trial.name for trial in asked} == {"bit-linear-probe-seed0", "vgg16-full-random-seed0"}
    with pytest.raises(NevusError, match="has no pretrained weights"):
        make_trials(ComparisonConfig(("bit", "svm"), backbone="bit-r26x0.5"))
    with pytest.raises(NevusError, match="Cannot compare bit-m-r50x1: its weights are not on this machine"):
        make_trials(ComparisonConfig(("bit",), backbone="bit-m-r50x1"))
    with pytest.raises(NevusError, match="Cannot use --weights svm"):
        ComparisonConfig(weights={"svm": "random"})
    with pytest.raises(NevusError, match="Cannot use the method"):
        ComparisonConfig(("forest",))
    with pytest.raises(NevusError, match="at least one seed"):
        ComparisonConfig(seeds=0)


def test_overrides_reach_the_networks_on_which_they_have_an_effect(phantoms):
    manifest = with_splits(read(phantoms), SplitConfig())
    for field, value, tuning in (
        ("resize_size", 48, "full"),
        ("rot90", True, "full"),
        ("augmented_copies", 2, "linear-probe"),
    ):
        overrides = {**WITHOUT_LENGTH, field: value}
        both = ComparisonConfig(("bit",), ("linear-probe", "full"), backbone=BACKBONE, overrides=overrides)
        chosen = with_time_estimates(both, make_trials(both)[0], manifest)
        trainers = {trial.tuning: trial.trainer(PREPARATION, overrides) for trial in chosen}
        other = {"full": "linear-probe", "linear-probe": "full"}[tuning]
        assert trainers[tuning].overrides[field] == value
        assert field not in trainers[other].overrides
        assert trainers[other].overrides["batch_size"] == 8
        alone = ComparisonConfig(("bit",), (other,), backbone=BACKBONE, overrides=overrides)
        with pytest.raises(NevusError, match=f"Cannot set {field}"):
            with_time_estimates(alone, make_trials(alone)[0], manifest)


def test_a_budget_gives_every_trial_the_same_time_limit(phantoms):
    manifest = with_splits(read(phantoms), SplitConfig())
    config = ComparisonConfig(
        ("bit", "bit-bn", "svm"), ("full",), random=True, budget=1000.0, overrides=WITHOUT_LENGTH, backbone=BACKBONE
    )
    chosen = with_time_estimates(config, make_trials(config)[0], manifest)
    assert [trial.time_limit for trial in chosen] == pytest.approx([1000 / 4] * 4)
    assert all(trial.epochs > 1 for trial in chosen if trial.tuning)
    assert chosen[-1].expected < 250  # an SVM takes what it takes
    later, _ = make_trials(ComparisonConfig(("vgg16",), ("full",), random=True, overrides=WITHOUT_LENGTH))
    assert with_time_estimates(config, later, manifest, chosen)[0].time_limit == chosen[0].time_limit
    short = ComparisonConfig(("bit",), ("full",), budget=0.001, overrides=WITHOUT_LENGTH, backbone=BACKBONE)
    (trial,) = with_time_estimates(short, make_trials(short)[0], manifest)
    assert trial.epochs == pytest.approx(8 / len(manifest.split("train")), rel=0.01)  # one step
    alike = ComparisonConfig(("bit", "bit-bn"), random=True, overrides=WITHOUT_LENGTH, backbone=BACKBONE)
    timed = with_time_estimates(alike, make_trials(alike)[0], manifest)
    first, second = (trial for trial in timed if trial.initialization == "random")
    assert first.time_limit == second.time_limit > 0
    assert timed[0].time_limit == 0  # the pretrained one has no limit


@pytest.mark.parametrize("budget", [2.0, 20.0, 200.0])
def test_a_budget_counts_evaluations_and_their_files(phantoms, monkeypatch, budget):
    """With few images an evaluation takes longer than an epoch."""
    throughput = Throughput(step=0.002, evaluation=0.001, writing=0.3)
    monkeypatch.setattr(plan, "measure_throughput", lambda *_args: throughput)
    manifest = with_splits(read(phantoms), SplitConfig())
    n = len(manifest.split("train"))
    overrides = {**WITHOUT_LENGTH, "steps": 4}  # the budget sets the length
    config = ComparisonConfig(("bit",), ("full",), backbone=BACKBONE, budget=budget, overrides=overrides)
    (trial,) = with_time_estimates(config, make_trials(config)[0], manifest)
    made = make_config(
        "best", DatasetStats(n, 128 * 128, 128), {**WITHOUT_LENGTH, "tuning": "full"}, epochs=trial.epochs
    )
    evaluations = math.ceil(made.steps / made.eval_interval)
    validation = 0.15 * n
    seconds = made.steps * 8 * 0.002 + evaluations * (0.3 + validation * 0.001) + (validation + n) * 0.001
    assert seconds == pytest.approx(budget, rel=0.1, abs=0.35)
    assert evaluations <= 52


def test_the_time_limit_is_enforced(phantoms, tmp_path, monkeypatch):
    """A network that was planned for far too long stops and is evaluated; other methods are not finished."""
    monkeypatch.setattr(runner, "with_time_estimates", lambda _config, trials, *_: [limited(t) for t in trials])

    def limited(trial):
        limit = 0.01 if trial.system == "ann" else 4.0
        return Trial(**{**vars(trial), "time_limit": limit, "epochs": 5000.0 if trial.tuning else None})

    config = ComparisonConfig(
        ("bit", "ann"), ("full",), overrides={**WITHOUT_LENGTH, "eval_interval": 10}, backbone=BACKBONE
    )
    monkeypatch.setattr(runner, "_start", run_trial)
    out = tmp_path / "out"
    compare(read(phantoms), out, config, PREPARATION)
    bit, ann = rows_of(out)
    assert 4.0 <= bit["seconds"] < 9.0
    assert 0 < bit["epochs"] < 5000
    assert not bit["failure"]
    assert "not finished within its time limit" in ann["failure"]


def test_results_that_are_no_comparison_are_in_no_test_and_no_figure(compared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    for name, change in (
        ("svm-seed0", {"constant": True}),
        ("bit-linear-probe-seed1", {}),
    ):
        path = out / TRIALS / name / DONE
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    svm = next(row for row in rows_of(out) if row["system"] == "svm")
    assert svm["note"] == "predicts one class for every image"
    assert np.isnan(svm["mcnemar_p"])
    assert svm["accuracy"] > 0  # it has its row
    page = write_comparison(out).read_text()
    assert "predicts one class for every image" in page
    path = out / TRIALS / "bit-linear-probe-seed0" / DONE
    path.write_text(json.dumps({**json.loads(path.read_text()), "epochs": 0.1}))
    bit, svm, rule = rows_of(out)
    assert bit["note"] == "trained for 0.1 epochs only"
    assert not bit["reference"]
    assert np.isnan(rule["mcnemar_p"])  # there is nothing to test against


def test_the_files(compared):
    page = write_comparison(compared)
    text = page.read_text()
    assert "Research use only" in text
    assert "on other images" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    for name in ("accuracy", "time", "accuracy-by-time", "readers"):
        assert (compared / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    table = comparison_table(compared)
    written = list(csv.DictReader((compared / "table.csv").read_text().splitlines()))
    for plain, row in zip(written, table.to_dict("records"), strict=True):
        assert plain["system"] == row["system"]
        for name in METRICS:
            if name in row and row["initialization"] != "readers":
                assert float(plain[name]) == row[name]
                assert plain[f"{name}_low"] == str(row[f"{name}_low"])
    latex = as_latex(table)
    assert latex.count("{") == latex.count("}")
    assert "\\toprule" in latex
    assert len({line.count("&") for line in latex.splitlines() if "&" in line}) == 1


def test_the_console_shows_every_method(compared):
    from rich.console import Console

    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(as_console(comparison_table(compared)))
    console.file.close()
    text = console.export_text()
    for name in ("BiT", "SVM", "ABCD rule", "dermatologists", "McNemar p", "reference"):
        assert name in text


def test_the_page_leaves_empty_columns_out(compared):
    table = comparison_table(compared)
    drawn = blocks(table, "features")
    assert all("parameters M" not in block.heads for block in drawn)  # of networks only
    for block in drawn:
        assert {name for name, _ in block.lines} == {"SVM", "ABCD rule"}
        assert all(len(line) == len(block.heads) for _, line in block.lines)
    svm = next(row for row in rows_of(compared) if row["system"] == "svm")
    shown = dict(zip(drawn[0].heads, dict(drawn[0].lines)["SVM"], strict=True))
    assert shown["accuracy %"].startswith(f"{100 * svm['accuracy']:.1f} (")
    (people,) = blocks(table, "readers")
    assert people.title == "On the images of these studies"
    assert people.heads == ["sensitivity %", "specificity %"]
    assert not blocks(table, "random")


def test_handcrafted_features_are_tested_against_the_pretrained_bit(compared):
    bit, svm, rule = rows_of(compared)
    assert bit["reference"]
    for row in (svm, rule):
        y, p, _ = load_predictions(compared / TRIALS / row["trial"], "test")
        q = load_predictions(compared / TRIALS / bit["trial"], "test")[1]
        b, c = (int(((u.argmax(1) == y) & (v.argmax(1) != y)).sum()) for u, v in ((p, q), (q, p)))
        assert row["mcnemar_p"] == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)
        assert row["mcnemar_p_holm"] >= row["mcnemar_p"]
    smaller, larger = sorted((svm["mcnemar_p"], rule["mcnemar_p"]))
    assert sorted((svm["mcnemar_p_holm"], rule["mcnemar_p_holm"])) == pytest.approx(
        sorted((min(1, 2 * smaller), max(min(1, 2 * smaller), larger)))
    )


def test_other_settings_are_not_mixed_into_a_comparison(compared, phantoms, external, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    for config, words in (
        (ComparisonConfig(("bit",), overrides=QUICK, backbone="bit-r26x0.5-dermoscopy"), "other weights, or another"),
        (ComparisonConfig(("bit",), overrides=QUICK, backbone=BACKBONE, preset="paper"), "another backbone or preset"),
        (ComparisonConfig(("bit",), backbone=BACKBONE), "another value of overrides"),
    ):
        with pytest.raises(NevusError, match=words):
            compare(read(phantoms), out, config, PREPARATION, external=external)


@pytest.mark.usefixtures("in_process")
def test_a_failed_trial_is_tried_again(phantoms, tmp_path):
    out, weights = tmp_path / "out", tmp_path / "own.safetensors"
    config = ComparisonConfig(("bit",), weights={"bit": str(weights)}, overrides=QUICK, backbone="bit-r26x0.5")
    save_backbone(build_backbone("bit-r26x0.5-bn", classes=0), weights, {})
    compare(read(phantoms), out, config, PREPARATION)
    assert "does not fit the network" in rows_of(out)[0]["failure"]
    save_backbone(build_backbone("bit-r26x0.5", classes=0), weights, {"origin": "a test"})
    compare(read(phantoms), out, config, PREPARATION)
    (row,) = rows_of(out)
    assert not row["failure"]
    assert "a test" in row["weights"]
    assert not failure_path(row["trial"], out / TRIALS).exists()


def test_a_process_that_dies_is_a_row_with_the_reason(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_start", lambda *_: -signal.SIGKILL)
    compare(read(phantoms), tmp_path / "out", ComparisonConfig(("kmeans",)), PREPARATION)
    assert "ended with SIGKILL, perhaps for lack of memory" in rows_of(tmp_path / "out")[0]["failure"]


@pytest.mark.usefixtures("in_process")
def test_a_trial_that_was_killed_after_its_training_is_not_trained_again(phantoms, external, tmp_path, compared):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    trial = out / TRIALS / "bit-linear-probe-seed0"
    (trial / DONE).unlink()
    before = (trial / "bundle" / "config.json").stat().st_mtime_ns
    compare(
        read(phantoms),
        out,
        ComparisonConfig(("bit",), overrides=QUICK, backbone=BACKBONE),
        PREPARATION,
        external=external,
    )
    assert (trial / "bundle" / "config.json").stat().st_mtime_ns == before
    assert rows_of(out)[0]["resumed"]
    assert "> " in write_comparison(out).read_text().replace("&gt;", ">")


def test_external_images_may_not_be_the_data_sets_own(phantoms, tmp_path):
    with pytest.raises(NevusError, match="every image shares a lesion with"):
        compare(read(phantoms), tmp_path / "out", CONFIG, Preparation(), external=read(phantoms))


def test_external_images_have_the_same_labels(phantoms, external, tmp_path):
    """The error comes before anything is trained."""
    renamed = external.with_table(external.table.replace({"label": {"malignant": "mel"}}))
    with pytest.raises(NevusError, match="its label 'mel' is not a label of"):
        compare(read(phantoms), tmp_path / "out", CONFIG, PREPARATION, external=renamed)
    assert not (tmp_path / "out" / TRIALS).exists()


@pytest.mark.long
def test_a_trial_ends_with_the_comparison(phantoms, tmp_path):
    """Even where the comparison was killed."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "nevus", "compare", phantoms, "--methods", "bit", "--tuning", "full"]
    process = subprocess.Popen([*command, "--no-check-duplicates", "--set", "steps=100000", "--out", out])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until = time.time() + 120
    while not (out / TRIALS / "bit-full-seed0" / "config.json").exists() and time.time() < until:
        time.sleep(0.1)
    (child,) = children.read_text().split()
    process.kill()
    process.wait()
    until = time.time() + 10
    while Path(f"/proc/{child}").exists() and time.time() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_the_plan_is_kept(compared):
    kept = json.loads((compared / PLAN).read_text())
    assert len(kept["trials"]) == 6
    assert all(trial["expected"] > 0 for trial in kept["trials"])


def test_the_table_is_a_frame_of_plain_values(compared):
    table = comparison_table(compared)
    assert isinstance(table, pd.DataFrame)
    assert pd.api.types.is_float_dtype(table["accuracy"])
    assert table["reference"].dtype == bool
