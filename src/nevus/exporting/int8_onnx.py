"""Static quantization to 8 bits."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nevus._progress import ignored_warnings, progress
from nevus.data.decoded import DecodedImages
from nevus.exporting.formats import wanted
from nevus.runtime.engines import PIXELS

CALIBRATION = 200
"""Images by which the ranges of the activations are found."""
BATCH = 8


def shown(images: DecodedImages) -> Iterator[NDArray[np.uint8]]:
    """Batches of images spread over a set, to calibrate by."""
    rows = np.unique(np.linspace(0, len(images) - 1, min(len(images), CALIBRATION)).astype(int))
    with progress() as bar:
        task = bar.add_task("calibrating", total=len(rows), note="")
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            yield images[part]
            bar.advance(task, len(part))


def quantize(onnx: Path, out: Path, images: DecodedImages) -> None:
    """Write an ONNX graph whose convolutions compute with 8-bit integers.

    The ranges of what goes into them are found on images (static calibration, the extremes); weights have a scale a
    channel. The rest, norms above all, stays float32. So does the head: one range for the features of several stages
    would leave nothing of the smaller ones, and the head takes no time.

    Args:
        onnx: the float32 graph.
        out: where the new one goes.
        images: none of validation or test.

    Raises:
        NevusError: the packages for it are missing.

    """
    wanted("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = shown(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {PIXELS: batch}

    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it recommends its own preprocessing after that was done
    try:
        with tempfile.TemporaryDirectory() as place, ignored_warnings():
            ready = Path(place, "ready.onnx")
            quant_pre_process(str(onnx), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready),
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,  # else sums of products overflow on processors without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
    finally:
        logging.root.setLevel(before)
