"""The trainer of methods with handcrafted features: a Manifest to a Classifier."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nevus._progress import console
from nevus.baselines.learners import LEARNERS, fit_baseline
from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.data.cache import Cache
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.models.handcrafted.classifier import Handcrafted, vectors
from nevus.models.handcrafted.feature_cache import CachedFeatures
from nevus.models.handcrafted.features import HANDCRAFTED_IMAGE_SIZE, VERSION
from nevus.models.spec import HANDCRAFTED, ModelSpec
from nevus.runtime.engines import run_batched
from nevus.training.history import StageTimer
from nevus.training.preparation import Preparation, report_faults
from nevus.training.record import FitResult, Predictions, write_result
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class HandcraftedTrainer:
    """Trains a method on handcrafted features.

    Attributes:
        learner: one of `nevus.baselines.learners.LEARNERS`.
        seed: of everything random.
        preparation: of the data set: groups, split, leaks.
        memory: cached features, whose time is counted. By default all are computed.

    """

    learner: str
    seed: int = 0
    preparation: Preparation = Preparation()
    memory: CachedFeatures | None = None

    def __post_init__(self) -> None:
        if self.learner not in LEARNERS:
            raise NevusError(
                f"Cannot use the method '{self.learner}': there is none. Choose one of {', '.join(LEARNERS)}."
            )
        if not 0 <= self.seed < 2**32:
            raise NevusError(f"Cannot use the seed {self.seed}: it must be from 0 to 2^32 - 1. Correct --seed.")

    def fit(
        self, manifest: Manifest, out: Path | str, *, resume: bool = False, timer: StageTimer | None = None
    ) -> Classifier:
        """Train on the split `train`, calibrate on `validation`, and save the bundle `out/bundle`.

        Settings are chosen by cross-validation within the training split.

        Args:
            manifest: the data set. Its test split, if any, is not used.
            out: folder of the run.
            resume: return the run that is there, where it is complete; an interrupted one starts again.
            timer: counts the seconds of each stage.

        Raises:
            NevusError: the data set, the settings or the folder are at fault.

        """
        out, timer = Path(out), timer or StageTimer()
        manifest, protocol = self.preparation.apply(manifest, timer, sizes={HANDCRAFTED_IMAGE_SIZE})
        settings = {
            "method": self.learner,
            "features": VERSION,
            "overrides": {},
            "backbone_weights": "none: handcrafted features",
            "seed": self.seed,
            "split": asdict(self.preparation.split),
            "data": {"name": manifest.name, "digest": manifest.digest, "classes": manifest.classes, **protocol},
        }
        with RunDir.open(out, settings, resume=resume) as run:
            if run.bundle.exists():
                console.print(f"{out} is complete; its bundle is {run.bundle}")
                return Classifier(load_bundle(run.bundle))
            manifest.save(out / "manifest.parquet")
            with contextlib.closing(Cache(self.preparation.cache)) as cache:
                self._train(manifest, run, cache, timer, settings)
        return Classifier(load_bundle(run.bundle))

    def _train(
        self, manifest: Manifest, run: RunDir, cache: Cache, timer: StageTimer, settings: dict[str, Any]
    ) -> None:
        with timer("decoding"):
            train, val = (
                decode_dataset(manifest.split(name), HANDCRAFTED_IMAGE_SIZE, cache, what=f"decoding {name}")
                for name in ("train", "validation")
            )
        report_faults(run, manifest, train, val)
        with timer("features"):
            describe = self.memory or vectors
            features = run_batched(describe, train.pixels, what="features of train")
            val_features = run_batched(describe, val.pixels, what="features of validation")
        if self.memory:
            timer.seconds["features"] += self.memory.saved
        learner, rows = LEARNERS[self.learner], train.manifest
        with timer("fitting"):
            try:
                estimator, chosen = fit_baseline(
                    learner,
                    features,
                    rows.targets,
                    rows.groups,
                    (val_features, val.manifest.targets),
                    self.seed,
                )
            except ValueError as error:
                raise NevusError(f"Cannot train {self.learner} on {manifest.name}: {error}.") from None
        model = Handcrafted(estimator)
        with timer("validation"):
            logits, val_logits = model.scores(features), model.scores(val_features)
        spec = ModelSpec(backbone=HANDCRAFTED, classes=manifest.classes, image_size=HANDCRAFTED_IMAGE_SIZE)
        config = {"preset": self.learner, "tuning": HANDCRAFTED, "what": learner.what, "chosen": chosen}
        write_result(
            FitResult(
                spec=spec,
                model=model,
                tta="none",
                settings={**settings, "config": config},
                manifest=manifest,
                images=train,
                val_images=val,
                train=Predictions(logits, rows.targets, rows.groups),
                val=Predictions(val_logits, val.manifest.targets, val.manifest.groups),
                skipped=len(train.faults) + len(val.faults),
                seconds=timer.seconds,
                precision="fp64",
            ),
            run,
        )
