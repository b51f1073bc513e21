"""The comparison: every unit in turn, each finished one kept, each failing one a row that says why."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nevus._io import to_json, ensure_writable, write_json
from nevus._progress import console
from nevus.audit.leakage import drop_overlap
from nevus.comparison.isolated import run_in_subprocess
from nevus.comparison.plan import ComparisonConfig, with_time_estimates, make_trials
from nevus.comparison.trial import Trial, is_done, mark_failed, run
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.runtime.distributed import current_world
from nevus.training.history import StageTimer
from nevus.training.loop import duration
from nevus.training.overrides import changed
from nevus.training.preparation import Preparation

PLAN, UNITS = "plan.json", "units"
OFTEN = 60.0
"""Seconds between two drawings of the table: they take some themselves."""


def compare(
    manifest: Manifest,
    out: Path,
    wanted: ComparisonConfig,
    preparation: Preparation,
    *,
    others: Manifest | None = None,
    drawn: Callable[[Path], object] = lambda _: None,
) -> list[Trial]:
    """Train and judge everything that is wanted; what is finished already is not repeated.

    Args:
        manifest: the data set. Its test split, or the one that is cut for it, is looked at once by each unit.
        out: folder of the comparison.
        wanted: see `ComparisonConfig`.
        preparation: of the data set.
        others: images from elsewhere with the same classes; with an audit, those that show what the data set shows
            are left out.
        drawn: called with `out` at the end, and on the way at most every `OFTEN` seconds, to draw what is there.

    Returns:
        The units that were planned.

    Raises:
        NevusError: the settings or the data set are at fault, another comparison is in the folder, or this is one
            of several processes.

    """
    if current_world().count > 1:
        raise NevusError("a comparison runs in one process; start it without torchrun.")
    ensure_writable(out)
    shown, protocol = preparation.of(manifest, StageTimer())
    if "test" not in shown.splits():
        raise NevusError(f"{manifest.name} has no test split to compare on; cut one with --split.test 0.2.")
    if others is not None:
        others = _of_the_same_classes(others, shown)
        if preparation.audit:
            with contextlib.closing(Cache(preparation.cache)) as cache:
                others, known = drop_overlap(others, shown, cache)
            if known:
                console.print(
                    f"{known} images of {others.name} show what {shown.name} shows and are left out.",
                    highlight=False,
                )
    chosen, lacking = make_trials(wanted)
    for sentence in lacking:
        console.print(sentence, style="yellow", highlight=False)
    settings = {
        "data": {"name": shown.name, "digest": shown.digest, "classes": shown.classes, **protocol},
        "others": {"name": others.name, "digest": others.digest} if others is not None else None,
        "budget": wanted.budget,
        "changes": changed(wanted.changes),
    }
    planned = _planned(out, settings, chosen, wanted, shown)
    _announce(planned, out)
    shown_at = time.monotonic()
    for number, unit in enumerate(planned, 1):
        if is_done(unit, out / UNITS):
            continue
        console.rule(f"{number} of {len(planned)}: {unit.name}")
        try:
            run_in_subprocess(run, unit, manifest, out / UNITS, preparation, wanted.changes, others)
        except NevusError as error:
            console.print(f"{unit.name} comes to nothing: {error}", style="red", highlight=False)
            mark_failed(unit, out / UNITS, str(error))
        if time.monotonic() - shown_at > OFTEN:
            drawn(out)
            shown_at = time.monotonic()
    drawn(out)
    return planned


def _of_the_same_classes(others: Manifest, manifest: Manifest) -> Manifest:
    """What is judged of images from elsewhere: their test split, or all where they have none.

    Raises:
        NevusError: they have a label that the data set has not.

    """
    strange = sorted(set(others.table["label"]) - set(manifest.classes))
    if strange:
        raise NevusError(
            f"{others.name} has the label '{strange[0]}', which {manifest.name} has not; give --against images "
            f"with the labels {', '.join(manifest.classes)}, or read them otherwise (--elsewhere.task)."
        )
    others = others.with_classes(manifest.classes)
    return others.split("test") if "test" in others.splits() else others


def _planned(
    out: Path, settings: dict[str, Any], chosen: Sequence[Trial], wanted: ComparisonConfig, manifest: Manifest
) -> list[Trial]:
    """The units with their expected times; those of an earlier start keep theirs, for times differ by start.

    Raises:
        NevusError: the folder holds a comparison with other settings.

    """
    path = out / PLAN
    plain = json.loads(to_json(settings))
    known: dict[str, Trial] = {}
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            known = {unit.name: unit for unit in (Trial(**one) for one in before["units"])}
            differing = [key for key in plain if before["settings"][key] != plain[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise NevusError(f"{path} is damaged ({error}); choose another folder with --out.") from None
        if differing:
            raise NevusError(
                f"the comparison in {out} was made with another {differing[0]}; repeat that, or choose another "
                "folder with --out."
            )
    for unit in chosen:
        before = known.get(unit.name)
        if before and replace(before, epochs=None, expected=0.0) != replace(unit, epochs=None, expected=0.0):
            raise NevusError(
                f"{unit.name} in {out} was planned with other weights, trunk, recipe or taps; repeat these, or "
                "choose another folder with --out."
            )
    fresh = [unit for unit in chosen if unit.name not in known]
    if fresh:
        with console.status("timing what is to be done"):
            known |= {unit.name: unit for unit in with_time_estimates(wanted, fresh, manifest, list(known.values()))}
    planned = [known[unit.name] for unit in chosen]
    kept = [unit for name, unit in known.items() if name not in {unit.name for unit in planned}]
    write_json(path, {"settings": plain, "units": [asdict(unit) for unit in (*planned, *kept)]})
    return planned


def _announce(planned: Sequence[Trial], out: Path) -> None:
    left = [unit for unit in planned if not is_done(unit, out / UNITS)]
    for unit in planned:
        state = duration(unit.expected) if unit in left else "done"
        length = f", {unit.epochs:g} epochs" if unit.epochs else ""
        console.print(f"  {unit.name:<40} {state}{length}", highlight=False)
    total = sum(unit.expected for unit in left)
    console.print(f"{len(left)} of {len(planned)} to do, about {duration(total)} in all", highlight=False)
