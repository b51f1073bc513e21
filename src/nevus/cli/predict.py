"""`nevus predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TextIO

import tyro

from nevus._io import atomic_path, ensure_writable, write_text
from nevus._progress import console, progress
from nevus.bundle.builtin import is_builtin
from nevus.bundle.classifier import Classifier, load
from nevus.bundle.decision import CANNOT_JUDGE, UNVALIDATED
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.prediction import Prediction, prediction_columns, prediction_row
from nevus.bundle.wording import (
    FLAGS,
    kind_sentence,
    operating_point_sentence,
    prevalence_sentence,
    test_result_sentence,
)
from nevus.cli._number import OptionalFloat
from nevus.data.images import SUFFIXES
from nevus.data.walker import LeftOut, found_images
from nevus.errors import NevusError, printable
from nevus.runtime.allocator import return_memory
from nevus.runtime.engines import EngineName
from nevus.runtime.tta import TTAPolicy

Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Command:
    """Predict images and folders, in the order given.

    A file that cannot be used becomes a row with an error, and the exit status is 3. Files that are left out of folders
    are counted, and listed in NAME.skipped.txt beside --out NAME.csv. Research use only, not a medical
    device.
    """

    images: tyro.conf.Positional[tuple[Path, ...]]
    """Image files, and folders of them at any depth."""
    bundle: Path = Path("malignant-benign")
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a built-in classifier, see nevus models."""
    format: Literal["table", "csv", "json"] = "table"
    """Format of the output. Columns of csv and json: image, label, p_CLASS by class, error, decision, set, flag."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """File for the output, instead of standard output."""

    explain: Path | None = None
    """Folder for heat maps of the images and a page, as nevus explain writes them."""
    sensitivity: OptionalFloat = None
    """Guaranteed sensitivity that decisions are made at: 0.8, 0.9, 0.95 or 0.98, where the bundle has a threshold for
    it. By default 0.95."""
    prevalence: OptionalFloat = None
    """Share of the positive class where the classifier is used, as 0.02; probabilities are re-weighted for it. By
    default that of the validation images."""
    engine: EngineName = "auto"
    """auto and onnx: ONNX Runtime; openvino; torch: PyTorch, on a GPU where there is one; all give the same results.
    openvino-bf16 is faster on a CPU with bfloat16 and differs in the third digit."""
    tta: TTAPolicy | None = None
    """Test-time augmentation: logits are averaged over transforms. none; flip: horizontal flip; crop-color: full
    image and center crop, with and without color constancy; invariant: these in gray and standardized colors; d4: the
    eight rotations and reflections; all: crop-color times d4. By default the bundle's. Not
    for an ensemble, as malignant-benign, whose networks have their own."""

    def run(self) -> int:
        """Predict; exit status 3 where an image could not be used."""
        if not self.images:
            raise NevusError("Cannot predict: no images are given. Name image files or folders.")
        if self.out is not None and (self.out.suffix.lower() in SUFFIXES or self.out in self.images):
            raise NevusError(
                f"Cannot write to --out {self.out}: by its name it is an image. Name another file, as predictions.csv."
            )
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise NevusError(
                f"Cannot use --prevalence {self.prevalence}: it is not between 0 and 1. Give a share, as 0.02."
            )
        if self.explain is not None and self.engine not in ("auto", "onnx"):
            raise NevusError(
                f"Cannot use --engine {self.engine} with --explain: heat maps come from ONNX Runtime. Leave one out."
            )
        if self.explain is not None:
            ensure_writable(self.explain, "--explain")
        left_out = LeftOut()
        total = sum(1 for _ in found_images(self.images, left_out))
        left_out.report("the folders")
        if self.out is not None and left_out.entries:
            write_text(self.out.with_name(f"{self.out.stem}.skipped.txt"), "\n".join([*left_out.lines(), ""]))
        classifier = load(self.bundle, engine=self.engine, tta=self.tta, sensitivity=self.sensitivity)
        if classifier.running_engine == "onnx":
            return_memory()  # one photo and 300 images: an eighth off the peak in the same time
        bundle = classifier.bundle
        if bundle.folder and is_builtin(bundle.folder):
            console.print(
                f"{self.bundle} is built in: evaluate it on images of your own before you rely on it; license of its "
                f"weights: {bundle.license}",
                highlight=False,
            )
        if self.prevalence is not None and len(bundle.rule.class_shares) != 2:
            raise NevusError(
                f"Cannot use --prevalence: {self.bundle} does not know the shares of two classes. Leave it out."
            )
        if self.out is None:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # file names need not be UTF-8
            bad, flagged, kinds = self._write(classifier, total, sys.stdout)
        else:
            with (
                atomic_path(self.out) as aside,
                aside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            ):
                bad, flagged, kinds = self._write(classifier, total, file)
        if bad:
            console.print(f"{bad} of {total} images could not be used; see their error.", highlight=False)
        if flagged:
            console.print(f"{flagged} of {total} images cannot be judged; see their flag.", highlight=False)
        for kind in sorted(kinds):
            console.print(kind_sentence(bundle.rule, kind), highlight=False)
        shares = prevalence_sentence(bundle.rule, classifier.classes[-1], self.prevalence)
        if shares:
            console.print(shares, highlight=False)
        console.print(operating_point_sentence(bundle.rule, classifier.classes[-1]), highlight=False)
        on_test = test_result_sentence(bundle)
        if on_test:
            console.print(on_test, highlight=False)
        console.print(DISCLAIMER, highlight=False)
        return 3 if bad else 0

    def _write(self, classifier: Classifier, total: int, file: TextIO) -> tuple[int, int, set[str]]:
        """Return the images that could not be used, those that cannot be judged, and kinds that were not validated."""
        bad = flagged = 0
        kinds: set[str] = set()

        def rows() -> Iterator[Row]:
            nonlocal bad, flagged
            with progress() as bar:
                task = bar.add_task("predicting", total=total, note="")
                for prediction in self._predictions(classifier):
                    bad += prediction.error is not None
                    flagged += bool(prediction.flag)
                    if prediction.flag == UNVALIDATED:
                        kinds.add(prediction.kind)
                    yield prediction_row(prediction, classifier.classes, ensemble=classifier.is_ensemble)
                    bar.advance(task)

        WRITERS[self.format](rows(), classifier, file)
        file.flush()
        return bad, flagged, kinds

    def _predictions(self, classifier: Classifier) -> Iterator[Prediction]:
        """Predict the images; with --explain write their heat maps, too."""
        images = found_images(self.images, LeftOut())
        if self.explain is None:
            yield from classifier.stream(images, prevalence=self.prevalence)
            return
        from nevus.bundle.explain import explain
        from nevus.report.explanation import ExplanationReport

        report = ExplanationReport(classifier, self.explain)
        for one in explain(classifier, images, prevalence=self.prevalence):
            report.add(one)
            yield one.prediction
        console.print(f"heat maps: {report.write()}", highlight=False)


def _csv(rows: Iterator[Row], classifier: Classifier, file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(prediction_columns(classifier.classes, ensemble=classifier.is_ensemble))
    for row in rows:
        writer.writerow(["" if value is None else value for value in row.values()])


def _json(rows: Iterator[Row], classifier: Classifier, file: TextIO) -> None:
    file.write("[")
    for number, row in enumerate(rows):
        file.write((",\n " if number else "\n ") + json.dumps(row, allow_nan=False))
    file.write("\n]\n")


def _table(rows: Iterator[Row], classifier: Classifier, file: TextIO) -> None:
    classes, spread = classifier.classes, "disagreement"
    wide = max(len(CANNOT_JUDGE) + 2 + max(map(len, FLAGS)), *map(len, classes))
    heads = [*(f"p_{name}" for name in classes), *([spread] if classifier.is_ensemble else [])]
    in_set = max(len("|".join(classes)) if len(classes) == 2 else 3, 3)
    head = "  ".join(f"{head:>8}" for head in heads)
    file.write(f"{'decision':<{wide}}  {head}  {'set':<{in_set}}  image\n")
    for row in rows:
        if row["error"]:
            file.write(f"{'error':<{wide}}  {printable(str(row['error']))}\n")
        else:
            decision = f"{CANNOT_JUDGE}: {row['flag']}" if row["flag"] else str(row["decision"])
            values = "  ".join(f"{row[head]:>{max(8, len(head))}.4f}" for head in heads)
            file.write(f"{decision:<{wide}}  {values}  {row['set']:<{in_set}}  {printable(str(row['image']))}\n")


WRITERS: dict[str, Callable[[Iterator[Row], Classifier, TextIO], None]] = {
    "csv": _csv,
    "json": _json,
    "table": _table,
}
