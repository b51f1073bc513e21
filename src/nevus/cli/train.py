"""`nevus train`."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from nevus._progress import console
from nevus.baselines.methods import MethodName, is_network, method_spec, resolve_method
from nevus.cli._flags import DataFlag, flag, pairs
from nevus.cli._help import field_docs
from nevus.cli._number import OptionalFloat
from nevus.cli._preparation import PreparationFlags
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.models.registry import AUTO
from nevus.training.config import TrainConfig, Tuning, override_names
from nevus.training.history import StageTimer
from nevus.training.presets import PRESETS

if TYPE_CHECKING:
    from nevus.training.overrides import Overrides
    from nevus.training.preparation import Preparation
    from nevus.training.trainer import Trainer

FROM_FILE = ("preset", "backbone", "weights", "epochs", "seed", "group_labels", "class_prior")
"""Keys of a TOML file besides the fields of `TrainConfig`."""


@dataclass(frozen=True)
class Command:
    """Fine-tune a BiT, or train another method, on labeled images, and save a bundle in OUT/bundle.

    The test split is not used. Research use only, not a medical device.
    """

    data: DataFlag
    """Folders of class folders (with or without train/validation/test above them), csv or Parquet files, or public data
    sets in their published layout; several are joined."""
    out: Path | None = flag(None, "Output")
    """Folder for the run."""
    resume: bool = flag(False, "Output")
    """Go on with the run in OUT."""
    dry_run: bool = flag(False, "Output")
    """Show the configuration and the expected time, and do not train."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = flag(
        DataConfig(), "Data", advanced=True, show=("labels", "positive")
    )
    preparation: Annotated[PreparationFlags, tyro.conf.arg(name="")] = flag(
        PreparationFlags(), "Data", advanced=True, show=("drop_leaks",)
    )
    weights_license: str = flag("", "Data", advanced=True)
    """License of the trained weights, for data whose license nevus does not know."""
    backbone: str = flag(AUTO, "Model")
    """Name of the network, see nevus models; auto chooses the largest that this machine can train."""
    weights: str = flag("auto", "Model")
    """Pretrained weights: auto for the backbone's own, random, or the path of an .npz or .safetensors file."""
    group_labels: tuple[str, ...] = flag((), "Model")
    """Train on the labels of the data, predict these classes, as in benign=nv,bkl malignant=mel,bcc."""
    class_prior: tuple[str, ...] = flag((), "Model", advanced=True)
    """Factors on the priors of labels inside a group, as in bkl=0.1."""
    permissive_only: bool = flag(False, "Model", advanced=True)
    """Use only pretrained weights that may be used for any purpose."""
    method: MethodName = flag("bit", "Model", advanced=True)
    """bit, bit-bn (batch normalization), one of four other networks, or a method on handcrafted features."""
    preset: Literal["best", "fast", "paper", "hyperrule"] = flag("best", "Optimization")
    """best fine-tunes every weight (minutes), fast trains a linear probe (about a minute), paper and hyperrule follow
    publications."""
    tuning: Tuning | None = flag(None, "Optimization")
    """linear-probe, full (every weight) or lp-ft (every weight, from the linear probe); by default the preset's."""
    epochs: OptionalFloat = flag(None, "Optimization")
    """Passes over the training images; by default the preset's length."""
    seed: int = flag(0, "Optimization")
    """Seed of the order of images, of augmentation and of random weights."""
    set: tuple[str, ...] = flag((), "Optimization")
    """Override fields of the training configuration, as in lr=0.01 batch_size=64; --help-all lists them."""
    config: Path | None = flag(None, "Optimization")
    """TOML file with settings, as a run writes it to OUT/train.toml; flags override it."""

    def run(self) -> int:
        """Train; exit status."""
        if not is_network(self.method):
            return self._train_baseline()
        out = None if self.dry_run else self._out()
        manifest = read(self.data, self.reading)
        trainer = self.trainer()
        if out is None:
            return _show_plan(trainer, manifest)
        trainer.fit(manifest, out, resume=self.resume)
        return self._report(out)

    def trainer(self) -> Trainer:
        """Make the trainer from flags and file."""
        if self.method != "bit" and self.backbone != AUTO:
            raise NevusError(f"Cannot use --backbone with --method {self.method}: it is for bit. Leave it out.")
        values = {name: getattr(self, name) for name in FROM_FILE}
        defaults = {name: type(self).__dataclass_fields__[name].default for name in FROM_FILE}
        overrides: dict[str, Any] = {}
        if self.config is not None:
            from_file, overrides = read_settings(self.config)
            values |= {name: value for name, value in from_file.items() if values[name] == defaults[name]}
        overrides |= pairs("--set", self.set, "lr=0.01")
        if self.tuning is not None:
            overrides["tuning"] = self.tuning
        from nevus.training.trainer import Trainer

        backbone, weights = resolve_method(method_spec(self.method), values["weights"], values["backbone"])
        return Trainer(
            **{**values, "backbone": backbone, "weights": weights},
            overrides=overrides,
            permissive_only=self.permissive_only,
            license=self.weights_license,
            preparation=preparation_of(self.preparation),
        )

    @staticmethod
    def more_help(out: Console) -> None:
        """List the fields that --set reaches."""
        out.print("Fields for --set and for a TOML file")
        docs = field_docs(TrainConfig)
        table = Table.grid(padding=(0, 2))
        for name in override_names():
            table.add_row(f"  {name}", docs.get(name, ""))
        out.print(table)

    def _out(self) -> Path:
        if self.out is None:
            raise NevusError("Cannot train: there is no folder for the run. Give one with --out, as in --out runs/one.")
        return self.out

    def _train_baseline(self) -> int:
        fixed = ("backbone", "weights", "preset", "tuning", "epochs", "group_labels", "class_prior", "set", "config")
        refuse_network_flags(self, (*fixed, "permissive_only", "dry_run"))
        out = self._out()
        from nevus.baselines.train import HandcraftedTrainer
        from nevus.training.run_dir import check_startable

        check_startable(out, resume=self.resume)
        trainer = HandcraftedTrainer(self.method, self.seed, preparation_of(self.preparation))
        trainer.fit(read(self.data, self.reading), out, resume=self.resume)
        return self._report(out)

    def _report(self, out: Path) -> int:
        from nevus.report.training import write_run
        from nevus.runtime.distributed import current_world

        if not current_world().main:
            return 0
        page, sentence = write_run(out)
        console.print(sentence, highlight=False)
        console.print(f"bundle: {out / 'bundle'}   page: {page}", highlight=False)
        table = out / "manifest.parquet"
        if "test" in read(table).splits():
            bundle, folder = str(out / "bundle"), str(out / "evaluation")
            words = ["nevus", "evaluate", str(table), "--bundle", bundle, "--out", folder]
            console.print(f"test-set evaluation, once all choices are made: {shlex.join(words)}", highlight=False)
        return 0


