import numpy as np
import torch

from nevus.data.preprocess import Preprocess
from nevus.models.registry import network
from nevus.runtime.device import Device, device
from nevus.runtime.inference import TorchEngine, many, softmax


def test_engine_gives_the_network_s_output():
    net = network("bit-r26x0.5", classes=0, seed=2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    engine = TorchEngine(net, Preprocess(32))
    with torch.inference_mode():
        expected = net.eval()(Preprocess(32).tensor(pixels)).numpy()
    assert np.allclose(engine(pixels), expected, atol=1e-4)
    assert np.allclose(many(engine, pixels, what="x", batch=2), expected, atol=1e-4)


def test_softmax_against_torch():
    logits = np.array([[1.0, 2.0, -3.0], [1000.0, 0.0, 999.0]], np.float32)
    expected = torch.softmax(torch.from_numpy(logits).double(), 1).numpy()
    assert np.allclose(softmax(logits), expected)
    assert np.allclose(softmax(logits).sum(1), 1)


def test_precision_can_be_insisted_on():
    assert device("bf16").bf16
    assert not device("fp32").bf16
    assert isinstance(device("auto").bf16, bool)
    with Device(torch.device("cpu"), True).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with Device(torch.device("cpu"), False).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
