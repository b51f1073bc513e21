"""What the trunks that come with the package are worth, on test splits: the looks of each bundle are counted.

    python -m experiments.lesions
    python -m experiments.transfer NAME [NAME ...]

Without a name the settings are listed. Finished ones are not repeated.
"""

from __future__ import annotations

import argparse
from typing import Any

from experiments.common import DATA, RESULTS, RUNS, evaluate, keep, nevus, read, train
from nevus.bundle.bundle import load_bundle

PAPER = DATA / "isic-malignant-benign"
TABLES = RUNS / "lesions"
GENERIC, ADAPTED = "bit-r26x0.5-generic", "bit-r26x0.5-dermoscopy"
ANSWER = ["--answer", "benign=nv,bkl,df,vasc", "malignant=mel,bcc,akiec"]
RARE = ["--answer", "benign=nv,bkl:0.1,df:0.1,vasc:0.1", "malignant=mel,bcc:0.1,akiec:0.1"]
"""Melanomas and nevi first: the others for a tenth as frequent as among the training images, where they are nearly
half. Chosen between sources, where what looks foreign is else given to them; see experiments.outside.
"""
VIEWS = [
    *("--crop", 0.4, 1.0, "--brightness", 0.3, "--contrast", 0.3, "--saturation", 0.3, "--hue", 0.03),
    *("--light", 0.3, "--vignette", 0.3, "--blur", 0.01, "--compress", 0.3),
]
"""Strong: what a phone in another room does to a picture."""
FAIR = ["--reweigh", "source"]
GROUPED = ["--no-audit", "--split.test", 0]
"""The tables of `experiments.lesions` have the groups of an audit already, and are to be trained on whole: other
tables are judged on.
"""
HEAD = ["--mode", "head", "--taps", 4]
FIRM = ["--weight-decay", 0.002]
"""Twenty times the recipe's: worth much on sources that were not trained on where one view of an image is trained
on, and nothing where four are; see experiments.outside.
"""
PROBED = ["--taps", 4, "--probe", "True", "--epochs", 12, "--lr", 0.03]
"""For whole networks, judged on the mean of eight views; see docs/results.md for what led to it on validation."""
LARGER = ["--taps", 4, "--probe", "True", "--epochs", 6, "--lr", 0.03]
"""The same for sets three times as large."""
WIDE = ["--side", 224]
"""The images' own side."""
QUICK = ["--precision", "bf16"]
"""Features in bfloat16, in half the time or less on a CPU that has it."""
AROUND = ["--side", 192, "--mean-of", 4, *QUICK]
"""Four views, in training as in the answer, at nearly the full size of HAM10000's images."""
STANDARD = ["--side", 192, "--mean-of", 6, *QUICK]
"""Six views without a source's own colors, chosen between sources; see experiments.outside."""
MEANS = [*STANDARD, "--on-means", "True"]
"""The same, trained on the mean of what the six show, from which it is answered."""
MIRRORED = ["--side", 160, "--mean-of", 2, "--on-means", "True", "--spread", *QUICK]
"""The picture and its mirror image at the side that the trunks were last taught at, and how far each stage's
outputs are spread: within a source worth more than the images' own side; see experiments.mirrored.
"""
SMALLER = ["--side", 160, "--spread", *QUICK]
"""The same of the picture alone, in half the time."""
SHORTER = ["--epochs", 3, "--lr", 0.05]

MADE_OF = "head-rare-shipped"
PRETRAINED = {
    "head-rare-even-shipped": ("malignant-benign", "--even --views 6", TABLES / "isic2017-test.parquet"),
    "malignant-benign-official": ("malignant-benign", "--even --views 6", PAPER),
}
"""What was made of `MADE_OF` by `experiments.ship`: its name in the package, how it was made, and what it is
judged on. No lesion of these test splits is among the images that it was trained on. `lesion-7` is
`full-seven-wide-ham10000`.
"""

LEAK_FREE = RUNS / "transfer" / "leak-free" / "manifest.parquet"
"""The official split with the groups that the other two sets' lesions give."""

