"""The Classifier: images to probabilities, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nevus.bundle.bundle import Bundle, load_bundle
from nevus.bundle.decision import CANNOT_JUDGE
from nevus.bundle.engine import make_engine
from nevus.bundle.ensemble import EnsembleEngine, disagreement
from nevus.bundle.image_check import CHECK_IMAGE_SIZE, CheckLimits, ImageScores, check_images
from nevus.bundle.prediction import Prediction, prediction_columns, prediction_row
from nevus.data.images import Pixels, Source, decode
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import resize_square
from nevus.errors import ImageError, NevusError
from nevus.models.spec import ENSEMBLE
from nevus.runtime.engines import INFERENCE_BATCH_SIZE, Engine, EngineName
from nevus.runtime.tta import TTAPolicy, check_policy, with_tta

if TYPE_CHECKING:
    import pandas as pd

Images = Source | Sequence[Source] | NDArray[np.uint8]
"""One or several paths, PIL images or uint8 arrays (h, w, 3), or one uint8 array (n, h, w, 3)."""


class Classifier:
    """A bundle made ready: decoding, preprocessing, the model, and the mean over its test-time augmentation.

    Research use only, not a medical device. With `model.onnx` in the bundle neither torch nor scikit-learn is imported.

    Attributes:
        bundle: its specification and provenance.
        classes: names in the order of the probabilities; of two, the second is positive.
        engine_name: the engine that was asked for.
        tta: test-time augmentation.

    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        engine: EngineName = "auto",
        tta: TTAPolicy | None = None,
        sensitivity: float | None = None,
    ) -> None:
        """Make a bundle ready.

        Args:
            bundle: a saved one.
            engine: see `nevus.runtime.engines.EngineName`.
            tta: test-time augmentation; by default the bundle's.
            sensitivity: guaranteed one that decisions are made at, see `DecisionRule.at_sensitivity`.

        Raises:
            NevusError: the engine does not run here, there is no such policy, or no threshold for the sensitivity.

        """
        rule = bundle.rule if sensitivity is None else bundle.rule.at_sensitivity(sensitivity)
        self.bundle = bundle if sensitivity is None else replace(bundle, rule=rule)
        self.classes = bundle.classes
        self.engine_name = engine
        self.tta: TTAPolicy = bundle.tta if tta is None else tta
        check_policy(self.tta)
        if bundle.spec.backbone == ENSEMBLE and self.tta != "none":
            raise NevusError("Cannot use --tta: each network of an ensemble has its own. Leave it out.")
        if engine != "auto":
            _ = self.engine  # whoever asks for an engine learns at once whether it runs

    @cached_property
    def engine(self) -> Engine:
        """Pixels to logits; made at the first prediction."""
        engine = make_engine(self.bundle, self.engine_name)
        return engine if isinstance(engine, EnsembleEngine) else with_tta(engine, self.tta)

    @property
    def is_ensemble(self) -> bool:
        """Whether the bundle holds several networks."""
        return self.bundle.spec.backbone == ENSEMBLE

    @property
    def running_engine(self) -> EngineName:
        """The engine that runs: `auto` is ONNX Runtime, or PyTorch where the bundle has no `model.onnx`."""
        if self.engine_name != "auto":
            return self.engine_name
        if self.is_ensemble:
            return "onnx"
        return "torch" if self.bundle.folder is None or self.bundle.onnx is None else "onnx"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the engine out, which cannot be pickled; it is made again when it is needed."""
        return {key: value for key, value in self.__dict__.items() if key != "engine"}

    def stream(
        self,
        images: Iterable[Source],
        *,
        batch: int = INFERENCE_BATCH_SIZE,
        check: bool = True,
        prevalence: float | None = None,
    ) -> Iterator[Prediction]:
        """Predict any number of images, in order, at constant memory.

        Args:
            images: paths, PIL images or uint8 arrays (h, w, 3), taken as they are needed.
            batch: images at once.
            check: whether to look for reasons not to judge an image.
            prevalence: share of the positive class where the classifier is used; it re-weights the probabilities, and
                leaves decision and set as they are.

        """
        size = self.bundle.spec.image_size
        pending: list[Source] = []

        def noted() -> Iterator[Source]:
            for image in images:
                pending.append(image)
                yield image

        def squares(source: Source) -> tuple[Pixels, Pixels | None] | ImageError:
            try:
                pixels = decode(source)
            except ImageError as error:
                return error
            return resize_square(pixels, size), resize_square(pixels, CHECK_IMAGE_SIZE) if check else None

        decoded = prefetch_map(squares, noted())
        while chunk := list(islice(decoded, batch)):
            sources, pending[: len(chunk)] = pending[: len(chunk)], []
            good = [pixels for pixels in chunk if not isinstance(pixels, ImageError)]
            rows = self._predicted([one for one, _ in good], [o for _, o in good if o is not None], prevalence)
            for source, pixels in zip(sources, chunk, strict=True):
                if isinstance(pixels, ImageError):
                    yield Prediction(source, None, str(pixels))
                else:
                    yield replace(next(rows), image=source)

    def _predicted(
        self, pixels: Sequence[Pixels], checked: Sequence[Pixels], prevalence: float | None
    ) -> Iterator[Prediction]:
        """Predict squares; the source of each is filled in later."""
        if not pixels:
            return
        logits, spread = self.logits(pixels)
        scores = check_images(np.stack(checked)) if checked else None
        yield from self.decide(logits, scores, prevalence, spread)

    def logits(self, squares: Sequence[Pixels]) -> tuple[NDArray[np.float64], Sequence[float]]:
        """Return what the decision rule takes, float64 (n, classes), and an ensemble's disagreement, (n,) or empty.

        These are logits before calibration; of an ensemble, the means of its networks' calibrated log-probabilities.

        Args:
            squares: uint8 (image_size, image_size, 3) each.

        """
        if isinstance(self.engine, EnsembleEngine):
            each = self.engine.probabilities(np.stack(squares))
            return self.engine.logits(each).astype(np.float64), disagreement(each).tolist()
        return self.engine(np.stack(squares)).astype(np.float64), ()

    def decide(
        self,
        logits: NDArray[np.float64],
        scores: ImageScores | None = None,
        prevalence: float | None = None,
        spread: Sequence[float] = (),
    ) -> Iterator[Prediction]:
        """Apply the decision rule to logits; the image of each prediction is empty.

        Args:
            logits: float64 (n, classes).
            scores: of the image check; None for no check.
            prevalence: see `stream`.
            spread: disagreement of each image, of an ensemble.

        """
        rule, classes = self.bundle.rule, self.classes
        p = rule.probabilities(logits)
        shown = p if prevalence is None else rule.probabilities(logits, prevalence)
        flags = rule.flags(scores) if scores else [""] * len(p)
        kinds = scores.kinds(rule.limits or CheckLimits.default()) if scores else ("",) * len(p)
        member, called = rule.sets(p), rule.called(p)
        for row in range(len(p)):
            if not np.isfinite(shown[row]).all():
                yield Prediction("", None, "The model gives no finite probability. Make the bundle again.")
                continue
            inside = () if member is None else tuple(n for n, m in zip(classes, member[row], strict=True) if m)
            decision = CANNOT_JUDGE if flags[row] else classes[called[row]]
            yield Prediction(
                "",
                shown[row],
                None,
                logits[row],
                decision,
                inside,
                flags[row],
                kinds[row],
                scores.row(row) if scores else {},
                spread[row] if spread else None,
            )

    def predict_proba(self, images: Images) -> NDArray[np.float64]:
        """Return calibrated probabilities by class, float64 (n, classes), rows summing to 1.

        Args:
            images: see `Images`.

        Raises:
            ImageError: an image cannot be used; `stream` and `predict_frame` go on past it.

        """
        rows = []
        for prediction in self.stream(as_list(images), check=False):
            if prediction.probabilities is None:
                raise ImageError(str(prediction.error))
            rows.append(prediction.probabilities)
        return np.stack(rows) if rows else np.empty((0, len(self.classes)))

    def predict(self, images: Images) -> list[str]:
        """Return the most probable class of each image.

        Raises:
            ImageError: an image cannot be used.

        """
        return [self.classes[index] for index in self.predict_proba(images).argmax(1)]

    def predict_frame(self, images: Images) -> pd.DataFrame:
        """Return a table with a row for each image, see `prediction_columns`. A bad image is a row with an error."""
        import pandas as pd

        return pd.DataFrame(
            [prediction_row(one, self.classes, ensemble=self.is_ensemble) for one in self.stream(as_list(images))],
            columns=prediction_columns(self.classes, ensemble=self.is_ensemble),
        )

    def __call__(self, images: Images) -> list[dict[str, str | float]] | list[list[dict[str, str | float]]]:
        """Return `{"label", "score"}` for each class, best first, as the pipelines of transformers do.

        Returns:
            For one image a list; for several a list of lists.

        Raises:
            ImageError: an image cannot be used.

        """
        ranked: list[list[dict[str, str | float]]] = [
            [{"label": self.classes[k], "score": float(row[k])} for k in np.argsort(-row, kind="stable")]
            for row in self.predict_proba(images)
        ]
        return ranked[0] if is_single(images) else ranked

    def save(self, folder: Path | str) -> None:
        """Copy the bundle to a new folder.

        Raises:
            NevusError: the folder exists or cannot be written.

        """
        import shutil

        target = Path(folder)
        if target.exists():
            raise NevusError(f"Cannot save to {target}: it exists already. Choose another folder.")
        aside = target.with_name(f".{target.name}.part")
        assert self.bundle.folder is not None
        try:
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(self.bundle.folder, aside)
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise NevusError(
                f"Cannot save to {target}: {error.strerror or error}. Free space or choose another folder."
            ) from error


def load(
    folder: Path | str,
    *,
    engine: EngineName = "auto",
    tta: TTAPolicy | None = None,
    sensitivity: float | None = None,
) -> Classifier:
    """Load a classifier from its bundle and check every digest.

    Args:
        folder: of the bundle, or the name of a built-in classifier, as `malignant-benign`.
        engine: see `nevus.runtime.engines.EngineName`.
        tta: test-time augmentation; by default the bundle's.
        sensitivity: guaranteed one that decisions are made at; by default 0.95.

    Raises:
        NevusError: the folder is no bundle, or a damaged one, the engine does not run here, there is no such policy,
            or the bundle has no threshold for the sensitivity.

    """
    return Classifier(load_bundle(folder), engine=engine, tta=tta, sensitivity=sensitivity)


def is_single(images: Any) -> bool:
    """Whether one image was given rather than several."""
    return isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3)


def as_list(images: Any) -> Sequence[Source]:
    """Return one or several images as a list."""
    if is_single(images):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim not in (1, 4):
        return [images]
    return list(images)
