"""The report of explanations: an overlay for each image, and a page."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from nevus._io import atomic_path, ensure_writable, write_text
from nevus.bundle.classifier import Classifier
from nevus.bundle.explain import Explanation
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.wording import operating_point_sentence, outcome, test_result_sentence
from nevus.data.images import decode
from nevus.report.page import environment

METHODS = {
    "exact": "The map adds up to the logit margin of the class, but for a constant that belongs to no pixel.",
    "occlusion": "The map shows how much the logit margin falls when a patch is covered.",
}


@dataclass(frozen=True)
class Row:
    """An image of the page.

    Attributes:
        name: of the image, its path.
        overlay: name of the file with the heat map; empty if the image cannot be used.
        outcome: in words; or the reason why the image cannot be used.
        probabilities: as text; empty if the image cannot be used.
        sums: of the parts of an exact map, as text; else empty.

    """

    name: str
    overlay: str
    outcome: str
    probabilities: str
    sums: str = ""


class ExplanationReport:
    """A folder with `NAME.png` for each image, and `index.html`.

    Attributes:
        bad: number of images that could not be used.

    """

    def __init__(self, classifier: Classifier, out: Path, target: str | None = None) -> None:
        """Begin a report.

        Args:
            classifier: a bundle made ready.
            out: folder.
            target: class that is explained, see `explain`.

        Raises:
            NevusError: the folder cannot be written.

        """
        ensure_writable(out)
        self._classifier, self._out, self._target = classifier, out, target
        self._rows: list[Row] = []
        self._taken: set[str] = set()
        self._method = "exact"
        self.bad = 0

    def add(self, one: Explanation) -> None:
        """Write the overlay of an image."""
        prediction, name = one.prediction, str(one.prediction.image)
        if prediction.error is not None or prediction.probabilities is None:
            self.bad += 1
            self._rows.append(Row(name, "", str(prediction.error), ""))
            return
        self._method = one.method
        file = _file_name(Path(name).stem, self._taken)
        with atomic_path(self._out / file) as aside:
            one.overlay(decode(prediction.image)).save(aside, format="PNG")
        numbers = zip(self._classifier.classes, prediction.probabilities, strict=True)
        text = ", ".join(f"{label} {value:.3f}" for label, value in numbers)
        sums = ""
        if one.method == "exact":
            red, blue = float(one.map[one.map > 0].sum()), float(one.map[one.map < 0].sum())
            sums = f"red {red:+.1f}, blue {blue:+.1f}, constant {one.constant:+.1f}: {one.margin:+.1f} for {one.target}"
        self._rows.append(Row(name, file, outcome(prediction, self._classifier.bundle.rule), text, sums))

    def write(self) -> Path:
        """Write the page; returns its path."""
        classes, bundle = self._classifier.classes, self._classifier.bundle
        page = environment().get_template("explanation.html")
        write_text(
            self._out / "index.html",
            page.render(
                disclaimer=DISCLAIMER,
                rows=self._rows,
                target=self._target or classes[-1],
                two=len(classes) == 2,
                method=METHODS[self._method],
                operating_point=" ".join(
                    [operating_point_sentence(bundle.rule, classes[-1]), test_result_sentence(bundle)]
                ).strip(),
                bundle=bundle,
            ),
        )
        return self._out / "index.html"


def _file_name(stem: str, taken: set[str]) -> str:
    """Return a new file name for a stem; two images may have the same one."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in html.unescape(stem))[:80] or "image"
    name, number = f"{safe}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{safe}-{number}.png"
    taken.add(name.lower())
    return name
