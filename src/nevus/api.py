"""The functions of the Python API."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier, Images, as_list, load
from nevus.data.cache import Cache
from nevus.data.manifest import REQUIRED, Manifest
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.evaluation import Evaluation

if TYPE_CHECKING:
    import pandas as pd

    from nevus.auditing.audit import Audit
    from nevus.bundle.explain import Explanation
    from nevus.exporting.config import Format
    from nevus.exporting.export import Exported

Data = Manifest | Path | str | Sequence[Path | str]
"""A Manifest, or what `read` takes: a folder or table, or several."""

TRAINER_FIELDS = ("backbone", "weights", "epochs", "seed", "group_labels", "class_prior", "preparation", "license")


def train(data: Data, preset: str = "best", out: Path | str | None = None, **overrides: Any) -> Classifier:
    """Train a classifier.

    Args:
        data: labeled images; the test split, if any, is not used.
        preset: `best`, `fast`, `paper` or `hyperrule`; see `nevus.training.presets`.
        out: folder of the run; by default a temporary one, which exists as long as Python runs.
        overrides: settings of `nevus.training.trainer.Trainer` (`backbone`, `weights`, `epochs`, `seed`,
            `group_labels`, `class_prior`, `preparation`, `license`) and fields of `TrainConfig` (`lr`, `tuning`, ...).

    Raises:
        NevusError: the data, a setting or the folder is at fault.

    """
    from nevus.training.trainer import Trainer

    own = {name: overrides.pop(name) for name in TRAINER_FIELDS if name in overrides}
    folder = Path(tempfile.mkdtemp(prefix="nevus-")) / "run" if out is None else Path(out)
    return Trainer(preset=preset, overrides=overrides, **own).fit(_manifest(data), folder)


def evaluate(
    classifier: Classifier | Path | str,
    data: Data,
    split: str = "test",
    *,
    bootstrap_samples: int = 2000,
    seed: int = 0,
    by: Sequence[str] = (),
    prevalence: float | None = None,
    readers: Path | str | None = None,
) -> Evaluation:
    """Compute the metrics of a classifier, each with its interval; see `nevus.evaluation.evaluate`."""
    from nevus.evaluation import evaluate as evaluate_classifier

    model = classifier if isinstance(classifier, Classifier) else load(classifier)
    return evaluate_classifier(
        model,
        _manifest(data),
        split,
        replicates=bootstrap_samples,
        seed=seed,
        by=by,
        prevalence=prevalence,
        readers=None if readers is None else Path(readers),
    )


def explain(classifier: Classifier | Path | str, images: Images, target: str | None = None) -> Iterator[Explanation]:
    """Compute heat maps, one after the other; see `nevus.bundle.explain.explain`.

    Args:
        classifier: a classifier, or the folder or name of a bundle.
        images: one or several paths, PIL images or uint8 arrays.
        target: class that the maps speak for; by default the positive one of two, else the most probable one.

    Raises:
        NevusError: there is no such class.

    """
    from nevus.bundle.explain import explain as explain_images

    model = classifier if isinstance(classifier, Classifier) else load(classifier)
    return explain_images(model, as_list(images), target)


def audit(data: Data, reference: Sequence[Data] = (), *, seed: int = 0) -> Audit:
    """Find duplicates, leakage, shortcuts and label errors; see `nevus.auditing.audit.audit`.

    Args:
        data: labeled images.
        reference: other data sets, whose images and ids join images of one lesion.
        seed: of folds, clusters and bootstrap.

    """
    from nevus.auditing.audit import audit as audit_manifest

    with contextlib.closing(Cache()) as cache:
        return audit_manifest(_manifest(data), [_manifest(one) for one in reference], cache=cache, seed=seed)


def find_duplicates(paths: Sequence[Path | str]) -> pd.DataFrame:
    """Find near-duplicates and same-lesion images among image files, whatever their labels.

    Args:
        paths: image files.

    Returns:
        A table with a row for each pair: `a`, `b` (paths), `kind` (`exact_duplicate`, `near_duplicate` or
        `same_lesion`), `similarity`, `overlap`, `matches`. Files that cannot be read are left out.

    Raises:
        NevusError: no file can be read.

    """
    import pandas as pd

    from nevus.auditing.duplicates.search import find_pairs
    from nevus.data.decoded import decode_dataset
    from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE

    files = [Path(path).absolute() for path in paths]
    if not files:
        raise NevusError("Cannot find duplicates: there are no images. Give paths of image files.")
    table = pd.DataFrame({name: [""] * len(files) for name in REQUIRED}, dtype=str)
    table = table.assign(image=[str(path) for path in files], label="image", group=[str(k) for k in range(len(files))])
    with contextlib.closing(Cache()) as cache:
        decoded = decode_dataset(Manifest(table, Path("/"), ("image",), "images"), AUDIT_IMAGE_SIZE, cache)
        pairs = find_pairs(decoded.pixels)
    names = decoded.manifest.table["image"].to_numpy()
    return pairs.assign(a=names[pairs["a"].to_numpy(int)], b=names[pairs["b"].to_numpy(int)])


def export(
    bundle: Path | str,
    data: Data,
    out: Path | str,
    *,
    format: Format = "onnx",
    precision: Literal["fp32", "int8"] = "fp32",
) -> Exported:
    """Write a bundle for another program and check it; see `nevus.exporting.export.export`."""
    from nevus.exporting.export import export as export_bundle

    with contextlib.closing(Cache()) as cache:
        return export_bundle(load_bundle(bundle), _manifest(data), Path(out), cache, format=format, precision=precision)


def push_to_hub(bundle: Path | str, repository: str, *, private: bool = True) -> str:
    """Upload a bundle to the Hugging Face hub; `nevus.load("hf://OWNER/NAME")` reads it.

    Args:
        bundle: folder, or the name of a built-in classifier.
        repository: `OWNER/NAME`.
        private: whether only the owner sees it.

    Returns:
        The address of the repository.

    Raises:
        NevusError: huggingface_hub is not installed, or the upload fails.

    """
    from nevus.bundle.hub import upload

    return upload(load_bundle(bundle), repository, private=private)


def _manifest(data: Data) -> Manifest:
    return data if isinstance(data, Manifest) else read(data, DataConfig())
