"""A trial: one method with one seed, trained, evaluated and measured in a process of its own.

`python -m nevus.comparison.trial FOLDER NAME` runs one trial of the plan in a comparison's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
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
from nevus.data.cache import Cache, CacheConfig
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import read
from nevus.data.splits import SplitConfig
from nevus.errors import NevusError
from nevus.evaluation import Evaluation, evaluate
from nevus.models.handcrafted.feature_cache import CachedFeatures
from nevus.models.registry import RANDOM
from nevus.models.spec import HANDCRAFTED
from nevus.training.config import Tuning
from nevus.training.history import StageTimer
from nevus.training.overrides import Overrides, drop_unused
from nevus.training.preparation import Preparation
from nevus.training.run_dir import CHECKPOINT
from nevus.training.trainer import Trainer

PLAN, TRIALS, DONE = "plan.json", "trials", "trial.json"
MANIFEST, EXTERNAL = "manifest.parquet", "external.parquet"
TIMED_IMAGES = 32
"""Images whose time is measured, one by one."""
POLL = 0.2
"""Seconds between two looks at the time limit."""

Initialization = Literal["pretrained", "random", "features", "readers"]
"""What a method starts from. Networks of one initialization are not ranked with those of another; `readers` are
dermatologists."""


@dataclass(frozen=True)
class Trial:
    """A method with a seed and initial weights.

    Attributes:
        system: name of the method, see `nevus.baselines.methods`.
        seed: of everything random.
        initialization: what it starts from.
        tuning: of a network; empty for others.
        backbone: of a network.
        weights: of a network, as `Trainer` takes them.
        preset: of a network.
        epochs: of a network, instead of the preset's own.
        expected: estimated seconds.
        time_limit: seconds after which the training ends; 0 sets no limit.

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
    time_limit: float = 0.0

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [self.system, self.tuning, RANDOM if self.initialization == "random" else "", f"seed{self.seed}"]
        return "-".join(part for part in parts if part)

    def trainer(
        self, preparation: Preparation, overrides: Overrides, features: CachedFeatures | None = None
    ) -> Trainer | HandcraftedTrainer:
        """Return what trains it; handcrafted features are looked up in `features`."""
        if not is_network(self.system):
            return HandcraftedTrainer(self.system, self.seed, preparation, features)
        tuning = cast(Tuning, self.tuning)
        if self.epochs is not None:  # the time limit sets the length
            overrides = {name: value for name, value in overrides.items() if name != "steps"}
        return Trainer(
            preset=self.preset,
            backbone=self.backbone,
            weights=self.weights,
            overrides={**drop_unused(overrides, tuning), "tuning": tuning},
            epochs=self.epochs,
            seed=self.seed,
            preparation=preparation,
        )


def is_done(trial: Trial, trials: Path) -> bool:
    """Return whether a trial is finished."""
    return (trials / trial.name / DONE).exists()


def failure_path(name: str, trials: Path) -> Path:
    """Return where the reason of a failure is written: outside the trial's folder, in which a run could not begin."""
    return trials / f"{name}.failed.json"


def mark_failed(trial: Trial, trials: Path, reason: str) -> None:
    """Write why a trial failed; it is tried again the next time."""
    write_json(failure_path(trial.name, trials), {"trial": asdict(trial), "reason": reason})


def read_trials(trials: Path) -> dict[str, dict[str, Any]]:
    """Return the records of the trials, finished or failed, by name.

    Raises:
        NevusError: a file is damaged.

    """
    records: dict[str, dict[str, Any]] = {}
    for path in sorted([*trials.glob(f"*/{DONE}"), *trials.glob("*.failed.json")]):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise NevusError(f"Cannot read '{path}': it is damaged ({error}). Delete it.") from None
        name = path.parent.name if path.name == DONE else path.name.removesuffix(".failed.json")
        records.setdefault(name, record)
    return records


