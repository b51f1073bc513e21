"""The comparison: every trial in turn, each finished one kept, each failing one a row that says why."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nevus._io import ensure_writable, to_json, write_json
from nevus._progress import console
from nevus.auditing.leakage import drop_overlap
from nevus.comparison.isolated import run_in_subprocess
from nevus.comparison.plan import ComparisonConfig, make_trials, with_time_estimates
from nevus.comparison.trial import Trial, is_done, mark_failed, run
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.runtime.distributed import current_world
from nevus.training.history import StageTimer
from nevus.training.loop import duration
from nevus.training.preparation import Preparation

PLAN, TRIALS = "plan.json", "trials"
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
        manifest: the data set. Its test split, or the one that is cut for it, is evaluated once by each trial.
        out: folder of the comparison.
        wanted: see `ComparisonConfig`.
        preparation: of the data set.
        others: images from elsewhere with the same classes; with an audit, those that show what the data set shows
            are left out.
        drawn: called with `out` at the end, and on the way at most every `OFTEN` seconds, to draw what is there.

    Returns:
        The trials that were planned.

    Raises:
        NevusError: the settings or the data set are at fault, another comparison is in the folder, or this is one
            of several processes.

    """
    if current_world().count > 1:
        raise NevusError("a comparison runs in one process; start it without torchrun.")
    ensure_writable(out)
    shown, protocol = preparation.apply(manifest, StageTimer())
    if "test" not in shown.splits():
        raise NevusError(f"{manifest.name} has no test split to compare on; cut one with --test-fraction 0.2.")
    if others is not None:
        others = _of_the_same_classes(others, shown)
        if preparation.check_duplicates:
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
        "overrides": dict(wanted.overrides),
    }
    planned = _planned(out, settings, chosen, wanted, shown)
    _announce(planned, out)
    shown_at = time.monotonic()
    for number, trial in enumerate(planned, 1):
        if is_done(trial, out / TRIALS):
            continue
        console.rule(f"{number} of {len(planned)}: {trial.name}")
        try:
            run_in_subprocess(run, trial, manifest, out / TRIALS, preparation, wanted.overrides, others)
        except NevusError as error:
            console.print(f"{trial.name} comes to nothing: {error}", style="red", highlight=False)
            mark_failed(trial, out / TRIALS, str(error))
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
            f"{others.name} has the label '{strange[0]}', which {manifest.name} has not; give --external-test images "
            f"with the labels {', '.join(manifest.classes)}, or read them otherwise (--external.task)."
        )
    others = others.with_classes(manifest.classes)
    return others.split("test") if "test" in others.splits() else others


def _planned(
    out: Path, settings: dict[str, Any], chosen: Sequence[Trial], wanted: ComparisonConfig, manifest: Manifest
) -> list[Trial]:
    """The trials with their expected times; those of an earlier start keep theirs, for times differ by start.

    Raises:
        NevusError: the folder holds a comparison with other settings.

    """
    path = out / PLAN
    plain = json.loads(to_json(settings))
    known: dict[str, Trial] = {}
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            known = {trial.name: trial for trial in (Trial(**one) for one in before["trials"])}
            differing = [key for key in plain if before["settings"][key] != plain[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise NevusError(f"{path} is damaged ({error}); choose another folder with --out.") from None
        if differing:
            raise NevusError(
                f"the comparison in {out} was made with another {differing[0]}; repeat that, or choose another "
                "folder with --out."
            )
    for trial in chosen:
        before = known.get(trial.name)
        if before and replace(before, epochs=None, expected=0.0) != replace(trial, epochs=None, expected=0.0):
            raise NevusError(
                f"{trial.name} in {out} was planned with other weights, backbone or preset; repeat these, or "
                "choose another folder with --out."
            )
    fresh = [trial for trial in chosen if trial.name not in known]
    if fresh:
        with console.status("timing what is to be done"):
            known |= {trial.name: trial for trial in with_time_estimates(wanted, fresh, manifest, list(known.values()))}
    planned = [known[trial.name] for trial in chosen]
    kept = [trial for name, trial in known.items() if name not in {trial.name for trial in planned}]
    write_json(path, {"settings": plain, "trials": [asdict(trial) for trial in (*planned, *kept)]})
    return planned


def _announce(planned: Sequence[Trial], out: Path) -> None:
    left = [trial for trial in planned if not is_done(trial, out / TRIALS)]
    for trial in planned:
        state = duration(trial.expected) if trial in left else "done"
        length = f", {trial.epochs:g} epochs" if trial.epochs else ""
        console.print(f"  {trial.name:<40} {state}{length}", highlight=False)
    total = sum(trial.expected for trial in left)
    console.print(f"{len(left)} of {len(planned)} to do, about {duration(total)} in all", highlight=False)
