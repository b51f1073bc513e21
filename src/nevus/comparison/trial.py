"""One system in a comparison: trained, judged, measured; and resumable as a whole."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from nevus._io import atomic_path, write_json
from nevus.baselines.methods import is_network
from nevus.baselines.train import HandcraftedTrainer
from nevus.bundle.classifier import Classifier
from nevus.bundle.test_log import TEST_LOG, read_test_log
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError
from nevus.evaluation import Evaluation, evaluate
from nevus.models.handcrafted.feature_cache import CachedFeatures
from nevus.models.registry import RANDOM
from nevus.models.spec import HANDCRAFTED
from nevus.training.config import Tuning
from nevus.training.overrides import Overrides, drop_unused
from nevus.training.preparation import Preparation
from nevus.training.run_dir import CHECKPOINT
from nevus.training.trainer import Trainer

DONE = "trial.json"
TIMED = 32
"""Images whose time is taken, one by one."""

Initialization = Literal["pretrained", "random", "features", "readers"]
"""What a system starts from; `readers` are people. Networks of one initialization are never ranked with those of
another."""


@dataclass(frozen=True)
class Trial:
    """A system with a seed and a start.

    Attributes:
        system: its name; see `nevus.baselines.methods`.
        seed: of everything random.
        initialization: what it starts from.
        tuning: of a network, `head` or `full`; empty for others.
        backbone: of a network.
        weights: of a network, as `Trainer` takes them.
        preset: of a network.
        epochs: of a network, instead of the preset's own.
        expected: seconds that it was thought to take.

    """

    system: str
    seed: int
    initialization: Initialization
    tuning: str = ""
    backbone: str = ""
    weights: str = ""
    preset: str = "best"
    epochs: float | None = None
    expected: float = 0.0

    @property
    def name(self) -> str:
        """Of its folder."""
        parts = [self.system, self.tuning, RANDOM if self.initialization == "random" else "", f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    def method(
        self, preparation: Preparation, overrides: Overrides, memory: CachedFeatures | None = None
    ) -> Trainer | HandcraftedTrainer:
        """As a method; the memory is of handcrafted features."""
        if not is_network(self.system):
            return HandcraftedTrainer(self.system, self.seed, preparation, memory)
        tuning = cast(Tuning, self.tuning)
        # A share of the time sets the length: one that was asked for gives way.
        given = overrides if self.epochs is None else without_length(overrides)
        return Trainer(
            preset=self.preset,
            backbone=self.backbone,
            weights=self.weights,
            overrides={**drop_unused(given, tuning), "tuning": tuning},
            epochs=self.epochs,
            seed=self.seed,
            preparation=preparation,
        )


def without_length(overrides: Overrides) -> Overrides:
    """Return all overrides but that of the number of steps."""
    return {name: value for name, value in overrides.items() if name != "steps"}


def is_done(trial: Trial, out: Path) -> bool:
    """Whether a trial is finished."""
    return (out / trial.name / DONE).exists()


def run(
    trial: Trial,
    manifest: Manifest,
    out: Path,
    preparation: Preparation,
    overrides: Overrides,
    others: Manifest | None,
) -> None:
    """Train, judge and measure, and write `trial.json`; a training that was interrupted goes on.

    Args:
        trial: what is trained.
        manifest: the data set, with a test split.
        out: folder of all trials.
        preparation: of the data set.
        overrides: to the preset of networks.
        others: external images: their test split is evaluated, or all of them where they have none; None where
            there are no such images.

    Raises:
        NevusError: the data set or the settings are at fault, or the loss is not finite.

    """
    folder = out / trial.name
    made = (folder / "bundle").exists()
    resumed = made or (folder / CHECKPOINT).exists()
    memory = CachedFeatures() if preparation.cache.gigabytes else None  # several systems describe the same images
    began = time.perf_counter()
    classifier = trial.method(preparation, overrides, memory).fit(manifest, folder, resume=True)
    seconds = time.perf_counter() - began + (memory.saved if memory else 0.0)
    peak = float("nan") if made else _peak()  # what a training held that another process ended is not known
    split = read(folder / "manifest.parquet")
    judge = _with_memory(classifier, memory)
    judged = {"test": evaluate(judge, split, "test")}
    if others is not None:
        judged["elsewhere"] = evaluate(judge, others, "test" if "test" in others.splits() else "all")
    for name, evaluation in judged.items():
        _keep(evaluation, folder / f"{name}.npz")
    about, spec = classifier.bundle.provenance, classifier.bundle.spec
    write_json(
        folder / DONE,
        {
            "trial": asdict(trial),
            "weights": about["backbone_weights"],
            "backbone": spec.backbone,
            "image_size": spec.image_size,
            "config": about["config"],
            "protocol": about["data"]["protocol"],
            "data": {name: one.about["data"] for name, one in judged.items()},
            "classes": list(classifier.classes),
            "fit": about["fit"],
            "resumed": resumed,
            "seconds": seconds,
            "seconds_an_image": _seconds_an_image(classifier, split),
            "peak_bytes": peak,
            "parameters": _parameters(classifier),
            "bytes": sum(path.stat().st_size for path in (folder / "bundle").iterdir() if path.name != TEST_LOG),
            "metrics": {
                name: {key: figure.as_dict() for key, figure in one.metrics.items()} for name, one in judged.items()
            },
            "n": {name: len(one.y) for name, one in judged.items()},
            "groups": {name: len(set(one.manifest.groups.tolist())) for name, one in judged.items()},
            "support": np.bincount(judged["test"].y, minlength=len(classifier.classes)).tolist(),
            "looks": len(read_test_log(classifier.bundle)),
        },
    )
    failure_of(trial.name, out).unlink(missing_ok=True)


def failure_of(name: str, out: Path) -> Path:
    """Where it is noted why a trial came to nothing: beside its folder, in which a run would not begin otherwise."""
    return out / f"{name}.failed.json"


def mark_failed(trial: Trial, out: Path, reason: str) -> None:
    """Note why a trial came to nothing; it is tried again the next time."""
    write_json(failure_of(trial.name, out), {"trial": asdict(trial), "reason": reason})


def read_trials(out: Path) -> dict[str, dict[str, Any]]:
    """What is known of the trials, finished or failed, by name.

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
    """What a trial said of a set: true classes (n,), probabilities (n, classes), the images' names (n,)."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as held:
        return held["y"], held["p"], held["image"]


def _with_memory(classifier: Classifier, memory: CachedFeatures | None) -> Classifier:
    """The same classifier, looking up what handcrafted features it can."""
    if memory is None or classifier.bundle.spec.backbone != HANDCRAFTED:
        return classifier
    looking = Classifier(classifier.bundle)
    looking.engine = replace(classifier.bundle.load_estimator(), describe=memory)
    return looking


def _parameters(classifier: Classifier) -> int | None:
    """Weights of a network; None for others."""
    if classifier.bundle.spec.backbone == HANDCRAFTED:
        return None
    return sum(p.numel() for p in classifier.bundle.load_network().parameters())


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


def _peak() -> float:
    """Return the most memory that this process has held, in bytes; NaN where the system does not count it."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
