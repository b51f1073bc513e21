import numpy as np
import pytest

from nevus.report import plots


def sample(k, n=60):
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    p = rng.dirichlet(np.ones(k), n) + 0.5 * np.eye(k)[y]
    return y, p / p.sum(1, keepdims=True), [f"class {i}" for i in range(k)]


@pytest.mark.parametrize("k", [2, 3, 9])
def test_curves_show_what_scikit_learn_computes(k):
    from sklearn.metrics import roc_curve

    y, p, classes = sample(k)
    ax = plots.roc(y, p, classes).axes[0]
    drawn = ax.lines[1:]
    assert len(drawn) == (1 if k == 2 else k)
    cls = 1 if k == 2 else 0
    fpr, tpr, _ = roc_curve(y == cls, p[:, cls], drop_intermediate=False)
    assert np.allclose(drawn[0].get_xdata(), fpr, atol=1e-12)
    assert np.allclose(drawn[0].get_ydata(), tpr, atol=1e-12)
    assert len(plots.precision_recall(y, p, classes).axes[0].lines) == 2 * len(drawn)


def test_a_class_that_is_absent_draws_no_curve():
    y, p, classes = np.zeros(5, int), np.full((5, 2), 0.5), ["a", "b"]
    assert len(plots.roc(y, p, classes).axes[0].lines) == 1
    assert len(plots.precision_recall(y, p, classes).axes[0].lines) == 0
    plots.data_uri(plots.histogram(y, p, classes))
    plots.data_uri(plots.confusion(np.array([[5, 0], [0, 0]]), classes))


def test_confusion_matrix_shows_its_counts():
    figure = plots.confusion(np.array([[7, 3], [2, 88]]), ["a", "b"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["7\n70.0%", "3\n30.0%", "2\n2.2%", "88\n97.8%"]


def test_histogram_counts_every_image():
    y, p, classes = sample(2)
    ax = plots.histogram(y, p, classes).axes[0]
    assert ax.get_xlabel() == "probability of: class 1"
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"true: class 0", "true: class 1"}


def test_training_curves_state_the_gap(tmp_path):
    rows = [
        {
            "epoch": e,
            "training_loss": 1 / e,
            "training_accuracy": 0.5,
            "validation_loss": 1.2 / e,
            "validation_accuracy": 0.4 + e / 100,
        }
        for e in range(1, 5)
    ]
    fit = {"training_accuracy": 0.9, "gap": 0.05, "validation": {"accuracy": {"value": 0.85}}}
    figure = plots.training_curves(rows, fit)
    assert "gap +5.0 points" in figure.get_suptitle()
    accuracy, loss = figure.axes
    assert accuracy.lines[1].get_ydata().tolist() == [row["validation_accuracy"] for row in rows]
    assert loss.lines[0].get_ydata().tolist() == [row["training_loss"] for row in rows]
    plots.save(figure, tmp_path / "c.png")
    plots.save(figure, tmp_path / "c.svg")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_data_uri_is_svg():
    import base64

    uri = plots.data_uri(plots.roc(*sample(2)))
    assert b"<svg" in base64.b64decode(uri.split(",", 1)[1])
