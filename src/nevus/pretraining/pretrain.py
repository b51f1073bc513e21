"""Pre-training with labels: the upstream of BiT."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.model import without_head
from nevus.models.registry import AUTO, RANDOM, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.pretraining.common import finished, held_out, license_of_all, written
from nevus.pretraining.recipes import upstream
from nevus.runtime.device import device
from nevus.runtime.distributed import current_world
from nevus.runtime.engines import run_batched
from nevus.runtime.feature_engine import TorchEngine
from nevus.training.batches import ImageBatches, SoftLabels, soft_labels
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy, Objective, SigmoidCrossEntropy
from nevus.training.overrides import Overrides
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class Pretrain:
    """Trains a backbone on any labeled images.

    Attributes:
        backbone: its name.
        init_from: weights to go on from: `auto`, `random`, or the path of a backbone.
        recipe: `paper` or `authors`; see `nevus.pretraining.recipes.PUBLISHED`.
        loss: `softmax` or `sigmoid` cross-entropy; the authors take the latter for ImageNet-21k.
        epochs: passes over the images, instead of the config's.
        license: of the backbone; by default that of the images, as far as known.
        seed: of everything random.
        overrides: values that replace the recipe's.
        cache: where decoded images are kept.

    """

    backbone: str = "bit-r26x0.5"
    init_from: str = "random"
    recipe: str = "paper"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    epochs: float | None = None
    license: str = ""
    seed: int = 0
    overrides: Overrides = field(default_factory=dict)
    cache: CacheConfig = CacheConfig()

    def fit(self, manifest: Manifest, out: Path, *, resume: bool = False) -> Path:
        """Train, and write `out/backbone.safetensors`; its path.

        Args:
            manifest: labeled images; its test split, if any, is left out.
            out: folder of the run.
            resume: go on with the run that is there.

        Raises:
            NevusError: the images, the settings or the folder are at fault, or the loss is not finite.

        """
        if current_world().count > 1:
            raise NevusError("Cannot pretrain in several processes: it runs in one. Start it without torchrun.")
        if len(manifest.classes) < 2:
            raise NevusError(
                f"Cannot pretrain on {manifest.name}: it has one class, from which nothing can be learned. Use `nevus "
                "distill`."
            )
        train_rows, held = held_out(manifest, self.seed)
        spec = backbone_spec(self.backbone)
        config = upstream(self.recipe, len(train_rows), spec.image_size, epochs=self.epochs, overrides=self.overrides)
        if self.init_from == AUTO and spec.origin == RANDOM:
            raise NevusError(
                f"Cannot start from {self.backbone}: it has no weights of its own to go on from. Name a backbone or a "
                "file with --init-from."
            )
        made, weights = load_pretrained(
            self.backbone, classes=len(manifest.classes), seed=self.seed, weights=self.init_from
        )
        settings = {
            "method": "pretrain",
            "architecture": spec.architecture,
            "license": self.license or license_of_all(manifest, [], weights),
            "weights": weights,
            "loss": self.loss,
            "config": asdict(config),
            "overrides": dict(self.overrides),
            "seed": self.seed,
            "data": {
                "name": manifest.name,
                "digest": manifest.digest,
                "images": len(manifest),
                "classes": len(manifest.classes),
            },
        }
        with RunDir.open(out, settings, resume=resume) as run:
            done = finished(run)
            if done:
                return done
            manifest.save(out / "manifest.parquet")
            began = time.perf_counter()
            preprocess, where = Preprocess(config.image_size, spec.mean, spec.std), device(config.precision)
            objective: Objective = SigmoidCrossEntropy() if self.loss == "sigmoid" else CrossEntropy()
            with contextlib.closing(Cache(self.cache)) as cache:
                shown = decode_dataset(train_rows, config.resize_size, cache, what="decoding")
                looked = decode_dataset(held, config.image_size, cache, what="decoding what is held out")
                truth = soft_labels(looked.manifest.targets, len(manifest.classes), 0.0)

                def judge(network: nn.Module) -> ValidationResult:
                    engine = TorchEngine(network, preprocess, where.device)
                    outputs = torch.from_numpy(run_batched(engine, looked.pixels, what="held-out images"))
                    loss, score = objective(outputs, truth)
                    return ValidationResult(float(loss.mean()), float(score.mean()))

                labels = SoftLabels(shown.manifest.targets, len(manifest.classes), config.label_smoothing)
                batches = ImageBatches(shown.pixels, labels, config, preprocess, self.seed)
                train(made, batches, judge, config, run, where, images=len(shown.manifest), objective=objective)
                judged = judge(made)
            return written(
                without_head(made), run, judged, time.perf_counter() - began, "bf16" if where.bf16 else "fp32"
            )
