"""The page of the service, and what it says of the model."""

from __future__ import annotations

from markdown_it import MarkdownIt

from nevus.bundle.bundle import CARD, Bundle
from nevus.bundle.classifier import Classifier
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.wording import (
    KINDS,
    kind_sentence,
    operating_point_sentence,
    prevalence_sentence,
    test_result_sentence,
)
from nevus.report.page import environment
from nevus.serving.config import ServeLimits


def render_page(classifier: Classifier, name: str, limits: ServeLimits, prevalence: float | None = None) -> str:
    """Return the page as HTML.

    Args:
        classifier: a bundle made ready.
        name: of the bundle, for people.
        limits: of files, which the page checks before it sends them.
        prevalence: that the probabilities are for.

    """
    bundle = classifier.bundle
    chosen = bundle.rule.operating_point
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    return (
        environment("nevus.serving")
        .get_template("page.html")
        .render(
            disclaimer=DISCLAIMER,
            name=name,
            bundle=bundle,
            two=len(bundle.classes) == 2,
            positive=bundle.classes[-1],
            points=bundle.rule.points,
            chosen=chosen.sensitivity if chosen and chosen.threshold is not None else None,
            statements=statements(bundle, prevalence),
            prevalence=prevalence,
            card=markdown.render(_without_front_matter(card_of(bundle))),
            max_bytes=limits.max_file_bytes,
        )
    )


def statements(bundle: Bundle, prevalence: float | None = None) -> list[str]:
    """Return what is known of the decisions of a bundle, a sentence each."""
    rule, positive = bundle.rule, bundle.classes[-1]
    found = [
        *(kind_sentence(rule, kind) for kind in KINDS),
        operating_point_sentence(rule, positive) if len(bundle.classes) == 2 else "",
        test_result_sentence(bundle) if len(bundle.classes) == 2 else "",
        prevalence_sentence(rule, positive, prevalence),
    ]
    return [sentence for sentence in found if sentence]


def card_of(bundle: Bundle) -> str:
    """Return the model card, Markdown; empty where the bundle has none."""
    path = bundle.folder / CARD if bundle.folder else None
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""


def _without_front_matter(card: str) -> str:
    if not card.startswith("---\n"):
        return card
    return card.partition("\n---\n")[2]
