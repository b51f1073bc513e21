import numpy as np
import scipy.special
import torch
from sklearn.metrics import log_loss

from nevus.training.losses import EMPHASIS, CrossEntropy, Distillation, SigmoidCrossEntropy

RNG = np.random.default_rng(0)
LOGITS = torch.from_numpy(RNG.normal(size=(6, 3)).astype(np.float32))
HARD = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 2, 1, 0]), 3).float()


def test_cross_entropy_against_scikit_learn():
    loss, score = CrossEntropy()(LOGITS, HARD)
    p = scipy.special.softmax(LOGITS.numpy().astype(np.float64), 1)
    assert np.isclose(loss.mean(), log_loss(HARD.argmax(1), p))
    assert score.tolist() == (LOGITS.argmax(1) == HARD.argmax(1)).float().tolist()


def test_sigmoid_cross_entropy_against_scikit_learn():
    loss, _ = SigmoidCrossEntropy()(LOGITS, HARD)
    p = scipy.special.expit(LOGITS.numpy().astype(np.float64))
    expected = [3 * log_loss(ys, qs, labels=[0, 1]) for ys, qs in zip(HARD.numpy(), p, strict=True)]
    assert np.allclose(loss, expected, atol=1e-5)


def test_distillation_is_the_distance_of_features_and_the_divergence_of_probabilities():
    outputs = torch.from_numpy(RNG.normal(size=(5, 7)).astype(np.float32))
    features = torch.from_numpy(RNG.normal(size=(5, 4)).astype(np.float32))
    p = torch.from_numpy(scipy.special.softmax(RNG.normal(size=(5, 3)), 1).astype(np.float32))
    p[0] = torch.tensor([1.0, 0.0, 0.0])  # 0 log 0 is 0
    loss, score = Distillation(4, weight=0.5, temperature=2.0)(outputs, torch.cat([features, p], 1))
    far = (outputs[:, :4] - features).numpy().astype(np.float64)
    distance = np.where(np.abs(far) < 1, far**2 / 2, np.abs(far) - 0.5).mean(1)
    ours = scipy.special.softmax(outputs[:, 4:].numpy().astype(np.float64) / 2, 1)
    divergence = scipy.special.rel_entr(p.numpy(), ours).sum(1)
    assert np.allclose(loss, EMPHASIS * distance + 0.5 * 4 * divergence, atol=1e-5)
    assert np.allclose(score, 1 - (far**2).mean(1), atol=1e-5)


def test_a_perfect_student_has_no_loss():
    p = torch.softmax(LOGITS, 1)
    targets = torch.cat([LOGITS, p], 1)
    loss, score = Distillation(3)(torch.cat([LOGITS, LOGITS + 7], 1), targets)
    assert torch.allclose(loss, torch.zeros(6), atol=1e-6)
    assert torch.allclose(score, torch.ones(6))
    loss, _ = Distillation(3)(LOGITS + 1, LOGITS)  # a teacher without probabilities
    assert torch.allclose(loss, torch.full((6,), 0.5 * EMPHASIS), atol=1e-6)
