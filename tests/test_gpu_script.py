"""The GPU script with small sizes on the CPU: its checks pass, and find what they look for."""

import numpy as np
import pytest
import torch
from benchmarks import gpu

from nevus.runtime.device import Device

CPU = torch.device("cpu")


def test_the_checks_pass_on_the_cpu():
    assert gpu.agreement(CPU, 32)["ok"]
    found = gpu.resumed(Device(CPU, bf16=False), 32)
    assert found["ok"]
    assert found["value"] == 0


def test_a_device_with_other_probabilities_is_found(monkeypatch):
    engine = gpu.TorchEngine

    def wrong(network, preprocess, where):
        made = engine(network, preprocess, CPU)
        return made if where == CPU else lambda pixels: made(pixels) + np.array([0.0, 0.1], np.float32)

    monkeypatch.setattr(gpu, "TorchEngine", wrong)
    assert not gpu.agreement(torch.device("meta"), 32)["ok"]


def test_a_resumed_training_that_differs_is_found(monkeypatch):
    train, calls = gpu.train, []

    def other(network, *words, **more):
        calls.append(1)
        made = train(network, *words, **more)
        if len(calls) == 3:  # the whole training, the interrupted one, and the one that goes on
            with torch.no_grad():
                made.head.bias.add_(1e-3)
        return made

    monkeypatch.setattr(gpu, "train", other)
    assert not gpu.resumed(Device(CPU, bf16=False), 32)["ok"]
    assert len(calls) == 3


def test_steps_are_measured_against_timm():
    rows = gpu.training(gpu.TINY[0], CPU, bf16=False, compiled=False, seconds=0.0)
    assert [row["system"] for row in rows] == ["nevus", "timm NCHW", "timm NHWC"]
    best = max(row["value"] for row in rows[1:])
    assert all(row["over_timm"] == pytest.approx(row["value"] / best) for row in rows)
    assert all(row["value"] > 0 for row in rows)


def test_results_are_kept_from_a_gpu_alone(monkeypatch):
    monkeypatch.setattr("sys.argv", ["gpu", "--tiny", "--keep"])
    with pytest.raises(SystemExit, match="real runs on a GPU only"):
        gpu.main()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    with pytest.raises(SystemExit, match="finds no NVIDIA GPU"):
        gpu.main()