SETTINGS: dict[str, dict[str, Any]] = {}
"""By name: what it is trained on, with which flags, and what it is judged on."""
for _name, _trunk in (("generic", GENERIC), ("dermoscopy", ADAPTED)):
    for _protocol, _data, _more in (
        ("official", PAPER, []),
        ("leak-free", LEAK_FREE, ["--drop-leaks"]),
    ):
        for _mode, _flags in (("head", HEAD), ("full", PROBED)):
            SETTINGS[f"{_mode}-{_name}-{_protocol}"] = {
                "data": _data,
                "flags": ["--trunk", _trunk, *_flags, *_more],
                "test": _data,
                "judged": ["--views", 8] if _mode == "full" else [],
            }
            SETTINGS[f"{_mode}-{_name}-wide-{_protocol}"] = {
                **SETTINGS[f"{_mode}-{_name}-{_protocol}"],
                "flags": ["--trunk", _trunk, *_flags, *WIDE, *(QUICK if _mode == "head" else []), *_more],
            }
        SETTINGS[f"head-{_name}-wide-eight-{_protocol}"] = {
            **SETTINGS[f"head-{_name}-wide-{_protocol}"],
            "run": f"head-{_name}-wide-{_protocol}",
            "judged": ["--views", 8],
        }
        for _mode, _way, _flags in (
            ("head", "mirrored", [*HEAD, *MIRRORED]),
            ("head", "smaller", [*HEAD, *SMALLER]),
            ("full", "smaller", [*PROBED, *SMALLER[:-2]]),
        ):
            SETTINGS[f"{_mode}-{_name}-{_way}-{_protocol}"] = {
                **SETTINGS[f"{_mode}-{_name}-{_protocol}"],
                "flags": ["--trunk", _trunk, *_flags, *_more],
            }
    SETTINGS[f"head-{_name}-ham10000"] = {
        "data": DATA / "ham10000",
        "flags": ["--trunk", _trunk, *HEAD, "--split", "corrected", "--class-weights", "balanced"],
        "test": TABLES / "ham-test.parquet",
    }
    SETTINGS[f"head-{_name}-ham"] = {
        "data": TABLES / "ham.parquet",
        "flags": ["--trunk", _trunk, *HEAD, *FIRM, *ANSWER, *GROUPED],
        "test": TABLES / "isic2017-nevus.parquet",
    }
    SETTINGS[f"head-{_name}-four-ham"] = {
        **SETTINGS[f"head-{_name}-ham"],
        "run": f"head-{_name}-ham",
        "judged": ["--views", 4],
    }
    SETTINGS[f"head-{_name}-two-ham"] = {
        "data": TABLES / "ham-two.parquet",
        "flags": ["--trunk", _trunk, *HEAD, *FIRM, *AROUND, *GROUPED],
        "test": TABLES / "isic2017-nevus.parquet",
    }
    SETTINGS[f"head-{_name}-standard-ham"] = {
        **SETTINGS[f"head-{_name}-ham"],
        "flags": ["--trunk", _trunk, *HEAD, *STANDARD, *ANSWER, *GROUPED],
    }
    SETTINGS[f"head-{_name}-rare-means-ham"] = {
        **SETTINGS[f"head-{_name}-ham"],
        "flags": ["--trunk", _trunk, *HEAD, *MEANS, *RARE, *GROUPED],
    }
    SETTINGS[f"head-{_name}-two-means-ham"] = {
        **SETTINGS[f"head-{_name}-two-ham"],
        "flags": ["--trunk", _trunk, *HEAD, *MEANS, *GROUPED],
    }
    SETTINGS[f"head-{_name}-two-standard-ham"] = {
        **SETTINGS[f"head-{_name}-two-ham"],
        "flags": ["--trunk", _trunk, *HEAD, *STANDARD, *GROUPED],
    }
    SETTINGS[f"head-{_name}-wide-ham"] = {
        **SETTINGS[f"head-{_name}-ham"],
        "flags": ["--trunk", _trunk, *HEAD, *AROUND, *ANSWER, *GROUPED],
    }
SETTINGS["head-seven-ham10000"] = {
    "data": TABLES / "seven.parquet",
    "flags": ["--trunk", ADAPTED, *HEAD, "--class-weights", "balanced", *GROUPED],
    "test": TABLES / "ham-test.parquet",
}
SETTINGS["full-seven-ham10000"] = {
    "data": TABLES / "seven.parquet",
    "flags": ["--trunk", ADAPTED, *LARGER, "--class-weights", "balanced", "--keep", "last", *GROUPED],
    "test": TABLES / "ham-test.parquet",
    "judged": ["--views", 8],
}
SETTINGS["full-seven-wide-ham10000"] = {
    **SETTINGS["full-seven-ham10000"],
    "flags": [*SETTINGS["full-seven-ham10000"]["flags"], "--side", 192],
}
SETTINGS["full-ham"] = {
    "data": TABLES / "ham.parquet",
    "flags": ["--trunk", ADAPTED, *SHORTER, *VIEWS, *ANSWER, *GROUPED],
    "test": TABLES / "isic2017-nevus.parquet",
}
for _way, _flags in (
    ("head", [*HEAD, *FIRM, *ANSWER]),
    ("head-wide", [*HEAD, *AROUND, *ANSWER]),
    ("head-rare", [*HEAD, *MEANS, *RARE]),
    ("full", [*SHORTER, *VIEWS, *ANSWER]),
):
    SETTINGS[f"{_way}-shipped"] = {
        "data": TABLES / "both.parquet",
        "flags": ["--trunk", ADAPTED, *_flags, *FAIR, *GROUPED],
        "test": TABLES / "isic2017-test.parquet",
    }


def leak_free() -> None:
    """Groups of the official split by its own pixels and the other sets' lesions."""
    if not LEAK_FREE.exists():
        others = ["--against", DATA / "ham10000", DATA / "isic2017"]
        nevus("audit", PAPER, *others, "--out", LEAK_FREE.parent)


def run(name: str) -> None:
    """Train, judge, and keep."""
    path = RESULTS / "transfer.json"
    before = read(path) if path.exists() else {}
    out = RUNS / "transfer" / name
    if name in PRETRAINED:
        bundle, how, test = PRETRAINED[name]
        made, trained = load_bundle(bundle), before[MADE_OF]["train"]
        command = f"python -m experiments.ship classifier runs/transfer/{MADE_OF} {bundle} {how}"
        same = all(made.provenance[part] == trained["config"][part] for part in ("recipe", "weights", "seed"))
        if not same or f"--views {made.views}" not in how:
            raise SystemExit(f"{bundle} was not made by: {command}")
        trained = {**trained, "command": command, "fit": made.provenance["fit"]}
        judged = evaluate(out, test, bundle=bundle)
    else:
        setting = SETTINGS[name]
        if setting["data"] == LEAK_FREE:
            leak_free()
        out = RUNS / "transfer" / setting.get("run", name)
        trained = train(out, setting["data"], *setting["flags"], "--seed", 0)
        judged = evaluate(out, setting["test"], *setting.get("judged", []))
    keep("transfer", {**before, name: {"train": trained, "evaluate": judged}})


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("names", nargs="*", choices=[*SETTINGS, *PRETRAINED, []])
    given = words.parse_args()
    if not given.names:
        print("\n".join([*SETTINGS, *PRETRAINED]))
    for chosen in given.names:
        run(chosen)
