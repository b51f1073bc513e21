import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.special import softmax
from tests.helpers import small_network

import nevus
from nevus.bundle.bundle import Bundle, load_bundle, save_bundle
from nevus.bundle.decision import CANNOT_JUDGE, MIN_VALIDATED, DecisionRule, KindResult
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, CheckLimits, check_images
from nevus.bundle.wording import FLAGS, operating_point_sentence, outcome, prevalence_sentence
from nevus.cli.main import main
from nevus.data.quality import sharpness
from nevus.errors import NevusError
from nevus.metrics.calibration import Calibration
from nevus.metrics.operating_points import OperatingPoint
from nevus.models.spec import ModelSpec

RULE = DecisionRule(
    calibration=Calibration((0.5, 0.5), (0.0, 0.0)),
    class_shares=(0.6, 0.4),
    operating_point=OperatingPoint(0.3, positives=80, specificity=0.7),
    set_thresholds=(0.4, 0.45),
    other_points=(OperatingPoint(0.5, 0.8, positives=80), OperatingPoint(None, 0.98, positives=80, missing=69)),
    limits=CheckLimits(foreign=1e9, photograph=1e9, sharpness=0.0),
    kinds={"dermoscopic": KindResult(100, 40, 0.975, 0.6)},
)
"""A rule whose image check flags nothing."""


def bundle_with(rule, folder):
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=32)
    about = {"data": {"name": "none", "digest": "sha256:0", "counts": {}}, "fit": {}, "history": []}
    return save_bundle(Bundle(spec, about, "none", "none", rule), folder, small_network(spec), "# card\n")


@pytest.fixture
def pictures(picture):
    return [picture(60, 50, seed) for seed in range(12)]


def test_a_bundle_keeps_its_rule(tmp_path):
    bundle_with(RULE, tmp_path / "b")
    assert load_bundle(tmp_path / "b").rule == RULE


