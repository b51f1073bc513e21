"""What a register shows over time, against simulated truth and scikit-learn."""

import datetime
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import recall_score
from tests.register.test_register import ENTRY

from nevus.cli.main import main
from nevus.errors import NevusError
from nevus.register.entry import Outcome
from nevus.register.monitor import monitor
from nevus.register.register import Register

START = datetime.datetime(2026, 1, 5)


def filled(tmp_path, *, weeks=6, each=120, shifted=None, seed=0, known=False):
    """A register of some weeks; in the weeks `shifted` images are blurred."""
    rng = np.random.default_rng(seed)
    register = Register(f"sqlite:///{tmp_path / 'r.sqlite'}")
    entries, outcomes = [], []
    for week in range(weeks):
        for number in range(each):
            truth = rng.random() < 0.3
            p = float(np.clip(rng.beta(4, 3) if truth else rng.beta(2, 5), 0.001, 0.999))
            blur = 0.4 if shifted is not None and week in shifted else 0.0
            entries.append(
                replace(
                    ENTRY,
                    id=f"{week:016x}{number:016x}",
                    image_digest=f"{week:032x}{number:032x}",
                    time=START + datetime.timedelta(weeks=week, minutes=number),
                    probabilities={"benign": 1 - p, "malignant": p},
                    label="malignant" if p > 0.5 else "benign",
                    decision="cannot judge" if rng.random() < 0.05 else "malignant" if p > 0.3 else "benign",
                    scores={name: float(rng.normal()) - blur * 2 * (name == "sharpness") for name in ENTRY.scores},
                )
            )
            outcomes.append(Outcome(entries[-1].id, "malignant" if truth else "benign"))
    register.record(entries)
    if known:
        register.add_outcomes(outcomes)
    return register


def test_volume_and_results(tmp_path):
    register = filled(tmp_path, known=True)
    register.record([replace(ENTRY, id="9" * 32, probabilities=None, decision="", error="broken", time=START)])
    table = register.frame()
    found = monitor(table)
    assert [period.start for period in found.periods] == [
        str((START + datetime.timedelta(weeks=week)).date()) for week in range(6)
    ]
    assert [period.images for period in found.periods] == [121, *[120] * 5]
    assert [period.errors for period in found.periods] == [1, *[0] * 5]
    judged = table[table["decision"].isin(["benign", "malignant"]) & table["error"].isna()]
    for name, value in (("malignant", found.results.sensitivity), ("benign", found.results.specificity)):
        expected = recall_score(judged["outcome"], judged["decision"], pos_label=name)
        assert value.value == pytest.approx(expected)
        assert value.ci_low < expected < value.ci_high
    assert found.results.known == 720
    assert 0 <= found.results.ece < 0.5


def test_no_drift_is_rarely_called_drift(tmp_path):
    calls = 0
    for seed in range(20):
        folder = tmp_path / str(seed)
        folder.mkdir()
        register = filled(folder, weeks=4, seed=seed)
        found = monitor(register.frame())
        register.close()
        calls += any(p < 0.01 for period in found.periods for p in period.drift.values())
    assert calls <= 2  # at a level of 0.01 three or more of 20 have a chance of 0.001


def test_drift_is_found(tmp_path):
    found = monitor(filled(tmp_path, shifted={4, 5}).frame())
    drifted = [period.start for period in found.periods if period.drift["sharpness"] < 0.01]
    assert drifted == [period.start for period in found.periods][4:]
    assert all(not period.drift["foreign"] < 0.01 for period in found.periods)
    assert any(
        "from 2026-02-02, compared with the first 200 images: sharpness." in warning for warning in found.warnings
    )


def test_periods_and_models(tmp_path):
    register = filled(tmp_path, weeks=2)
    register.record([replace(ENTRY, id="8" * 32, model_digest="other", time=START)])
    assert len(monitor(register.frame(), "day").periods) == 2
    assert len(monitor(register.frame(), "month").periods) == 1
    assert monitor(register.frame(), model="other").periods[0].images == 1
    assert monitor(register.frame()).others == {"other": 1}
    with pytest.raises(NevusError, match="has predictions of"):
        monitor(register.frame(), model="none")


def test_other_settings_and_images_that_came_again_are_left_out(tmp_path):
    register = filled(tmp_path, weeks=2)
    one = register.get(f"{0:016x}{0:016x}")
    register.record(
        [
            replace(one, id="a" * 32, time=START + datetime.timedelta(days=1)),
            replace(one, id="b" * 32, image_digest="other", sensitivity=0.8),
            replace(one, id="c" * 32, image_digest="another", prevalence=0.02),
        ]
    )
    found = monitor(register.frame())
    assert sum(period.images for period in found.periods) == 240
    notes = " ".join(found.warnings)
    assert "1 predictions at another threshold are left out" in notes
    assert "1 predictions at another prevalence are left out" in notes
    assert "1 predictions of an image that came again are left out" in notes


def test_the_command(tmp_path, capsys):
    filled(tmp_path, known=True).close()
    database = f"sqlite:///{tmp_path / 'r.sqlite'}"
    wrong = tmp_path / "o.csv"
    wrong.write_text("id,label\nnothing,benign\n")
    status = main(["monitor", "--database", database, "--outcomes", str(wrong), "--out", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert status == 3
    assert "row 2: There is no prediction 'nothing'." in err
    assert "2026-01-05" in out
    assert "sensitivity: " in err
    page = (tmp_path / "out" / "monitor.html").read_text()
    assert "Research use only" in page
    assert page.count("<img") == 3
    assert (tmp_path / "out" / "monitor.csv").read_text().count("\n") == 7


def test_nothing_to_show(tmp_path, capsys):
    assert main(["monitor", "--database", f"sqlite:///{tmp_path / 'none'}"]) == 2
    assert "there is no register" in capsys.readouterr().err
    Register(f"sqlite:///{tmp_path / 'r.sqlite'}").close()
    assert main(["monitor", "--database", f"sqlite:///{tmp_path / 'r.sqlite'}"]) == 2
    assert "has no prediction yet" in capsys.readouterr().err
