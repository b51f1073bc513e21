import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.models.multi_stage import GroupedLogits
from nevus.runtime.engines import softmax

FINE = ("bcc", "bkl", "mel", "nv")
GROUPS = ("benign=nv,bkl", "malignant=mel,bcc")


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_probabilities_are_summed(rows):
    logits = np.array(rows, np.float32)
    fine, coarse = softmax(logits), softmax(LabelGroups.parse(GROUPS, FINE).group_logits(logits))
    np.testing.assert_allclose(coarse[:, 0], fine[:, 1] + fine[:, 3], atol=1e-5)
    np.testing.assert_allclose(coarse.sum(1), 1)


def test_labels_and_targets_are_grouped():
    groups = LabelGroups.parse(GROUPS, FINE)
    assert groups.classes == ("benign", "malignant")
    assert groups.group_targets(np.array([0, 1, 2, 3])).tolist() == [1, 0, 1, 0]
    assert groups.as_dict() == {"benign": ["bkl", "nv"], "malignant": ["bcc", "mel"]}
    assert groups.group_labels(["nv", "mel", "malignant", "scc"]) == ["benign", "malignant", "malignant", "scc"]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 50), min_size=4, max_size=4),
)
def test_the_class_prior_follows_bayes_rule(rows, factors):
    logits = np.array(rows, np.float32)
    prior = [f"{name}={factor!r}" for name, factor in zip(FINE, factors, strict=True)]
    groups = LabelGroups.parse(GROUPS, FINE, prior)
    posterior = softmax(logits).astype(float) * factors
    posterior /= posterior.sum(1, keepdims=True)
    found = softmax(groups.group_logits(logits))[:, 1]
    np.testing.assert_allclose(found, posterior[:, 0] + posterior[:, 2], atol=1e-4)
    assert LabelGroups.from_dict(groups.as_dict(), FINE, groups.prior_dict()) == groups


def test_a_prior_of_one_is_none():
    assert LabelGroups.parse(GROUPS, FINE, ["nv=1", "bcc=1.0"]) == LabelGroups.parse(GROUPS, FINE)
    groups = LabelGroups.parse(GROUPS, FINE, ["bkl=0.25", "bcc = 2"])
    assert groups.class_prior == (2, 0.25, 1, 1)
    assert groups.describe() == {"benign": "0.25 x bkl + nv", "malignant": "2 x bcc + mel"}


@pytest.mark.parametrize("prior", [(), ("bkl=0.1", "bcc=0.1")])
def test_the_network_layer_gives_the_same_logits(prior):
    groups = LabelGroups.parse(GROUPS, FINE, prior)
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(GroupedLogits(groups)(logits), groups.group_logits(logits.numpy()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "prior", "words"),
    [
        (["benign=nv,bkl,mel,bcc"], [], "only one class"),
        (["benign=nv", "malignant=mel,bcc"], [], "'bkl' is in no class"),
        (["benign=nv,bkl,mel", "malignant=mel,bcc"], [], "'mel' is named twice"),
        (["benign=nv,bkl", "malignant=mel,bcc,scc"], [], "'scc' is no class of the data"),
        (["benign", "malignant=mel"], [], "--group-labels 'benign': it is no new"),
        (["a=nv,bkl", "a=mel,bcc"], [], "no new"),
        (GROUPS, ["bkl=0"], "prior of 'bkl' by 0"),
        (GROUPS, ["bkl=nan"], "prior of 'bkl' by nan"),
        (GROUPS, ["bkl=inf"], "prior of 'bkl' by inf"),
        (GROUPS, ["bkl=-1"], "prior of 'bkl' by -1"),
        (GROUPS, ["bkl=rare"], "--class-prior 'bkl=rare'"),
        (GROUPS, ["scc=2"], "'scc' is no class of the data"),
    ],
)
def test_wrong_groups_are_refused(groups, prior, words):
    with pytest.raises(NevusError, match=words):
        LabelGroups.parse(groups, FINE, prior)
