"""`nevus distill`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nevus._progress import console
from nevus.cli._flags import DataFlag, pairs
from nevus.cli._number import OptionalFloat
from nevus.data.cache import CacheConfig
from nevus.data.readers.unlabeled import read_unlabeled


@dataclass(frozen=True)
class Command:
    """Train a backbone from other networks, without labels, and save it as OUT/backbone.safetensors.

    Fine-tune it with `nevus train DATA --weights OUT/backbone.safetensors`.
    """

    data: DataFlag
    """Folders of any layout, and csv or Parquet files with a column `image`."""
    out: Path
    """Folder for the run."""
    teachers: tuple[str, ...]
    """Backbones that `nevus models` lists, backbone.safetensors files, and folders that tools/teachers.py wrote. The
    features of all are learnt, and the probabilities of the first that has some.
    """
    backbone: str = "bit-r26x0.5"
    """Name of the student, see nevus models."""
    init_from: str = "random"
    """Weights to start from: random, auto for the backbone's own, or the path of an .npz or .safetensors file."""
    feature_stages: int = 0
    """Number of final stages of the student that are trained besides its last layer."""
    online_teachers: bool = False
    """Run the teachers at every step on the view that the student sees, instead of once for each image."""
    epochs: OptionalFloat = None
    """Passes over the images (default: 10)."""
    divergence: float = 1.0
    """Weight of the teacher's probabilities beside its features."""
    weights_license: str = ""
    """License of the backbone (default: that of the images and of the teachers, as far as known)."""
    seed: int = 0
    """Seed of the order of images, of augmentation and of random weights."""
    set: tuple[str, ...] = ()
    """Override fields of the training configuration, as in lr=0.01 batch_size=64; nevus train --help-all lists them."""
    resume: bool = False
    """Go on with the run in OUT."""
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Teach; exit status."""
        overrides = pairs("--set", self.set, "lr=0.01")
        manifest = read_unlabeled(self.data)
        from nevus.pretraining.distill import Distill
        from nevus.report.training import write_upstream
        from nevus.training.losses import Distillation

        method = Distill(
            teachers=self.teachers,
            backbone=self.backbone,
            init_from=self.init_from,
            feature_stages=self.feature_stages,
            online_teachers=self.online_teachers,
            epochs=self.epochs,
            divergence=self.divergence,
            license=self.weights_license,
            seed=self.seed,
            overrides=overrides,
            cache=self.cache,
        )
        backbone = method.fit(manifest, self.out, resume=self.resume)
        page, sentence = write_upstream(self.out, Distillation.score)
        console.print(sentence)
        console.print(f"backbone: {backbone}   curves: {page}")
        return 0
