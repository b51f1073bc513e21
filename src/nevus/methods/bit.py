"""BiT as a method: a Manifest to a Classifier."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nevus.audit.leaks import Leaks, grouped, protocol_of, without_leaks
from nevus.bundle import Bundle, licence_of, load_bundle, save_bundle
from nevus.card import model_card
from nevus.classifier import Classifier
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.data.pixels import Decoded, Squares, decode_all
from nevus.data.preprocess import Preprocess
from nevus.data.published import with_corrected_split
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.files import write_json, write_text
from nevus.methods.facts import facts_of
from nevus.metrics.figures import figures
from nevus.models.registry import AUTO, PERMISSIVE, RANDOM, head_of, trunk_of, trunk_spec
from nevus.models.taps import TappedNetwork
from nevus.models.weights import pretrained, resolved
from nevus.progress import console
from nevus.runtime.device import device, machine
from nevus.runtime.inference import Engine, TorchEngine, engine, many, softmax
from nevus.runtime.processes import processes
from nevus.training.batches import ImageBatches, soft_labels
from nevus.training.changes import RecipeChanges, changed, make_recipe
from nevus.training.head import fit_head, judgement
from nevus.training.history import epochs_of
from nevus.training.loop import Judgement, train
from nevus.training.objective import CrossEntropy
from nevus.training.recipe import Mode, Recipe
from nevus.training.run import Run
from nevus.training.stopwatch import Stopwatch

SHOWN_AGAIN = 10_000
"""Most training images that the finished classifier is judged on once more, as in evaluation."""


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
            `nevus.models.taps`.
        weights: `auto` for the trunk's own, `random`, or the path of an .npz or .safetensors file.
        changes: to the recipe's fields.
        split: how validation (and test) are cut where the data set does not say.
        cache: where decoded images are kept.
        corrected: take the corrected split that comes with the package, in place of the data set's own.
        audit: look for pictures of one lesion first, and never cut between them.
        drop_leaks: leave out training images that show what a test image shows.

    """

    trunk: str = AUTO
    mode: Mode = "full"
    recipe: str = "default"
    epochs: float | None = None
    seed: int = 0
    taps: int = 0
    weights: str = "auto"
    changes: RecipeChanges = field(default_factory=RecipeChanges)
    split: SplitConfig = SplitConfig()
    cache: CacheConfig = CacheConfig()
    corrected: bool = False
    audit: bool = True
    drop_leaks: bool = False
    permissive: bool = False

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
        if self.permissive and self.weights == AUTO and spec.origin != RANDOM and spec.licence not in PERMISSIVE:
            raise NevusError(
                f"the weights of {spec.name} are under {spec.licence}, which --license permissive leaves out; "
                "choose another --trunk."
            )
        manifest, protocol = self._prepared(manifest)
        manifest = with_splits(manifest, self.split)
        facts = facts_of(manifest.split("train"), self.trunk)
        recipe = make_recipe(self.recipe, facts, self.mode, epochs=self.epochs, changes=self.changes)
        # Before the folder is made: missing weights are a fault of the settings.
        made, weights = pretrained(self.trunk, classes=len(manifest.classes), seed=self.seed, weights=self.weights)
        if self.taps:
            made = TappedNetwork(trunk_of(made), self.taps, len(manifest.classes))
        config = {
            "method": "bit",
            "trunk": self.trunk,
            "taps": self.taps,
            "weights": weights,
            "recipe": asdict(recipe),
            "changes": changed(self.changes),
            "seed": self.seed,
            "split": asdict(self.split),
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
            with contextlib.closing(Cache(self.cache)) as cache:
                bundle = self._trained(manifest, recipe, run, cache, made, weights, protocol)
        return Classifier(bundle)

    def _prepared(self, manifest: Manifest) -> tuple[Manifest, dict[str, Any]]:
        """The data set with the groups and the split that are asked for, and what a bundle says of that."""
        if self.corrected:
            manifest = with_corrected_split(manifest)
        found: Leaks | None = None
        if self.audit:
            with contextlib.closing(Cache(self.cache)) as cache:
                manifest, found = grouped(manifest, cache)
        dropped = 0
        if self.drop_leaks:
            manifest, dropped = without_leaks(manifest)
        if found:
            found = replace(found, dropped=dropped)
            console.print(found.sentence())
        return manifest, {
            "protocol": protocol_of(manifest, corrected=self.corrected),
            "audit": asdict(found) if found else None,
        }

    def _trained(
        self,
        manifest: Manifest,
        recipe: Recipe,
        run: Run,
        cache: Cache,
        made: nn.Module,
        weights: str,
        protocol: dict[str, Any],
    ) -> Bundle:
        watch = Stopwatch()
        # In evaluation a whole image is squeezed to `side`; a frozen trunk must see the same.
        stored = recipe.resize if recipe.mode == "full" else recipe.side
        together = processes()
        begin = together.index / together.count
        with watch("decoding"):
            shown = decode_all(manifest.split("train"), stored, cache, begin=begin, what="decoding train")
            rows = manifest.split("validation")
            held = decode_all(rows, recipe.side, cache, begin=begin, what="decoding validation")
        if together.main:
            _report_faults(run, shown, held)
        for name in manifest.classes:
            if name not in set(shown.manifest.table["label"]):
                raise NevusError(
                    f"no training image of the class '{name}' can be used; see {run.folder / 'skipped.txt'}."
                )
        spec = trunk_spec(self.trunk)
        preprocess = Preprocess(recipe.side, spec.mean, spec.std)
        fit = self._train_all if recipe.mode == "full" else self._train_head
        said = fit(made, shown, held, preprocess, recipe, run, watch)
        if together.main:
            self._save(made, manifest, shown, held, said, preprocess, recipe, run, cache, watch, weights, protocol)
        together.wait()
        return load_bundle(run.bundle)

    def _train_all(
        self,
        made: nn.Module,
        shown: Decoded,
        held: Decoded,
        preprocess: Preprocess,
        recipe: Recipe,
        run: Run,
        watch: Stopwatch,
    ) -> None:
        def judge(net: nn.Module) -> Judgement:
            ready = TorchEngine(net, preprocess, where.device)  # new weights each time: a graph would not pay
            return judgement(_each_its_part(ready, held.pixels, "validation"), held.manifest.targets)

        where = device(recipe.precision)
        labels = soft_labels(shown.manifest.targets, len(shown.manifest.classes), recipe.label_smoothing)
        weights = class_weights(shown.manifest.targets, len(shown.manifest.classes), recipe)
        with watch("training"):
            train(
                made,
                ImageBatches(shown.pixels, labels, recipe, preprocess, self.seed),
                judge,
                recipe,
                run,
                where,
                images=len(shown.manifest),
                objective=CrossEntropy(weights),
            )

    def _train_head(
        self,
        made: nn.Module,
        shown: Decoded,
        held: Decoded,
        preprocess: Preprocess,
        recipe: Recipe,
        run: Run,
        watch: Stopwatch,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits of the training and the validation images."""
        with watch("features"):
            ready = engine(trunk_of(made), preprocess, device(recipe.precision).device)
            features = _each_its_part(ready, shown.pixels, "features of train")
            held_features = _each_its_part(ready, held.pixels, "features of validation")
        with watch("head"):
            head = fit_head(
                features,
                shown.manifest.targets,
                held_features,
                held.manifest.targets,
                recipe,
                run,
                class_weights=class_weights(shown.manifest.targets, len(shown.manifest.classes), recipe),
                seed=self.seed,
            )
        final = head_of(made)
        assert isinstance(final, nn.Linear | nn.Conv2d)
        assert final.bias is not None
        final.weight.data.copy_(head.weight.view_as(final.weight))
        final.bias.data.copy_(head.bias)
        return head(features), head(held_features)

    def _save(
        self,
        made: nn.Module,
        manifest: Manifest,
        shown: Decoded,
        held: Decoded,
        said: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
        preprocess: Preprocess,
        recipe: Recipe,
        run: Run,
        cache: Cache,
        watch: Stopwatch,
        weights: str,
        protocol: dict[str, Any],
    ) -> None:
        made = made.cpu()
        with watch("judging"):
            if said:  # the trunk was frozen: nothing need be computed again
                targets, (logits, held_logits) = shown.manifest.targets, said
            else:
                ready = TorchEngine(made, preprocess, device(recipe.precision).device)
                held_logits = many(ready, held.pixels, what="validation")
                rows = np.linspace(0, len(shown.manifest) - 1, min(len(shown.manifest), SHOWN_AGAIN)).astype(int)
                again = decode_all(shown.manifest.where(rows), recipe.side, cache, what="decoding train")
                logits, targets = many(ready, again.pixels, what="train once more"), again.manifest.targets
            p = softmax(held_logits)
            validation = figures(held.manifest.targets, p, manifest.classes, held.manifest.groups)
            on_train = judgement(logits, targets)
        gap = on_train.score - validation["accuracy"].value
        fit = {
            "training_accuracy": on_train.score,
            "training_loss": on_train.loss,
            "training_n": len(targets),
            "validation": {name: figure.as_dict() for name, figure in validation.items()},
            "gap": gap,
            "seconds": watch.seconds,  # of this process: a resumed run counts from where it went on
            "machine": {**machine(), "precision": "bf16" if device(recipe.precision).bf16 else "fp32"},
        }
        write_json(run.folder / "fit.json", fit)
        counts = manifest.counts()
        provenance: dict[str, Any] = {
            "weights": weights,
            "recipe": asdict(recipe),
            "changes": changed(self.changes),
            "seed": self.seed,
            "data": {
                "name": manifest.name,
                "digest": manifest.digest,
                "rows_digest": manifest.rows_digest,
                "sources": sorted(set(manifest.table["source"])),
                "counts": {str(s): {str(k): int(v) for k, v in row.items()} for s, row in counts.iterrows()},
                "skipped": len(shown.faults) + len(held.faults),
                **protocol,
            },
            "fit": fit,
            "history": epochs_of(run.metrics()),
            "versions": {name: version(name) for name in ("nevus", "torch", "timm", "numpy", "pillow")},
        }
        licence = licence_of([manifest.name, *provenance["data"]["sources"]])
        card = model_card(
            trunk=self.trunk,
            classes=manifest.classes,
            side=recipe.side,
            licence=licence,
            provenance=provenance,
            validation=fit["validation"],  # type: ignore[arg-type]
        )
        bundle = Bundle(self.trunk, manifest.classes, preprocess, made, provenance, licence, taps=self.taps)
        save_bundle(bundle, run.bundle, card)


def _each_its_part(ready: Engine, pixels: Squares, what: str) -> NDArray[np.float32]:
    return processes().shared(len(pixels), lambda part: many(ready, pixels.part(part), what=what))


def class_weights(targets: NDArray[np.int64], classes: int, recipe: Recipe) -> torch.Tensor:
    """Weight of each class in the loss, float (classes,): ones, or n / (classes x n of the class)."""
    if recipe.class_weights == "none":
        return torch.ones(classes)
    return torch.from_numpy(len(targets) / (classes * np.bincount(targets, minlength=classes))).float()


def _report_faults(run: Run, *parts: Decoded) -> None:
    faults = [fault for part in parts for fault in part.faults]
    write_text(run.folder / "skipped.txt", "".join(f"{fault}\n" for fault in faults))
