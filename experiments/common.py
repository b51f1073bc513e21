"""What every experiment does: run the program's own commands and keep what they wrote."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nevus.bundle.bundle import load_bundle
from nevus.bundle.test_log import test_evaluations
from nevus.training.history import metrics_by_epoch

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NEVUS_DATA", ROOT.parent / "shared" / "data"))
RUNS = Path(os.environ.get("NEVUS_RUNS", ROOT / "runs"))
RESULTS = ROOT / "results"


def nevus(*words: object) -> str:
    """Run a command of the program; the command as one would type it."""
    arguments = [str(word) for word in words]
    done = subprocess.run([sys.executable, "-m", "nevus", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return shown_command(words)


def shown_command(words: Sequence[object]) -> str:
    """A command as one would type it, with short paths."""
    return shlex.join(["nevus", *(_short(str(word)) for word in words)])


def _short(argument: str) -> str:
    upstream = os.environ.get("NEVUS_UPSTREAM", "upstream-sets")
    short = argument.replace(upstream, "$NEVUS_UPSTREAM")
    return short.replace(str(DATA), "../shared/data").replace(str(RUNS), "runs").replace(f"{ROOT}/", "")


def read(path: Path) -> dict[str, Any]:
    """JSON of a file."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def keep(name: str, value: dict[str, Any]) -> None:
    """Write an experiment's result."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {path}")


def train(out: Path, data: Path, *flags: object) -> dict[str, Any]:
    """Train, or go on where an earlier call was interrupted; what the run says of itself."""
    command = nevus("train", data, "--out", out, *flags, "--resume")
    return {
        "command": command.removesuffix(" --resume"),
        "config": read(out / "config.json"),
        "fit": read(out / "fit.json"),
        "history": metrics_by_epoch([json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]),
    }


def evaluate(out: Path, data: Path, *flags: object, split: str = "test", bundle: str = "") -> dict[str, Any]:
    """Evaluate once: a result that is there is read, and the test split is not looked at again.

    Args:
        out: folder of the run.
        data: what it is judged on.
        flags: further words.
        split: of `data`.
        bundle: one of the package's classifiers, by name, in place of the run's own.

    """
    page = out / "-".join(["evaluation", split, *(str(flag).strip("-") for flag in flags)])
    words = ["evaluate", data, "--split", split, "--bundle", bundle or out / "bundle", "--out", page, *flags]
    if (page / "evaluation.json").exists():
        command = shlex.join(["nevus", *(_short(str(w)) for w in words)])
    else:
        command = nevus(*words)
    looks = test_evaluations(load_bundle(bundle or out / "bundle"))
    return {"command": command, "evaluation": read(page / "evaluation.json"), "looks_at_test": len(looks)}
