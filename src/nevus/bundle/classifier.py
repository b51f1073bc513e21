"""The Classifier: images to probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nevus.bundle.bundle import Bundle, load_bundle
from nevus.data.images import Source
from nevus.errors import ImageError
from nevus.runtime.engines import INFERENCE_BATCH_SIZE, Engine, EngineName, make_engine, softmax
from nevus.runtime.tta import check_views, with_tta


@dataclass(frozen=True)
class Prediction:
    """What is said of one image.

    Attributes:
        image: as it was given.
        probabilities: by class, float64 (classes,), summing to 1; None where the image cannot be used.
        error: why not, in one sentence; None where it can.

    """

    image: Source
    probabilities: NDArray[np.float64] | None
    error: str | None


class Classifier:
    """A trained network with its preprocessing, ready for use.

    Research use only, not a medical device.

    Attributes:
        bundle: its parts and provenance.
        classes: names in the order of the probabilities; of two, the second is positive.
        engine_name: what computes it, as it was asked for.
        views: of each image: 1, 2, 4, 6, 8 or 32.

    """

    def __init__(
        self,
        bundle: Bundle,
        device: torch.device | None = None,
        *,
        engine_name: EngineName = "auto",
        views: int | None = None,
    ) -> None:
        """Make a bundle ready.

        Args:
            bundle: the parts.
            device: by default a GPU where there is one.
            engine_name: see `nevus.runtime.engines.engine`.
            views: of each image, over which is averaged; see `nevus.runtime.tta`. By default as many as the
                bundle says.

        Raises:
            NevusError: the engine does not run here, or there is no such number of views.

        """
        self.bundle = bundle
        self.classes = bundle.classes
        if device is None:
            gpu = torch.cuda.is_available() and not engine_name.startswith("openvino")
            device = torch.device("cuda" if gpu else "cpu")
        self._device, self.engine_name = device, engine_name
        self.views = bundle.views if views is None else views
        check_views(self.views)
        if engine_name != "auto":
            _ = self._engine  # whoever insists learns at once whether it runs

    @cached_property
    def _engine(self) -> Engine:
        """Made when it is first needed: a graph takes a second or two."""
        made = make_engine(self.bundle.network, self.bundle.preprocess, self._device, self.engine_name)
        return with_tta(made, self.views)

    def stream(self, images: Iterable[Source], *, batch: int = INFERENCE_BATCH_SIZE) -> Iterator[Prediction]:
        """Predictions for any number of images, in order, at constant memory.

        Args:
            images: paths, PIL images or uint8 arrays (h, w, 3), taken as they are needed.
            batch: images at once.

        """
        pending: list[Source] = []

        def noted() -> Iterator[Source]:
            for image in images:
                pending.append(image)
                yield image

        decoded = self.bundle.preprocess.stream(noted())
        while chunk := list(islice(decoded, batch)):
            sources, pending[: len(chunk)] = pending[: len(chunk)], []
            good = [pixels for pixels in chunk if not isinstance(pixels, ImageError)]
            found = iter(softmax(self._engine(np.stack(good))) if good else ())
            for source, pixels in zip(sources, chunk, strict=True):
                if isinstance(pixels, ImageError):
                    yield Prediction(source, None, str(pixels))
                else:
                    p: NDArray[np.float64] = next(found)
                    if np.isfinite(p).all():
                        yield Prediction(source, p, None)
                    else:
                        yield Prediction(
                            source, None, f"{source} gives no finite probability: the bundle is at fault."
                        )

    def predict_proba(self, images: Source | Sequence[Source] | NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities by class, float64 of shape (n, classes), rows summing to 1.

        Args:
            images: one or several paths, PIL images or uint8 arrays (h, w, 3), or one uint8 array (n, h, w, 3).

        Raises:
            ImageError: an image cannot be used; use `stream` to go on past it.

        """
        several = _several(images)
        rows = []
        for prediction in self.stream(several):
            if prediction.probabilities is None:
                raise ImageError(str(prediction.error))
            rows.append(prediction.probabilities)
        return np.stack(rows) if rows else np.empty((0, len(self.classes)))

    def predict(self, images: Source | Sequence[Source] | NDArray[np.uint8]) -> list[str]:
        """The most probable class of each image.

        Raises:
            ImageError: an image cannot be used.

        """
        return [self.classes[index] for index in self.predict_proba(images).argmax(1)]


def load(folder: Path | str, *, engine_name: EngineName = "auto", views: int | None = None) -> Classifier:
    """Load a classifier from its bundle, checking every digest.

    Args:
        folder: of the bundle, or the name of a classifier that comes with nevus, as `malignant-benign`.
        engine_name: `auto` takes OpenVINO on a CPU and PyTorch on a GPU; or one to insist on, see
            `nevus.runtime.engines.engine`.
        views: of each image; see `Classifier`.

    Raises:
        NevusError: the folder is no bundle, or a damaged one; the engine does not run here; or there is no such
            number of views.

    """
    return Classifier(load_bundle(folder), engine_name=engine_name, views=views)


def _several(images: Any) -> Sequence[Source]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [images]
    return list(images)