@pytest.mark.parametrize(
    "change",
    [
        {"set_thresholds": [0.1, 0.2, 0.3]},
        {"calibration": {"scale": [1.0], "shift": [0.0]}},
        {"operating_point": {"threshold": 2.0}},
        {"limits": {"foreign": 0.0}},
        {"limits": {"foreign": 0.0, "photograph": float("nan"), "sharpness": 0.5}},
        {
            "kinds": {
                "dermoscopic": {"images": "many", "positives": 1, "sensitivity": None, "specificity": None, "data": ""}
            }
        },
        {"kinds": {"dermoscopic": 3}},
        {"operating_point": {**RULE.operating_point.as_dict(), "sensitivity": "high"}},
        {"set_thresholds": [float("nan"), 2.0]},
        {"alpha": 7},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        DecisionRule.from_dict({**RULE.as_dict(), **change}, 2)


def test_predictions_follow_the_rule(tmp_path, pictures):
    """Oracle: the definitions, from the logits."""
    classifier = nevus.Classifier(bundle_with(RULE, tmp_path / "b"))
    found = list(classifier.stream(pictures))
    logits = np.stack([one.logits for one in found])
    p = softmax(logits * 0.5, axis=1)
    assert np.stack([one.probabilities for one in found]) == pytest.approx(p, abs=1e-9)
    assert classifier.predict_proba(pictures) == pytest.approx(p, abs=1e-5)
    assert [one.decision for one in found] == ["malignant" if row[1] >= 0.3 else "benign" for row in p]
    for one, row in zip(found, p, strict=True):
        inside = {
            name for name, value, least in zip(classifier.classes, row, (0.4, 0.45), strict=True) if value >= least
        }
        assert set(one.members) == (inside or set(classifier.classes))


def test_prevalence_moves_probabilities_and_leaves_decisions(tmp_path, pictures):
    classifier = nevus.Classifier(bundle_with(RULE, tmp_path / "b"))
    before, after = list(classifier.stream(pictures)), list(classifier.stream(pictures, prevalence=0.02))
    assert [(a.decision, a.members) for a in after] == [(b.decision, b.members) for b in before]
    for b, a in zip(before, after, strict=True):
        odds = b.probabilities[1] / b.probabilities[0] * (0.02 / 0.98) / (0.4 / 0.6)
        assert a.probabilities[1] == pytest.approx(odds / (1 + odds), rel=1e-6)


def test_decisions_at_another_sensitivity(tmp_path, pictures, capsys):
    folder = tmp_path / "b"
    bundle_with(replace(RULE, limits=None, kinds={}), folder)
    rows = {value: nevus.load(folder, sensitivity=value).predict_frame(pictures) for value in (None, 0.95, 0.8)}
    assert rows[None].equals(rows[0.95])
    judged = rows[0.8][rows[0.8]["flag"] == ""]
    assert ((judged["p_malignant"] >= 0.5) == (judged["decision"] == "malignant")).all()
    for value in ("0.98", "0.7"):  # too few cases for the first
        pictures[0].save(tmp_path / "one.png")
        assert main(["predict", str(tmp_path / "one.png"), "--bundle", str(folder), "--sensitivity", value]) == 2
        assert "it has thresholds for 0.8, 0.95. Choose one of these." in capsys.readouterr().err.replace("\n", " ")


def test_what_cannot_be_judged_comes_first(tmp_path, capsys):
    """Black, plain skin color, noise and a blurred image, in every format; the probability remains a number."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8))
    made = {
        "black": Image.new("RGB", (200, 200)),
        "skin": Image.new("RGB", (200, 200), (224, 172, 150)),
        "noise": noise,
        "blurred": noise.filter(ImageFilter.GaussianBlur(12)),
        "white": Image.new("RGB", (200, 200), (255, 255, 255)),
    }
    for name, image in made.items():
        image.save(tmp_path / f"{name}.png")
    bundle = bundle_with(replace(RULE, limits=None, kinds={}), tmp_path / "b")
    words = ["predict", *(str(tmp_path / f"{name}.png") for name in made), "--bundle", str(bundle.folder)]
    assert main([*words, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["decision"] for row in rows] == [CANNOT_JUDGE] * 5
    assert [row["flag"] for row in rows][:2] == ["blank", "blank"]
    assert rows[2]["flag"] == "foreign"
    assert all(isinstance(row["p_malignant"], float) for row in rows)
    assert all(row["flag"] in FLAGS for row in rows)
    assert main(words) == 0
    shown = capsys.readouterr()
    assert all(line.startswith("cannot judge: ") for line in shown.out.splitlines()[1:])
    assert "5 of 5 images cannot be judged" in shown.err
    assert "malignant is decided from p_malignant = 0.300 on" in " ".join(shown.err.split())


def test_a_kind_that_was_not_validated_is_flagged():
    scores = check_images(np.zeros((1, CHECK_IMAGE_SIZE, CHECK_IMAGE_SIZE, 3), np.uint8))
    scores = replace(scores, issues=("",), photograph=np.array([5.0]), foreign=np.array([-9.0]), sharpness=np.ones(1))
    limits = CheckLimits(0.0, 0.0, 0.5)
    for kinds, expected in (
        ({"dermoscopic": KindResult(MIN_VALIDATED)}, "unvalidated kind"),
        ({"dermoscopic": KindResult(90), "clinical": KindResult(MIN_VALIDATED)}, ""),
        ({"dermoscopic": KindResult(90), "clinical": KindResult(MIN_VALIDATED - 1)}, "unvalidated kind"),
        ({"dermoscopic": KindResult(90), "clinical": KindResult(900, data="another set")}, "unvalidated kind"),
        ({}, ""),  # nothing is known of the validation images
    ):
        assert DecisionRule(limits=limits, kinds=kinds).flags(scores) == [expected]


def test_limits_follow_data_that_the_check_calls_foreign():
    rng = np.random.default_rng(0)
    scores = check_images(rng.integers(0, 256, (40, CHECK_IMAGE_SIZE, CHECK_IMAGE_SIZE, 3), dtype=np.uint8))
    assert np.mean([bool(flag) for flag in scores.flags(CheckLimits.default())]) > 0.9
    limits = scores.fitted_limits()
    assert np.mean([bool(flag) for flag in scores.flags(limits)]) <= 0.1
    assert limits.foreign > CheckLimits.default().foreign


def test_sharpness_does_not_depend_on_contrast_and_falls_with_blur(picture):
    """Oracle: by its definition a ramp has 0.5, white noise 2."""
    rng = np.random.default_rng(0)
    ramp = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], 128, axis=0).repeat(3, axis=2)
    noise = rng.integers(0, 256, (128, 128, 1), dtype=np.uint8).repeat(3, axis=2)
    assert sharpness(np.stack([ramp, noise])) == pytest.approx([0.5, 2.0], abs=0.05)
    textured = (np.asarray(picture(128, 128)).astype(float) * 0.8 + rng.normal(25, 8, (128, 128, 1))).clip(0, 255)
    image = Image.fromarray(textured.astype(np.uint8))
    values = [sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(radius)))[None])[0] for radius in (0, 0.7, 2)]
    assert all(a > b + 0.05 for a, b in pairwise(values))
    pale = (textured * 0.4 + 90).astype(np.uint8)
    assert sharpness(pale[None])[0] == pytest.approx(values[0], abs=0.06)


def test_the_image_check_tells_lesions_from_other_images(real):
    """At least 85 % of lesions of each source are not flagged as foreign; nine in ten other images are."""
    from sklearn.datasets import load_sample_images

    from nevus.data.images import decode
    from nevus.data.preprocess import resize_square

    def squares(images):
        return np.stack([resize_square(image, CHECK_IMAGE_SIZE) for image in images])

    limits = CheckLimits.default()
    for folder in ("isic-malignant-benign/test/benign", "isic-other/images", "pad-ufes-20/images"):
        paths = sorted((real / folder).iterdir())[:60]
        flags = check_images(squares([decode(path) for path in paths])).flags(limits)
        assert np.mean([flag == "foreign" for flag in flags]) < 0.15
    other = [np.asarray(image) for image in load_sample_images().images]
    parts = [image[y : y + 200, x : x + 200] for image in other for y in (0, 200) for x in (0, 200, 400)]
    assert np.mean([bool(flag) for flag in check_images(squares(parts)).flags(limits)]) >= 0.9


def test_every_outcome_has_its_words(tmp_path, pictures):
    classifier = nevus.Classifier(bundle_with(RULE, tmp_path / "b"))
    one = next(classifier.stream(pictures[:1]))
    assert outcome(replace(one, flag="foreign"), RULE) == "Cannot judge. This does not look like a skin lesion."
    other = replace(one, flag="unvalidated kind", kind="clinical")
    assert outcome(other, RULE) == "Cannot judge. The classifier was not validated on clinical photographs."
    measured = replace(RULE, kinds={**RULE.kinds, "clinical": KindResult(260, 80, 0.875, 0.4, "pad")})
    assert outcome(other, measured).endswith("photographs: sensitivity 87.5% on the 80 positive of 260 images of pad.")
    assert outcome(replace(one, members=("benign", "malignant")), RULE).startswith("Not sure: benign or malignant.")
    sure = replace(one, members=("benign",), decision="benign", probabilities=np.array([0.9, 0.1]))
    assert outcome(sure, RULE) == "Decision: benign, at the threshold for a sensitivity of 95%."
    assert prevalence_sentence(RULE, "malignant") == (
        "Probabilities are for a share of 40% malignant, as among the validation images."
    )
    assert "share of 2.0% malignant; the threshold is for those at 40%" in prevalence_sentence(RULE, "malignant", 0.02)
    assert prevalence_sentence(DecisionRule(), "malignant") == ""
    assert outcome(sure, DecisionRule()) == "Most probable: benign."
    few = DecisionRule(operating_point=OperatingPoint(None, positives=40, missing=19))
    assert "needs 19 more validation cases of malignant" in operating_point_sentence(few, "malignant")


@pytest.mark.parametrize("value", ["0", "1", "1.5"])
def test_a_prevalence_that_is_no_share_is_refused(value, tmp_path, picture, capsys):
    picture().save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path / "a.png"), "--prevalence", value]) == 2
    assert "it is not between 0 and 1" in capsys.readouterr().err


def test_prevalence_needs_known_shares(tmp_path, picture, capsys):
    picture().save(tmp_path / "a.png")
    bundle = bundle_with(DecisionRule(), tmp_path / "b")
    assert main(["predict", str(tmp_path / "a.png"), "--bundle", str(bundle.folder), "--prevalence", "0.1"]) == 2
    assert "does not know the shares of two classes" in " ".join(capsys.readouterr().err.split())


def test_explain_writes_overlays_and_a_page(tmp_path, pictures, capsys):
    (tmp_path / "in").mkdir()
    for k, image in enumerate(pictures[:3]):
        image.save(tmp_path / "in" / f"{k}.png")
    (tmp_path / "in" / "bad.jpg").write_text("no image")
    bundle = bundle_with(RULE, tmp_path / "b")
    words = ["explain", str(tmp_path / "in"), "--bundle", str(bundle.folder), "--out", str(tmp_path / "out")]
    assert main(words) == 3
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Research use only" in page
    assert page.count("<img") == 3
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png", "index.html"]
    with Image.open(tmp_path / "out" / "0.png") as overlay:
        assert overlay.size == (60, 50)
    shutil.rmtree(tmp_path / "out")
    assert main(["predict", *words[1:4], "--explain", str(tmp_path / "out")]) == 3
    assert (tmp_path / "out" / "index.html").exists()
    assert main(["predict", *words[1:4], "--explain", str(tmp_path / "out"), "--engine", "torch"]) == 2


def test_an_unknown_class_cannot_be_explained(tmp_path, picture, capsys):
    picture().save(tmp_path / "a.png")
    bundle = bundle_with(RULE, tmp_path / "b")
    words = ["explain", str(tmp_path / "a.png"), "--bundle", str(bundle.folder), "--out", str(tmp_path / "o")]
    with pytest.raises(NevusError, match="the classes are benign, malignant"):
        next(nevus.bundle.explain.explain(nevus.Classifier(bundle), [tmp_path / "a.png"], "mole"))
    assert main([*words, "--target", "mole"]) == 2
