import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, roc_auc_score

from nevus.bundle.bundle import load_bundle
from nevus.comparison.isolated import run_in_subprocess
from nevus.comparison.plan import ComparisonConfig, make_trials, with_time_estimates
from nevus.comparison.runner import PLAN, TRIALS, compare
from nevus.comparison.table import result_rows
from nevus.comparison.trial import DONE, failure_of, load_predictions
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.models.checkpoint import save_backbone
from nevus.models.model import build_backbone
from nevus.report.comparison import blocks, write_comparison
from nevus.report.comparison_cells import FIGURES, heads
from nevus.report.comparison_files import as_csv, as_latex
from nevus.training.config import DatasetStats
from nevus.training.overrides import make_config
from nevus.training.preparation import Preparation
from nevus.training.runtime_estimate import Throughput

WITHOUT_LENGTH = {"tta": "none", "feature_stages": 0, "image_size": 32, "batch_size": 8, "precision": "fp32"}
QUICK = {
    "tta": "none",
    "feature_stages": 0,
    "image_size": 32,
    "batch_size": 8,
    "steps": 4,
    "warmup_steps": 1,
    "eval_interval": 2,
    "precision": "fp32",
}
PREPARATION = Preparation(check_duplicates=False)
WANTED = ComparisonConfig(
    ("bit", "svm", "abcd-rule"), ("linear-probe",), seeds=2, overrides=QUICK, backbone="bit-r26x0.5-generic"
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    from nevus.phantoms.dataset import PhantomConfig, write

    folder = tmp_path_factory.mktemp("elsewhere") / "set"
    write(PhantomConfig(n=40, image_size=64, seed=9), folder, workers=1)
    return read(folder)


@pytest.fixture(scope="module")
def compared(phantoms, elsewhere, tmp_path_factory):
    out = tmp_path_factory.mktemp("comparison") / "out"
    compare(read(phantoms), out, WANTED, PREPARATION, others=elsewhere)
    return out


def test_every_figure_of_the_table_against_what_was_said(compared, monkeypatch):
    found = result_rows(compared)
    assert [(row.system, row.tuning, row.initialization) for row in found] == [
        ("bit", "linear-probe", "pretrained"),
        ("svm", "", "features"),
        ("abcd-rule", "", "features"),
        ("dermatologists", "", "readers"),
        ("dermatologists", "", "readers"),
    ]
    for row in found[:3]:
        for name, figures in (("test", row.metrics), ("elsewhere", row.elsewhere)):
            y, p, images = load_predictions(compared / TRIALS / row.name, name)
            assert len(set(images)) == len(y)
            assert figures["accuracy"].value == pytest.approx(accuracy_score(y, p.argmax(1)))
            assert figures["auroc"].value == pytest.approx(roc_auc_score(y, p[:, 1]))
        assert len(row.accuracies) == 2
        assert row.accuracies[0] == row.metrics["accuracy"].value
        assert row.seconds > 0
        assert row.milliseconds > 0
        assert len(row.times) == 2
        assert row.times[0] == row.seconds
        assert not row.resumed
        folder = compared / TRIALS / row.name / "bundle"
        assert row.bytes == sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".jsonl")
    bit = found[0]
    assert bit.parameters > 3e6
    assert "bit-r26x0.5-generic" in bit.start
    assert np.isnan(bit.paper)  # these are not the paper's images
    y = load_predictions(compared / TRIALS / bit.name, "test")[0]
    monkeypatch.setattr("nevus.comparison.table.SUPPORT", tuple(np.bincount(y).tolist()))
    found = result_rows(compared)
    assert found[0].paper == 0.8813
    assert np.isnan(found[2].paper)


def test_features_that_are_remembered_count_with_their_time(compared):
    first, second = (row for row in result_rows(compared) if row.initialization == "features")
    assert second.feature_seconds == pytest.approx(first.feature_seconds, rel=0.5)
    assert all(row.seconds > row.feature_seconds for row in (first, second))


def test_each_looked_at_the_test_split_once(compared):
    for folder in (compared / TRIALS).glob("*-seed?"):
        looks = (folder / "bundle" / "test_log.jsonl").read_text().splitlines()
        assert len(looks) == 2  # at the test split, and at the images from elsewhere


