"""What the figures of a comparison show, read off the drawing."""

import numpy as np
import pytest
from matplotlib import pyplot

from nevus.report.comparison_plots import accuracies, accuracy_by_time, readers, times


def row(name, accuracy, seconds, *, sensitivity=0.9, specificity=0.8):
    values = {"accuracy": accuracy, "accuracy_low": accuracy - 0.05, "accuracy_high": accuracy + 0.05}
    values |= {"sensitivity": sensitivity, "specificity": specificity, "seconds": seconds}
    paper = {"paper_accuracy": np.nan, "paper_seconds": np.nan}
    text = {"title": name.upper(), "tuning": "", "initialization": "features", "failure": "", "note": ""}
    return values | paper | text


ROWS = [row("svm", 0.86, 104.0), row("ann", 0.84, 158.0, sensitivity=0.8, specificity=0.7)]


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def drawn(figure):
    """Number to point, number to the name beside it, and the axes."""
    (ax,) = figure.axes
    where = {text.get_text(): text.xy for text in ax.texts if text.get_text().isdigit()}
    said = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    names = {number: rest for number, _, rest in (one.partition("  ") for one in said) if rest}
    return where, names, ax


def test_numbers_stand_at_the_points_of_the_systems_that_they_name():
    where, names, ax = drawn(accuracy_by_time(ROWS))
    assert names == {"1": "SVM", "2": "ANN"}
    assert where["1"] == pytest.approx((104.0, 86.0))
    assert where["2"] == pytest.approx((158.0, 84.0))
    spans = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert np.sort(spans, axis=None) == pytest.approx([79.0, 81.0, 89.0, 91.0])


def test_times_of_one_decade_have_more_than_one_number_below_them():
    _, _, ax = drawn(accuracy_by_time(ROWS))
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [100, 200]


def test_a_number_of_seconds_stands_clear_of_bars_and_of_what_the_paper_prints():
    rows = [
        ROWS[0] | {"seconds": 13.0, "paper_seconds": 40.32},
        ROWS[1] | {"seconds": 1234.5, "paper_seconds": 558.0},
    ]
    figure = times(rows)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    numbers = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert set(numbers) == {"13.0 s", "1,234.5 s"}
    reach = ax.transData.transform([(row, 0) for row in (1234.5, 558, 40.32)])[:, 0].max()
    for extent in numbers.values():
        assert reach < extent.x0
        assert extent.x1 <= ax.get_window_extent().x1


def test_readers_stand_apart_from_the_numbered_systems():
    where, names, ax = drawn(readers(ROWS))
    assert names == {"1": "SVM", "2": "ANN"}
    assert where["1"] == pytest.approx((20.0, 90.0))
    assert where["2"] == pytest.approx((30.0, 80.0))
    stars = [line for line in ax.lines if line.get_marker() == "*"]
    assert len(stars) >= 2
    assert all("dermatologists" in line.get_label() for line in stars)


def test_a_result_that_is_no_comparison_is_not_drawn():
    rows = [*ROWS, row("vgg16", 0.5, 4.0) | {"note": "trained for 0.1 epochs only"}]
    for draw in (accuracy_by_time, readers):
        assert drawn(draw(rows))[1] == {"1": "SVM", "2": "ANN"}
    for draw in (accuracies, times):
        (ax,) = draw(rows).axes
        assert [text.get_text() for text in ax.get_yticklabels()] == ["SVM", "ANN"]
