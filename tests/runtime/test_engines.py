import numpy as np
import pytest
import torch

from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.registry import build_backbone
from nevus.runtime import engines as inference
from nevus.runtime import openvino_engine as graph
from nevus.runtime.device import Device, device
from nevus.runtime.engines import TorchEngine, run_batched, softmax


def test_engine_gives_the_network_s_output():
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    engine = TorchEngine(net, Preprocess(32))
    with torch.inference_mode():
        expected = net.eval()(Preprocess(32).tensor(pixels)).numpy()
    assert np.allclose(engine(pixels), expected, atol=1e-4)
    assert np.allclose(run_batched(engine, pixels, what="x", batch=2), expected, atol=1e-4)


def test_softmax_against_torch():
    logits = np.array([[1.0, 2.0, -3.0], [1000.0, 0.0, 999.0]], np.float32)
    expected = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    assert np.allclose(softmax(logits), expected)
    assert np.allclose(softmax(logits).sum(1), 1)


def test_bfloat16_is_refused_where_the_cpu_has_none(monkeypatch):
    net = build_backbone("bit-r26x0.5", classes=2, seed=0)
    monkeypatch.setattr(inference, "has_bf16", lambda _: False)
    with pytest.raises(NevusError, match="--engine openvino"):
        inference.make_engine(net, Preprocess(32), name="openvino-bf16")
    with pytest.raises(NevusError, match="bfloat16; leave --precision bf16 out"):
        inference.feature_engine(net, inference.make_engine(net, Preprocess(32)), "bf16")


def test_bfloat16_is_asked_for_and_nothing_but_where_it_is_named(monkeypatch, bf16_asked):
    net = build_backbone("bit-r26x0.5", classes=2, seed=0)
    asked = bf16_asked(graph)
    monkeypatch.setattr(inference, "has_bf16", lambda _: True)
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    for name in ("openvino-bf16", "openvino", "auto"):
        assert inference.make_engine(net, Preprocess(32), name=name)(pixels).shape == (2, 2)
    assert asked == [True, False, False]
    asked.clear()
    for precision in ("bf16", "fp32", "auto"):
        assert inference.feature_engine(net, inference.make_engine(net, Preprocess(32)), precision)(pixels).shape == (2, 2)
    assert asked == [False, True, False, False]  # what computes exactly is not made twice


def test_precision_can_be_insisted_on():
    assert device("bf16").bf16
    assert not device("fp32").bf16
    assert isinstance(device("auto").bf16, bool)
    with Device(torch.device("cpu"), True).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with Device(torch.device("cpu"), False).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