def test_finished_units_are_not_repeated_and_others_can_be_added(compared, phantoms, elsewhere, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob(DONE)}
    shutil.rmtree(out / TRIALS / "svm-seed1")
    more = ComparisonConfig(
        ("bit", "svm", "kmeans"), ("linear-probe",), seeds=2, overrides=QUICK, backbone="bit-r26x0.5-generic"
    )
    compare(read(phantoms), out, more, PREPARATION, others=elsewhere)
    for path, then in before.items():
        if "svm-seed1" not in str(path):
            assert path.stat().st_mtime_ns == then
    assert [row.system for row in result_rows(out) if row.initialization != "readers"] == [
        "bit",
        "svm",
        "kmeans",
        "abcd-rule",
    ]
    a, b = (load_predictions(folder / TRIALS / "svm-seed1", "test")[1] for folder in (compared, out))
    assert (a == b).all()
    with pytest.raises(NevusError, match="was made with another others"):
        compare(read(phantoms), out, more, PREPARATION)
    (out / PLAN).write_text("{")
    with pytest.raises(NevusError, match=r"plan\.json is damaged"):
        compare(read(phantoms), out, more, PREPARATION, others=elsewhere)


def test_a_failing_system_is_a_row_that_says_why(class_folders, tmp_path, monkeypatch):
    three = read(class_folders({"a": 12, "b": 12, "c": 12}))
    from nevus.data.splits import SplitConfig

    cut = Preparation(SplitConfig(test_fraction=0.3), check_duplicates=False)
    drawn = []
    monkeypatch.setattr("nevus.comparison.runner.OFTEN", 0.0)
    out = tmp_path / "out"
    compare(three, out, ComparisonConfig(("abcd-rule", "kmeans")), cut, drawn=drawn.append)
    assert len(drawn) == 3
    found = {row.system: row for row in result_rows(out)}
    assert "two classes" in found["abcd-rule"].failure
    assert not found["kmeans"].failure
    assert np.isnan(found["abcd-rule"].seconds)
    assert failure_of("abcd-rule-seed0", out / TRIALS).exists()
    write_comparison(out)
    assert "two classes" in (out / "table.html").read_text()
    assert "two classes" in (out / "table.tex").read_text()
    assert not (out / "readers.png").exists()  # there is no sensitivity of three classes


def test_the_tests_are_against_the_halfs_own_bit(phantoms, tmp_path):
    wanted = ComparisonConfig(
        ("bit", "bit-bn"), ("linear-probe",), random=True, overrides=QUICK, backbone="bit-r26x0.5-generic"
    )
    out = tmp_path / "out"
    compare(read(phantoms), out, wanted, PREPARATION)
    found = {(row.system, row.initialization): row for row in result_rows(out) if row.initialization != "readers"}
    assert set(found) == {("bit", "pretrained"), ("bit", "random"), ("bit-bn", "random")}
    assert found["bit", "pretrained"].reference
    assert found["bit", "random"].reference
    other = found["bit-bn", "random"]
    y, p, _ = load_predictions(out / TRIALS / other.name, "test")
    _, q, _ = load_predictions(out / TRIALS / found["bit", "random"].name, "test")
    b = int(((p.argmax(1) == y) & (q.argmax(1) != y)).sum())
    c = int(((p.argmax(1) != y) & (q.argmax(1) == y)).sum())
    assert other.mcnemar.p == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)
    assert other.delong.difference == pytest.approx(roc_auc_score(y, p[:, 1]) - roc_auc_score(y, q[:, 1]))
    assert "random" in other.start
    config = load_bundle(out / TRIALS / other.name / "bundle").provenance["config"]
    assert config["tuning"] == "full"


def test_what_is_planned(phantoms):
    planned, lacking = make_trials(ComparisonConfig())
    assert sum("are not on this machine" in sentence for sentence in lacking) == 5
    assert {unit.initialization for unit in planned} == {"pretrained", "features"}  # nothing from random weights
    every, _ = make_trials(ComparisonConfig(random=True))
    assert {unit.tuning for unit in every if unit.initialization == "random"} == {"full"}
    assert len({unit.name for unit in planned}) == len(planned)
    alone, lacking = make_trials(ComparisonConfig(("bit", "svm"), ("linear-probe", "full")))
    assert not lacking
    assert [unit.name for unit in alone] == ["bit-linear-probe-seed0", "bit-full-seed0", "svm-seed0"]
    asked, _ = make_trials(ComparisonConfig(("bit", "vgg16"), weights={"vgg16": "random"}))
    assert {unit.name for unit in asked} == {"bit-linear-probe-seed0", "vgg16-full-random-seed0"}
    with pytest.raises(NevusError, match="has no weights of its own"):
        make_trials(ComparisonConfig(("bit", "svm"), backbone="bit-r26x0.5"))
    with pytest.raises(NevusError, match="bit-m-r50x1 are not on this machine"):
        make_trials(ComparisonConfig(("bit",), backbone="bit-m-r50x1"))
    with pytest.raises(NevusError, match="takes no weights"):
        ComparisonConfig(weights={"svm": "random"})
    with pytest.raises(NevusError, match="there is no method"):
        ComparisonConfig(("forest",))
    with pytest.raises(NevusError, match="at least one seed"):
        ComparisonConfig(seeds=0)


