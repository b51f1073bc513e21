"""`nevus explain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from nevus._progress import console, progress
from nevus.bundle.classifier import load
from nevus.bundle.explain import explain
from nevus.bundle.model_card import DISCLAIMER
from nevus.data.walker import LeftOut, found_images
from nevus.errors import NevusError
from nevus.report.explanation import ExplanationReport
from nevus.runtime.tta import TTAPolicy


@dataclass(frozen=True)
class Command:
    """Draw heat maps: which parts of an image speak for a class, and which against it.

    Writes an overlay for each image, and a page, index.html. A file that cannot be used is listed on the page, and the
    exit status is 3. Research use only, not a medical device.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, and folders of them at any depth."""
    out: Path
    """Folder for the heat maps and the page."""
    bundle: Path = Path("malignant-benign")
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a built-in classifier, see nevus models."""
    target: str | None = None
    """Class to explain; by default the positive one of two, else the most probable one of each image."""
    tta: TTAPolicy | None = None
    """Test-time augmentation: maps are averaged over transforms, as the logits are. By default the bundle's."""

    def run(self) -> int:
        """Explain; exit status 3 where an image could not be used."""
        if not self.images:
            raise NevusError("Cannot explain: no images are given. Name image files or folders.")
        left_out = LeftOut()
        total = sum(1 for _ in found_images(self.images, left_out))
        left_out.report("the folders")
        classifier = load(self.bundle, tta=self.tta)
        explanations = explain(classifier, found_images(self.images, LeftOut()), self.target)
        report = ExplanationReport(classifier, self.out, self.target)
        with progress() as bar:
            task = bar.add_task("explaining", total=total, note="")
            for one in explanations:
                report.add(one)
                bar.advance(task)
        page = report.write()
        if report.bad:
            console.print(f"{report.bad} of {total} images could not be used; see the page.", highlight=False)
        console.print(f"page: {page}   {DISCLAIMER}", highlight=False)
        return 3 if report.bad else 0