def load_predictions(folder: Path, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    """Return the predictions of a trial.

    Args:
        folder: of the trial.
        name: `test` or `external`.

    Returns:
        True classes (n,), probabilities (n, classes), and the names of the images (n,).

    """
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        return arrays["y"], arrays["p"], arrays["image"]


def run(
    trial: Trial,
    manifest: Manifest,
    trials: Path,
    preparation: Preparation,
    overrides: Overrides,
    external: Manifest | None,
) -> None:
    """Train, evaluate and measure, and write `trial.json`. An interrupted training is resumed.

    Args:
        trial: what is trained.
        manifest: the data set, with a test split.
        trials: folder of all trials.
        preparation: of the data set.
        overrides: to the preset of networks.
        external: external test images, if any.

    Raises:
        NevusError: the data set or the settings cannot be used, or the loss is not finite.

    """
    with contextlib.closing(Cache(preparation.cache)) as cache:
        features = CachedFeatures(cache) if preparation.cache.gigabytes else None  # several methods share them
        _run(trial, manifest, trials, preparation, overrides, external, features)


def _run(
    trial: Trial,
    manifest: Manifest,
    trials: Path,
    preparation: Preparation,
    overrides: Overrides,
    external: Manifest | None,
    features: CachedFeatures | None,
) -> None:
    folder = trials / trial.name
    finished = (folder / "bundle").exists()
    resumed = finished or (folder / CHECKPOINT).exists()
    timer = StageTimer(trial.time_limit or float("inf"))
    with _enforced(timer, trial, trials):
        classifier = trial.trainer(preparation, overrides, features).fit(manifest, folder, resume=True, timer=timer)
    peak = float("nan") if finished else _peak_memory()  # that of another process is not known
    split = read(folder / MANIFEST)
    evaluated = {"test": evaluate(_with_features(classifier, features), split, "test")}
    if external is not None:
        evaluated["external"] = evaluate(_with_features(classifier, features), external, "all")
    for name, evaluation in evaluated.items():
        _save_predictions(evaluation, folder / f"{name}.npz")
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
            "data": {name: one.about["data"] for name, one in evaluated.items()},
            "classes": list(classifier.classes),
            "fit": about["fit"],
            "epochs": about["history"][-1]["epoch"] if about["history"] else None,
            "resumed": resumed,
            "seconds_per_image": _seconds_per_image(classifier, split),
            "peak_bytes": peak,
            "parameters": _parameters(classifier),
            "bytes": sum(path.stat().st_size for path in (folder / "bundle").iterdir() if path.name != TEST_LOG),
            "metrics": {
                name: {key: metric.as_dict() for key, metric in one.metrics.items()} for name, one in evaluated.items()
            },
            "constant": len(set(evaluated["test"].p.argmax(1).tolist())) == 1,
            "n": {name: len(one.y) for name, one in evaluated.items()},
            "groups": {name: len(set(one.manifest.groups.tolist())) for name, one in evaluated.items()},
            "support": np.bincount(evaluated["test"].y, minlength=len(classifier.classes)).tolist(),
            "test_evaluations": len(read_test_log(classifier.bundle)),
        },
    )


@contextlib.contextmanager
def _enforced(timer: StageTimer, trial: Trial, trials: Path) -> Iterator[None]:
    """End this process when its time is over in a stage that cannot be cut short and leave a result."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL):
            if timer.stage in ("features", "fitting") and timer.expired():
                mark_failed(trial, trials, f"not finished within its time limit of {trial.time_limit:.0f} s")
                os._exit(3)

    if trial.time_limit:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _end_with_parent() -> None:
    """End when the comparison does, however that ended: a trial would go on unseen next to the following one."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _with_features(classifier: Classifier, features: CachedFeatures | None) -> Classifier:
    """Return the same classifier, which looks up the handcrafted features that are known."""
    if features is None or classifier.bundle.spec.backbone != HANDCRAFTED:
        return classifier
    other = Classifier(classifier.bundle)
    other.engine = replace(classifier.bundle.load_estimator(), describe=features)
    return other


def _parameters(classifier: Classifier) -> int | None:
    if classifier.bundle.spec.backbone == HANDCRAFTED:
        return None
    return sum(p.numel() for p in classifier.bundle.load_network().parameters())


def _save_predictions(evaluation: Evaluation, path: Path) -> None:
    images = np.array([str(name) for name in evaluation.manifest.table["image"]], np.str_)
    with atomic_path(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, y=evaluation.y, p=evaluation.p, image=images)


def _seconds_per_image(classifier: Classifier, manifest: Manifest) -> float:
    """Return the median time from a file to its probabilities, one image at a time."""
    seconds = []
    for path in manifest.split("test").paths[: TIMED_IMAGES + 1]:
        began = time.perf_counter()
        with contextlib.suppress(NevusError):
            classifier.predict_proba(path)
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:] or seconds)) if seconds else float("nan")  # the first includes the start


def _peak_memory() -> float:
    """Return the largest memory of this process in bytes; NaN where the system does not count it."""
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _preparation(values: dict[str, Any]) -> Preparation:
    folder = values["cache"]["folder"]
    cache = CacheConfig(Path(folder) if folder else None, values["cache"]["gigabytes"])
    return Preparation(**{**values, "split": SplitConfig(**values["split"]), "cache": cache})


def run_planned(folder: Path, name: str) -> int:
    """Run one trial of a comparison's plan; exit status 3 and a file with the reason where it fails."""
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    trial = next(one for one in (Trial(**values) for values in plan["trials"]) if one.name == name)
    trials = folder / TRIALS
    try:
        external = read(folder / EXTERNAL) if plan["settings"]["external"] else None
        preparation = _preparation(plan["preparation"])
        run(trial, read(folder / MANIFEST), trials, preparation, plan["settings"]["overrides"], external)
    except Exception as error:  # whatever a method fails with is a row of the table
        lines = str(error).splitlines() or [""]
        mark_failed(trial, trials, lines[0] if isinstance(error, NevusError) else f"{type(error).__name__}: {lines[0]}")
        return 3
    return 0


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(run_planned(Path(sys.argv[1]), sys.argv[2]))
