import json

import numpy as np
import pytest

from nevus.cli.main import main
from nevus.errors import NevusError
from nevus.models.checkpoint import read_backbone
from nevus.pretraining.common import held_out
from nevus.pretraining.recipes import upstream
from nevus.training.config import learning_rate

SMALL = ["--set", "batch_size=8", "--set", "image_size=32", "--set", "resize_size=36", "--set", "precision=fp32"]


def test_the_paper_s_upstream():
    """Printed: 50 epochs, learning rate 0.03 x batch/512, divided by 10 at 20, 30 and 40, no weight decay."""
    r = upstream("paper", 51_200, 224)
    assert (r.batch_size, r.steps, r.weight_decay, r.momentum) == (512, 5000, 0.0, 0.9)
    rates = [learning_rate(r, 100 * epoch + 50) for epoch in (0, 19, 20, 29, 30, 39, 40, 49)]
    assert np.allclose(rates, [0.03, 0.03, 0.003, 0.003, 3e-4, 3e-4, 3e-5, 3e-5])
    half = upstream("paper", 51_200, 224, overrides={"batch_size": 256})
    assert (half.steps, half.lr, half.lr_milestones) == (10_000, 0.015, (4000, 6000, 8000))


def test_the_authors_upstream():
    """Kolesnikov et al. 2020: 90 epochs, decays at 30, 60, 80, weight decay 1e-4, batch 4096, 0.03 x batch/256."""
    r = upstream("authors", 1_281_167, 224)
    assert r.steps == 28_151
    assert r.lr == pytest.approx(0.48)
    assert np.allclose(np.array(r.lr_milestones) / r.steps * 90, (30, 60, 80), atol=0.01)
    assert r.weight_decay == 1e-4
    assert r.warmup_steps == pytest.approx(5000, abs=2)
    assert r.micro_batch_size == 64
    short = upstream("authors", 1_281_167, 224, epochs=9)
    assert np.allclose(np.array(short.lr_milestones) / short.steps * 90, (30, 60, 80), atol=0.1)
    with pytest.raises(NevusError, match="Choose one of paper, authors"):
        upstream("mine", 100, 224)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_trunk_is_trained_and_fine_tuned_from(phantoms, tmp_path, capsys, loss):
    run = tmp_path / "run"
    words = ["pretrain", str(phantoms), "--out", str(run), "--epochs", "2", "--loss", loss, *SMALL]
    assert main(words) == 0
    assert "accuracy of held-out images" in capsys.readouterr().err
    _, about = read_backbone(run / "backbone.safetensors")
    assert about["loss"] == loss
    assert about["license"].startswith("Apache-2.0")  # of phantoms
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_loss"] == pytest.approx(about["judged"]["loss"], abs=1e-4)
    assert (run / "curves.png").stat().st_size > 5000
    assert main(words) == 2  # a run is there
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert "is complete" in capsys.readouterr().err
    tuned = ["train", str(phantoms), "--out", str(tmp_path / "tuned"), "--weights", str(run / "backbone.safetensors")]
    assert (
        main([*tuned, "--tuning", "linear-probe", "--set", "image_size=32", "--epochs", "1", "--no-check-duplicates"])
        == 0
    )
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert "backbone.safetensors" in config["backbone_weights"]
    assert "Apache-2.0" in config["backbone_weights"]


def test_one_class_teaches_nothing(class_folders, tmp_path, capsys):
    folder = class_folders({"only": 4})
    assert main(["pretrain", str(folder), "--out", str(tmp_path / "run"), *SMALL]) == 2
    assert "nevus distill" in capsys.readouterr().err


def test_held_out_groups_are_whole_and_test_is_left_out(phantoms):
    from nevus.data.readers.dispatch import read

    manifest = read(phantoms)
    train, held = held_out(manifest, seed=1)
    assert not set(train.table["group"]) & set(held.table["group"])
    assert "test" not in set(train.table["split"]) | set(held.table["split"])
    assert held.digest == held_out(manifest, seed=1)[1].digest
