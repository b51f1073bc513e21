"""BiT as a method: a Manifest to a Classifier."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from nevus._progress import console
from nevus.bundle.bundle import Bundle, load_bundle
from nevus.bundle.classifier import Classifier
from nevus.data.cache import Cache
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.models.multi_stage import MultiStageClassifier
from nevus.models.registry import AUTO, is_permissive, without_head, backbone_spec
from nevus.models.weights import license_of_weights, load_pretrained, resolve_backbone
from nevus.runtime.distributed import current_world
from nevus.training.config import Mode, TrainConfig
from nevus.training.fit import _Fit, save_result
from nevus.training.history import StageTimer
from nevus.training.overrides import Overrides, changed, make_config
from nevus.training.preparation import Preparation, dataset_stats, report_faults
from nevus.training.run_dir import RunDir


@dataclass(frozen=True)
class BiT:
    """Fine-tunes a BiT.

    Attributes:
        trunk: name of the network; `auto` takes what this machine can carry.
        permissive: take only weights that may be used for any purpose.
        mode: `full` trains every weight; `head` trains the linear head on features of the frozen trunk,
            computed once.
        recipe: `default`, `hyperrule` or `paper`.
        epochs: passes over the training images, instead of the recipe's length.
        seed: of the weights, the order, the views and MixUp.
        taps: stages whose means stand beside the trunk's own features, counted from its end; see
            `nevus.models.multi_stage`.
        spread: whether their standard deviations and maxima stand there, too.
        weights: `auto` for the trunk's own, `random`, or the path of an .npz or .safetensors file.
        changes: to the recipe's fields.
        preparation: of the data set: groups, split, leaks.
        answer: classes to answer with, each `class=diagnosis,diagnosis`; see `nevus.models.label_groups.LabelGroups`.

    """

    backbone: str = AUTO
    mode: Mode = "full"
    recipe: str = "default"
    epochs: float | None = None
    seed: int = 0
    taps: int = 0
    spread: bool = False
    weights: str = "auto"
    changes: Overrides = field(default_factory=Overrides)
    preparation: Preparation = Preparation()
    permissive: bool = False
    answer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in ("full", "head"):
            raise NevusError(f"there is no mode '{self.mode}'; choose full or head.")
        if not 0 <= self.seed < 2**63:
            raise NevusError(f"a seed of {self.seed} is not between 0 and 2^63; correct --seed.")

    def fit(self, manifest: Manifest, out: Path | str, *, resume: bool = False) -> Classifier:
        """Train on the split `train`, choose on `validation`, and save the bundle `out/bundle`.

        Args:
            manifest: the data set. Its test split, if any, is not looked at.
            out: folder of the run.
            resume: go on with the run that is there.

        Raises:
            NevusError: the data set, the settings or the folder are at fault, or the loss is not finite.

        """
        if self.backbone == AUTO:
            backbone = resolve_backbone(self.backbone, permissive=self.permissive)
            return replace(self, backbone=backbone).fit(manifest, out, resume=resume)
        out = Path(out)
        spec = backbone_spec(self.backbone)
        license = license_of_weights(spec, self.weights)
        if self.permissive and license is not None and not is_permissive(license):
            raise NevusError(
                f"the weights of {spec.name if self.weights == AUTO else self.weights} are under "
                f"{license or 'a license that is not told'}, which --license permissive leaves out; choose another "
                "--trunk."
            )
        watch = StageTimer()
        manifest, protocol = self.preparation.of(manifest, watch)
        answer = LabelGroups.of(self.answer, manifest.classes) if self.answer else None
        facts = dataset_stats(manifest.split("train"), self.backbone)
        recipe = make_config(self.recipe, facts, self.mode, epochs=self.epochs, changes=self.changes)
        # Before the folder is made: missing weights are a fault of the settings.
        made, weights = load_pretrained(self.backbone, classes=len(manifest.classes), seed=self.seed, weights=self.weights)
        if self.taps or self.spread:
            made = MultiStageClassifier(without_head(made), self.taps, len(manifest.classes), spread=self.spread)
        config = {
            "method": "bit",
            "backbone": self.backbone,
            "taps": self.taps,
            "spread": self.spread,
            "answer": answer.as_dict() if answer else None,
            "weights": weights,
            "recipe": asdict(recipe),
            "changes": changed(self.changes),
            "seed": self.seed,
            "split": asdict(self.preparation.split),
            "data": {"name": manifest.name, "digest": manifest.digest, "classes": manifest.classes, **protocol},
        }
        world = current_world()
        if not world.main:
            world.wait()  # for the folder to be there
        with RunDir.open(out, config, resume=resume, writes=world.main) as run:
            if world.main:
                world.wait()
            if run.bundle.exists():
                console.print(f"{out} is complete; its bundle is {run.bundle}")
                return Classifier(load_bundle(run.bundle))
            if world.main:
                manifest.save(out / "manifest.parquet")
            with contextlib.closing(Cache(self.preparation.cache)) as cache:
                begun = {"weights": weights, "changes": changed(self.changes), "protocol": protocol}
                bundle = self._trained(manifest, recipe, run, cache, made, begun, answer, watch)
        return Classifier(bundle)

    def _trained(
        self,
        manifest: Manifest,
        recipe: TrainConfig,
        run: RunDir,
        cache: Cache,
        made: nn.Module,
        begun: dict[str, Any],
        answer: LabelGroups | None,
        watch: StageTimer,
    ) -> Bundle:
        # In evaluation a whole image is squeezed to `side`; a frozen trunk must see the same.
        stored = recipe.resize if recipe.mode == "full" else recipe.side
        world = current_world()
        begin = world.index / world.count
        with watch("decoding"):
            shown = decode_dataset(manifest.split("train"), stored, cache, begin=begin, what="decoding train")
            rows = manifest.split("validation")
            held = decode_dataset(rows, recipe.side, cache, begin=begin, what="decoding validation")
        if world.main:
            report_faults(run, manifest, shown, held)
        spec = backbone_spec(self.backbone)
        preprocess = Preprocess(recipe.side, spec.mean, spec.std)
        fitting = _Fit(manifest, shown, held, preprocess, recipe, run, cache, watch, self.seed)
        said = fitting.train(made)
        if world.main:
            save_result(fitting, made, said, self.backbone, self.taps, self.spread, answer, begun)
        world.wait()
        return load_bundle(run.bundle)
