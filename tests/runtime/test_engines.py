import numpy as np
import pytest
import torch

from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.errors import NevusError
from nevus.models.model import build_backbone
from nevus.runtime import feature_engine as features
from nevus.runtime import openvino_engine
from nevus.runtime.device import Device, device
from nevus.runtime.engines import OnnxEngine, cpu_threads, file_engine, run_batched, softmax
from nevus.runtime.feature_engine import TorchEngine, feature_engine, network_engine


def test_an_engine_gives_the_network_s_output():
    net = build_backbone("bit-r26x0.5", seed=2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    engine = TorchEngine(net, Preprocess(32))
    with torch.inference_mode():
        expected = net.eval()(normalize(pixels, Preprocess(32))).numpy()
    assert np.allclose(engine(pixels), expected, atol=1e-4)
    assert np.allclose(run_batched(engine, pixels, what="x", batch=2), expected, atol=1e-4)


def test_softmax_against_torch():
    logits = np.array([[1.0, 2.0, -3.0], [1000.0, 0.0, 999.0]], np.float32)
    expected = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    assert np.allclose(softmax(logits), expected)
    assert np.allclose(softmax(logits).sum(1), 1)


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cpu_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert cpu_threads() >= 1


def test_a_damaged_model_file_is_one_sentence(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(NevusError, match=r"Cannot load .*model.onnx") as caught:
        file_engine(tmp_path / "model.onnx", "onnx")
    assert "\n" not in str(caught.value)


def test_bfloat16_is_refused_where_the_cpu_has_none(monkeypatch, bundle_folder):
    net = build_backbone("bit-r26x0.5", seed=0)
    monkeypatch.setattr(features, "has_bf16", lambda _: False)
    monkeypatch.setattr(openvino_engine, "cpu_has_bf16", lambda: False)
    with pytest.raises(NevusError, match="--engine openvino"):
        file_engine(bundle_folder / "model.onnx", "openvino-bf16")
    with pytest.raises(NevusError, match="Leave precision=bf16 out"):
        feature_engine(net, Preprocess(32), TorchEngine(net, Preprocess(32)), "bf16")


def test_bfloat16_is_used_only_where_it_is_named(monkeypatch, bf16_asked, bundle_folder):
    net = build_backbone("bit-r26x0.5", seed=0)
    asked = bf16_asked(openvino_engine)
    monkeypatch.setattr(openvino_engine, "cpu_has_bf16", lambda: True)
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    for name in ("openvino-bf16", "openvino"):
        assert file_engine(bundle_folder / "model.onnx", name)(pixels).shape == (2, 2)
    assert asked == [True, False]
    asked = bf16_asked(features)
    monkeypatch.setattr(features, "has_bf16", lambda _: True)
    for precision in ("bf16", "fp32", "auto"):
        exact = network_engine(net, Preprocess(32))
        assert feature_engine(net, Preprocess(32), exact, precision)(pixels).shape == (2, 1024)
    assert asked == [False, True, False, False]  # what computes exactly is not made twice


def test_precision_can_be_asked_for():
    assert device("bf16").bf16
    assert not device("fp32").bf16
    assert isinstance(device("auto").bf16, bool)
    with Device(torch.device("cpu"), True).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with Device(torch.device("cpu"), False).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_each_image_is_computed_alone_and_in_order(bundle_folder):
    engine = OnnxEngine(bundle_folder / "model.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    together = engine.outputs(pixels, engine.output_names)
    for row in range(len(pixels)):
        alone = engine.outputs(pixels[row : row + 1], engine.output_names)
        for whole, one in zip(together, alone, strict=True):
            assert np.array_equal(whole[row : row + 1], one)
