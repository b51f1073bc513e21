"""The comparison: runs every trial, keeps the finished ones, and records why one failed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nevus._io import ensure_writable, to_json, write_json
from nevus._progress import console
from nevus.auditing.leakage import drop_overlap
from nevus.comparison.config import ComparisonConfig
from nevus.comparison.plan import make_trials, with_time_estimates
from nevus.comparison.trial import EXTERNAL, MANIFEST, PLAN, TRIALS, Trial, failure_path, is_done, mark_failed
from nevus.data.cache import Cache
from nevus.data.manifest import Manifest
from nevus.errors import NevusError
from nevus.runtime.distributed import current_world
from nevus.training.history import StageTimer
from nevus.training.loop import duration
from nevus.training.preparation import Preparation

DRAW_EVERY = 60.0
"""Seconds between two drawings of the table, which take some themselves."""


def compare(
    manifest: Manifest,
    out: Path,
    config: ComparisonConfig,
    preparation: Preparation,
    *,
    external: Manifest | None = None,
    draw: Callable[[Path], object] = lambda _: None,
) -> list[Trial]:
    """Train and evaluate every trial that is not finished yet.

    Args:
        manifest: the data set. Its test split, or the one that is cut for it, is evaluated once by each trial.
        out: folder of the comparison.
        config: see `ComparisonConfig`.
        preparation: of the data set.
        external: external test images with the same classes: their test split, or all where they have none. With
            a duplicate check, images that overlap with the data set are left out.
        draw: called with `out` at the end, and at most every `DRAW_EVERY` seconds before.

    Returns:
        The planned trials.

    Raises:
        NevusError: the settings or the data set cannot be used, another comparison is in the folder, or this is
            one of several processes.

    """
    if current_world().count > 1:
        raise NevusError("Cannot compare in several processes. Start nevus compare without torchrun.")
    ensure_writable(out)
    prepared, protocol = preparation.apply(manifest, StageTimer())
    if "test" not in prepared.splits():
        raise NevusError(f"Cannot compare on {manifest.name}: it has no test split. Cut one with --test-fraction 0.2.")
    external = _external_test(external, prepared, preparation) if external is not None else None
    chosen, lacking = make_trials(config)
    for sentence in lacking:
        console.print(sentence, style="yellow", highlight=False)
    settings = {
        "data": {"name": prepared.name, "digest": prepared.digest, "classes": prepared.classes, **protocol},
        "external": {"name": external.name, "digest": external.digest} if external is not None else None,
        "budget": config.budget,
        "overrides": dict(config.overrides),
    }
    planned = _plan(out, settings, chosen, config, prepared, preparation)
    manifest.save(out / MANIFEST)
    if external is not None:
        external.save(out / EXTERNAL)
    _announce(planned, out)
    drawn_at = time.monotonic()
    for number, trial in enumerate(planned, 1):
        if is_done(trial, out / TRIALS):
            continue
        console.rule(f"{number} of {len(planned)}: {trial.name}")
        _run_in_subprocess(trial, out)
        if time.monotonic() - drawn_at > DRAW_EVERY:
            draw(out)
            drawn_at = time.monotonic()
    draw(out)
    return planned


def _run_in_subprocess(trial: Trial, out: Path) -> None:
    """Run a trial in a process of its own: its memory is its own, and its death does not end the comparison."""
    failure = failure_path(trial.name, out / TRIALS)
    failure.unlink(missing_ok=True)
    code = _start(out, trial)
    if code and not failure.exists():
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        mark_failed(trial, out / TRIALS, f"its process ended with {name}, perhaps for lack of memory")
    if code:
        reason = json.loads(failure.read_text(encoding="utf-8"))["reason"]
        console.print(f"{trial.name} failed: {reason}", style="red", highlight=False)


def _start(out: Path, trial: Trial) -> int:
    # -P: a file of the working folder must not stand in for a module.
    command = [sys.executable, "-P", "-m", "nevus.comparison.trial", str(out), trial.name]
    return subprocess.run(command, check=False).returncode


def _external_test(external: Manifest, prepared: Manifest, preparation: Preparation) -> Manifest:
    unknown = sorted(set(external.table["label"]) - set(prepared.classes))
    if unknown:
        raise NevusError(
            f"Cannot evaluate on {external.name}: its label '{unknown[0]}' is not a label of {prepared.name}. Map it "
            f"with --external.labels {unknown[0]}={prepared.classes[0]}."
        )
    external = external.with_classes(prepared.classes)
    external = external.split("test") if "test" in external.splits() else external
    if preparation.check_duplicates:
        with contextlib.closing(Cache(preparation.cache)) as cache:
            external, overlap = drop_overlap(external, prepared, cache)
        if overlap:
            console.print(f"{overlap} images of {external.name} overlap with {prepared.name} and are left out.")
    return external


def _plan(
    out: Path,
    settings: dict[str, Any],
    chosen: Sequence[Trial],
    config: ComparisonConfig,
    manifest: Manifest,
    preparation: Preparation,
) -> list[Trial]:
    """Return the trials with time estimates; those of an earlier start keep theirs.

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
            raise NevusError(
                f"Cannot read '{path}': it is damaged ({error}). Choose another folder with --out."
            ) from None
        if differing:
            raise NevusError(
                f"Cannot compare in {out}: the comparison in it has another value of {differing[0]}. Choose another "
                "folder with --out."
            )
    for trial in chosen:
        before = known.get(trial.name)
        if before and _identity(before) != _identity(trial):
            raise NevusError(
                f"Cannot compare in {out}: {trial.name} in it has other weights, or another backbone or preset. "
                "Choose another folder with --out."
            )
    fresh = [trial for trial in chosen if trial.name not in known]
    if fresh:
        with console.status("estimating times"):
            timed = with_time_estimates(config, fresh, manifest, list(known.values()))
        known |= {trial.name: trial for trial in timed}
    planned = [known[trial.name] for trial in chosen]
    # Trials of an earlier start that are not asked for now stay in the plan.
    write_json(
        path,
        {
            "settings": plain,
            "preparation": asdict(preparation),
            "trials": [asdict(trial) for trial in (*planned, *(t for t in known.values() if t not in planned))],
        },
    )
    return planned


def _identity(trial: Trial) -> Trial:
    return replace(trial, epochs=None, expected=0.0, time_limit=0.0)


def _announce(planned: Sequence[Trial], out: Path) -> None:
    left = [trial for trial in planned if not is_done(trial, out / TRIALS)]
    for trial in planned:
        state = duration(trial.expected) if trial in left else "done"
        length = f", {trial.epochs:g} epochs" if trial.epochs else ""
        limit = f", limit {duration(trial.time_limit)}" if trial.time_limit and trial in left else ""
        console.print(f"  {trial.name:<40} {state}{length}{limit}", highlight=False)
    total = sum(trial.expected for trial in left)
    console.print(f"{len(left)} of {len(planned)} to do, about {duration(total)} in all", highlight=False)