def test_changes_reach_the_networks_that_have_a_use_for_them(phantoms):
    from nevus.data.splits import SplitConfig, with_splits

    manifest = with_splits(read(phantoms), SplitConfig())
    for field, value, tuning in (
        ("resize_size", 48, "full"),
        ("rot90", True, "full"),
        ("augmented_copies", 2, "linear-probe"),
    ):
        changes = {**WITHOUT_LENGTH, field: value}
        both = ComparisonConfig(("bit",), ("linear-probe", "full"), backbone="bit-r26x0.5-generic", overrides=changes)
        chosen = with_time_estimates(both, make_trials(both)[0], manifest)
        trainers = {unit.tuning: unit.method(PREPARATION, changes) for unit in chosen}
        other = {"full": "linear-probe", "linear-probe": "full"}[tuning]
        assert trainers[tuning].overrides[field] == value
        assert field not in trainers[other].overrides
        assert trainers[other].overrides["batch_size"] == 8
        alone = ComparisonConfig(("bit",), (other,), backbone="bit-r26x0.5-generic", overrides=changes)
        with pytest.raises(NevusError, match=f"Cannot set {field}"):
            with_time_estimates(alone, make_trials(alone)[0], manifest)


def test_a_budget_is_shared_and_random_starts_get_the_same_time(phantoms):
    from nevus.data.splits import SplitConfig, with_splits

    manifest = with_splits(read(phantoms), SplitConfig())
    changes = WITHOUT_LENGTH
    wanted = ComparisonConfig(("bit", "bit-bn"), ("full",), random=True, budget=1000.0, overrides=changes)
    chosen = with_time_estimates(wanted, make_trials(wanted)[0], manifest)
    assert [unit.expected for unit in chosen] == pytest.approx([1000 / 3] * 3)
    assert all(unit.epochs > 1 for unit in chosen)
    alike = ComparisonConfig(("bit", "bit-bn"), ("linear-probe",), random=True, overrides=changes)
    random = [
        unit for unit in with_time_estimates(alike, make_trials(alike)[0], manifest) if unit.initialization == "random"
    ]
    assert random[0].expected == random[1].expected
    short = ComparisonConfig(("bit",), ("full",), budget=0.001, overrides=changes)
    assert with_time_estimates(short, make_trials(short)[0], manifest)[0].epochs == pytest.approx(
        8 / len(manifest.split("train")), rel=0.01
    )
    short = ComparisonConfig(("bit", "svm"), ("full",), budget=0.001, overrides=changes)
    headless = ComparisonConfig(("bit",), ("linear-probe",), budget=9.0, overrides=changes)
    with pytest.raises(NevusError, match="there are none; add --tuning full"):
        with_time_estimates(headless, make_trials(headless)[0], manifest)
    known = [unit for unit in chosen if unit.initialization == "random"]
    later = with_time_estimates(
        wanted, make_trials(ComparisonConfig(("vgg16",), ("full",), random=True, overrides=changes))[0], manifest, known
    )
    assert later[0].expected == known[0].expected  # whoever comes later gets the same
    with pytest.raises(NevusError, match="raise --budget"):
        with_time_estimates(short, make_trials(short)[0], manifest)


