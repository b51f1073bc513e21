"""Put what a run made into the package: trunks and classifiers that come with nevus.

    python -m experiments.ship trunk RUN NAME
    python -m experiments.ship classifier RUN NAME [--diagnoses | --even] [--views N]

A trunk is put there with the list of the images that its stages were taught on (ids, digests and hashes, no
images). A classifier is stored in half precision, with the list of its images likewise and its log of looks at
test splits; what the halving does to its probabilities on validation is printed. `--diagnoses` takes the
diagnoses that it tells apart inside for its answer, not their sums. `--even` moves the answer's logit by a
constant, so that on validation it calls as large a share of the malignant images malignant as of the benign
ones benign, and says so in its card; `--views` makes the mean over so many views its answer. Looks at test
splits before it was put there anew stay in its log.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.common import DATA
from nevus._io import sha256_file, to_json, write_json
from nevus.audit.contamination import pack_bits
from nevus.audit.duplicates.descriptors import AUDIT_IMAGE_SIZE as AUDITED
from nevus.audit.duplicates.descriptors import perceptual_hash
from nevus.bundle.bundle import Bundle, license_of, load_bundle, save_bundle
from nevus.bundle.classifier import Classifier
from nevus.bundle.model_card import model_card
from nevus.bundle.test_log import TEST_LOG, test_evaluations
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.metrics.report import compute_metrics
from nevus.models.label_groups import GroupedLogits
from nevus.models.registry import classifier_head
from nevus.runtime.engines import softmax
from nevus.runtime.tta import TTA_COUNTS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "nevus"
BACKBONES, CLASSIFIERS = PACKAGE / "models" / "shipped", PACKAGE / "classifiers"
AUDIT_IMAGE_SIZE = 128


def images_of(run: Path) -> pd.DataFrame:
    """What a run was trained on: source, name, lesion, the first half of the SHA-256 of each file, and a perceptual
    hash.
    """
    manifest = read(run / "manifest.parquet")
    table = manifest.table[manifest.table["split"] != "test"]
    paths = [path for path, kept in zip(manifest.paths, manifest.table["split"] != "test", strict=True) if kept]
    lesions = table["lesion_id"] if "lesion_id" in table.columns else pd.Series("", index=table.index)
    known = read(DATA / "ham10000").table  # what was taught without labels has no ids of lesions either
    stems = [Path(name).stem for name in known["image"]]
    of_image = dict(zip(stems, known["lesion_id"], strict=True))
    lesions = [mine or of_image.get(path.stem, "") for mine, path in zip(lesions.fillna(""), paths, strict=True)]
    found = pd.DataFrame(
        {
            "source": table["source"].to_numpy(),
            "image": [f"{path.parent.name}/{path.name}" for path in paths],
            "lesion_id": lesions,
            "digest": [bytes.fromhex(sha256_file(path).removeprefix("sha256:"))[:16] for path in paths],
            "hash": pack_bits(np.stack([perceptual_hash(Preprocess(AUDITED).pixels(path)) for path in paths])),
        }
    )
    return found.sort_values(["source", "image"], ignore_index=True)


def about_of(run: Path) -> dict[str, Any]:
    """What a run says of its trunk."""
    about: dict[str, Any] = json.loads((run / "about.json").read_text(encoding="utf-8"))
    return about


def stage_info(run: Path, known: Collection[str]) -> list[Path]:
    """A run and the runs beside it that it went on from, first to last, back to known weights, by their digests."""
    made = {sha256_file(one): one.parent for one in run.parent.glob("*/trunk.safetensors")}
    found = [run]
    while not any(digest in about_of(found[0])["weights"] for digest in known):
        before = [folder for digest, folder in made.items() if digest in about_of(found[0])["weights"]]
        if not before:
            break  # it began with random weights
        found.insert(0, before[0])
    return found


def taught(run: Path) -> str:
    """By whom and by what a run's trunk was taught."""
    teachers = " and ".join(teacher["name"] for teacher in about_of(run)["teachers"])
    images = read(run / "manifest.parquet").table
    images = images[images["split"] != "test"]
    return f"distilled from {teachers} on {len(images):,} images: {', '.join(sorted(set(images['source'])))}"