def refuse_network_flags(command: Any, names: Sequence[str]) -> None:
    """Refuse flags that a method on handcrafted features does not use.

    Args:
        command: a dataclass with the field `method`.
        names: of its fields that are for networks.

    Raises:
        NevusError: one of them is not its default.

    """
    for name in names:
        if getattr(command, name) != type(command).__dataclass_fields__[name].default:
            word = name.replace("_", "-")
            raise NevusError(f"Cannot use --{word} with --method {command.method}: it is for networks. Leave it out.")


def preparation_of(flags: PreparationFlags) -> Preparation:
    """Return the preparation that the flags ask for."""
    from nevus.training.preparation import Preparation

    return Preparation(flags.split, flags.cache, flags.use_corrected_split, flags.check_duplicates, flags.drop_leaks)


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a TOML file: keys of `FROM_FILE`, and fields of `TrainConfig` under `[overrides]`.

    Raises:
        NevusError: the file cannot be read, or has another key.

    """
    try:
        values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NevusError(f"Cannot read {path}: {error}. Give a TOML file, as OUT/train.toml of a run.") from None
    overrides: Overrides = values.get("overrides", {})
    strange = next((key for key in values if key not in (*FROM_FILE, "overrides")), None)
    if strange is not None or not isinstance(overrides, dict):
        raise NevusError(
            f"Cannot read {path}: it has no place for '{strange or 'overrides'}'. Its keys are {', '.join(FROM_FILE)} "
            "and the table [overrides]."
        )
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return {key: value for key, value in own.items() if key != "overrides"}, dict(overrides)


def _show_plan(trainer: Trainer, manifest: Manifest) -> int:
    """Show what each preset would do with a data set."""
    from nevus.models.weights import resolve_backbone
    from nevus.training.loop import duration
    from nevus.training.runtime_estimate import estimate_seconds

    backbone = resolve_backbone(trainer.backbone, permissive=trainer.permissive_only)
    quick = replace(trainer.preparation, check_duplicates=False)
    manifest, _ = quick.apply(manifest, StageTimer())
    names = list(dict.fromkeys([trainer.preset, *PRESETS])) if not trainer.overrides else [trainer.preset]
    plans = [replace(trainer, preset=name, backbone=backbone).plan(manifest) for name in names]
    images = len(manifest.split("train"))
    times = []
    for name, (spec, config) in zip(names, plans, strict=True):
        with console.status(f"timing {name}"):
            times.append(estimate_seconds(config, spec, images))
    table = Table(title=f"{manifest.name}: {images:,} training images, {backbone}")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for field in override_names():
        table.add_row(field, *(_cell(getattr(config, field)) for _, config in plans))
    table.add_row("epochs", *(f"{c.steps * c.batch_size / images:.1f}" for _, c in plans))
    table.add_row("expected time here", *(duration(seconds) for seconds in times))
    Console(markup=False, highlight=False, width=None if Console().is_terminal else 120).print(table)
    return 0


def _cell(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(_cell(v) for v in value) or "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
