"""Trunks beside one another: a linear head on each, on a validation split of isic-malignant-benign; no test split.

    python -m experiments.trunks

The official split's training images, with validation cut between the groups that the audit finds. Each stage of
`experiments.upstream` that is on this machine at 128 px, and what comes with the package at larger sides, too.
"""

from __future__ import annotations

from typing import Any

from experiments.common import DATA, RESULTS, RUNS, keep, read, train
from experiments.upstream import SHIP_AS, STAGES, TABLES

HEAD = ("--mode", "head", "--taps", 4)
SIDES = (128, 160, 192, 224)


def settings() -> dict[str, list[Any]]:
    """Flags of `nevus train` by name."""
    found: dict[str, list[Any]] = {}
    for stage in STAGES:
        file = TABLES / stage / "trunk.safetensors"
        if file.exists():
            found[f"{stage} at 128"] = [*HEAD, "--trunk", "bit-r26x0.5", "--weights", file]
    for name in SHIP_AS.values():
        for side in SIDES:
            found[f"{name} at {side}"] = [*HEAD, "--trunk", name, "--side", side]
    return found


if __name__ == "__main__":
    path = RESULTS / "trunks.json"
    kept: dict[str, Any] = read(path) if path.exists() else {}
    for name, flags in settings().items():
        run = train(RUNS / "trunks" / name.replace(" ", "-"), DATA / "isic-malignant-benign", *flags)
        fit = run["fit"]
        figures = {key: fit["validation"][key] for key in ("accuracy", "auroc")}
        kept[name] = {"command": run["command"], **figures, "seconds": fit["seconds"], "machine": fit["machine"]}
        keep("trunks", kept)
