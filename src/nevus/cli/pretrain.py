"""`nevus pretrain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from nevus._progress import console
from nevus.cli._flags import DataFlag, pairs
from nevus.cli._number import OptionalFloat
from nevus.data.cache import CacheConfig
from nevus.data.readers.dispatch import DataConfig, read


@dataclass(frozen=True)
class Command:
    """Pretrain a backbone on labeled images of any kind, and save it as OUT/backbone.safetensors.

    Fine-tune it with `nevus train DATA --weights OUT/backbone.safetensors`.
    """

    data: DataFlag
    """Folders of class folders, csv or Parquet files; several are mixed, their classes by name."""
    out: Path
    """Folder for the run."""
    backbone: str = "bit-r26x0.5"
    """Name of the network, see nevus models."""
    init_from: str = "random"
    """Weights to start from: random, auto for the backbone's own, or the path of an .npz or .safetensors file."""
    recipe: Literal["paper", "authors"] = "paper"
    """The upstream recipe of the paper on melanocytic nevi, or of BiT's authors."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over all classes, or of each by itself."""
    epochs: OptionalFloat = None
    """Passes over the images, instead of the recipe's 50 or 90."""
    weights_license: str = ""
    """License of the backbone (default: that of the images, as far as known)."""
    seed: int = 0
    """Seed of the order of images, of augmentation and of random weights."""
    set: tuple[str, ...] = ()
    """Override fields of the training configuration, as in lr=0.01 batch_size=64; nevus train --help-all lists them."""
    resume: bool = False
    """Go on with the run in OUT."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Train; exit status."""
        overrides = pairs("--set", self.set, "lr=0.01")
        manifest = read(self.data, self.reading)
        from nevus.pretraining.pretrain import Pretrain
        from nevus.report.training import write_upstream
        from nevus.training.losses import CrossEntropy

        method = Pretrain(
            backbone=self.backbone,
            init_from=self.init_from,
            recipe=self.recipe,
            loss=self.loss,
            epochs=self.epochs,
            license=self.weights_license,
            seed=self.seed,
            overrides=overrides,
            cache=self.cache,
        )
        backbone = method.fit(manifest, self.out, resume=self.resume)
        page, sentence = write_upstream(self.out, CrossEntropy.score)
        console.print(sentence)
        console.print(f"backbone: {backbone}   curves: {page}")
        return 0
