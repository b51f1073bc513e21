"""Fit the decision rule of the built-in classifiers, and write it and the model card into their bundles.

    python tools/fit_decisions.py DATA

DATA is the folder of the public data sets. The rule of `malignant-benign` is fitted on `isic-other`, 165 dermoscopic
images of the ISIC archive that neither the classifier nor its backbone saw: its threshold is one for another source.
Three in four of them are malignant; the probabilities are moved to the share in the validation split of the training.
That of `lesion-7` is fitted on the validation split of its training. The networks and their logits are unchanged.
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
from nevus.auditing.contamination import index_images
from nevus.bundle.builtin import CLASSIFIERS, builtin_names
from nevus.bundle.bundle import CARD, CONFIG, DECISION_IMAGES, ONNX, TRAINING_IMAGES, VERSION, Bundle, _digest
from nevus.bundle.classifier import Classifier, load
from nevus.bundle.decision import DecisionRule
from nevus.bundle.engine import make_engine
from nevus.bundle.image_check import CLINICAL
from nevus.bundle.model_card import model_card
from nevus.bundle.test_log import TEST_RESULTS, read_test_result
from nevus.bundle.training_overlap import OWN, training_overlap
from nevus.bundle.wording import test_result_sentence
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.readers.dispatch import DataConfig, read
from nevus.data.splits import SplitConfig, with_splits
from nevus.evaluation import evaluate, map_labels
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import OnnxEngine, run_batched
from nevus.runtime.onnx_model import write_onnx
from nevus.runtime.tta import with_tta
from nevus.training.decisions import fit_decision_rule, kind_results
from nevus.training.record import column_counts

TRAINED_ON = ("ham10000", "isic2017")
LABELS = ("melanoma=mel", "nevus=nv")
TEST_LABELS = ("melanoma=malignant", "nevus=benign", "seborrheic_keratosis=benign")
FITTED_ON = {"malignant-benign": "isic-other"}
PHOTOGRAPHS = "pad-ufes-20"
"""Photographs that the classifier was not trained on: what it finds there is stated, and they remain unvalidated."""
PHOTOGRAPH_LABELS = ("mel=mel", "nev=nv")


def fitted(
    bundle: Bundle, manifest: Manifest, *, shift: bool | None = None, own: bool = False
) -> tuple[DecisionRule, pd.DataFrame]:
    """Fit the rule of one classifier on images that it was not trained on; returns the rule and their index.

    The index of `lesion-7` lists its validation split with its training images: `own` says that these are it.
    """
    seen = 0 if own else training_overlap(bundle, manifest).get(OWN, 0)
    assert not seen, seen
    manifest = map_labels(manifest, bundle)
    with contextlib.closing(Cache(CacheConfig())) as cache:
        images = decode_dataset(manifest, bundle.spec.image_size, cache)
        logits = run_batched(with_tta(make_engine(bundle), bundle.tta), images.pixels, what=manifest.name)
        rule = fit_decision_rule(logits, images.manifest.targets, images.manifest.groups, images, shift=shift)
        return rule, index_images(images)


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


def validation_images(folder: Path, data: Path, counts: dict[str, int]) -> Manifest:
    """Return the validation split of `lesion-7`: it was cut from the training images of the corrected split."""
    listed = set(pd.read_parquet(folder / TRAINING_IMAGES)["image"].map(lambda image: Path(image).stem))
    manifest = with_corrected_split(read(data / "ham10000"))
    mine = manifest.table["image"].map(lambda image: Path(image).stem)
    manifest = with_splits(manifest.where(mine.isin(listed).to_numpy()), SplitConfig()).split("validation")
    found = manifest.table["label"].value_counts().to_dict()
    assert found == counts, (found, counts)
    return manifest


def measure(name: str, data: Path) -> None:
    """Write what the threshold costs on the test split of isic2017 into the bundle, for `nevus predict`."""
    classifier = load(name)
    evaluate(classifier, read(data / "isic2017", DataConfig(labels=TEST_LABELS)), "test")
    result = read_test_result(classifier.bundle)
    assert result is not None
    write_text(CLASSIFIERS / name / TEST_RESULTS, to_json(result, indent=None) + "\n")
    print(test_result_sentence(classifier.bundle))


def main(data: Path) -> None:
    """Fit and write all rules."""
    for name in builtin_names():
        folder = CLASSIFIERS / name
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        spec, provenance = ModelSpec.from_dict(config["model"]), config["provenance"]
        bundle = Bundle(spec, provenance, config["license"], config["tta"], DecisionRule(), folder)
        rewrite_onnx(bundle)
        provenance["data"]["columns"] = column_counts(training_images(folder, data))
        if name in FITTED_ON:
            manifest = read(data / FITTED_ON[name] / "labels.csv", DataConfig(labels=LABELS))
            # Its class shares are others than those of the training, so that the calibration has a shift.
            rule, index = fitted(bundle, manifest, shift=True)
            labels = provenance["data"]["counts"]["validation"]
            positive = sum(labels[name] for name in spec.label_groups.as_dict()["malignant"])
            rule = rule.for_share(positive / sum(labels.values()))
            index.to_parquet(folder / DECISION_IMAGES, index=False, compression="zstd")
            provenance["decision_data"] = {"name": FITTED_ON[name], "digest": manifest.digest, "n": len(manifest)}
        else:
            counts = provenance["data"]["counts"]["validation"]
            rule, _ = fitted(bundle, validation_images(folder, data, counts), own=True)
        bundle = replace(bundle, rule=rule, provenance=provenance)
        if name in FITTED_ON:
            photographs = read(data / PHOTOGRAPHS, DataConfig(labels=PHOTOGRAPH_LABELS))
            bundle = replace(bundle, rule=on_photographs(bundle, photographs))
        write_text(folder / CARD, model_card(bundle, provenance["fit"]["validation"]))
        config |= {"version": VERSION, "decision": bundle.rule.as_dict(), "provenance": provenance}
        written = [file for file in (CARD, ONNX, DECISION_IMAGES) if (folder / file).is_file()]
        config["files"] |= {file: sha256_file(folder / file) for file in written}
        config.pop("digest", None)
        config = json.loads(to_json(config))
        write_json(folder / CONFIG, {**config, "digest": _digest(config)})
        print(name, bundle.rule)
        if name in FITTED_ON:
            measure(name, data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
