"""The report of explanations: an overlay for each image, and a page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nevus._io import atomic_path, ensure_writable, write_text
from nevus._progress import progress
from nevus.bundle.classifier import Classifier
from nevus.bundle.explain import explain
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.wording import operating_point_sentence, outcome
from nevus.data.images import Source, decode
from nevus.report.evaluation import environment

METHODS = {
    "exact": "The map adds up to the logit margin of the class, but for a constant that belongs to no pixel.",
    "occlusion": "The map shows how much the logit margin falls when a patch is covered.",
}


@dataclass(frozen=True)
class Row:
    """An image of the page.

    Attributes:
        name: of the image, as it was given.
        overlay: name of the file with the heat map; empty if the image cannot be used.
        outcome: in words; or the reason why the image cannot be used.
        probabilities: as text; empty if the image cannot be used.

    """

    name: str
    overlay: str
    outcome: str
    probabilities: str


def write_explanations(
    classifier: Classifier, images: Iterable[Source], out: Path, *, total: int, target: str | None = None
) -> tuple[Path, int]:
    """Write `NAME.png` for each image, and `index.html`.

    Args:
        classifier: a bundle made ready.
        images: paths.
        out: folder.
        total: number of images, for the progress bar.
        target: class to explain, see `explain`.

    Returns:
        The path of the page, and the number of images that could not be used.

    Raises:
        NevusError: the folder cannot be written, or there is no such class.

    """
    ensure_writable(out)
    rule, rows, bad, method = classifier.bundle.rule, [], 0, "exact"
    taken: set[str] = set()
    with progress() as bar:
        task = bar.add_task("explaining", total=total, note="")
        for one in explain(classifier, images, target):
            bar.advance(task)
            prediction, name = one.prediction, str(one.prediction.image)
            if prediction.error is not None or prediction.probabilities is None:
                bad += 1
                rows.append(Row(name, "", str(prediction.error), ""))
                continue
            method = one.method
            file = _file_name(Path(name).stem, taken)
            with atomic_path(out / file) as aside:
                one.overlay(decode(prediction.image)).save(aside, format="PNG")
            numbers = zip(classifier.classes, prediction.probabilities, strict=True)
            text = ", ".join(f"{label} {value:.3f}" for label, value in numbers)
            rows.append(Row(name, file, outcome(prediction, rule), text))
    page = environment().get_template("explanation.html")
    write_text(
        out / "index.html",
        page.render(
            disclaimer=DISCLAIMER,
            rows=rows,
            target=target or classifier.classes[-1],
            two=len(classifier.classes) == 2,
            method=METHODS[method],
            operating_point=operating_point_sentence(rule, classifier.classes[-1]),
            bundle=classifier.bundle,
        ),
    )
    return out / "index.html", bad


def _file_name(stem: str, taken: set[str]) -> str:
    """Return a new file name for a stem; two images may have the same one."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in html.unescape(stem))[:80] or "image"
    name, number = f"{safe}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{safe}-{number}.png"
    taken.add(name.lower())
    return name
