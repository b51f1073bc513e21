"""Licenses of data sets, and of the weights that were trained on them."""

from __future__ import annotations

from collections.abc import Sequence


def license_of(sources: Sequence[str], start: str = "") -> str:
    """License that weights carry which were trained on these data sets, as far as known by name.

    Args:
        sources: the name of a data set, then those of its sources.
        start: what is said of the weights to begin with: theirs goes on with them.

    """
    known = {LICENSES[name] for source in sources for name in LICENSES if name in source.lower()}
    if "cc by-nc" in start.lower().replace("cc-by", "cc by"):
        nc = {text for name, text in LICENSES.items() if "NC" in text and (name in start.lower() or text in start)}
        known |= nc or {"CC BY-NC (the initial weights)"}
    # The first is the name of all together.
    strange = [s for s in sources[1:] or sources if not any(name in s.lower() for name in LICENSES)]
    unknown = ["not known: that of the data it was trained on"] if strange or not known else []
    return "; ".join([*sorted(known), *unknown])


LICENSES = {
    "isic-malignant-benign": "CC BY-NC 4.0 (ISIC archive terms; the set contains images of HAM10000)",
    "ham10000": "CC BY-NC 4.0 (HAM10000)",
    "isic2017": "CC BY-NC 4.0 (ISIC 2017 challenge, CC-0 or CC BY-NC by image)",
    "phantom": "Apache-2.0 (synthetic images: a demo, not for lesions)",
}
"""License by a word in the name of a data set."""
