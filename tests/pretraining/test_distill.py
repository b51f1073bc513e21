import json
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.processes import nevus

from nevus.cli.main import main
from nevus.data.preprocess import Preprocess
from nevus.data.readers.unlabeled import read_unlabeled
from nevus.errors import NevusError
from nevus.models.checkpoint import read_backbone, save_backbone
from nevus.models.model import build_backbone
from nevus.models.multi_stage import MultiStageFeatures
from nevus.pretraining import distill, teachers
from nevus.pretraining.distill import Distill, Student
from nevus.pretraining.targets import DistillationTargets, TeacherOutputs
from nevus.pretraining.teachers import load_teacher, save_teacher, teacher
from nevus.runtime.feature_engine import openvino_model

SMALL = {"batch_size": 8, "image_size": 32, "resize_size": 40, "eval_interval": 4, "precision": "fp32", "lr": 0.02}


class WithProbabilities(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tapped = MultiStageFeatures(build_backbone("bit-r26x0.5", classes=0, seed=7), 1)
        self.head = torch.nn.Linear(2048, 4)
        torch.nn.init.normal_(self.head.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        features = self.tapped(x)
        return torch.cat([features, self.head(features).softmax(1)], 1)


@pytest.fixture(scope="module")
def wise(tmp_path_factory):
    """A teacher's folder: two stages of a BiT with random weights, and probabilities of four classes."""
    folder = tmp_path_factory.mktemp("teachers") / "wise"
    torch.manual_seed(0)
    graph = openvino_model(WithProbabilities().eval(), Preprocess(48))
    save_teacher(graph, folder, image_size=48, features=2048, classes=4, license="Apache-2.0", origin="a test")
    return folder


def test_a_student_learns_what_the_teacher_says(phantoms, wise, tmp_path):
    changes = {**SMALL, "lr": 0.05, "ema_decay": 0.0, "mixup": 0.0, "crop_scale": (1.0, 1.0)}
    method = Distill(teachers=(str(wise),), epochs=30, overrides=changes, divergence=0.2)
    path = method.fit(read_unlabeled([phantoms]), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-10:]) < 0.85 * losses[0]
    shown = [line["explained"] for line in lines if "explained" in line]
    assert np.mean(shown[-10:]) > 0.15 > 0.05 > np.mean(shown[:10])
    explained = [line["validation_explained"] for line in lines if "validation_explained" in line]
    assert explained[-1] > explained[0]
    weights, about = read_backbone(path)
    assert "head.fc.weight" not in weights
    assert about["teachers"][0]["license"] == "Apache-2.0"
    assert "Apache-2.0" in about["license"]
    assert about["data"]["images"] == 61  # and the contact sheet
    assert about["judged"]["score"] == pytest.approx(explained[-1], abs=1e-4)


@pytest.mark.parametrize("fast", [True, False])
def test_the_same_seed_gives_the_same_trunk_and_a_resumed_run_too(phantoms, wise, tmp_path, fast):
    """Killed after its first checkpoint and gone on with. Each in a process of its own, with the same number of
    threads: one thread's sums and two threads' differ in the last bit, and what ran before can change the number.
    """
    words = [
        "distill",
        str(phantoms),
        "--teachers",
        str(wise),
        "--epochs",
        "2",
        "--set",
        "batch_size=8",
        "--set",
        "image_size=32",
    ]
    words += ["--set", "resize_size=60", "--set", "eval_interval=3", "--set", "precision=fp32", "--set", "lr=0.02"]
    words += [] if fast else ["--online-teachers"]

    def start(out, *more):
        return nevus(tmp_path / "log", *words, "--out", out, *more)

    assert start(tmp_path / "whole").wait() == 0
    out = tmp_path / "killed"
    process = start(out)
    until = time.time() + 120
    while not (out / "checkpoint.safetensors").exists() and time.time() < until and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "backbone.safetensors").exists()
    assert start(out, "--resume").wait() == 0
    one, other = (load_file(folder / "backbone.safetensors") for folder in (tmp_path / "whole", out))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_stages_are_taught_too(phantoms, wise, tmp_path):
    one, other = (
        Distill(teachers=(str(wise),), feature_stages=stages, epochs=1, overrides=SMALL).fit(
            read_unlabeled([phantoms]), out
        )
        for stages, out in ((0, tmp_path / "last"), (2, tmp_path / "stages"))
    )
    (plain, about), (tapped, more) = read_backbone(one), read_backbone(other)
    assert plain.keys() == tapped.keys()  # the backbone alone
    assert any(not torch.equal(plain[key], tapped[key]) for key in plain)
    assert (about["feature_stages"], more["feature_stages"]) == (0, 2)
    with pytest.raises(NevusError, match="no weights of its own to go on from"):
        Distill(teachers=(str(wise),), init_from="auto").fit(read_unlabeled([phantoms]), tmp_path / "many")
    with pytest.raises(NevusError, match="9 feature stages"):
        Distill(teachers=(str(wise),), feature_stages=9).fit(read_unlabeled([phantoms]), tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_a_students_layer_sees_its_stages():
    backbone = build_backbone("bit-r26x0.5", classes=0, seed=7)
    student = Student(MultiStageFeatures(backbone, 2), 5)
    assert student.projection.in_features == 512 + 1024 + 1024
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    student.projection.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    student(x).square().sum().backward()
    assert backbone.stages[0].blocks[0].conv1.weight.grad.abs().sum() > 0
    assert student(x).shape == (3, 5)


def test_targets_are_standardized_over_the_training_images(wise):
    rng = np.random.default_rng(0)
    vectors = rng.normal(3, 2, (50, 2052)).astype(np.float16)
    vectors[:, 5] = 1.5  # a feature that is always the same
    vectors[:, 2048:] = 0.25
    said = TeacherOutputs((vectors,))
    lesson = DistillationTargets.of([load_teacher(wise)], said)
    found = lesson.targets(said[:]).numpy()
    assert found.shape == (50, 2052)
    assert np.allclose(found[:, :2048].mean(0), 0, atol=1e-3)
    moving = [k for k in range(2048) if k != 5]
    assert np.allclose(found[:, moving].std(0), 1, atol=1e-2)
    assert np.allclose(found[:, 5], 0, atol=1e-3)
    assert np.allclose(found[:, 2048:], 0.25)


def test_a_trunk_can_teach_and_several_teachers_are_concatenated(phantoms, wise, tmp_path, monkeypatch):
    file = tmp_path / "backbone.safetensors"
    save_backbone(build_backbone("bit-r26x0.5", classes=0, seed=3), file, {"license": "none"})
    with pytest.raises(NevusError, match="random weights"):
        teacher("bit-r26x0.5")
    other = tmp_path / "other"
    graph = openvino_model(build_backbone("bit-r26x0.5", classes=0, seed=3), Preprocess(32))
    save_teacher(graph, other, image_size=32, features=1024, classes=0, license="MIT", origin="a test")
    method = Distill(teachers=(str(other), str(wise)), init_from=str(file), epochs=0.2, overrides=SMALL)
    path = method.fit(read_unlabeled([phantoms]), tmp_path / "run")
    _, about = read_backbone(path)
    assert [t["license"] for t in about["teachers"]] == ["MIT", "Apache-2.0"]
    assert about["weights"].startswith("backbone.safetensors")


def test_what_teaches_computes_in_bfloat16_where_that_is_insisted_on(phantoms, wise, tmp_path, monkeypatch, bf16_asked):
    asked = bf16_asked(teachers)
    monkeypatch.setattr(distill, "has_bf16", lambda _: True)
    images = read_unlabeled([phantoms])
    said = {}
    for name, precision in (("auto", "auto"), ("short", "bf16")):
        changes = {**SMALL, "precision": precision}
        path = Distill(teachers=(str(wise),), epochs=0.2, overrides=changes).fit(images, tmp_path / name)
        said[name] = read_backbone(path)[1]["teachers"][0]
    assert asked == [False, True]
    assert said["short"] == {**said["auto"], "bf16": True}


def test_faults_are_told(phantoms, wise, tmp_path, capsys):
    words = ["distill", str(phantoms), "--out", str(tmp_path / "run")]
    assert main([*words, "--teachers", str(tmp_path)]) == 2
    assert "is no teacher" in capsys.readouterr().err
    assert main([*words, "--teachers", "nobody"]) == 2
    assert "there is no backbone 'nobody'" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["distill", str(tmp_path / "empty"), "--out", str(tmp_path / "run"), "--teachers", str(wise)]) == 2
    assert "holds no images" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("teacher.json", "graph.xml", "graph.bin"):
        (broken / name).write_bytes((wise / name).read_bytes())
    (broken / "graph.bin").write_bytes(b"x" + (wise / "graph.bin").read_bytes()[1:])
    with pytest.raises(NevusError, match="another digest"):
        load_teacher(broken)


def test_images_of_any_layout_and_tables_without_labels(phantoms, tmp_path, picture):
    (tmp_path / "loose" / "deep").mkdir(parents=True)
    picture(30, 20).save(tmp_path / "loose" / "a.png")
    picture(30, 20, 1).save(tmp_path / "loose" / "deep" / "b.png")
    (tmp_path / "list.csv").write_text("image\nloose/a.png\nloose/deep/b.png\n")
    found = read_unlabeled([tmp_path / "loose", tmp_path / "list.csv"])
    assert sorted(path.name for path in found.paths) == ["a.png", "b.png"]
    assert all(path.is_file() for path in found.paths)


def test_a_batch_of_one_is_refused_in_one_sentence(phantoms, wise, tmp_path):
    method = Distill(teachers=(str(wise),), overrides={"batch_size": 8, "micro_batch_size": 1})
    with pytest.raises(NevusError, match="two images at once"):
        method.fit(read_unlabeled([phantoms]), tmp_path / "run")
