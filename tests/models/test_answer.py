import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.errors import NevusError
from nevus.models.answer import Answer, Summed
from nevus.runtime.inference import softmax

DIAGNOSES = ("bcc", "bkl", "mel", "nv")
WORDS = ("benign=nv,bkl", "malignant=mel,bcc")


@settings(deadline=None)  # the first call starts torch's threads
@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_probabilities_are_added_up(rows):
    logits = np.array(rows, np.float32)
    answer = Answer.of(WORDS, DIAGNOSES)
    apart, together = softmax(logits), softmax(answer.logits(logits))
    np.testing.assert_allclose(together[:, 0], apart[:, 1] + apart[:, 3], atol=1e-5)
    np.testing.assert_allclose(together.sum(1), 1)


def test_targets_follow():
    answer = Answer.of(WORDS, DIAGNOSES)
    assert answer.classes == ("benign", "malignant")
    assert answer.targets(np.array([0, 1, 2, 3])).tolist() == [1, 0, 1, 0]
    assert answer.as_dict() == {"benign": ["bkl", "nv"], "malignant": ["bcc", "mel"]}
    assert answer.named(["nv", "mel", "malignant", "scc"]) == ["benign", "malignant", "malignant", "scc"]


def test_a_network_answers_as_its_logits_do():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    answer = Answer.of(WORDS, DIAGNOSES)
    x = torch.randn(5, 3, 2, 2)
    with torch.no_grad():
        np.testing.assert_allclose(Summed(net, answer.parts)(x), answer.logits(net(x).numpy()), rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benign=nv,bkl,mel,bcc"], "two classes"),
        (["benign=nv", "malignant=mel,bcc"], "'bkl' belongs"),
        (["benign=nv,bkl,mel", "malignant=mel,bcc"], "twice"),
        (["benign=nv,bkl", "malignant=mel,bcc,scc"], "'scc', which is no class"),
        (["benign", "malignant=mel"], "--answer benign is no new"),
        (["a=nv,bkl", "a=mel,bcc"], "no new"),
    ],
)
def test_what_makes_no_answer_is_told(words, told):
    with pytest.raises(NevusError, match=told):
        Answer.of(words, DIAGNOSES)
