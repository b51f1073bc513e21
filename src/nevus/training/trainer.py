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
from nevus.data.decoded import decode_all
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.errors import NevusError
from nevus.models.label_groups import Answer
from nevus.models.multi_stage import TappedNetwork
from nevus.models.registry import AUTO, is_permissive, trunk_of, trunk_spec
from nevus.models.weights import licence_of_weights, pretrained, resolved
from nevus.runtime.distributed import processes
from nevus.training.config import Mode, Recipe
from nevus.training.fit import Fitting, save
from nevus.training.history import Stopwatch
from nevus.training.overrides import RecipeChanges, changed, make_recipe
from nevus.training.preparation import Preparation, facts_of, report_faults
from nevus.training.run_dir import Run


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
        answer: classes to answer with, each `class=diagnosis,diagnosis`; see `nevus.models.label_groups.Answer`.

    """

    trunk: str = AUTO
    mode: Mode = "full"
    recipe: str = "default"
    epochs: float | None = None
    seed: int = 0
    taps: int = 0
    spread: bool = False
    weights: str = "auto"
    changes: RecipeChanges = field(default_factory=RecipeChanges)
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
        if self.trunk == AUTO:
            trunk = resolved(self.trunk, permissive=self.permissive)
            return replace(self, trunk=trunk).fit(manifest, out, resume=resume)
        out = Path(out)
        spec = trunk_spec(self.trunk)
        licence = licence_of_weights(spec, self.weights)
        if self.permissive and licence is not None and not is_permissive(licence):
            raise NevusError(
                f"the weights of {spec.name if self.weights == AUTO else self.weights} are under "
                f"{licence or 'a licence that is not told'}, which --license permissive leaves out; choose another "
                "--trunk."
            )
        watch = Stopwatch()
        manifest, protocol = self.preparation.of(manifest, watch)
        answer = Answer.of(self.answer, manifest.classes) if self.answer else None
        facts = facts_of(manifest.split("train"), self.trunk)
        recipe = make_recipe(self.recipe, facts, self.mode, epochs=self.epochs, changes=self.changes)
        # Before the folder is made: missing weights are a fault of the settings.
        made, weights = pretrained(self.trunk, classes=len(manifest.classes), seed=self.seed, weights=self.weights)
        if self.taps or self.spread:
            made = TappedNetwork(trunk_of(made), self.taps, len(manifest.classes), spread=self.spread)
        config = {
            "method": "bit",
            "trunk": self.trunk,
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
        together = processes()
        if not together.main:
            together.wait()  # for the folder to be there
        with Run.open(out, config, resume=resume, writes=together.main) as run:
            if together.main:
                together.wait()
            if run.bundle.exists():
                console.print(f"{out} is complete; its bundle is {run.bundle}")
                return Classifier(load_bundle(run.bundle))
            if together.main:
                manifest.save(out / "manifest.parquet")
            with contextlib.closing(Cache(self.preparation.cache)) as cache:
                begun = {"weights": weights, "changes": changed(self.changes), "protocol": protocol}
                bundle = self._trained(manifest, recipe, run, cache, made, begun, answer, watch)
        return Classifier(bundle)

    def _trained(
        self,
        manifest: Manifest,
        recipe: Recipe,
        run: Run,
        cache: Cache,
        made: nn.Module,
        begun: dict[str, Any],
        answer: Answer | None,
        watch: Stopwatch,
    ) -> Bundle:
        # In evaluation a whole image is squeezed to `side`; a frozen trunk must see the same.
        stored = recipe.resize if recipe.mode == "full" else recipe.side
        together = processes()
        begin = together.index / together.count
        with watch("decoding"):
            shown = decode_all(manifest.split("train"), stored, cache, begin=begin, what="decoding train")
            rows = manifest.split("validation")
            held = decode_all(rows, recipe.side, cache, begin=begin, what="decoding validation")
        if together.main:
            report_faults(run, manifest, shown, held)
        spec = trunk_spec(self.trunk)
        preprocess = Preprocess(recipe.side, spec.mean, spec.std)
        fitting = Fitting(manifest, shown, held, preprocess, recipe, run, cache, watch, self.seed)
        said = fitting.train(made)
        if together.main:
            save(fitting, made, said, self.trunk, self.taps, self.spread, answer, begun)
        together.wait()
        return load_bundle(run.bundle)
