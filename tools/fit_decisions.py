"""Fit the decision rule of the built-in classifier `lesion-7`, and write it and the model card into its bundle.

    python -m tools.fit_decisions DATA

DATA is the folder of the public data sets. The rule is fitted on the validation split of the training. The network and
its logits are unchanged but for the half precision that the weights of `model.onnx` are stored in. `malignant-benign`
gets its rule from `tools/fit_malignant_benign.py`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from tools.onnx_weights import store_weights

from nevus._io import sha256_file, to_json, write_json, write_text
from nevus.bundle.builtin import CLASSIFIERS
from nevus.bundle.bundle import CARD, CONFIG, ONNX, TRAINING_IMAGES, VERSION, Bundle, _digest
from nevus.bundle.decision import DecisionRule
from nevus.bundle.engine import make_engine
from nevus.bundle.model_card import model_card
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import read
from nevus.data.splits import SplitConfig, with_splits
from nevus.evaluation import map_labels
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import OnnxEngine, run_batched
from nevus.runtime.onnx_model import write_onnx
from nevus.runtime.tta import with_tta
from nevus.training.decisions import fit_decision_rule, image_limits
from nevus.training.record import column_counts

NAME = "lesion-7"


def fitted(bundle: Bundle, manifest: Manifest) -> DecisionRule:
    """Fit the rule on images that were not trained on."""
    manifest = map_labels(manifest, bundle)
    with contextlib.closing(Cache(CacheConfig())) as cache:
        images = decode_dataset(manifest, bundle.spec.image_size, cache)
        logits = run_batched(with_tta(make_engine(bundle), bundle.tta), images.pixels, what=manifest.name)
        rows = images.manifest
        return fit_decision_rule(logits, rows.targets, rows.groups, *image_limits(images))


def rewrite_onnx(bundle: Bundle) -> None:
    """Write `model.onnx` with its present outputs, and check that the logits are the same."""
    assert bundle.folder is not None
    path, aside = bundle.folder / ONNX, bundle.folder / ".new.onnx"
    exact = aside.with_suffix(".exact.onnx")
    write_onnx(bundle.load_network(), bundle.spec, exact)
    store_weights(exact, aside, 16)
    exact.unlink()
    size = bundle.spec.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    difference = np.abs(OnnxEngine(path)(pixels) - OnnxEngine(aside)(pixels)).max()
    assert difference < 0.01, difference
    print(bundle.folder.name, "largest difference of a logit", difference)
    aside.rename(path)


def listed(folder: Path, data: Path) -> Manifest:
    """Return the rows of HAM10000 that are in the list of training images, by image id."""
    known = set(pd.read_parquet(folder / TRAINING_IMAGES)["image"].map(lambda image: Path(image).stem))
    manifest = with_corrected_split(read(data / "ham10000"))
    return manifest.where(manifest.table["image"].map(lambda image: Path(image).stem).isin(known).to_numpy())


def main(data: Path) -> None:
    """Fit and write the rule."""
    folder = CLASSIFIERS / NAME
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    spec, provenance = ModelSpec.from_dict(config["model"]), config["provenance"]
    bundle = Bundle(spec, provenance, config["license"], config["tta"], DecisionRule(), folder)
    rewrite_onnx(bundle)
    manifest = listed(folder, data)
    provenance["data"]["columns"] = column_counts(manifest)
    # The validation split was cut from the training images of the corrected split.
    validation = with_splits(manifest, SplitConfig()).split("validation")
    found = validation.table["label"].value_counts().to_dict()
    assert found == provenance["data"]["counts"]["validation"], found
    bundle = replace(bundle, rule=fitted(bundle, validation), provenance=provenance)
    write_text(folder / CARD, model_card(bundle, provenance["fit"]["validation"]))
    config |= {"version": VERSION, "decision": bundle.rule.as_dict(), "provenance": provenance}
    config["files"] |= {file: sha256_file(folder / file) for file in (CARD, ONNX)}
    config.pop("digest", None)
    config = json.loads(to_json(config))
    write_json(folder / CONFIG, {**config, "digest": _digest(config)})
    print(bundle.rule)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