@pytest.mark.parametrize("budget", [2.0, 20.0, 200.0])
def test_a_budget_counts_looks_and_what_they_write(phantoms, monkeypatch, budget):
    """With few images a look costs more than an epoch."""
    from nevus.comparison import plan
    from nevus.data.splits import SplitConfig, with_splits

    clock = Throughput(step=0.002, look=0.001, writing=0.3)
    monkeypatch.setattr(plan, "measure_throughput", lambda *_args: clock)
    manifest = with_splits(read(phantoms), SplitConfig())
    n = len(manifest.split("train"))
    changes = {**WITHOUT_LENGTH, "steps": 4}  # a share of the budget sets the length
    wanted = ComparisonConfig(("bit",), ("full",), backbone="bit-r26x0.5-generic", budget=budget, overrides=changes)
    (unit,) = with_time_estimates(wanted, make_trials(wanted)[0], manifest)
    recipe = make_config(
        "best", DatasetStats(n, 128 * 128, 128), {**WITHOUT_LENGTH, "tuning": "full"}, epochs=unit.epochs
    )
    looks = math.ceil(recipe.steps / recipe.eval_interval)
    held = 0.15 * n
    seconds = recipe.steps * 8 * 0.002 + looks * (0.3 + held * 0.001) + (held + n) * 0.001
    assert seconds == pytest.approx(budget, rel=0.1, abs=0.35)
    assert looks <= 52


def test_the_files(compared):
    page = write_comparison(compared)
    text = page.read_text()
    assert "Research use only" in text
    assert "on other images" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    for name in ("accuracy", "time", "accuracy-against-time", "readers"):
        assert (compared / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    found = result_rows(compared)
    table = list(csv.DictReader((compared / "table.csv").read_text().splitlines()))
    for plain, row in zip(table, found, strict=True):
        assert plain["system"] == row.system
        if row.initialization == "readers":
            assert float(plain["sensitivity"]) == row.metrics["sensitivity"].value
            continue
        for name in FIGURES:
            if name in row.metrics:
                assert float(plain[name]) == row.metrics[name].value
                low = row.metrics[name].ci_low
                assert plain[f"{name}_low"] == ("" if np.isnan(low) else str(low))
        assert float(plain["accuracy_sd"]) == pytest.approx(np.std(row.accuracies, ddof=1))
    assert as_csv(found) == (compared / "table.csv").read_text()
    latex = as_latex(found)
    assert latex.count(" \\\\\n") == 1 + 3 + 5  # the head, three parts, three systems and two studies
    assert latex.count("{") == latex.count("}")
    widths = {line.count("&") for line in latex.splitlines() if "&" in line}
    assert len(widths) == 1


def test_the_pages_tables_leave_out_what_is_empty(compared):
    found = result_rows(compared)
    drawn = blocks([row for row in found if row.initialization == "features"], found)
    assert len(drawn) == len(heads(found))
    assert "parameters M" not in drawn[-1].heads  # of networks only
    for block in drawn:
        assert {name for name, _ in block.lines} == {"SVM", "ABCD rule"}
        assert all(len(line) == len(block.heads) for _, line in block.lines)
    svm = next(row for row in found if row.system == "svm")
    shown = dict(zip(drawn[0].heads, dict(drawn[0].lines)["SVM"], strict=True))
    assert shown["accuracy %"].startswith(f"{100 * svm.metrics['accuracy'].value:.1f} (")
    (people,) = blocks([row for row in found if row.initialization == "readers"], found)
    assert people.title == "On the images of these studies"
    assert people.heads == ["sensitivity %", "specificity %"]
    failing = [replace(svm, failure="for want of memory"), svm]
    assert blocks(failing, found)[0].lines[0] == ("SVM", None)


def test_what_learns_from_features_is_held_against_the_pretrained_bit(compared):
    bit, svm, rule = result_rows(compared)[:3]
    assert bit.reference
    for row in (svm, rule):
        y, p, _ = load_predictions(compared / TRIALS / row.name, "test")
        q = load_predictions(compared / TRIALS / bit.name, "test")[1]
        b, c = (int(((u.argmax(1) == y) & (v.argmax(1) != y)).sum()) for u, v in ((p, q), (q, p)))
        assert (row.mcnemar.only_second, row.mcnemar.only_first) in ((b, c), (c, b))
        assert row.mcnemar.p == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1.0)
        assert row.mcnemar_holm >= row.mcnemar.p
    smaller, larger = sorted((svm.mcnemar.p, rule.mcnemar.p))
    assert sorted((svm.mcnemar_holm, rule.mcnemar_holm)) == pytest.approx(
        sorted((min(1, 2 * smaller), max(min(1, 2 * smaller), larger)))
    )


