import math

import numpy as np
import pytest
import torch
from torch import nn

from nevus.errors import NevusError
from nevus.models.model import build_backbone
from nevus.runtime.device import Device
from nevus.training.config import DatasetStats
from nevus.training.loop import ValidationResult, gradients, train
from nevus.training.losses import CrossEntropy
from nevus.training.overrides import make_config
from nevus.training.run_dir import RunDir

CPU = Device(torch.device("cpu"), bf16=False)


def recipe(**changes):
    base = {
        "tuning": "full",
        "batch_size": 8,
        "steps": 12,
        "warmup_steps": 2,
        "eval_interval": 4,
        "lr": 0.05,
        "precision": "fp32",
    }
    return make_config("best", DatasetStats(24, 1e5, 32), {**base, **changes})


def data(seed=0, n=24):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=generator)
    return x, (x[:, 0] + 0.3 * x[:, 1] > 0).long()


def batches(step, part=slice(None)):
    x, y = data()
    rows = torch.from_numpy(np.random.default_rng(step).permutation(len(x))[:8])
    return x[rows][part], nn.functional.one_hot(y[rows], 2).float()[part]


def judge(net):
    x, y = data(1)
    with torch.inference_mode():
        logits = net(x)
    return ValidationResult(
        float(nn.functional.cross_entropy(logits, y)), float((logits.argmax(1) == y).float().mean())
    )


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2))


def fit(folder, r, *, batches=batches, resume=False, net=None):
    with RunDir.open(folder, {"r": str(r)}, resume=resume) as run:
        return train(net or small(), batches, judge, r, run, CPU, images=24, objective=CrossEntropy())


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_logs(tmp_path):
    fit(tmp_path / "run", recipe(steps=60))
    with RunDir.open(tmp_path / "run", {"r": str(recipe(steps=60))}, resume=True) as run:
        lines = run.metrics()
    steps = [line for line in lines if "loss" in line]
    looks = [line for line in lines if "validation_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 61))
    assert [line["step"] for line in looks] == list(range(4, 61, 4))
    assert looks[-1]["validation_loss"] < 0.5 * math.log(2)
    assert looks[-1]["epoch"] == pytest.approx(60 * 8 / 24)
    assert list((tmp_path / "run" / "tensorboard").iterdir())


@pytest.mark.parametrize("stop", [1, 4, 5, 11])
@pytest.mark.parametrize(
    "extra", [{}, {"ema_decay": 0.9, "nesterov": True, "clip_grad_norm": 0.5, "checkpoint": "last"}]
)
def test_interrupted_and_resumed_ends_with_the_same_bits(tmp_path, stop, extra):
    whole = fit(tmp_path / "whole", recipe(**extra))

    def breaking(step, part):
        if step == stop:
            raise KeyboardInterrupt
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", recipe(**extra), batches=breaking)
    resumed = fit(tmp_path / "broken", recipe(**extra), resume=True)
    assert same(whole, resumed)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "broken")]
    strip = [[line.split('"images_per_second"')[0] for line in log] for log in logs]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_micro_batches_add_up_to_the_batch(size):
    net = build_backbone("bit-r26x0.5", classes=2, seed=0)
    nn.init.normal_(net.get_classifier().weight, generator=torch.Generator().manual_seed(0))
    net.double()  # in float32 a rounding may move a value over ReLU's kink, and the gradient jumps
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, 32, 32, generator=generator).double(), torch.rand(8, 2, generator=generator).softmax(1)
    weights = torch.tensor([0.5, 1.5])
    found = {}
    for micro in (0, size):
        net.zero_grad()
        loss, accuracy = gradients(net, x, y, recipe(micro_batch_size=micro), CPU, CrossEntropy(weights))
        found[micro] = (loss, accuracy, torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert found[0][0] == pytest.approx(found[size][0], rel=1e-4)
    assert found[0][1] == found[size][1]
    assert (found[0][2] - found[size][2]).norm() < 1e-4 * found[0][2].norm()


def test_class_weights_weigh_the_loss():
    net = small()
    x = torch.randn(4, 5)
    y = nn.functional.one_hot(torch.tensor([0, 0, 0, 1]), 2).float()
    loss, _ = gradients(net, x, y, recipe(batch_size=4), CPU, CrossEntropy(torch.tensor([2 / 3, 2.0])))
    expected = nn.functional.cross_entropy(
        net(x), torch.tensor([0, 0, 0, 1]), weight=torch.tensor([2 / 3, 2.0]), reduction="sum"
    )
    assert loss == pytest.approx(float(expected.detach()) / 4, rel=1e-5)


def test_best_weights_are_kept(tmp_path):
    judged = iter([0.9, 0.2, 0.7])
    seen = []

    def scripted(net):
        seen.append([v.clone() for v in net.state_dict().values()])
        return ValidationResult(next(judged), 0.5)

    with RunDir.open(tmp_path / "run", {}) as run:
        kept = train(small(), batches, scripted, recipe(), run, CPU, images=24, objective=CrossEntropy())
    assert all(torch.equal(a, b) for a, b in zip(kept.state_dict().values(), seen[1], strict=True))


def test_average_follows_the_weights(tmp_path):
    seen = []

    def watching(net):
        seen.append(net.state_dict()["0.weight"].clone())
        return ValidationResult(1.0, 0.5)

    net = small()
    with RunDir.open(tmp_path / "run", {}) as run:
        r = recipe(ema_decay=0.5, eval_interval=1, steps=4, checkpoint="last")
        train(net, batches, watching, r, run, CPU, images=24, objective=CrossEntropy())
    plain = []
    with RunDir.open(tmp_path / "plain", {}) as run:

        def watch_plain(n):
            plain.append(n.state_dict()["0.weight"].clone())
            return ValidationResult(1.0, 0.5)

        r = recipe(eval_interval=1, steps=4, checkpoint="last")
        train(small(), batches, watch_plain, r, run, CPU, images=24, objective=CrossEntropy())
    expected = small().state_dict()["0.weight"]
    for step, weight in enumerate(plain):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        assert torch.allclose(seen[step], expected, atol=1e-6)


def test_a_loss_that_is_not_finite_is_told(tmp_path):
    def poisoned(step, part):
        x, y = batches(step, part)
        return (x * float("nan") if step == 3 else x), y

    with pytest.raises(NevusError, match="the loss is nan at step 4. Lower lr"):
        fit(tmp_path / "run", recipe(), batches=poisoned)


def test_a_long_training_is_announced(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nevus.training.loop.LONG", 0.0)
    fit(tmp_path / "run", recipe())
    assert "training: 12 steps of 8 images" in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_validation_loss_that_is_not_finite_is_told(tmp_path, keep):
    """The last update can break the weights after the last finite training loss."""
    with (
        RunDir.open(tmp_path / "run", {}) as run,
        pytest.raises(NevusError, match="the validation loss is nan at step 4"),
    ):
        train(
            small(),
            batches,
            lambda _: ValidationResult(float("nan"), 0.5),
            recipe(checkpoint=keep),
            run,
            CPU,
            images=24,
            objective=CrossEntropy(),
        )
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_damaged_checkpoints_are_told(tmp_path):
    fit(tmp_path / "run", recipe())
    other = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 2))
    with pytest.raises(NevusError, match="is of another network"):
        fit(tmp_path / "run", recipe(), resume=True, net=other)
    (tmp_path / "run" / "best.safetensors").unlink()
    with pytest.raises(NevusError, match="best.safetensors.: it is missing"):
        fit(tmp_path / "run", recipe(), resume=True)
