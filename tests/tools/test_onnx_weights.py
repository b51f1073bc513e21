"""Weights in 8 bits against the network in float32."""

import numpy as np
import onnx
from onnx import numpy_helper
from tests.helpers import small_network
from tools.onnx_weights import store_weights

from nevus.bundle.bundle import load_bundle
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import OnnxEngine
from nevus.runtime.onnx_model import write_onnx


def test_the_file_is_smaller_and_the_logits_are_nearly_the_same(tmp_path, picture):
    bundle = load_bundle("lesion-7")
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    write_onnx(bundle.load_network(), bundle.spec, plain)
    pixels = np.stack([np.asarray(picture(192, 192, seed)) for seed in range(8)])
    before = OnnxEngine(plain)(pixels)
    for bits, share, limit in ((8, 0.3, 0.1), (16, 0.55, 0.005)):
        store_weights(plain, small, bits)
        assert small.stat().st_size < share * plain.stat().st_size
        after = OnnxEngine(small)(pixels)
        assert 0 < np.abs(before - after).max() < limit * before.std()


def test_each_weight_is_within_half_a_step_of_its_channel(tmp_path):
    spec = ModelSpec("bit-r26x0.5", ("benign", "malignant"), image_size=32)
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    write_onnx(small_network(spec), spec, plain)
    store_weights(plain, small, 8)
    before = {one.name: numpy_helper.to_array(one) for one in onnx.load(plain).graph.initializer}
    after = {one.name: numpy_helper.to_array(one) for one in onnx.load(small).graph.initializer}
    names = [name.removesuffix("_int8") for name in after if name.endswith("_int8")]
    assert len(names) > 20
    for name in names:
        scale = after[f"{name}_scale"]
        restored = after[f"{name}_int8"] * scale
        assert (np.abs(restored - before[name]) <= 0.5001 * scale).all()
