import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups, GroupedLogits
from nevus.runtime.engines import softmax

DIAGNOSES = ("bcc", "bkl", "mel", "nv")
WORDS = ("benign=nv,bkl", "malignant=mel,bcc")


@settings(deadline=None)  # the first call starts torch's threads
@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_probabilities_are_added_up(rows):
    logits = np.array(rows, np.float32)
    answer = LabelGroups.of(WORDS, DIAGNOSES)
    apart, world = softmax(logits), softmax(answer.logits(logits))
    np.testing.assert_allclose(world[:, 0], apart[:, 1] + apart[:, 3], atol=1e-5)
    np.testing.assert_allclose(world.sum(1), 1)


def test_targets_follow():
    answer = LabelGroups.of(WORDS, DIAGNOSES)
    assert answer.classes == ("benign", "malignant")
    assert answer.targets(np.array([0, 1, 2, 3])).tolist() == [1, 0, 1, 0]
    assert answer.as_dict() == {"benign": ["bkl", "nv"], "malignant": ["bcc", "mel"]}
    assert answer.named(["nv", "mel", "malignant", "scc"]) == ["benign", "malignant", "malignant", "scc"]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 50), min_size=4, max_size=4),
)
def test_odds_are_bayes_with_other_priors(rows, odds):
    logits = np.array(rows, np.float32)
    words = [f"benign=nv:{odds[3]!r},bkl:{odds[1]!r}", f"malignant=mel:{odds[2]!r},bcc:{odds[0]!r}"]
    answer = LabelGroups.of(words, DIAGNOSES)
    posterior = softmax(logits).astype(float) * odds
    posterior /= posterior.sum(1, keepdims=True)
    np.testing.assert_allclose(softmax(answer.logits(logits))[:, 1], posterior[:, 0] + posterior[:, 2], atol=1e-4)
    again = LabelGroups.of([f"{name}={','.join(parts)}" for name, parts in answer.as_dict().items()], DIAGNOSES)
    assert again == answer


def test_odds_of_one_are_none_and_are_told_otherwise():
    assert LabelGroups.of(["benign=nv:1,bkl", "malignant=mel,bcc:1.0"], DIAGNOSES) == LabelGroups.of(WORDS, DIAGNOSES)
    answer = LabelGroups.of(["benign=nv,bkl:0.25", "malignant=mel,bcc : 2"], DIAGNOSES)
    assert answer.odds == (2, 0.25, 1, 1)
    assert answer.sums() == {"benign": "0.25 x bkl + nv", "malignant": "2 x bcc + mel"}
    assert answer.named(["nv", "bkl", "bcc"]) == ["benign", "benign", "malignant"]
    assert answer.targets(np.arange(4)).tolist() == [1, 0, 1, 0]


def test_a_colon_in_a_name_is_no_odds():
    assert LabelGroups.of(["a=nv:1,x: y", "b=mel"], ("mel", "nv:1", "x: y")).odds == ()


@pytest.mark.parametrize("words", [WORDS, ("benign=nv,bkl:0.1", "malignant=mel,bcc:0.1")])
def test_a_network_answers_as_its_logits_do(words):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    answer = LabelGroups.of(words, DIAGNOSES)
    x = torch.randn(5, 3, 2, 2)
    with torch.no_grad():
        np.testing.assert_allclose(GroupedLogits(net, answer)(x), answer.logits(net(x).numpy()), rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benign=nv,bkl,mel,bcc"], "two classes"),
        (["benign=nv", "malignant=mel,bcc"], "'bkl' belongs"),
        (["benign=nv,bkl,mel", "malignant=mel,bcc"], "twice"),
        (["benign=nv,bkl", "malignant=mel,bcc,scc"], "'scc', which is no class"),
        (["benign", "malignant=mel"], "--answer benign is no new"),
        (["a=nv,bkl", "a=mel,bcc"], "no new"),
        (["benign=nv,bkl:0", "malignant=mel,bcc"], "'bkl' the odds 0"),
        (["benign=nv,bkl:nan", "malignant=mel,bcc"], "'bkl' the odds nan"),
        (["benign=nv,bkl:inf", "malignant=mel,bcc"], "'bkl' the odds inf"),
        (["benign=nv,bkl:-1", "malignant=mel,bcc"], "'bkl' the odds -1"),
        (["benign=nv,bkl:0.5,bkl", "malignant=mel,bcc"], "'bkl' twice"),
        (["benign=nv,bkl:rare", "malignant=mel,bcc"], "'bkl:rare', which is no class"),
    ],
)
def test_what_makes_no_answer_is_told(words, told):
    with pytest.raises(NevusError, match=told):
        LabelGroups.of(words, DIAGNOSES)
