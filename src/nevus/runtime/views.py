"""One image seen in eight ways."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nevus.data.preprocess import Preprocess
from nevus.runtime.inference import Engine


class EightViews:
    """The mean of an engine's output over the eight ways to lay a square on itself: turned and mirrored.

    A dermoscope has no upright: what is said of a lesion must not hang on how it was held. It costs eight times as
    much.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def preprocess(self) -> Preprocess:
        """Of the network."""
        return self._engine.preprocess

    def __call__(self, pixels: np.ndarray) -> NDArray[np.float32]:
        """uint8 (n, side, side, 3) to the mean output, float32 (n, outputs)."""
        ways = (laid for turn in (pixels, pixels.swapaxes(1, 2)) for laid in (turn, turn[:, ::-1]))
        both = (seen for laid in ways for seen in (laid, laid[:, :, ::-1]))
        said = [self._engine(np.ascontiguousarray(seen)).astype(np.float64) for seen in both]
        return np.asarray(np.mean(said, axis=0), np.float32)
