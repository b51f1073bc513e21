"""Migrate the built-in classifiers from bundle version 1 (bundle.json, weights.safetensors) to version 2.

    python tools/migrate_bundles.py OLD_FOLDER NEW_FOLDER

The weights, the label groups and the provenance are taken over unchanged; names follow the glossary.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load_file

from nevus.bundle.bundle import Bundle, save_bundle
from nevus.bundle.model_card import model_card
from nevus.models.label_groups import LabelGroups
from nevus.models.model import build_model
from nevus.models.spec import ModelSpec

TTA = {1: "none", 2: "flip", 4: "crop-color", 6: "invariant", 8: "d4", 32: "all"}
DIGESTS = {
    "sha256:41dcee1cd5bdc9d5045dfd352cc0fe72e302141d0402050a925de87d8dc8f500": (
        "sha256:9f157d5e53ba6f343ca73efdad6bfb19403434f0f221929dcefe691758e586dd"
    ),
    "sha256:9d6013b68987ca6da4854ae60e47779e51be48581dad8553a55e1a61e7a6d96b": (
        "sha256:8e9af77b5969bb09e4535821257307fb38714dfcbfa0cb7ee00f13520d0184a7"
    ),
}
"""Digests of the built-in backbones before and after `tools/migrate_backbones.py`."""
FIELDS = {
    "side": "image_size",
    "resize": "resize_size",
    "crop": "crop_scale",
    "batch": "batch_size",
    "micro_batch": "micro_batch_size",
    "warmup": "warmup_steps",
    "decays": "lr_milestones",
    "turns": "rot90",
    "mirror": "hflip",
    "light": "illumination",
    "compress": "jpeg_prob",
    "average": "ema_decay",
    "clip": "clip_grad_norm",
    "keep": "checkpoint",
    "standardize": "standardize_features",
    "evaluate_every": "eval_interval",
    "views": "augmented_copies",
    "reweigh": "sample_weighting",
    "spread": "pooling",
    "taps": "feature_stages",
    "licence": "license",
    "low": "ci_low",
    "high": "ci_high",
    "even": "logit_shift",
}
"""Keys of version 1 and their names in version 2."""


def renamed(value: Any) -> Any:
    """Rename the keys of nested plain values."""
    if isinstance(value, dict):
        return {FIELDS.get(key, key): renamed(one) for key, one in value.items()}
    return [renamed(one) for one in value] if isinstance(value, list) else value


def config_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """Rename the settings of a training whose meaning changed with their name."""
    config = renamed(recipe)
    mode, probe = config.pop("mode"), config.pop("probe", False)
    config["tuning"] = "linear-probe" if mode == "head" else "lp-ft" if probe else "full"
    config["tta"] = TTA[config.pop("mean_of", 1)]
    config["probe_on"] = "tta-mean" if config.pop("on_means", False) else "views"
    config["preset"] = config.pop("name")
    return config


def migrate(old: Path, new: Path) -> None:
    """Write a bundle of version 2 from one of version 1."""
    about = json.loads((old / "bundle.json").read_text(encoding="utf-8"))
    classes, answer = about["classes"], about.get("answer")
    groups = None
    if answer:
        members = {name: [part.partition(":")[0] for part in parts] for name, parts in answer.items()}
        split = [part.partition(":") for parts in answer.values() for part in parts]
        prior = {name: float(factor) for name, colon, factor in split if colon}
        groups = LabelGroups.from_dict(members, about["diagnoses"], prior)
    sizes = about["preprocess"]
    spec = ModelSpec(
        backbone=about["trunk"],
        classes=tuple(classes),
        feature_stages=about["taps"],
        pooling="stats" if about["spread"] else "avg",
        label_groups=groups,
        image_size=sizes["side"],
        mean=tuple(sizes["mean"]),
        std=tuple(sizes["std"]),
    )
    network = build_model(spec)
    names = {"tapped.trunk.": "features.backbone.", "head.": "head."}
    weights = {}
    for key, value in load_file(old / "weights.safetensors").items():
        plain = key.removeprefix("whole.")
        start = next(name for name in names if plain.startswith(name))
        weights[names[start] + plain.removeprefix(start)] = value.float()
    network.load_state_dict(weights)
    text = json.dumps(about["provenance"])
    for before, after in DIGESTS.items():
        text = text.replace(before, after)
    provenance = renamed(json.loads(text))
    provenance["config"] = config_of(about["provenance"]["recipe"])
    provenance["backbone_weights"] = provenance.pop("weights")
    provenance["overrides"] = provenance.pop("changes")
    provenance.pop("recipe")
    bundle = Bundle(spec, provenance, about["licence"], TTA[about["views"]])
    card = model_card(bundle, provenance["fit"]["validation"])
    save_bundle(bundle, new, network.eval(), card, training_images=pd.read_parquet(old / "images.parquet"), half=True)
    log = old / "evaluations.jsonl"
    if log.exists():
        lines = []
        for line in log.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "views" in entry:
                entry["tta"] = TTA[entry.pop("views")]
            lines.append(json.dumps(entry))
        (new / "test_log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    migrate(Path(sys.argv[1]), Path(sys.argv[2]))
