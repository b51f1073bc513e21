"""A network written for other programs: ONNX, OpenVINO, PyTorch's exported program."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus._openvino import openvino
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.reparameterize import fold_weight_standardization
from nevus.runtime.openvino_engine import Compiled, NormalizedInput
from nevus.runtime.tta import tta_views

Format = Literal["onnx", "openvino", "torch"]
RunDir = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""uint8 (n, side, side, 3) to probabilities, float32 (n, classes)."""

PIXELS, PROBABILITIES = "pixels", "probabilities"
FILES: dict[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
OPSET = 17


class Probabilities(nn.Module):
    """A classifier from pixels to probabilities: its views, its preprocessing, its network, softmax."""

    def __init__(self, network: nn.Module, preprocess: Preprocess, views: int = 1) -> None:
        super().__init__()
        self.views = views
        self.logits = NormalizedInput(fold_weight_standardization(network).cpu(), preprocess)

    def forward(self, pixels: Tensor) -> Tensor:
        """Uint8 (n, side, side, 3), red, green, blue, to float32 (n, classes)."""
        if self.views == 1:
            return torch.as_tensor(self.logits(pixels)).softmax(1)
        seen = torch.as_tensor(self.logits(torch.cat(tta_views(pixels, self.views))))
        return seen.view(self.views, -1, seen.shape[1]).mean(0).softmax(1)


def write_onnx(module: nn.Module, side: int, path: Path) -> None:
    """As ONNX, for any number of images.

    Raises:
        NevusError: the packages for it are missing.

    """
    wanted("onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter speaks of its own passes and of its successor
        torch.onnx.export(
            module,
            (_example(side),),
            str(path),
            input_names=[PIXELS],
            output_names=[PROBABILITIES],
            dynamic_axes={PIXELS: {0: "n"}, PROBABILITIES: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,  # the newer one wants onnxscript as well, and gives the same graph
        )


def write_openvino(onnx: Path, path: Path) -> None:
    """As OpenVINO's graph, from ONNX."""
    openvino.save_model(openvino.Core().read_model(str(onnx)), path, compress_to_fp16=False)


def write_torch(module: nn.Module, side: int, path: Path) -> None:
    """As PyTorch's exported program, for any number of images."""
    n = torch.export.Dim("n", min=1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (_example(side),), dynamic_shapes=({0: n},))
    torch.export.save(program, path)


def reader(path: Path) -> RunDir:
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
    wanted("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def by_onnx(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {PIXELS: np.ascontiguousarray(pixels)})[0], np.float32)

    return by_onnx


def _example(side: int) -> Tensor:
    return torch.zeros(2, side, side, 3, dtype=torch.uint8)


def wanted(package: str) -> None:
    """Refuse where a package of the extra `export` is missing.

    Raises:
        NevusError: it is.

    """
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise NevusError(f'this needs the package {package}; install it with pip install "nevus[export]".')