def backbone(run: Path, name: str) -> None:
    """Copy the trunk of a run, and list it with what all its stages were taught on.

    Where the stages go on from a trunk of the package under another name, that one has a list of its own.
    """
    about, file = about_of(run), BACKBONES / f"{name}.safetensors"
    listed = json.loads((BACKBONES / "trunks.json").read_text(encoding="utf-8"))
    stages = stage_info(run, [one["digest"] for one in listed.values()])
    begun = next((k for k, one in listed.items() if one["digest"] in about_of(stages[0])["weights"]), "")
    words = [listed[name]["upstream"] if begun == name else begun, *dict.fromkeys(map(taught, stages))]
    lists = [images_of(stage) for stage in stages]
    if begun == name:
        lists.insert(0, pd.read_parquet(BACKBONES / listed[name]["images"]))
    images = pd.concat(lists).drop_duplicates("digest").sort_values(["source", "image"], ignore_index=True)
    shutil.copyfile(run / "trunk.safetensors", file)
    images.to_parquet(BACKBONES / f"{name}.images.parquet", index=False, compression="zstd")
    listed[name] = {
        "architecture": about["architecture"],
        "side": AUDIT_IMAGE_SIZE,
        "file": file.name,
        "license": about["license"],
        "upstream": ", then ".join(filter(None, words)),
        "digest": sha256_file(file),
        "images": f"{name}.images.parquet",
        "images_digest": sha256_file(BACKBONES / f"{name}.images.parquet"),
    }
    write_json(BACKBONES / "trunks.json", dict(sorted(listed.items())))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB; {listed[name]['upstream']}")


def apart(bundle: Bundle) -> tuple[Bundle, str]:
    """A bundle that answers with the diagnoses which another one adds up, and its card."""
    if bundle.answer is None:
        raise SystemExit(f"{bundle.folder} adds no diagnoses up.")
    assert isinstance(bundle.network, GroupedLogits)
    classes, about = bundle.answer.diagnoses, bundle.provenance
    card = model_card(
        backbone=bundle.backbone,
        classes=classes,
        side=bundle.preprocess.side,
        license=bundle.license,
        provenance=about,
        validation=about["fit"]["diagnoses"],
    )
    return replace(bundle, network=bundle.network.whole, classes=classes, answer=None), card


def told(bundle: Bundle, validation: Mapping[str, Any], **fit: Any) -> tuple[Bundle, str]:
    """A bundle that says these figures of itself, and its card."""
    about = {**bundle.provenance, "fit": {**bundle.provenance["fit"], "validation": validation, **fit}}
    card = model_card(
        backbone=bundle.backbone,
        classes=bundle.classes,
        side=bundle.preprocess.side,
        license=bundle.license,
        provenance=about,
        validation=validation,
        answer=bundle.answer,
    )
    return replace(bundle, provenance=about), card


def anew(bundle: Bundle, run: Path) -> tuple[Bundle, str]:
    """A bundle with its figures on validation by as many views as it has, and its card."""
    held = read(run / "manifest.parquet").with_classes(bundle.classes).split("validation")
    p = Classifier(bundle).predict_proba(held.paths)
    validation = compute_metrics(held.targets, p, bundle.classes, held.groups)
    return told(bundle, {key: figure.as_dict() for key, figure in validation.items()})


