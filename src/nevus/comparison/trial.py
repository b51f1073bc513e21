"""One system in a comparison: trained, judged, measured; and resumable as a whole."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nevus._io import write_json, atomic_path
from nevus.baselines.methods import is_network
from nevus.baselines.train import HandcraftedTrainer
from nevus.bundle.classifier import Classifier
from nevus.bundle.test_log import TEST_LOG, test_evaluations
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.evaluation import Evaluation, evaluate
from nevus.models.handcrafted.classifier import Handcrafted
from nevus.models.handcrafted.feature_cache import CachedFeatures
from nevus.models.registry import RANDOM, parameter_count
from nevus.training.config import Mode
from nevus.training.overrides import Overrides, useful
from nevus.training.preparation import Preparation
from nevus.training.run_dir import CHECKPOINT
from nevus.training.trainer import BiT

DONE = "unit.json"
TIMED = 32
"""Images whose time is taken, one by one."""

Initialization = Literal["pretrained", "random", "features", "readers"]
"""What a system starts from; `readers` are people. Networks of one half are never ranked with those of another."""


@dataclass(frozen=True)
class Trial:
    """A system with a seed and a start.

    Attributes:
        system: its name; see `nevus.baselines.methods`.
        seed: of everything random.
        half: what it starts from.
        mode: of a network, `head` or `full`; empty for others.
        trunk: of a network.
        weights: of a network, as `BiT` takes them.
        recipe: of a network.
        epochs: of a network, instead of the recipe's own.
        taps: of a network in mode `head`.
        expected: seconds that it was thought to take.

    """

    system: str
    seed: int
    half: Initialization
    mode: str = ""
    backbone: str = ""
    weights: str = ""
    recipe: str = "default"
    epochs: float | None = None
    taps: int = 0
    expected: float = 0.0

    @property
    def name(self) -> str:
        """Of its folder."""
        parts = [self.system, self.mode, RANDOM if self.half == "random" else "", f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    def method(
        self, preparation: Preparation, changes: Overrides, memory: CachedFeatures | None = None
    ) -> BiT | HandcraftedTrainer:
        """As a method; the memory is of handcrafted features."""
        if not is_network(self.system):
            return HandcraftedTrainer(self.system, self.seed, preparation, memory)
        mode: Mode = "head" if self.mode == "head" else "full"
        return BiT(
            backbone=self.backbone,
            mode=mode,
            recipe=self.recipe,
            epochs=self.epochs,
            seed=self.seed,
            taps=self.taps,
            weights=self.weights,
            # A share of the time sets the length: one that was asked for gives way.
            changes=useful(changes if self.epochs is None else without_length(changes), mode),
            preparation=preparation,
        )


def without_length(changes: Overrides) -> Overrides:
    """All changes but that of the number of steps."""
    given: dict[str, Any] = {**vars(changes), "steps": None}
    return Overrides(**given)


def is_done(unit: Trial, out: Path) -> bool:
    """Whether a unit is finished."""
    return (out / unit.name / DONE).exists()


def run(
    unit: Trial,
    manifest: Manifest,
    out: Path,
    preparation: Preparation,
    changes: Overrides,
    others: Manifest | None,
) -> None:
    """Train, judge and measure, and write `unit.json`; a training that was interrupted goes on.

    Args:
        unit: what is trained.
        manifest: the data set, with a test split.
        out: folder of all units.
        preparation: of the data set.
        changes: to the recipe of networks.
        others: images from elsewhere: their test split is judged, or all of them where they have none; None where
            there are no such images.

    Raises:
        NevusError: the data set or the settings are at fault, or the loss is not finite.

    """
    folder = out / unit.name
    made = (folder / "bundle").exists()
    resumed = made or (folder / CHECKPOINT).exists()
    memory = CachedFeatures() if preparation.cache.gigabytes else None  # several systems describe the same images
    began = time.perf_counter()
    classifier = unit.method(preparation, changes, memory).fit(manifest, folder, resume=True)
    seconds = time.perf_counter() - began + (memory.saved if memory else 0.0)
    peak = float("nan") if made else _peak()  # what a training held that another process ended is not known
    split = read(folder / "manifest.parquet")
    judge = _with_memory(classifier, memory)
    judged = {"test": evaluate(judge, split, "test")}
    if others is not None:
        judged["elsewhere"] = evaluate(judge, others, "test" if "test" in others.splits() else "all")
    for name, evaluation in judged.items():
        _keep(evaluation, folder / f"{name}.npz")
    network = classifier.bundle.network
    about = classifier.bundle.provenance
    write_json(
        folder / DONE,
        {
            "unit": asdict(unit),
            "weights": about["weights"],
            "backbone": classifier.bundle.backbone,
            "side": classifier.bundle.preprocess.side,
            "recipe": about["recipe"],
            "protocol": about["data"]["protocol"],
            "data": {name: one.about["data"] for name, one in judged.items()},
            "classes": list(classifier.classes),
            "fit": about["fit"],
            "resumed": resumed,
            "seconds": seconds,
            "seconds_an_image": _seconds_an_image(classifier, split),
            "peak_bytes": peak,
            "parameters": None if isinstance(network, Handcrafted) else parameter_count(network),
            "bytes": sum(path.stat().st_size for path in (folder / "bundle").iterdir() if path.name != TEST_LOG),
            "metrics": {
                name: {key: figure.as_dict() for key, figure in one.metrics.items()} for name, one in judged.items()
            },
            "n": {name: len(one.y) for name, one in judged.items()},
            "groups": {name: len(set(one.manifest.groups.tolist())) for name, one in judged.items()},
            "support": np.bincount(judged["test"].y, minlength=len(classifier.classes)).tolist(),
            "looks": len(test_evaluations(classifier.bundle)),
        },
    )
    failure_of(unit.name, out).unlink(missing_ok=True)


def failure_of(name: str, out: Path) -> Path:
    """Where it is noted why a unit came to nothing: beside its folder, in which a run would not begin otherwise."""
    return out / f"{name}.failed.json"


def mark_failed(unit: Trial, out: Path, reason: str) -> None:
    """Note why a unit came to nothing; it is tried again the next time."""
    write_json(failure_of(unit.name, out), {"unit": asdict(unit), "reason": reason})


def read_units(out: Path) -> dict[str, dict[str, Any]]:
    """What is known of the units, finished or failed, by name.

    Raises:
        NevusError: a file is damaged.

    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted([*out.glob(f"*/{DONE}"), *out.glob("*.failed.json")]):
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise NevusError(f"{path} is damaged ({error}); delete it.") from None
        name = path.parent.name if path.name == DONE else path.name.removesuffix(".failed.json")
        found.setdefault(name, held)
    return found


def load_predictions(folder: Path, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """What a unit said of a set: true classes (n,), probabilities (n, classes), the images' names (n,)."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as held:
        return held["y"], held["p"], held["image"]


def _with_memory(classifier: Classifier, memory: CachedFeatures | None) -> Classifier:
    """The same classifier, looking up what handcrafted features it can."""
    network = classifier.bundle.network
    if memory is None or not isinstance(network, Handcrafted):
        return classifier
    return Classifier(replace(classifier.bundle, network=replace(network, describe=memory)))


def _keep(evaluation: Evaluation, path: Path) -> None:
    images = np.array([str(name) for name in evaluation.manifest.table["image"]], np.str_)
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, y=evaluation.y, p=evaluation.p, image=images)


def _seconds_an_image(classifier: Classifier, manifest: Manifest) -> float:
    """Median time from a file to its probabilities, one image at a time."""
    taken = []
    for path in manifest.split("test").paths[: TIMED + 1]:
        began = time.perf_counter()
        with contextlib.suppress(NevusError):
            classifier.predict_proba(path)
            taken.append(time.perf_counter() - began)
    return float(np.median(taken[1:] or taken)) if taken else float("nan")  # the first one pays for the start


def _peak() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
