import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.pretraining.recipes import distillation, upstream
from nevus.training.config import DatasetStats
from nevus.training.linear_probe import C, WarmStartHead
from nevus.training.overrides import Overrides, make_config
from nevus.training.preparation import Preparation
from nevus.training.trainer import BiT


def fake(classes, n=60, width=12):
    rng = np.random.default_rng(classes)
    y = np.arange(n) % classes
    x = rng.normal(size=(n, width)) * rng.uniform(0.1, 50, width) + rng.normal(size=width) * 30
    x[:, :classes] += 40 * np.eye(classes)[y]
    return x.astype(np.float32), y


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_says_what_scikit_learn_s_says(classes):
    x, y = fake(classes)
    weights = np.linspace(0.5, 1.5, len(y))
    oracle = LogisticRegression(C=C, max_iter=1000)
    standard = (x - x.mean(0)) / x.std(0)
    expected = oracle.fit(standard, y, sample_weight=weights).predict_proba(standard)
    head = nn.Linear(x.shape[1], classes)
    with WarmStartHead.of(x, y, weights).begun(head), torch.no_grad():
        inside = torch.softmax(head(torch.from_numpy(x)), 1).numpy()
    with torch.no_grad():
        after = torch.softmax(head(torch.from_numpy(x)), 1).numpy()
    np.testing.assert_allclose(inside, expected, atol=1e-4)
    np.testing.assert_allclose(after, expected, atol=1e-4)  # it has taken the standardization into its weights
    assert not head._forward_pre_hooks


def test_a_head_that_is_a_convolution_is_begun_alike():
    x, y = fake(3)
    probe = WarmStartHead.of(x, y, np.ones(len(y)))
    line, cross = nn.Linear(x.shape[1], 3), nn.Conv2d(x.shape[1], 3, 1)
    images = torch.from_numpy(x)
    with probe.begun(line), probe.begun(cross), torch.no_grad():
        assert torch.allclose(line(images), cross(images[:, :, None, None]).flatten(1), atol=1e-4)
    with torch.no_grad():
        assert torch.allclose(line(images), cross(images[:, :, None, None]).flatten(1), atol=1e-3)


CHANGES = Overrides(resize=32, side=32, steps=6, lr=1e-6, batch=8, evaluate_every=3, probe=True, average=0.0)


@pytest.mark.parametrize("taps", [0, 2])
def test_a_training_begins_with_the_head_of_the_frozen_trunk(phantoms, tmp_path, taps):
    """With steps that move nothing, what is saved is that head on the trunk as it was."""
    method = BiT(backbone="bit-r26x0.5", taps=taps, changes=CHANGES, preparation=Preparation(audit=False))
    method.fit(read(phantoms), tmp_path / "run")
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.provenance["recipe"]["probe"]
    shown = read(tmp_path / "run" / "manifest.parquet").with_classes(bundle.classes).split("train")
    p = Classifier(bundle).predict_proba(shown.paths)
    assert np.abs(p - 0.5).max() > 0.05  # a head of zeros says a half of everything
    assert (p.argmax(1) == shown.targets).mean() > 0.7


def test_killed_and_resumed_it_ends_with_the_same_bits(phantoms, tmp_path, monkeypatch):
    from nevus.training import loop

    method = BiT(backbone="bit-r26x0.5", changes=CHANGES, preparation=Preparation(audit=False))
    method.fit(read(phantoms), tmp_path / "whole")
    calls, real = [], loop.gradients

    def breaking(*args):
        calls.append(1)
        if len(calls) == 7:  # two of them announce the time
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(loop, "gradients", breaking)
    with pytest.raises(KeyboardInterrupt):
        method.fit(read(phantoms), tmp_path / "broken")
    monkeypatch.setattr(loop, "gradients", real)
    method.fit(read(phantoms), tmp_path / "broken", resume=True)
    whole, broken = (load_bundle(tmp_path / name / "bundle").network.state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_what_has_nothing_to_probe_refuses_it():
    changes = Overrides(probe=True)
    with pytest.raises(NevusError, match="--probe"):
        make_config("default", DatasetStats(100, 100.0, 32), "head", changes=changes)
    with pytest.raises(NevusError, match="--probe is for fine-tuning"):
        upstream("paper", 100, 32, changes=changes)
    with pytest.raises(NevusError, match="--probe is for fine-tuning"):
        distillation(100, 32, 64, changes=changes)
