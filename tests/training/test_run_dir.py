import json

import pytest
import torch

from nevus.errors import NevusError
from nevus.training.history import metrics_by_epoch
from nevus.training.run_dir import RunDir


def test_a_folder_with_another_run_is_kept(tmp_path):
    with RunDir.open(tmp_path / "run", {"seed": 1, "recipe": {"lr": 0.1}}) as run:
        run.save("checkpoint.safetensors", {"x": torch.zeros(1)}, {})
    with pytest.raises(NevusError, match="holds a run already. Add --resume"):
        RunDir.open(tmp_path / "run", {"seed": 1, "recipe": {"lr": 0.1}})
    with pytest.raises(NevusError, match=r"recipe.lr was 0.1, is 0.2; seed was 1, is 2"):
        RunDir.open(tmp_path / "run", {"seed": 2, "recipe": {"lr": 0.2}}, resume=True)
    with RunDir.open(tmp_path / "run", {"seed": 1, "recipe": {"lr": 0.1}}, resume=True) as run:
        assert run.config["seed"] == 1


def test_settings_that_differ_are_named(tmp_path):
    with RunDir.open(tmp_path / "run", {"config": {"lr": 0.1}}) as run:
        run.save("checkpoint.safetensors", {"x": torch.zeros(1)}, {})
    for name, value in {"lr": 0.2, "tta": "d4"}.items():
        with pytest.raises(NevusError, match=f"config.{name} was .*, is {value}"):
            RunDir.open(tmp_path / "run", {"config": {"lr": 0.1, name: value}}, resume=True)


def test_other_files_are_kept(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(NevusError, match="holds other files and no run"):
        RunDir.open(tmp_path, {})


def test_two_at_once_are_refused(tmp_path):
    with (
        RunDir.open(tmp_path / "run", {}),
        pytest.raises(NevusError, match="another process is training"),
    ):
        RunDir.open(tmp_path / "run", {}, resume=True)


def test_tensors_come_back_with_their_notes(tmp_path):
    with RunDir.open(tmp_path / "run", {}) as run:
        assert run.load("a.safetensors") is None
        run.save("a.safetensors", {"x": torch.arange(3.0)}, {"step": 7})
        tensors, notes = run.load("a.safetensors")
        assert tensors["x"].tolist() == [0, 1, 2]
        assert notes == {"step": 7}
        (tmp_path / "run" / "a.safetensors").write_bytes(b"damaged")
        with pytest.raises(NevusError, match="is damaged"):
            run.load("a.safetensors")


def test_a_first_try_that_came_to_nothing_does_not_lock_the_folder(tmp_path):
    with RunDir.open(tmp_path / "run", {"data": "with faults"}):
        pass
    with RunDir.open(tmp_path / "run", {"data": "corrected"}) as run:
        assert run.config == {"data": "corrected"}
    assert "corrected" in (tmp_path / "run" / "config.json").read_text()


def test_damaged_settings_are_told(tmp_path):
    (tmp_path / "checkpoint.safetensors").touch()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NevusError, match="is damaged"):
        RunDir.open(tmp_path, {}, resume=True)


def test_metrics_are_lines_and_can_be_rewound(tmp_path):
    with RunDir.open(tmp_path / "run", {}) as run:
        for step in (1, 2, 3):
            run.log(step=step, loss=0.5 / step, accuracy=0.5)
        run.log(step=3, epoch=1.0, validation_loss=float("nan"), validation_accuracy=0.7)
        run.flush()
        text = (tmp_path / "run" / "metrics.jsonl").read_text()
        assert [json.loads(line)["step"] for line in text.splitlines()] == [1, 2, 3, 3]
        assert "NaN" not in text
        (tmp_path / "run" / "metrics.jsonl").write_text(text + "{half")
        with pytest.raises(NevusError, match="metrics.jsonl: it is damaged"):
            run.metrics()
        (tmp_path / "run" / "metrics.jsonl").write_text(text)
        run.rewind(2)
        assert [line["step"] for line in run.metrics()] == [1, 2]


def test_history_means_over_the_steps_since_the_last_look():
    lines = [
        {"step": 1, "loss": 1.0, "accuracy": 0.4},
        {"step": 2, "loss": 3.0, "accuracy": 0.6},
        {"step": 2, "epoch": 1.0, "validation_loss": 0.9, "validation_accuracy": 0.5},
        {"step": 3, "loss": 0.5, "accuracy": 1.0},
        {"step": 3, "epoch": 1.5, "validation_loss": 0.8, "validation_accuracy": 0.6},
    ]
    rows = metrics_by_epoch(lines)
    assert [row["training_loss"] for row in rows] == [2.0, 0.5]
    assert [row["training_accuracy"] for row in rows] == [0.5, 1.0]
    assert [row["validation_accuracy"] for row in rows] == [0.5, 0.6]


def test_a_short_last_stretch_is_counted_with_the_one_before():
    steps = [{"step": s, "loss": float(s), "accuracy": 0.5} for s in range(1, 6)]
    look = {"epoch": 1.0, "validation_loss": 0.9, "validation_accuracy": 0.5}
    rows = metrics_by_epoch([*steps[:4], {"step": 4, **look}, steps[4], {"step": 5, **look}])
    assert [row["training_loss"] for row in rows] == [2.5, 3.0]
