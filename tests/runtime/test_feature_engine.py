import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from nevus.data.cache import Cache
from nevus.data.preprocess import Preprocess
from nevus.data.transforms import normalize
from nevus.errors import NevusError
from nevus.models.model import build_backbone
from nevus.runtime import feature_engine as graph
from nevus.runtime.device import Device, to_device
from nevus.runtime.engines import run_batched
from nevus.runtime.feature_engine import TorchEngine, cached_graph, network_engine, openvino_model
from nevus.runtime.openvino_engine import BATCH, Compiled

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
TIMM = Preprocess(48, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def torch_output(net, preprocess, pixels=PIXELS):
    with torch.inference_mode():
        return net.eval()(normalize(pixels, preprocess)).numpy()


@pytest.mark.parametrize(
    ("name", "preprocess"), [("bit-r26x0.5", Preprocess(48)), ("timm/tf_efficientnet_lite0", TIMM)]
)
def test_both_engines_give_the_network_s_output_at_any_batch(name, preprocess, tmp_path, monkeypatch):
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))
    net = build_backbone(name, classes=0, seed=2)
    expected = torch_output(net, preprocess)
    scale = np.abs(expected).max()
    for made in (TorchEngine(net, preprocess), network_engine(net, preprocess)):
        assert np.abs(made(PIXELS) - expected).max() < 1e-4 * scale
        assert np.abs(run_batched(made, PIXELS, what="x", batch=2) - expected).max() < 1e-4 * scale


def test_a_network_that_was_trained_here_can_be_a_graph(tmp_path, monkeypatch):
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    expected = torch_output(net, Preprocess(48))
    to_device(net, Device(torch.device("cpu"), bf16=False))  # kernels of our own, which no graph can hold
    assert np.allclose(network_engine(net, Preprocess(48))(PIXELS), expected, atol=1e-4)


def test_graphs_are_cached_by_the_digest_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    first = Compiled(cached_graph(net, Preprocess(48)))(PIXELS)
    monkeypatch.setattr(graph, "openvino_model", None)  # must not be needed again
    assert np.array_equal(Compiled(cached_graph(net, Preprocess(48)))(PIXELS), first)
    monkeypatch.undo()
    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))
    net.stem.conv.weight.data[0, 0, 0, 0] += 0.5
    other = Compiled(cached_graph(net, Preprocess(48)))(PIXELS)
    assert np.allclose(other, torch_output(net, Preprocess(48)), atol=1e-4)
    assert not np.allclose(other, first)
    assert Cache().sizes()["graphs"][0] == 4  # two networks, with a graph and its weights each


def test_without_a_cache_the_graph_is_made_each_time(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("NEVUS_CACHE", str(blocked))
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    assert np.allclose(
        Compiled(cached_graph(net, Preprocess(48)))(PIXELS), torch_output(net, Preprocess(48)), atol=1e-4
    )


def test_the_engine_falls_back_to_torch_and_says_so(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setenv("NEVUS_CACHE", str(tmp_path))
    monkeypatch.setattr(graph, "openvino_model", broken)
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    assert isinstance(network_engine(net, Preprocess(48)), TorchEngine)
    assert "no such operation" in capsys.readouterr().err
    with pytest.raises(NevusError, match="bfloat16: no such operation. Leave precision=bf16 out"):
        network_engine(net, Preprocess(48), bf16=True)


def test_nothing_is_sent_home():
    """Whatever OpenVINO would tell its makers goes through one package, which is never loaded."""
    code = (
        "import sys\n"
        "from nevus.data.preprocess import Preprocess\n"
        "from nevus.models.model import build_backbone\n"
        "from nevus.runtime.feature_engine import openvino_model\n"
        "openvino_model(build_backbone('bit-r26x0.5'), Preprocess(32))\n"
        "print([m for m in sys.modules if m.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "[]"


def test_threads_and_float32_are_asked_for():
    net = build_backbone("bit-r26x0.5", classes=0)
    made = Compiled(openvino_model(net, Preprocess(32)), threads=1)
    assert made.setting("INFERENCE_NUM_THREADS") == "1"
    assert "f32" in made.setting("INFERENCE_PRECISION_HINT") or "float" in made.setting("INFERENCE_PRECISION_HINT")


@pytest.mark.parametrize("count", [0, 1, 8, 21])
def test_any_number_of_images_is_computed_in_batches_of_one_size(count):
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    pixels = np.random.default_rng(1).integers(0, 256, (count, 48, 48, 3), dtype=np.uint8)
    compiled = Compiled(openvino_model(net, Preprocess(48)), threads=2)
    for _ in range(2):  # what a run leaves behind has no part in the next
        assert np.allclose(compiled(pixels), torch_output(net, Preprocess(48), pixels), atol=1e-4)


def test_batches_of_large_images_and_of_many_threads_are_smaller():
    net = build_backbone("bit-r26x0.5", classes=0, seed=2)
    graph = openvino_model(net, Preprocess(48))
    assert Compiled(graph, threads=1).batch == BATCH
    assert Compiled(openvino_model(net, Preprocess(448)), threads=1).batch == 2
    assert Compiled(graph, threads=16).batch == 2  # else most of the threads had nothing to do
