"""`nevus train`."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from nevus._progress import console
from nevus.baselines.methods import MethodName, is_network, resolve_method, method_spec
from nevus.baselines.train import HandcraftedTrainer
from nevus.cli._data_options import PreparingConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.report.training import write_run
from nevus.runtime.distributed import current_world
from nevus.training.overrides import Overrides
from nevus.training.trainer import BiT


@dataclass(frozen=True)
class Command:
    """Fine-tune a BiT, or train another system, on labeled images and save it as a bundle in OUT/bundle.

    The test split is not looked at. Research use only, not a medical device.
    """

    data: tyro.conf.Positional[tuple[Path, ...]]
    """Folder of class folders, with or without train/validation/test above them, a csv or Parquet
    file, or a public data set as it was published; several are joined."""
    out: Path
    """Folder for the run."""
    method: MethodName = "bit"
    """The system: BiT, BiT with batch normalization, one of four other networks, or one that learns from
    handcrafted features."""
    backbone: str = AUTO
    """Network; see `nevus models`. `auto` takes what this machine can carry, and says what."""
    license: Literal["any", "permissive"] = "any"
    """Of the weights to begin with: `permissive` leaves out those that may not be used for any purpose."""
    mode: Literal["head", "full"] = "full"
    """`full` trains every weight, `head` only the linear head on a frozen trunk (seconds)."""
    recipe: str = "default"
    """`default`, `hyperrule` or `paper`; see `nevus recipe DATA`."""
    epochs: float | None = None
    """Passes over the training images, instead of the recipe's length."""
    seed: int = 0
    """Of the weights, the order of the images, their views and MixUp."""
    taps: int = 0
    """Stages of the network whose means stand beside its last features, counted from the end: 4 are often better
    than none in mode `head`."""
    spread: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Beside the taps' means also their standard deviations and maxima over the picture."""
    weights: str = "auto"
    """`auto` for the trunk's own, `random`, or the path of an .npz or .safetensors file."""
    answer: tuple[str, ...] = ()
    """Classes to answer with, as in `--answer benign=nv,bkl malignant=mel,bcc`: the classes of the data are told
    apart in training, and their probabilities are added up. `bkl:0.1` takes one for a tenth as frequent as it is
    among the training images."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in OUT."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    preparing: Annotated[PreparingConfig, tyro.conf.arg(name="")] = PreparingConfig()
    changes: Annotated[Overrides, tyro.conf.arg(name="")] = field(default_factory=Overrides)

    def run(self) -> int:
        """Train; exit status."""
        method = self.network() if is_network(self.method) else self.on_features()
        manifest = read(self.data, self.reading)
        method.fit(manifest, self.out, resume=self.resume)
        if not current_world().main:
            return 0
        page, sentence = write_run(self.out)
        console.print(sentence, highlight=False)
        console.print(f"bundle: {self.out / 'bundle'}   page: {page}", highlight=False)
        table = self.out / "manifest.parquet"
        if "test" in read(table).splits():
            words = [
                "nevus",
                "evaluate",
                str(table),
                "--split",
                "test",
                "--bundle",
                str(self.out / "bundle"),
                "--out",
                str(self.out / "evaluation"),
            ]
            console.print(f"once you are done choosing: {shlex.join(words)}", highlight=False)
        return 0

    def network(self) -> BiT:
        """The method, of a network."""
        if self.method != "bit" and self.backbone != AUTO:
            raise NevusError(f"--trunk names a BiT; leave it out for --method {self.method}.")
        backbone, weights = resolve_method(method_spec(self.method), self.weights, self.backbone)
        return BiT(
            backbone=backbone,
            mode=self.mode,
            recipe=self.recipe,
            epochs=self.epochs,
            seed=self.seed,
            taps=self.taps,
            spread=self.spread,
            weights=weights,
            changes=self.changes,
            preparation=self.preparing.preparation(),
            permissive=self.license == "permissive",
            answer=self.answer,
        )

    def on_features(self) -> HandcraftedTrainer:
        """The method, of what learns from handcrafted features."""
        fixed = {"backbone", "license", "mode", "recipe", "epochs", "taps", "spread", "weights", "answer", "changes"}
        for one in fields(self):
            if one.name in fixed and getattr(self, one.name) != _default(one):
                flag = f"--{one.name}" if one.name != "changes" else "a recipe's value"
                raise NevusError(f"{self.method} is no network, and {flag} is for these; leave it out.")
        return HandcraftedTrainer(self.method, self.seed, self.preparing.preparation())


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if one.default is MISSING and one.default_factory is not MISSING else one.default
