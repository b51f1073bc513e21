"""Fit the decision rule of the built-in classifiers, and write it and the model card into their bundles.

    python tools/fit_decisions.py DATA

DATA is the folder of the public data sets. The rule of `malignant-benign` is fitted on `isic-other`, 165 dermoscopic
images of the ISIC archive that neither the classifier nor its backbone saw: its threshold is one for another source.
No such images of seven diagnoses exist, so that `lesion-7` has no calibration and no sets. The networks and their
logits are unchanged.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nevus._io import sha256_file, to_json, write_json, write_text
from nevus.bundle.builtin import CLASSIFIERS, builtin_names
from nevus.bundle.bundle import CARD, CONFIG, ONNX, TRAINING_IMAGES, VERSION, Bundle, _digest
from nevus.bundle.classifier import Classifier, make_engine
from nevus.bundle.decision import DecisionRule
from nevus.bundle.image_check import CLINICAL, CheckLimits
from nevus.bundle.model_card import model_card
from nevus.bundle.training_overlap import seen_images
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.evaluation import map_labels
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import OnnxEngine, run_batched
from nevus.runtime.onnx_model import write_onnx
from nevus.runtime.tta import with_tta
from nevus.training.decisions import fit_decision_rule, kind_results
from nevus.training.record import column_counts

TRAINED_ON = ("ham10000", "isic2017")
LABELS = ("melanoma=mel", "nevus=nv")
FITTED_ON = {"malignant-benign": "isic-other"}
PHOTOGRAPHS = "pad-ufes-20"
"""Photographs that the classifier was not trained on: what it finds there is stated, and they remain unvalidated."""
PHOTOGRAPH_LABELS = ("mel=mel", "nev=nv")


def fitted(bundle: Bundle, manifest: Manifest) -> DecisionRule:
    """Fit the rule of one classifier on images that it was not trained on."""
    seen = {name: int(mask.sum()) for name, mask in seen_images(bundle, manifest).items()}
    assert not any(seen.values()), seen
    manifest = map_labels(manifest, bundle)
    with contextlib.closing(Cache(CacheConfig())) as cache:
        images = decode_dataset(manifest, bundle.spec.image_size, cache)
        logits = run_batched(with_tta(make_engine(bundle), bundle.tta), images.pixels, what=manifest.name)
        return fit_decision_rule(logits, images.manifest.targets, images.manifest.groups, images)


def on_photographs(bundle: Bundle, manifest: Manifest) -> DecisionRule:
    """Add the results on photographs to the rule of a classifier."""
    melanocytic = manifest.table["label"].isin(["mel", "nv"]).to_numpy()
    manifest = map_labels(manifest.where(melanocytic), bundle)
    classifier = Classifier(bundle)
    p = np.stack([one.probabilities for one in classifier.stream(manifest.paths)])
    results = kind_results([CLINICAL] * len(p), manifest.targets, bundle.rule.called(p), manifest.name)
    return replace(bundle.rule, kinds={**bundle.rule.kinds, **results})


def rewrite_onnx(bundle: Bundle) -> None:
    """Write `model.onnx` with its present outputs, and check that the logits are the same."""
    assert bundle.folder is not None
    path, aside = bundle.folder / ONNX, bundle.folder / ".new.onnx"
    write_onnx(bundle.load_network(), bundle.spec, aside)
    size = bundle.spec.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    difference = np.abs(OnnxEngine(path)(pixels) - OnnxEngine(aside)(pixels)).max()
    assert difference < 1e-4, difference
    print(bundle.folder.name, "largest difference of a logit", difference)
    aside.rename(path)


def training_images(folder: Path, data: Path) -> Manifest:
    """Return the rows of the public data sets that a classifier was trained on, by image id."""
    listed = pd.read_parquet(folder / TRAINING_IMAGES)["image"].map(lambda image: Path(image).stem)
    manifest = read([data / name for name in TRAINED_ON])
    return manifest.where(manifest.table["image"].map(lambda image: Path(image).stem).isin(set(listed)).to_numpy())


def main(data: Path) -> None:
    """Fit and write all rules."""
    for name in builtin_names():
        folder = CLASSIFIERS / name
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        spec, provenance = ModelSpec.from_dict(config["model"]), config["provenance"]
        bundle = Bundle(spec, provenance, config["license"], config["tta"], DecisionRule(), folder)
        rewrite_onnx(bundle)
        provenance["data"]["columns"] = column_counts(training_images(folder, data))
        rule = DecisionRule(limits=CheckLimits.default())
        if name in FITTED_ON:
            manifest = read(data / FITTED_ON[name] / "labels.csv", DataConfig(labels=LABELS))
            rule = fitted(bundle, manifest)
            provenance["decision_data"] = {"name": FITTED_ON[name], "digest": manifest.digest, "n": len(manifest)}
        bundle = replace(bundle, rule=rule, provenance=provenance)
        if name in FITTED_ON:
            photographs = read(data / PHOTOGRAPHS, DataConfig(labels=PHOTOGRAPH_LABELS))
            bundle = replace(bundle, rule=on_photographs(bundle, photographs))
        write_text(folder / CARD, model_card(bundle, provenance["fit"]["validation"]))
        config |= {"version": VERSION, "decision": bundle.rule.as_dict(), "provenance": provenance}
        config["files"] |= {file: sha256_file(folder / file) for file in (CARD, ONNX)}
        config.pop("digest", None)
        config = json.loads(to_json(config))
        write_json(folder / CONFIG, {**config, "digest": _digest(config)})
        print(name, bundle.rule)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
