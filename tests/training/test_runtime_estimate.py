"""How long a training would take: by a clock that the work itself moves on."""

from dataclasses import replace

import pytest

from nevus.models.spec import ModelSpec
from nevus.training import runtime_estimate as timing
from nevus.training.config import DatasetStats
from nevus.training.overrides import make_config

STATS = DatasetStats(1000, 128 * 128, 32)


@pytest.fixture
def work(monkeypatch):
    """What is measured, as (images, side): an image takes a millisecond, a call two beside, a file 250."""
    done = []

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()

    def images_of(n, image_size):
        done.append((n, image_size))
        clock.now += 0.002 + 0.001 * n

    class Engine:
        def __init__(self, *_args):
            pass

        def __call__(self, pixels):
            images_of(*pixels.shape[:2])

    def gradients(_net, x, y, *_args):
        assert len(x) == len(y)
        images_of(len(x), x.shape[-1])

    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(timing, "TorchEngine", Engine)
    monkeypatch.setattr(timing, "network_engine", lambda *_args, **_more: Engine())
    monkeypatch.setattr(timing, "feature_engine", lambda *_args: Engine())
    monkeypatch.setattr(timing, "gradients", gradients)

    def save_tensors(path, tensors, _notes):
        assert path.parent.is_dir()
        assert sum(t.numel() for t in tensors.values()) > 3e6
        clock.now += 0.25

    monkeypatch.setattr(timing, "save_tensors", save_tensors)
    return done


def config(tuning, **changes):
    overrides = {"tuning": tuning, "image_size": 32, "tta": "none", "feature_stages": 0}
    return replace(make_config("best", STATS, overrides), **changes)


def expected(wanted):
    spec = ModelSpec("bit-r26x0.5", ("a", "b"), image_size=32)
    return timing.estimate_seconds(wanted, spec, STATS.images)


def test_a_step_is_measured_with_as_many_images_as_it_will_have(work):
    full = config("full", batch_size=64, micro_batch_size=0, steps=101, eval_interval=50)
    each, looked = 0.001 + 0.002 / 64, 0.001 + 0.002 / timing.INFERENCE_BATCH_SIZE
    looks = 3 * 0.15 * 1000 + 1150
    written = 3 * 4 * 0.25  # the best weights, and a checkpoint of three times their size
    assert expected(full) == pytest.approx(101 * 64 * each + looks * looked + written)
    assert {(64, 32), (timing.INFERENCE_BATCH_SIZE, 32)} <= set(work)
    work.clear()
    expected(replace(full, micro_batch_size=16))
    assert max(n for n, _ in work) == timing.INFERENCE_BATCH_SIZE
    assert (16, 32) in work


def test_of_slow_networks_a_few_images_are_measured(work, monkeypatch):
    monkeypatch.setattr(timing, "PATIENCE", 0.02)
    expected(config("full", batch_size=64, micro_batch_size=0))
    assert {n for n, _ in work} == {timing.SAMPLE}


def test_a_head_counts_every_view(work):
    once = expected(config("linear-probe"))
    each = 0.001 + 0.002 / timing.INFERENCE_BATCH_SIZE
    assert once == pytest.approx(1150 * each)
    assert expected(config("linear-probe", tta="flip")) == pytest.approx((1000 + 2 * 150) * each)
    assert expected(config("linear-probe", tta="flip", probe_on="views")) == pytest.approx(2 * once)
    assert expected(config("linear-probe", augmented_copies=3)) == pytest.approx(once + 3000 * each)
    assert (timing.INFERENCE_BATCH_SIZE, 32) in work
