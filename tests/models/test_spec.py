import json

import pytest

from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.models.spec import ModelSpec

GROUPS = LabelGroups.parse(["benign=nv,bkl", "malignant=mel"], ("bkl", "mel", "nv"), ["bkl=0.1"])
SPEC = ModelSpec("bit-r26x0.5", ("benign", "malignant"), 4, "stats", GROUPS, 160)


def test_json_gives_the_same_spec():
    assert ModelSpec.from_dict(json.loads(json.dumps(SPEC.as_dict()))) == SPEC
    assert SPEC.fine_classes == ("bkl", "mel", "nv")
    assert (SPEC.preprocess.image_size, SPEC.preprocess.mean) == (160, (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("classes", ["a"], "two different classes"),
        ("classes", ["a", "a"], "two different classes"),
        ("classes", ["a", "b"], "other classes"),
        ("backbone", "", "empty or no text"),
        ("pooling", "max", "no pooling 'max'"),
        ("feature_stages", 0, "needs feature stages"),
        ("feature_stages", 2.5, "not between 0 and 64"),
        ("image_size", 8, "not between 16 and 4096"),
        ("image_size", "160", "not between 16 and 4096"),
        ("mean", [0.5], "three numbers each"),
        ("std", [0.5, 0.5, 0.0], "must be positive"),
        ("std", [0.5, 0.5, float("nan")], "three numbers each"),
    ],
)
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(NevusError, match=words):
        ModelSpec.from_dict({**SPEC.as_dict(), field: value})
