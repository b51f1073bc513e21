"""Weights in 8 bits against the network in float32."""

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from tests.helpers import small_network
from tools.onnx_weights import store_weights

from nevus.models.model import build_model
from nevus.models.spec import ModelSpec
from nevus.models.weights import load_pretrained
from nevus.runtime.engines import OnnxEngine
from nevus.runtime.onnx_model import write_onnx


def test_the_file_is_smaller_and_the_logits_are_nearly_the_same(tmp_path, picture):
    spec = ModelSpec("bit-r26x0.5-dermoscopy", ("mel", "nv", "bkl"), 4, image_size=192)
    network = build_model(spec, load_pretrained(spec.backbone)[0]).eval()
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    write_onnx(network, spec, plain)
    pixels = np.stack([np.asarray(picture(192, 192, seed)) for seed in range(8)])
    before = OnnxEngine(plain)(pixels)
    store_weights(plain, small)
    assert small.stat().st_size < 0.3 * plain.stat().st_size
    assert 0 < np.abs(before - OnnxEngine(small)(pixels)).max() < 0.1 * before.std()


def test_each_weight_is_within_half_a_step_of_its_channel(tmp_path):
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=32)
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    write_onnx(small_network(spec), spec, plain)
    store_weights(plain, small)
    before = {one.name: numpy_helper.to_array(one) for one in onnx.load(plain).graph.initializer}
    after = {one.name: numpy_helper.to_array(one) for one in onnx.load(small).graph.initializer}
    names = [name.removesuffix("_int8") for name in after if name.endswith("_int8")]
    assert len(names) > 20
    for name in names:
        scale = after[f"{name}_scale"]
        restored = after[f"{name}_int8"] * scale
        assert (np.abs(restored - before[name]) <= 0.5001 * scale).all()
