import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nevus.data.preprocess import Preprocess
from nevus.training.batches import (
    FeatureBatches,
    ImageBatches,
    SoftLabels,
    mixup,
    sample_mixup,
    soft_labels,
    step_indices,
)
from nevus.training.config import DatasetStats
from nevus.training.overrides import make_config


def recipe(**changes):
    return make_config("hyperrule", DatasetStats(20, 1e5, 32), {"image_size": 32, "resize_size": 40, **changes})


@settings(max_examples=60, deadline=None)
@given(images=st.integers(1, 50), batch=st.integers(1, 70), seed=st.integers(0, 5))
def test_every_image_once_an_epoch(images, batch, seed):
    steps = -(-3 * images // batch)
    rows = np.concatenate([step_indices(images, batch, seed, step) for step in range(steps)])
    for epoch in range(3):
        assert sorted(rows[epoch * images : (epoch + 1) * images]) == list(range(images))


def test_orders_differ_by_epoch_and_seed():
    one, two = step_indices(100, 100, 0, 0), step_indices(100, 100, 0, 1)
    assert not np.array_equal(one, two)
    assert not np.array_equal(one, step_indices(100, 100, 1, 0))


def test_a_batch_is_a_function_of_seed_and_step():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    labels = soft_labels(np.arange(20) % 2, 2, 0.0)
    r = recipe(batch_size=8, mixup=0.4)
    one, other = (ImageBatches(pixels, labels, r, Preprocess(32), 7) for _ in range(2))
    other(0), other(3)
    torch.manual_seed(0)
    for a, b in zip(one(5), other(5), strict=True):
        assert torch.equal(a, b)
    x, y = one(5)
    assert x.shape == (8, 3, 32, 32)
    assert x.abs().max() <= 1
    assert torch.allclose(y.sum(1), torch.ones(8))
    assert not torch.equal(x, one(6)[0])


def test_soft_labels_by_row_are_those_of_all_at_once():
    targets = np.array([0, 2, 1, 2])
    rows = np.array([3, 0, 3])
    assert torch.equal(SoftLabels(targets, 3, 0.3)[rows], soft_labels(targets, 3, 0.3)[rows])


def test_soft_labels():
    found = soft_labels(np.array([0, 2]), 3, 0.3)
    assert torch.allclose(found, torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]))


def whole(x, y, alpha, rng):
    share, partners = sample_mixup(len(x), alpha, rng)
    return mixup(x, y, share, torch.arange(len(x)), torch.from_numpy(partners))


def test_mixup_mixes_images_and_labels_by_one_share():
    x = torch.arange(6.0).view(6, 1) * 10
    y = torch.eye(6)
    for seed in range(20):
        mx, my = whole(x, y, 0.5, np.random.default_rng(seed))
        assert torch.allclose(mx, my @ x)  # each row is the same combination of images as of labels
        shares = {round(float(v), 5) for v in my.flatten() if 0 < v < 1}
        assert len(shares) <= 2
        assert abs(sum(shares) - 1) < 1e-4 or not shares
        assert torch.allclose(my.sum(0), torch.ones(6))  # a permutation: each image is used twice
    assert torch.equal(whole(x, y, 0.0, np.random.default_rng(0))[0], x)


def test_feature_batches():
    features = torch.randn(10, 4)
    batches = FeatureBatches(features, soft_labels(np.arange(10) % 2, 2, 0), recipe(batch_size=10), 1)
    x, y = batches(0)
    rows = step_indices(10, 10, 1, 0)
    assert torch.equal(x, features[rows])
    assert y.argmax(1).tolist() == [r % 2 for r in rows]


def test_each_image_in_a_step_has_one_of_its_views():
    features = torch.arange(3.0)[:, None, None] * 100 + torch.arange(10.0)[None, :, None].expand(3, 10, 2)
    batches = FeatureBatches(features, soft_labels(np.arange(10) % 2, 2, 0), recipe(batch_size=10), 1)
    seen = set()
    for step in range(12):
        x, _ = batches(step)
        assert torch.equal(x[:, 0] % 100, torch.from_numpy(step_indices(10, 10, 1, step)).float())
        assert torch.equal(x, batches(step)[0])
        assert torch.equal(x[2:5], batches(step, slice(2, 5))[0])
        seen |= {(int(v) // 100, int(v) % 100) for v in x[:, 0]}
    assert len(seen) == 30


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.sampled_from([0.0, 0.3]), st.integers(0, 5))
def test_parts_make_up_the_global_batch(batch, current_world, mixup, step):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), dtype=np.uint8)
    r = recipe(batch_size=batch, mixup=mixup, image_size=32, resize_size=40)
    labels = soft_labels(np.arange(7) % 2, 2, 0)
    batches = ImageBatches(pixels, labels, r, Preprocess(32), 3)
    x, y = batches(step)
    bounds = [batch * i // current_world for i in range(current_world + 1)]
    parts = [batches(step, slice(*pair)) for pair in itertools.pairwise(bounds) if pair[0] < pair[1]]
    assert torch.equal(torch.cat([p[0] for p in parts]), x)
    assert torch.equal(torch.cat([p[1] for p in parts]), y)
