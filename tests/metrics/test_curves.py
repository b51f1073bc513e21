import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve

from nevus.metrics.curves import precision_recall_points, roc_points


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_curves_are_those_of_scikit_learn(rows):
    positive, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], float)
    if positive.all() or not positive.any():
        return
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    found = roc_points(positive, score)
    np.testing.assert_allclose(found[0], fpr)
    np.testing.assert_allclose(found[1], tpr)
    precision, recall, _ = precision_recall_curve(positive, score)
    found = precision_recall_points(positive, score)
    np.testing.assert_allclose(found[0], precision[::-1])
    np.testing.assert_allclose(found[1], recall[::-1])
