"""The table of a comparison: what each system reached, and whether it differs from BiT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nevus.baselines.methods import METHODS
from nevus.comparison.published import ACCURACY, READERS, SECONDS, SUPPORT, ReaderStudy
from nevus.comparison.runner import TRIALS
from nevus.comparison.trial import Initialization, load_predictions, read_trials
from nevus.metrics.report import MetricEstimate
from nevus.metrics.significance import DeLong, McNemar, delong_difference, holm_correction, mcnemar

NOT_TRAINING = ("audit", "decoding", "validation")
"""Stages of a fit that are no part of its training time."""
NAN = float("nan")


@dataclass(frozen=True)
class ResultRow:
    """A system in the table: of several seeds the first, and the spread.

    Attributes:
        name: of the trial.
        system: its name.
        title: as it is written.
        tuning: of a network.
        initialization: what it starts from; see `nevus.comparison.trial`.
        start: its weights, in words.
        metrics: on the test split, by name.
        elsewhere: on images from elsewhere; empty where there are none.
        training_accuracy: NaN where it failed; likewise the other numbers.
        gap: training accuracy less that on validation.
        seconds: of training: features, search, fit; without the audit, decoding and judging.
        feature_seconds: of these, the features.
        milliseconds: for one image, from its file to its probabilities.
        peak_bytes: most memory held.
        parameters: of a network.
        bytes: of its bundle.
        accuracies: on the test split, of each seed.
        areas: AUROC on the test split, of each seed.
        reference: whether others are held against it.
        mcnemar: against the reference; None for itself.
        delong: likewise.
        mcnemar_holm: the p of `mcnemar`, corrected for all rows that are held against the same one.
        delong_holm: likewise.
        paper: accuracy that the paper prints, where the test split is the paper's.
        paper_seconds: likewise.
        failure: why there is nothing; empty where there is.
        failures: of single seeds, where others came to something.
        times: seconds of training, of each seed.
        looks: at test splits and at images from elsewhere, by its bundle so far.
        resumed: whether the training was interrupted, so that its times are those of its last part.

    """

    name: str
    system: str
    title: str
    tuning: str
    initialization: Initialization
    start: str = ""
    metrics: Mapping[str, MetricEstimate] | None = None
    elsewhere: Mapping[str, MetricEstimate] | None = None
    training_accuracy: float = NAN
    gap: float = NAN
    seconds: float = NAN
    feature_seconds: float = NAN
    milliseconds: float = NAN
    peak_bytes: float = NAN
    parameters: int | None = None
    bytes: float = NAN
    accuracies: tuple[float, ...] = ()
    areas: tuple[float, ...] = ()
    reference: bool = False
    mcnemar: McNemar | None = None
    delong: DeLong | None = None
    mcnemar_holm: float = NAN
    delong_holm: float = NAN
    paper: float = NAN
    paper_seconds: float = NAN
    failure: str = ""
    failures: tuple[str, ...] = ()
    times: tuple[float, ...] = ()
    looks: int | None = None
    resumed: bool = False


def result_rows(out: Path) -> list[ResultRow]:
    """Rows of what is there, by initialization and then in the order of the systems; dermatologists last.

    Args:
        out: folder of a comparison, finished or not.

    Raises:
        NevusError: a file is damaged.

    """
    held: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    order = list(METHODS)
    for name, found in read_trials(out / TRIALS).items():
        trial = found["trial"]
        held.setdefault((trial["initialization"], trial["system"], trial["tuning"]), []).append({**found, "name": name})
    # The head before the whole network: whether others are held against it must not hang on what is added later.
    keys = sorted(
        held, key=lambda key: (INITIALIZATION_ORDER.index(key[0]), order.index(key[1]), key[2] != "linear-probe")
    )
    made = _tested([_row(held[key]) for key in keys], out / TRIALS)
    told = any(row.metrics and "sensitivity" in row.metrics for row in made)
    return [*made, *(map(_reader, READERS) if told else ())]


INITIALIZATION_ORDER = ("pretrained", "random", "features")


def _reader(study: ReaderStudy) -> ResultRow:
    def published(value: float) -> MetricEstimate:
        return MetricEstimate(value, study.readers, NAN, NAN, "published")

    metrics = {"sensitivity": published(study.sensitivity), "specificity": published(study.specificity)}
    title = f"{study.readers} dermatologists ({study.study}; {study.images})"
    return ResultRow(title, "dermatologists", title, "", "readers", metrics=metrics)


def _row(seeds: Sequence[dict[str, Any]]) -> ResultRow:
    seeds = sorted(seeds, key=lambda one: ("reason" in one, one["trial"]["seed"]))
    first, whole = seeds[0], [one for one in seeds if "reason" not in one]
    trial = first["trial"]
    system = METHODS[trial["system"]]
    title = f"{system.title} ({trial['backbone']})" if trial["backbone"] in system.near else system.title
    row = ResultRow(
        first["name"],
        trial["system"],
        title,
        trial["tuning"],
        trial["initialization"],
    )
    if whole and tuple(first["support"]) == SUPPORT:
        row = replace(row, paper=ACCURACY.get(trial["system"], NAN), paper_seconds=SECONDS.get(trial["system"], NAN))
    if not whole:
        return replace(row, failure=first["reason"], start=trial["weights"])
    failures = tuple(f"seed {one['trial']['seed']}: {one['reason']}" for one in seeds if "reason" in one)
    fit = first["fit"]
    tests = [_metrics(one["metrics"]["test"]) for one in whole]
    area = "auroc" if "auroc" in tests[0] else "auroc_macro"
    times = [_training(one["fit"]) for one in whole]
    return replace(
        row,
        start=first["weights"],
        metrics=tests[0],
        elsewhere=_metrics(first["metrics"].get("elsewhere", {})),
        training_accuracy=fit["training_accuracy"],
        gap=fit["gap"],
        seconds=times[0],
        resumed=first["resumed"],
        feature_seconds=fit["seconds"].get("features", NAN),
        milliseconds=1000 * first["seconds_an_image"] if first["seconds_an_image"] is not None else NAN,
        peak_bytes=NAN if first["peak_bytes"] is None else first["peak_bytes"],
        parameters=first["parameters"],
        bytes=first["bytes"],
        accuracies=tuple(test["accuracy"].value for test in tests),
        areas=tuple(test[area].value for test in tests),
        times=tuple(times),
        failures=failures,
        looks=first["looks"],
    )


def _training(fit: Mapping[str, Any]) -> float:
    return float(sum(seconds for stage, seconds in fit["seconds"].items() if stage not in NOT_TRAINING))


def _metrics(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, MetricEstimate]:
    """Read the metrics of a trial with their intervals."""

    def number(value: float | None) -> float:
        return NAN if value is None else value

    found = {}
    for name, one in plain.items():
        low, high = number(one["ci_low"]), number(one["ci_high"])
        found[name] = MetricEstimate(number(one["value"]), one["n"], low, high, one["method"])
    return found


def _tested(found: Sequence[ResultRow], folder: Path) -> list[ResultRow]:
    """With tests on the images that both could read, and Holm's correction over all that were held against one BiT.

    Networks are held against the BiT that began as they did. What learns from handcrafted features began with
    nothing, and is held against the pretrained one where there is one.
    """
    references = {
        initialization: next(
            (row for row in found if (row.system, row.initialization) == ("bit", initialization) and not row.failure),
            None,
        )
        for initialization in ("pretrained", "random")
    }
    references["features"] = references["pretrained"] or references["random"]
    made: list[ResultRow] = []
    held: dict[str, list[int]] = {}
    for row in found:
        reference = references[row.initialization]
        if reference is None or row.failure:
            made.append(row)
        elif row.name == reference.name:
            made.append(replace(row, reference=True))
        else:
            held.setdefault(reference.name, []).append(len(made))
            made.append(_against(row, reference, folder))
    for mine in held.values():
        called, ranked = (
            holm_correction([test.p if test else NAN for test in tests])
            for tests in ([made[k].mcnemar for k in mine], [made[k].delong for k in mine])
        )
        for k, a, b in zip(mine, called, ranked, strict=True):
            made[k] = replace(made[k], mcnemar_holm=a, delong_holm=b)
    return made


def _against(row: ResultRow, reference: ResultRow, folder: Path) -> ResultRow:
    y, p, images = load_predictions(folder / reference.name, "test")
    _, theirs, names = load_predictions(folder / row.name, "test")
    _, first, second = np.intersect1d(images, names, return_indices=True)
    areas = delong_difference(y[first] == 1, theirs[second][:, 1], p[first][:, 1]) if p.shape[1] == 2 else None
    calls = mcnemar(y[first], theirs[second].argmax(1), p[first].argmax(1))
    return replace(row, mcnemar=calls, delong=areas)
