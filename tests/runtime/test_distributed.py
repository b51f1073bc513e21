"""Two processes against one: real ones, started as torchrun starts them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from nevus.runtime.distributed import World

STEPS = 20


def train(phantoms, out, count, *flags):
    start = [sys.executable, "-m"]
    if count > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"]
    words = ["nevus", "train", phantoms, "--out", out, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, *map(str, words)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line], [
        line["validation_loss"] for line in lines if "validation_loss" in line
    ]


FULL = ["--tuning", "full", "--set", "image_size=64", "resize_size=80", "batch_size=16", f"steps={STEPS}"]
FULL += ["--set", "warmup_steps=5", "lr=0.001", "mixup=0.2", "eval_interval=10", "precision=fp32", "micro_batch_size=4"]
FULL += ["--set", "tta=none", "feature_stages=0"]
# Steps that are small for the network: else rounding alone grows tenfold from step to step.
PROBE = ["--preset", "fast", "--set", "image_size=32", "batch_size=9", f"steps={STEPS}", "mixup=0.2", "precision=fp32"]


@pytest.mark.parametrize(("flags", "count"), [(FULL, 2), (PROBE, 3)])
def test_losses_are_those_of_one_process(phantoms, tmp_path, flags, count):
    one, several = tmp_path / "one", tmp_path / "several"
    assert train(phantoms, one, 1, *flags).returncode == 0
    done = train(phantoms, several, count, *flags)
    assert done.returncode == 0, done.stderr
    (a, looked_a), (b, looked_b) = losses(one), losses(several)
    assert len(a) == len(b) == STEPS
    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)
    np.testing.assert_allclose(looked_b, looked_a, rtol=0, atol=1e-3)
    weights = [load_file(run / "bundle" / "model.safetensors") for run in (one, several)]
    assert weights[0].keys() == weights[1].keys()
    # One speaks for all.
    assert done.stderr.count("bundle: ") == 1
    if count == 2:  # a finished run says so, whoever asks
        assert train(phantoms, several, count, *flags, "--resume").returncode == 0


def test_a_fault_is_told(phantoms, tmp_path):
    done = train(phantoms, tmp_path / "run", 2, *FULL, "--set", "batch_size=1")
    assert done.returncode != 0
    assert "the batch has 1 images" in done.stderr
    assert 'Traceback (most recent call last):\n  File "/work' not in done.stderr.split("nevus: ")[0]


def test_alone_is_the_whole():
    alone = World()
    assert alone.main
    assert alone.shard(7) == slice(0, 7)
    assert alone.all_reduce_sum(1.5, 2.0) == [1.5, 2.0]
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(alone.all_gather_rows(3, lambda part: rows[part]), rows)


@pytest.mark.parametrize(("n", "count"), [(10, 3), (2, 2), (7, 7), (100, 8)])
def test_parts_cover_everything_once(n, count):
    parts = []
    for index in range(count):
        one = World()
        one.count, one.index = count, index
        parts += list(range(n))[one.shard(n)]
    assert parts == list(range(n))
