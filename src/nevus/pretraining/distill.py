"""Distillation: a backbone learns other networks' features and probabilities from images without labels."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.multi_stage import MultiStageFeatures
from nevus.models.registry import AUTO, RANDOM, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.pretraining.common import finished, held_out, license_of_all, written
from nevus.pretraining.recipes import distillation
from nevus.pretraining.targets import (
    CachedTargetBatches,
    DistillationTargets,
    OnlineTargetBatches,
    TeacherOutputs,
)
from nevus.pretraining.teachers import Teacher, teacher
from nevus.runtime.device import device, has_bf16
from nevus.runtime.distributed import current_world
from nevus.runtime.engines import run_batched
from nevus.runtime.feature_engine import TorchEngine
from nevus.training.config import TrainConfig
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import Distillation
from nevus.training.overrides import Overrides
from nevus.training.run_dir import RunDir


class Student(nn.Module):
    """A backbone with a linear layer that says what the teachers would: float (n, 3, h, w) to (n, outputs).

    With taps the layer also sees the means of the backbone's last stages, so that these are taught, too: what the
    teachers' early stages tell need not be carried to the last layer.

    The layer sees features of mean 0 and variance 1 over the batch. Means of what a ReLU lets through are all
    positive and hardly differ between images: a linear layer on them learns little but their common mean for
    thousands of steps, and the backbone is taught as little.
    """

    def __init__(self, tapped: MultiStageFeatures, outputs: int) -> None:
        super().__init__()
        self.tapped = tapped
        self.norm = nn.BatchNorm1d(tapped.width, affine=False)
        self.projection = nn.Linear(tapped.width, outputs)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features, then what is said of them."""
        return torch.as_tensor(self.projection(self.norm(self.tapped(x))))