def even(bundle: Bundle, run: Path) -> tuple[Bundle, str]:
    """A bundle whose calls are as often right of one class as of the other on validation, and its card."""
    if bundle.answer is None or len(bundle.classes) != 2:
        raise SystemExit(f"{bundle.folder} does not answer with two sums of diagnoses.")
    network = copy.deepcopy(bundle.network)
    assert isinstance(network, GroupedLogits)
    held = read(run / "manifest.parquet").with_classes(bundle.answer.diagnoses).split("validation")
    targets = bundle.answer.targets(held.targets)
    logits = np.log(np.clip(Classifier(bundle).predict_proba(held.paths), 1e-12, 1))
    margin, positive = logits[:, 1] - logits[:, 0], targets == 1
    steps = np.sort(margin)
    missed = np.array([abs((margin[positive] > t).mean() - (margin[~positive] <= t).mean()) for t in steps])
    shift = -float(steps[missed.argmin()])
    parts = bundle.answer.parts[1]
    classifier_head(network.whole).bias.data[list(parts)] += shift
    moved = np.stack([logits[:, 0], logits[:, 1] + shift], 1)
    validation = {
        key: figure.as_dict()
        for key, figure in compute_metrics(targets, softmax(moved), bundle.classes, held.groups).items()
    }
    evened, card = told(replace(bundle, network=network), validation, even=shift)
    words = (
        f"\n## Calls\n\nThe logit of {bundle.classes[1]} is moved by {shift:+.3f}, chosen on validation, so that "
        "as large a share of either class is called right there. Its probabilities are therefore no frequencies.\n"
    )
    return evened, card + words


def looks_before(folder: Path, now: Bundle) -> list[dict[str, Any]]:
    """Looks at test splits by what stands in the package, where it came of the same training."""
    if not folder.exists():
        return []
    before = load_bundle(folder)
    same = all(before.provenance[part] == now.provenance[part] for part in ("data", "recipe", "weights"))
    return test_evaluations(before) if same else []


def classifier(run: Path, name: str, diagnoses: bool, evened: bool, views: int) -> None:
    """Store a run's bundle in half precision."""
    whole = load_bundle(run / "bundle")
    data = whole.provenance["data"]
    license = license_of([data["name"], *data["sources"]], whole.provenance["weights"])
    whole = replace(whole, views=views, license=license)
    card = (run / "bundle" / "README.md").read_text(encoding="utf-8")
    if diagnoses:
        whole, card = apart(whole)
    if evened:
        whole, card = even(whole, run)
    elif views > 1:
        whole, card = anew(whole, run)
    folder = CLASSIFIERS / name
    looks = {to_json(entry, indent=None): None for entry in [*looks_before(folder, whole), *test_evaluations(whole)]}
    shutil.rmtree(folder, ignore_errors=True)
    if views > 1:
        card += f"\n## Views\n\nThe answer is the mean over {views} views of an image; `--views` asks for others.\n"
    half = save_bundle(replace(whole, folder=None), folder, card, half=True)
    if looks and not diagnoses:  # those were looks at the sums
        (folder / TEST_LOG).write_text("".join(f"{line}\n" for line in looks), encoding="utf-8")
    images_of(run).to_parquet(folder / "images.parquet", index=False, compression="zstd")
    held = read(run / "manifest.parquet").split("validation").paths[:500]
    moved = Classifier(whole).predict_proba(held) - Classifier(load_bundle(folder)).predict_proba(held)
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    print(f"{half.folder}: {size:.1f} MB; halving moves a probability by {np.abs(moved).max():.4f} at most")


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("what", choices=["trunk", "classifier"])
    words.add_argument("run", type=Path)
    words.add_argument("name")
    words.add_argument("--diagnoses", action="store_true")
    words.add_argument("--even", action="store_true")
    words.add_argument("--views", type=int, choices=TTA_COUNTS, default=1)
    given = words.parse_args()
    if given.views > 1 and given.diagnoses:
        words.error("the figures of diagnoses are of one view; leave --views out")
    if given.what == "trunk":
        backbone(given.run, given.name)
    else:
        classifier(given.run, given.name, given.diagnoses, given.even, given.views)
