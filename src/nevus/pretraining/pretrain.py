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
from nevus.models.registry import AUTO, RANDOM, without_head, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.pretraining.common import finished, held_out, license_of_all, written
from nevus.pretraining.recipes import upstream
from nevus.runtime.device import device
from nevus.runtime.distributed import current_world
from nevus.runtime.engines import TorchEngine, run_batched
from nevus.training.batches import ImageBatches, SoftLabels, soft_labels
from nevus.training.loop import ValidationResult, train
from nevus.training.losses import CrossEntropy, Objective, SigmoidCrossEntropy
from nevus.training.overrides import Overrides, changed
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class Pretrain:
    """Trains a trunk on any labeled images.

    Attributes:
        trunk: its name.
        start: weights to go on from: `auto`, `random`, or the path of a trunk.
        recipe: `paper` or `authors`; see `nevus.pretraining.recipes.PUBLISHED`.
        loss: `softmax` or `sigmoid` cross-entropy; the authors take the latter for ImageNet-21k.
        epochs: passes over the images, instead of the recipe's.
        license: of the trunk; by default that of the images, as far as it is known.
        seed: of everything random.
        changes: to the recipe's fields.
        cache: where decoded images are kept.

    """

    backbone: str = "bit-r26x0.5"
    start: str = "random"
    recipe: str = "paper"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    epochs: float | None = None
    license: str = ""
    seed: int = 0
    changes: Overrides = field(default_factory=Overrides)
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
            raise NevusError("pre-training runs in one process; start it without torchrun.")
        if len(manifest.classes) < 2:
            raise NevusError(
                f"{manifest.name} has one class, from which nothing can be learnt; use `nevus distill`."
            )
        train_rows, held = held_out(manifest, self.seed)
        spec = backbone_spec(self.backbone)
        recipe = upstream(self.recipe, len(train_rows), spec.side, epochs=self.epochs, changes=self.changes)
        if self.start == AUTO and spec.origin == RANDOM:
            raise NevusError(
                f"{self.backbone} has no weights of its own to go on from; name a trunk, or a file, with --from."
            )
        made, weights = load_pretrained(self.backbone, classes=len(manifest.classes), seed=self.seed, weights=self.start)
        config = {
            "method": "pretrain",
            "architecture": spec.architecture,
            "license": self.license or license_of_all(manifest, [], weights),
            "weights": weights,
            "loss": self.loss,
            "recipe": asdict(recipe),
            "changes": changed(self.changes),
            "seed": self.seed,
            "data": {
                "name": manifest.name,
                "digest": manifest.digest,
                "images": len(manifest),
                "classes": len(manifest.classes),
            },
        }
        with RunDir.open(out, config, resume=resume) as run:
            done = finished(run)
            if done:
                return done
            manifest.save(out / "manifest.parquet")
            began = time.perf_counter()
            preprocess, where = Preprocess(recipe.side, spec.mean, spec.std), device(recipe.precision)
            objective: Objective = SigmoidCrossEntropy() if self.loss == "sigmoid" else CrossEntropy()
            with contextlib.closing(Cache(self.cache)) as cache:
                shown = decode_dataset(train_rows, recipe.resize, cache, what="decoding")
                looked = decode_dataset(held, recipe.side, cache, what="decoding what is held out")
                truth = soft_labels(looked.manifest.targets, len(manifest.classes), 0.0)

                def judge(network: nn.Module) -> ValidationResult:
                    engine = TorchEngine(network, preprocess, where.device)
                    outputs = torch.from_numpy(run_batched(engine, looked.pixels, what="held-out images"))
                    loss, score = objective(outputs, truth)
                    return ValidationResult(float(loss.mean()), float(score.mean()))

                labels = SoftLabels(shown.manifest.targets, len(manifest.classes), recipe.label_smoothing)
                batches = ImageBatches(shown.pixels, labels, recipe, preprocess, self.seed)
                train(made, batches, judge, recipe, run, where, images=len(shown.manifest), objective=objective)
                judged = judge(made)
            return written(
                without_head(made), run, judged, time.perf_counter() - began, "bf16" if where.bf16 else "fp32"
            )
