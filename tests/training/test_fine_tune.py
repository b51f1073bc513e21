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
from nevus.training.fine_tune import C, WarmStartHead
from nevus.training.preparation import Preparation
from nevus.training.trainer import Trainer


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
    with WarmStartHead.fit(x, y, weights).attached(head), torch.no_grad():
        inside = torch.softmax(head(torch.from_numpy(x)), 1).numpy()
    with torch.no_grad():
        after = torch.softmax(head(torch.from_numpy(x)), 1).numpy()
    np.testing.assert_allclose(inside, expected, atol=1e-4)
    np.testing.assert_allclose(after, expected, atol=1e-4)  # it has taken the standardization into its weights
    assert not head._forward_pre_hooks


STILL = {
    "resize_size": 32,
    "image_size": 32,
    "steps": 6,
    "lr": 1e-6,
    "batch_size": 8,
    "eval_interval": 3,
    "ema_decay": 0.0,
    "tta": "none",
}


@pytest.mark.parametrize("stages", [0, 2])
def test_fine_tuning_starts_from_the_linear_probe(phantoms, tmp_path, stages):
    """With steps that move nothing, what is saved is the probe on the backbone as it was."""
    trainer = Trainer(
        backbone="bit-r26x0.5",
        overrides={**STILL, "feature_stages": stages, "pooling": "avg"},
        preparation=Preparation(check_duplicates=False),
    )
    trainer.fit(read(phantoms), tmp_path / "run")
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.provenance["config"]["tuning"] == "lp-ft"
    train = read(tmp_path / "run" / "manifest.parquet").with_classes(bundle.classes).split("train")
    p = Classifier(bundle).predict_proba(train.paths)
    assert np.abs(p - 0.5).max() > 0.05  # a zero head predicts 0.5 everywhere
    assert (p.argmax(1) == train.targets).mean() > 0.7


@pytest.mark.parametrize("override", [{"tuning": "lp-ft"}, {"tta": "d4"}, {"feature_stages": 2}])
def test_pretraining_refuses_what_is_for_fine_tuning(override):
    with pytest.raises(NevusError, match="it is for fine-tuning"):
        upstream("paper", 100, 32, overrides=override)
    with pytest.raises(NevusError, match="it is for fine-tuning"):
        distillation(100, 32, 64, overrides=override)
