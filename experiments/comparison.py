"""The table of the paper, on real data: every system once, three seeds of some, and images from elsewhere.

    python -m scripts.rivals WEIGHTS
    python -m experiments.lesions
    NEVUS_RIVALS=WEIGHTS python -m experiments.comparison [NAME ...]

Without a name the settings are listed. What is finished is not repeated; each call keeps what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.common import DATA, RESULTS, RUNS, keep, read, shown_command
from experiments.transfer import LEAK_FREE, PAPER, TABLES, leak_free
from nevus._io import to_json
from nevus.comparison.table import result_rows

RIVALS = Path(os.environ.get("NEVUS_RIVALS", RUNS / "rivals"))
NETWORKS = ("inception-v3", "vgg16", "resnet50", "efficientnet-b0")
SLOW = "vgg16"
"""Takes as long as all others together."""
ELSEWHERE = ["--against", TABLES / "isic2017-elsewhere.parquet"]
OLD = ("svm", "adaboost", "ann", "kmeans", "abcd-rule")
FOUR = ["--taps", 4]

SETTINGS: dict[str, dict[str, Any]] = {}
"""By name: the folder's name, the data, and the words after them."""
for _protocol, _data, _more in (("official", PAPER, []), ("leak-free", LEAK_FREE, ["--drop-leaks"])):
    for _name, _methods, _words in (
        ("features", OLD, []),
        ("bit", ("bit",), FOUR),
        ("networks", tuple(name for name in NETWORKS if name != SLOW), FOUR),
        ("vgg16", (SLOW,), FOUR),
        ("seeds", ("bit", "svm", "adaboost"), ["--seeds", 3, *FOUR]),
    ):
        SETTINGS[f"{_protocol}-{_name}"] = {
            "folder": _protocol,
            "data": _data,
            "methods": _methods,
            "words": [*_more, *_words, *ELSEWHERE],
        }
SETTINGS["random"] = {
    "folder": "random",
    "data": PAPER,
    "methods": ("bit", "bit-bn", *NETWORKS),
    "words": [
        "--weights",
        *(f"{name}=random" for name in ("bit", "bit-bn", *NETWORKS)),
        "--budget",
        "12m",
        *ELSEWHERE,
    ],
}
for _batch in (8, 64):
    SETTINGS[f"batch-{_batch}"] = {
        "folder": f"batch-{_batch}",
        "data": PAPER,
        "methods": ("bit", "bit-bn"),
        "words": ["--weights", "bit=random", "bit-bn=random", "--batch", _batch, "--budget", "4m"],
    }
SETTINGS["ham10000"] = {
    "folder": "ham10000",
    "data": DATA / "ham10000",
    "methods": ("bit", "svm", "adaboost", "efficientnet-b0"),
    "words": ["--split", "corrected", *FOUR],
}


def run(name: str, *, drawn: bool = False) -> None:
    """Compare, and keep the table; or keep what is there of it."""
    setting = SETTINGS[name]
    if setting["data"] == LEAK_FREE:
        leak_free()
    out = RUNS / "comparison" / setting["folder"]
    weights = [f"{one}={RIVALS / one}.safetensors" for one in NETWORKS if one in setting["methods"]]
    begun = ["--weights", *weights] if weights and "--weights" not in setting["words"] else []
    words = ["compare", setting["data"], "--out", out, "--methods", *setting["methods"], *begun, *setting["words"]]
    if not drawn:
        done = subprocess.run([sys.executable, "-m", "nevus", *map(str, words)], check=False)
        if done.returncode not in (0, 3):  # 3: a system came to nothing, and its row says why
            sys.exit(done.returncode)
    command = shown_command(words).replace(str(RIVALS), "weights")
    path = RESULTS / "comparison.json"
    before = read(path) if path.exists() else {}
    unit = next(out.glob("units/*/unit.json"))
    about = {key: read(unit)[key] for key in ("data", "classes", "n", "protocol")}
    machine = read(unit)["fit"]["machine"]
    held = before.get(setting["folder"], {"commands": [], "earlier": {}, "rows": [], "machine": machine})
    commands, earlier = held["commands"], held.get("earlier", {})
    # Times of two machines do not stand in one table: it begins anew, and what was looked at is kept in mind.
    if held["machine"]["device"] != machine["device"]:
        commands = []
        looked = {row["name"]: earlier.get(row["name"], 0) + (row["looks"] or 0) for row in held["rows"]}
        earlier = {**earlier, **looked}
    found = {
        "commands": list(dict.fromkeys([*commands, command])),
        "rows": json.loads(to_json([asdict(row) for row in result_rows(out)])),
        "about": about,
        "machine": machine,
        "earlier": earlier,
    }
    keep("comparison", {**before, setting["folder"]: found})


if __name__ == "__main__":
    spoken = argparse.ArgumentParser()
    spoken.add_argument("names", nargs="*", choices=[*SETTINGS, []])
    spoken.add_argument("--drawn", action="store_true", help="train nothing: keep what is there")
    given = spoken.parse_args()
    if not given.names:
        print("\n".join(SETTINGS))
    for chosen in given.names:
        run(chosen, drawn=given.drawn)
