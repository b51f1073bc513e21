"""Weights of an ONNX file in 8 bits, so that it is smaller; it computes in float32 as before.

Each output channel has a scale of its own (Jacob et al. 2018, section 2). Cast and Mul stand before the
operator; an engine folds them into constants when it loads the file: a prediction takes as long as before.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

SMALLEST = 4096
"""Number of weights below which a tensor is not changed."""
LEVELS = 127


def store_weights(path: Path, out: Path) -> None:
    """Write another file with the weights of the convolutions in 8-bit integers."""
    model = onnx.load(path)
    graph = model.graph
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    kept: list[TensorProto] = []
    nodes: list[NodeProto] = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name not in kernels or values.dtype != np.float32 or values.size < SMALLEST:
            kept.append(tensor)
            continue
        tensors, made = _int8(values, tensor.name)
        kept += tensors
        nodes += made
    nodes += graph.node
    for field, entries in (("initializer", kept), ("node", nodes)):
        graph.ClearField(field)
        getattr(graph, field).extend(entries)
    onnx.checker.check_model(model)
    onnx.save(model, out)


def _int8(values: NDArray[np.float32], name: str) -> tuple[list[TensorProto], list[NodeProto]]:
    axes = tuple(range(1, values.ndim))
    scale = np.maximum(np.abs(values).max(axes, keepdims=True) / LEVELS, 1e-12).astype(np.float32)
    whole, factor, cast = (f"{name}_{part}" for part in ("int8", "scale", "float"))
    tensors = [
        numpy_helper.from_array(np.rint(values / scale).astype(np.int8), whole),
        numpy_helper.from_array(scale, factor),
    ]
    return tensors, [
        helper.make_node("Cast", [whole], [cast], to=TensorProto.FLOAT),
        helper.make_node("Mul", [cast, factor], [name]),
    ]