def test_other_settings_are_not_mixed_into_a_comparison(compared, phantoms, elsewhere, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    for wanted, words in (
        (
            ComparisonConfig(("bit",), overrides=QUICK, backbone="bit-r26x0.5-dermoscopy"),
            "other weights, backbone or preset",
        ),
        (
            ComparisonConfig(("bit",), overrides=QUICK, backbone="bit-r26x0.5-generic", preset="paper"),
            "other weights, backbone or preset",
        ),
        (ComparisonConfig(("bit",), backbone="bit-r26x0.5-generic"), "was made with another overrides"),
    ):
        with pytest.raises(NevusError, match=words):
            compare(read(phantoms), out, wanted, PREPARATION, others=elsewhere)


def test_what_failed_before_it_began_is_tried_again(phantoms, tmp_path):
    out = tmp_path / "out"
    wanted = ComparisonConfig(
        ("bit",), weights={"bit": str(tmp_path / "own.safetensors")}, overrides=QUICK, backbone="bit-r26x0.5"
    )
    save_backbone(build_backbone("bit-r26x0.5-bn", classes=0), tmp_path / "own.safetensors", {})
    compare(read(phantoms), out, wanted, PREPARATION)
    assert "does not fit the network" in result_rows(out)[0].failure
    save_backbone(build_backbone("bit-r26x0.5", classes=0), tmp_path / "own.safetensors", {"origin": "a test"})
    compare(read(phantoms), out, wanted, PREPARATION)
    row = result_rows(out)[0]
    assert not row.failure
    assert "a test" in row.start
    assert not failure_of(row.name, out / TRIALS).exists()


def dies(_path):
    os.kill(os.getpid(), signal.SIGKILL)


def fails(_path):
    raise ValueError("two\nlines")


def test_a_process_apart(tmp_path):
    with pytest.raises(NevusError, match=r"its process died \(SIGKILL\), perhaps for want of memory"):
        run_in_subprocess(dies, tmp_path)
    with pytest.raises(NevusError, match=r"^ValueError: two$"):
        run_in_subprocess(fails, tmp_path)
    run_in_subprocess(os.mkdir, tmp_path / "made")
    assert (tmp_path / "made").is_dir()


def test_killed_in_the_middle_a_unit_goes_on(phantoms, tmp_path, compared):
    """The bundle is there, but what was measured is not: it is not trained again, and its times are marked."""
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    unit = out / TRIALS / "bit-linear-probe-seed0"
    (unit / DONE).unlink()
    before = (unit / "bundle" / "config.json").stat().st_mtime_ns
    wanted = ComparisonConfig(("bit",), overrides=QUICK, backbone="bit-r26x0.5-generic")
    held = json.loads((out / PLAN).read_text())["settings"]["others"]["name"]
    assert held
    plan = json.loads((out / PLAN).read_text())
    plan["settings"]["others"] = None
    (out / PLAN).write_text(json.dumps(plan))
    compare(read(phantoms), out, wanted, PREPARATION)
    assert (unit / "bundle" / "config.json").stat().st_mtime_ns == before
    assert result_rows(out)[0].resumed
    assert "> " in (write_comparison(out).parent / "table.html").read_text().replace("&gt;", ">")


def test_images_from_elsewhere_may_not_be_the_data_sets_own(phantoms, tmp_path):
    with pytest.raises(NevusError, match="shows what .* shows; judge on other images"):
        compare(read(phantoms), tmp_path / "out", WANTED, Preparation(), others=read(phantoms))


def test_images_from_elsewhere_have_the_same_labels(phantoms, elsewhere, tmp_path):
    """Told before anything is trained."""
    renamed = elsewhere.with_table(elsewhere.table.replace({"label": {"malignant": "mel"}}))
    with pytest.raises(NevusError, match="has the label 'mel', which .* has not"):
        compare(read(phantoms), tmp_path / "out", WANTED, PREPARATION, others=renamed)
    assert not (tmp_path / "out" / TRIALS).exists()


@pytest.mark.long
def test_a_unit_ends_with_who_waits_for_it(tmp_path):
    script, told = tmp_path / "waits.py", tmp_path / "pid"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "def work(path):\n"
        "    Path(path).write_text(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    from nevus.comparison.isolated import run_in_subprocess\n"
        "    run_in_subprocess(work, sys.argv[1])\n"
    )
    process = subprocess.Popen([sys.executable, script, told])
    until = time.time() + 120
    while not (told.exists() and told.read_text()) and time.time() < until:
        time.sleep(0.1)
    process.kill()
    process.wait()
    pid = int(told.read_text())
    until = time.time() + 10
    while Path(f"/proc/{pid}").exists() and time.time() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_the_plan_is_kept(compared):
    held = json.loads((compared / PLAN).read_text())
    assert len(held["trials"]) == 6
    assert all(unit["expected"] > 0 for unit in held["trials"])
