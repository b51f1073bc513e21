"""Weights of an ONNX file in 8 bits, so that it is a quarter as large; it computes in float32 as before.

Each output channel has a scale of its own (Jacob et al. 2018, section 2). Cast and Mul stand before the operator; an
engine folds them into constants when it loads the file, so that a prediction takes as long as with float32 weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 4096
"""Number of weights below which a tensor stays as it is."""
LEVELS = 127


def store_in_8_bits(path: Path, out: Path) -> None:
    """Write another file with the weights of the convolutions in 8 bits."""
    model = onnx.load(path)
    graph = model.graph
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    kept, nodes = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name not in kernels or values.dtype != np.float32 or values.size < SMALLEST:
            kept.append(tensor)
            continue
        axes = tuple(range(1, values.ndim))
        scale = np.maximum(np.abs(values).max(axes, keepdims=True) / LEVELS, 1e-12).astype(np.float32)
        names = [f"{tensor.name}_{part}" for part in ("int8", "scale", "float")]
        kept += [
            numpy_helper.from_array(np.rint(values / scale).astype(np.int8), names[0]),
            numpy_helper.from_array(scale, names[1]),
        ]
        nodes += [
            helper.make_node("Cast", [names[0]], [names[2]], to=TensorProto.FLOAT),
            helper.make_node("Mul", [names[2], names[1]], [tensor.name]),
        ]
    nodes += graph.node
    for field, values in (("initializer", kept), ("node", nodes)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    onnx.checker.check_model(model)
    onnx.save(model, out)