@dataclass(frozen=True)
class Distill:
    """Teaches a backbone.

    The fast way looks up what the teachers say of each whole image, asked once and kept in the cache, whatever part
    of it the student is shown. Otherwise teachers and student see the very same views, MixUp included ("a good
    teacher is patient and consistent", Beyer et al. 2021, section 3), and the teachers are asked at every step.

    Attributes:
        teachers: folders or names of backbones; see `nevus.pretraining.teachers.teacher`. Features of all are learnt,
            probabilities of the first that has some.
        backbone: name of the student.
        feature_stages: of the student's stages, how many of the last are trained beside its last layer.
        init_from: weights to go on from: `auto`, `random`, or the path of a backbone.
        online_teachers: whether the teachers are asked at every step about the view that the student sees.
        epochs: passes over the images, instead of ten.
        divergence: weight of the probabilities beside the features.
        license: of the backbone; by default that of the images, as far as known, and of the teachers.
        seed: of everything random.
        overrides: values that replace the recipe's.
        cache: where decoded images are kept.

    """

    teachers: tuple[str, ...]
    backbone: str = "bit-r26x0.5"
    init_from: str = "random"
    feature_stages: int = 0
    online_teachers: bool = False
    epochs: float | None = None
    divergence: float = 1.0
    license: str = ""
    seed: int = 0
    overrides: Overrides = field(default_factory=dict)
    cache: CacheConfig = CacheConfig()

    def fit(self, manifest: Manifest, out: Path, *, resume: bool = False) -> Path:
        """Train, and write `out/backbone.safetensors`; its path.

        Args:
            manifest: images; labels are not used.
            out: folder of the run.
            resume: go on with the run that is there.

        Raises:
            NevusError: the images, the teachers, the settings or the folder are at fault, or the loss is not
                finite.

        """
        if current_world().count > 1:
            raise NevusError("Cannot distill in several processes: it runs in one. Start it without torchrun.")
        if not self.teachers:
            raise NevusError("Cannot distill: there is no teacher. Name one with --teachers.")
        shown, held = held_out(manifest, self.seed)
        spec = backbone_spec(self.backbone)
        # As with a frozen backbone: float32, but on a CPU where bfloat16 is insisted on.
        bf16 = self.overrides.get("precision") == "bf16" and has_bf16(torch.device("cpu"))
        teachers = [teacher(name, bf16=bf16) for name in self.teachers]
        largest = max(t.image_size for t in teachers) if self.online_teachers else 0
        config = distillation(len(shown), spec.image_size, largest, epochs=self.epochs, overrides=self.overrides)
        if min(config.batch_size, config.micro_batch_size or config.batch_size) < 2:
            raise NevusError(
                "Cannot distill: it needs two images at once at least. Raise batch_size or micro_batch_size."
            )
        if self.init_from == AUTO and spec.origin == RANDOM:
            raise NevusError(
                f"Cannot start from {self.backbone}: it has no weights of its own to go on from. Name a backbone or a "
                "file with --init-from."
            )
        made, weights = load_pretrained(self.backbone, classes=0, seed=self.seed, weights=self.init_from)
        tapped = MultiStageFeatures(made, self.feature_stages)  # here, since too many taps are a fault of the settings
        settings = {
            "method": "distill",
            "architecture": spec.architecture,
            "license": self.license or license_of_all(manifest, [t.license for t in teachers], weights),
            "weights": weights,
            "teachers": [
                {"name": t.name, "origin": t.origin, "license": t.license, "digest": t.digest}
                | ({"bf16": True} if t.bf16 else {})
                for t in teachers
            ],
            "feature_stages": self.feature_stages,
            "online_teachers": self.online_teachers,
            "divergence": self.divergence,
            "config": asdict(config),
            "overrides": dict(self.overrides),
            "seed": self.seed,
            "data": {"name": manifest.name, "digest": manifest.digest, "images": len(manifest)},
        }
        with RunDir.open(out, settings, resume=resume) as run:
            done = finished(run)
            if done:
                return done
            manifest.save(out / "manifest.parquet")
            began = time.perf_counter()
            with contextlib.closing(Cache(self.cache)) as cache:
                judged = self._taught(tapped, shown, held, teachers, config, run, cache)
            precision = "bf16" if device(config.precision).bf16 else "fp32"
            return written(tapped.backbone, run, judged, time.perf_counter() - began, precision)

    def _taught(
        self,
        tapped: MultiStageFeatures,
        manifest: Manifest,
        held: Manifest,
        teachers: Sequence[Teacher],
        config: TrainConfig,
        run: RunDir,
        cache: Cache,
    ) -> ValidationResult:
        spec = backbone_spec(self.backbone)
        preprocess = Preprocess(config.image_size, spec.mean, spec.std)
        where = device(config.precision)
        shown = decode_dataset(manifest, config.resize_size, cache, what="decoding")
        looked = decode_dataset(held, config.image_size, cache, what="decoding what is held out")
        said = TeacherOutputs.of(teachers, shown, cache)
        lesson = DistillationTargets.of(teachers, said)
        truth = lesson.targets(TeacherOutputs.of(teachers, looked, cache)[:])
        objective = Distillation(lesson.features, self.divergence)
        batches: CachedTargetBatches | OnlineTargetBatches
        if not self.online_teachers:
            batches = CachedTargetBatches(shown.pixels, said, lesson, config, preprocess, self.seed)
        else:
            batches = OnlineTargetBatches(shown.pixels, teachers, lesson, config, preprocess, self.seed)

        def judge(network: nn.Module) -> ValidationResult:
            engine = TorchEngine(network, preprocess, where.device)
            outputs = torch.from_numpy(run_batched(engine, looked.pixels, what="held-out images"))
            loss, score = objective(outputs, truth)
            return ValidationResult(float(loss.mean()), float(score.mean()))

        student = Student(tapped, lesson.width)
        train(student, batches, judge, config, run, where, images=len(shown.manifest), objective=objective)
        return judge(student)
