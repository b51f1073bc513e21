"""The table of a comparison: what each system reached, and whether it differs from BiT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nevus.comparison.comparison import UNITS
from nevus.comparison.published import ACCURACY, SECONDS
from nevus.comparison.unit import Half, read_unit, said
from nevus.methods.systems import SYSTEMS
from nevus.metrics.figures import Figure
from nevus.metrics.paired import DeLong, McNemar, delong_difference, holm, mcnemar

NOT_TRAINING = ("audit", "decoding", "judging")
"""Stages of a fit that are no part of its training time."""
NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """A system in the table: of several seeds the first, and the spread.

    Attributes:
        name: of the unit.
        system: its name.
        title: as it is written.
        mode: of a network.
        half: what it starts from; see `nevus.comparison.unit`.
        start: its weights, in words.
        figures: on the test split, by name.
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
        reference: whether others of its half are held against it.
        mcnemar: against the reference of its half; None for itself.
        delong: likewise.
        mcnemar_holm: the p of `mcnemar`, corrected for the rows of its half.
        delong_holm: likewise.
        paper: accuracy that the paper prints.
        paper_seconds: likewise.
        failure: why there is nothing; empty where there is.

    """

    name: str
    system: str
    title: str
    mode: str
    half: Half
    start: str = ""
    figures: Mapping[str, Figure] | None = None
    elsewhere: Mapping[str, Figure] | None = None
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


def rows(out: Path) -> list[Row]:
    """Rows of what is there, by half and then in the order of the systems.

    Args:
        out: folder of a comparison, finished or not.

    Raises:
        NevusError: a file is damaged.

    """
    held: dict[tuple[str, str, str], list[tuple[Path, dict[str, Any]]]] = {}
    order = list(SYSTEMS)
    folders = sorted((out / UNITS).iterdir()) if (out / UNITS).is_dir() else []
    for folder in folders:
        found = read_unit(folder)
        if found:
            unit = found["unit"]
            held.setdefault((unit["half"], unit["system"], unit["mode"]), []).append((folder, found))
    made: list[Row] = []
    for half in ("pretrained", "random", "features"):
        keys = sorted((key for key in held if key[0] == half), key=lambda key: (order.index(key[1]), key[2]))
        ours = [_row(held[key]) for key in keys]
        made += _held_against(ours, {row.name: out / UNITS / row.name for row in ours})
    return made


def _row(seeds: Sequence[tuple[Path, dict[str, Any]]]) -> Row:
    seeds = sorted(seeds, key=lambda pair: ("reason" in pair[1], pair[1]["unit"]["seed"]))
    folder, first = seeds[0]
    unit = first["unit"]
    row = Row(folder.name, unit["system"], SYSTEMS[unit["system"]].title, unit["mode"], unit["half"])
    row = replace(row, paper=ACCURACY.get(unit["system"], NAN), paper_seconds=SECONDS.get(unit["system"], NAN))
    if "reason" in first:
        return replace(row, failure=first["reason"], start=unit["weights"])
    fit = first["fit"]
    tests = [_figures(one["figures"]["test"]) for _, one in seeds if "reason" not in one]
    area = "auroc" if "auroc" in tests[0] else "auroc_macro"
    return replace(
        row,
        start=first["weights"],
        figures=tests[0],
        elsewhere=_figures(first["figures"].get("elsewhere", {})),
        training_accuracy=fit["training_accuracy"],
        gap=fit["gap"],
        seconds=sum(s for stage, s in fit["seconds"].items() if stage not in NOT_TRAINING),
        feature_seconds=fit["seconds"].get("features", NAN),
        milliseconds=1000 * first["seconds_an_image"] if first["seconds_an_image"] is not None else NAN,
        peak_bytes=first["peak_bytes"],
        parameters=first["parameters"],
        bytes=first["bytes"],
        accuracies=tuple(test["accuracy"].value for test in tests),
        areas=tuple(test[area].value for test in tests),
    )


def _figures(plain: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    def number(value: float | None) -> float:
        return NAN if value is None else value

    return {
        name: Figure(number(one["value"]), one["n"], number(one["low"]), number(one["high"]), one["method"])
        for name, one in plain.items()
    }


def _held_against(ours: list[Row], folders: Mapping[str, Path]) -> list[Row]:
    """With tests against the half's BiT, on the images that both could read, and Holm's correction."""
    reference = next((row for row in ours if row.system == "bit" and not row.failure), None)
    if reference is None:
        return ours
    y, p, images = said(folders[reference.name], "test")
    tested: list[Row] = []
    for row in ours:
        if row.failure or row.name == reference.name:
            tested.append(replace(row, reference=row.name == reference.name))
            continue
        _, theirs, names = said(folders[row.name], "test")
        _, first, second = np.intersect1d(images, names, return_indices=True)
        classes = p.shape[1]
        areas = delong_difference(y[first] == 1, theirs[second][:, 1], p[first][:, 1]) if classes == 2 else None
        calls = mcnemar(y[first], theirs[second].argmax(1), p[first].argmax(1))
        tested.append(replace(row, mcnemar=calls, delong=areas))
    called = holm([row.mcnemar.p if row.mcnemar else NAN for row in tested])
    ranked = holm([row.delong.p if row.delong else NAN for row in tested])
    return [replace(row, mcnemar_holm=a, delong_holm=b) for row, a, b in zip(tested, called, ranked, strict=True)]
