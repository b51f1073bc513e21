"""A network written for other programs: ONNX, OpenVINO, PyTorch's exported program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus._openvino import openvino
from nevus._progress import ignored_warnings
from nevus.bundle.torch_engine import GroupedClassifier
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.exporting.config import Format
from nevus.exporting.tta_module import tta_views
from nevus.metrics.calibration import Calibration
from nevus.models.model import ImageClassifier
from nevus.models.reparameterize import fold_weight_standardization
from nevus.runtime.engines import OnnxEngine
from nevus.runtime.feature_engine import NormalizedInput
from nevus.runtime.onnx_model import export_onnx
from nevus.runtime.openvino_engine import Compiled
from nevus.runtime.tta import TTAPolicy

Reader = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 (n, image_size, image_size, 3) to probabilities, float32 (n, classes)."""

PROBABILITIES = "probabilities"
FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}


class Probabilities(nn.Module):
    """A classifier from pixels to probabilities: the network, test-time augmentation, calibration and softmax."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: ImageClassifier,
        preprocess: Preprocess,
        tta: TTAPolicy = "none",
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.tta = tta
        self.register_buffer("scale", torch.tensor(calibration.scale if calibration else (1.0,)))
        self.register_buffer("shift", torch.tensor(calibration.shift if calibration else (0.0,)))
        self.logits = NormalizedInput(fold_weight_standardization(GroupedClassifier(network)).cpu(), preprocess)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 (n, image_size, image_size, 3), red, green, blue, to float32 (n, classes)."""
        views = tta_views(pixels, self.tta)
        logits = torch.as_tensor(self.logits(torch.cat(views)))
        mean = logits.view(len(views), -1, logits.shape[1]).mean(0)
        return (mean * self.scale + self.shift).softmax(1)


def write_onnx(module: nn.Module, image_size: int, path: Path) -> None:
    """Write a module as ONNX, for any batch size.

    Raises:
        NevusError: the packages for it are missing.

    """
    wanted("onnx")
    export_onnx(module, image_size, path, [PROBABILITIES])


def write_openvino(onnx: Path, path: Path) -> None:
    """As OpenVINO's graph, from ONNX."""
    openvino.save_model(openvino.Core().read_model(str(onnx)), path, compress_to_fp16=False)


def write_torch(module: nn.Module, image_size: int, path: Path) -> None:
    """As PyTorch's exported program, for any number of images."""
    n = torch.export.Dim("n", min=1)
    with torch.no_grad(), ignored_warnings():
        program = torch.export.export(module, (_example(image_size),), dynamic_shapes=({0: n},))
    torch.export.save(program, path)


def reader(path: Path) -> Reader:
    """Run what was written, with the program that it was written for; ONNX by ONNX Runtime.

    Raises:
        NevusError: the packages for it are missing.

    """
    if path.suffix == ".xml":
        return Compiled(path)
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()

        def by_torch(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            with torch.no_grad():
                return np.asarray(program(torch.from_numpy(np.ascontiguousarray(pixels))).numpy(), np.float32)

        return by_torch
    return OnnxEngine(path)


def _example(image_size: int) -> Tensor:
    return torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)


def wanted(package: str) -> None:
    """Refuse where a package of the extra `export` is missing.

    Raises:
        NevusError: it is.

    """
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise NevusError(
            f'Cannot export: the package {package} is missing. Install it with pip install "nevus[export]".'
        )
