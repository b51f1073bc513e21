from dataclasses import replace

import pytest
from tests.bundle.test_decision import RULE

from nevus.bundle.bundle import Bundle
from nevus.bundle.checklists import UNKNOWN, clear_derm, confirmed, shares, tripod_ai
from nevus.bundle.decision import DecisionRule, KindResult
from nevus.bundle.model_card import model_card
from nevus.models.spec import ModelSpec

COLUMNS = {
    "sex": {"female": {"benign": 3, "malignant": 1}, "male": {"benign": 2}},
    "diagnosis_confirm_type": {"histopathology": {"benign": 1, "malignant": 7}, "consensus": {"malignant": 3}},
}
METRIC = {"value": 0.9, "ci_low": 0.8, "ci_high": 0.95, "n": 60}


@pytest.fixture
def bundle():
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=32)
    data = {
        "name": "a|b",
        "digest": "sha256:0",
        "sources": ["clinic one"],
        "counts": {"train": {"benign": 20, "malignant": 10}, "validation": {"benign": 5, "malignant": 2}},
        "protocol": "random split",
        "audit": None,
        "columns": COLUMNS,
        "skipped": 2,
    }
    about = {
        "data": data,
        "config": {"preset": "best", "tuning": "full", "steps": 10, "batch_size": 4},
        "seed": 3,
        "backbone_weights": "none",
        "versions": {"nevus": "1"},
        "fit": {
            "training_accuracy": 0.95,
            "seconds": {"training": 90.0, "decoding": 30.0},
            "uncalibrated": {"ece": METRIC},
            "validation": {"ece": {**METRIC, "value": 0.1}},
        },
    }
    return Bundle(spec, about, "none", "none", RULE)


def test_the_checklists_are_whole_and_every_item_has_an_answer(bundle):
    """CLEAR Derm has 25 items, TRIPOD+AI 27."""
    for items, n in ((clear_derm(bundle, {"auroc": METRIC}), 25), (tripod_ai(bundle, {"auroc": METRIC}), 27)):
        assert len(items) == n
        assert len({item for item, _ in items}) == n
        assert all(answer for _, answer in items)


def test_answers_are_numbers_of_the_data_or_not_known(bundle):
    answers = dict(clear_derm(bundle, {"auroc": METRIC}))
    assert answers["Histopathology of malignant lesions"] == "7 of 10 images of malignant"
    assert "sex: female (4), male (2)" in answers["Metadata of patients"]
    assert "age: not known" in answers["Metadata of patients"]
    assert answers["Skin color and how it was assessed"] == UNKNOWN
    assert answers["Sizes of the splits"] == "train: 30; validation: 7"
    assert "AUROC 0.900 (0.800 to 0.950)" in answers["Performance measures"]
    tested = replace(RULE, kinds={**RULE.kinds, "clinical": KindResult(260, 42, 0.88, 0.45, "photos")})
    external = dict(clear_derm(replace(bundle, rule=tested), {}))["External test set"]
    assert external == "photos, clinical, n 260: sensitivity 0.880, specificity 0.450"
    assert "2 images could not be read" in dict(tripod_ai(bundle, {}))["Missing data"]


def test_columns_that_are_missing_are_not_known():
    assert shares({}, "sex") == UNKNOWN
    assert confirmed({}, ["malignant"]) == UNKNOWN
    assert confirmed({"columns": COLUMNS}, ["mole"]) == UNKNOWN


def test_a_card_has_decisions_limits_and_both_checklists(bundle):
    card = model_card(bundle, {"auroc": METRIC})
    for heading in ("Decisions", "Intended use", "Limits", "CLEAR Derm", "TRIPOD+AI"):
        assert f"\n## {heading}\n" in card
    assert "ECE on validation: 0.9000 before calibration, 0.1000 after" in card
    assert "2.0 minutes" in card
    assert "malignant is decided from p_malignant = 0.300 on" in card
    assert "The classifier was not validated on clinical photographs." in card
    assert "a\\|b" in card  # a bar in a name does not end a cell


def test_a_bundle_without_a_fitted_rule_says_so(bundle):
    card = model_card(replace(bundle, rule=DecisionRule()), {})
    assert "No decision rule was fitted." in card
    assert "Fitted on" not in card
