"""`nevus pretrain`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from nevus._progress import console
from nevus.data.cache import CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.pretraining.pretrain import Pretrain
from nevus.report.training import write_upstream
from nevus.training.losses import CrossEntropy
from nevus.training.overrides import Overrides


@dataclass(frozen=True)
class Command:
    """Train a trunk on labeled images of any kind, and save it as OUT/trunk.safetensors.

    The trunk is then one to fine-tune: `nevus train DATA --weights OUT/backbone.safetensors`.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of class folders, csv or Parquet files; several are mixed, their classes by name."""
    out: Path
    """Folder for the run."""
    backbone: str = "bit-r26x0.5"
    """Network; see `nevus models`."""
    start: Annotated[str, tyro.conf.arg(name="from")] = "random"
    """Go on from these weights: `auto` for the trunk's own, or the path of an .npz or .safetensors file."""
    recipe: Literal["paper", "authors"] = "paper"
    """The upstream recipe of the paper on melanocytic nevi, or of BiT's authors."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over all classes, or of each by itself."""
    epochs: float | None = None
    """Passes over the images, instead of the recipe's 50 or 90."""
    license: str = ""
    """Of the trunk (default: that of the images, as far as it is known)."""
    seed: int = 0
    """Of the weights, the order of the images, their views and MixUp."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in OUT."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()
    changes: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def run(self) -> int:
        """Train; exit status."""
        method = Pretrain(
            backbone=self.backbone,
            start=self.start,
            recipe=self.recipe,
            loss=self.loss,
            epochs=self.epochs,
            license=self.license,
            seed=self.seed,
            changes=self.changes,
            cache=self.cache,
        )
        backbone = method.fit(read(self.data, self.reading), self.out, resume=self.resume)
        page, sentence = write_upstream(self.out, CrossEntropy.score)
        console.print(sentence)
        console.print(f"trunk: {backbone}   curves: {page}")
        return 0
