"""`nevus distill`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from nevus._progress import console
from nevus.data.cache import CacheConfig
from nevus.data.readers.unlabeled import read_unlabeled
from nevus.pretraining.distill import Distill
from nevus.report.training import write_upstream
from nevus.training.losses import Distillation
from nevus.training.overrides import Overrides


@dataclass(frozen=True)
class Command:
    """Teach a trunk what other networks see in images, and save it as OUT/trunk.safetensors.

    No labels are needed. The trunk is then one to fine-tune: `nevus train DATA --weights OUT/backbone.safetensors`.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of any layout, and csv or Parquet files with a column `image`."""
    out: Path
    """Folder for the run."""
    teachers: tuple[str, ...]
    """Trunks that `nevus models` lists, trunk.safetensors files, and folders that scripts/teachers.py wrote. The
    features of all are learnt, and the probabilities of the first that has some.
    """
    backbone: str = "bit-r26x0.5"
    """The student; see `nevus models`."""
    start: Annotated[str, tyro.conf.arg(name="from")] = "random"
    """Go on from these weights: `auto` for the trunk's own, or the path of an .npz or .safetensors file."""
    taps: int = 0
    """Of the student's stages, how many of the last are taught beside its last layer; `nevus train --taps` then
    sees what was taught."""
    fast: bool = True
    """Ask the teachers once for each image, and keep what they say in the cache; else at every step, about the very
    view that the student sees."""
    epochs: float | None = None
    """Passes over the images (default: 10)."""
    divergence: float = 1.0
    """Weight of the teacher's probabilities beside its features."""
    license: str = ""
    """Of the trunk (default: that of the images, as far as it is known, and of the teachers)."""
    seed: int = 0
    """Of the weights, the order of the images, their views and MixUp."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in OUT."""
    cache: CacheConfig = CacheConfig()
    changes: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def run(self) -> int:
        """Teach; exit status."""
        method = Distill(
            teachers=self.teachers,
            backbone=self.backbone,
            start=self.start,
            taps=self.taps,
            fast=self.fast,
            epochs=self.epochs,
            divergence=self.divergence,
            license=self.license,
            seed=self.seed,
            changes=self.changes,
            cache=self.cache,
        )
        backbone = method.fit(read_unlabeled(self.data), self.out, resume=self.resume)
        page, sentence = write_upstream(self.out, Distillation.score)
        console.print(sentence)
        console.print(f"trunk: {backbone}   curves: {page}")
        return 0
