"""A bundle written for other programs, and held against itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nevus._io import ensure_writable, sha256_file, write_json, write_text
from nevus._progress import progress
from nevus.bundle.bundle import Bundle
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.torch_engine import bundle_engine
from nevus.data.cache import Cache
from nevus.data.decoded import DecodedDataset, DecodedImages, decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.splits import SplitConfig, with_splits
from nevus.errors import NevusError
from nevus.evaluation import map_labels
from nevus.exporting.config import BOUND, Format
from nevus.exporting.formats import (
    FILES,
    PROBABILITIES,
    Probabilities,
    reader,
    write_onnx,
    write_openvino,
    write_torch,
)
from nevus.exporting.int8_onnx import quantize, shown
from nevus.exporting.int8_torch import round_to_8_bits
from nevus.metrics.intervals import bootstrap
from nevus.metrics.report import compute_metrics
from nevus.models.spec import ENSEMBLE, HANDCRAFTED
from nevus.runtime.engines import PIXELS
from nevus.runtime.tta import with_tta

CHECKED = 200
"""Images by which an export is checked."""
BATCH = 16


@dataclass(frozen=True)
class Exported:
    """What was written and how it was checked.

    Attributes:
        path: of the model.
        images: by which it was checked.
        difference: largest of any probability from the bundle's.
        accuracy: of int8 on validation, `before`, `after`, their `difference` with its interval; None for fp32.

    """

    path: Path
    images: int
    difference: float
    accuracy: Mapping[str, Any] | None

    def sentence(self) -> str:
        """In words."""
        said = f"largest difference from the bundle on {self.images:,} images: {self.difference:.2g}"
        if self.accuracy is None:
            return said
        a = self.accuracy
        return (
            f"{said}; accuracy on validation {a['before']:.1%} before, {a['after']:.1%} after: "
            f"{100 * a['difference']:+.1f} points ({_interval(a)}, n {a['n']:,})"
        )


def _interval(accuracy: Mapping[str, Any]) -> str:
    low, high = 100 * accuracy["ci_low"], 100 * accuracy["ci_high"]
    # Where no image changes its class, no draw differs from another, and the bootstrap knows nothing.
    return f"{low:+.1f} to {high:+.1f}" if np.isfinite([low, high]).all() else "interval undefined"


def export(
    bundle: Bundle,
    manifest: Manifest,
    out: Path,
    cache: Cache,
    *,
    format: Format,
    precision: Literal["fp32", "int8"] = "fp32",
    bound: float = BOUND,
) -> Exported:
    """Write a bundle for another program, and check it on real images.

    The graph takes pixels, uint8 (n, image_size, image_size, 3), red, green, blue, of images resized to the square,
    and gives probabilities, float32 (n, classes). Only the decoding and the squeezing are left to the caller.

    Args:
        bundle: to be written.
        manifest: images to check by, and for int8 to calibrate by: its splits `train` and `validation` where it
            has them. The test split is not used.
        out: a folder; `model.*`, `export.json` and `README.md` go there.
        cache: of decoded images.
        format: of the file.
        precision: `int8` quantizes convolutions and products; with `torch` the weights are 8-bit integers and the
            arithmetic float32.
        bound: largest difference of a probability at which a float32 export is written.

    Raises:
        NevusError: the export differs from the bundle by more than `bound`, packages are missing, the bundle holds
            no network, no image can be used, or the folder cannot be written.

    """
    if bundle.spec.backbone == HANDCRAFTED:
        raise NevusError(
            f"Cannot export {bundle.folder}: it is an estimator on handcrafted features, which has no graph. Give the "
            "bundle of a network."
        )
    if bundle.spec.backbone == ENSEMBLE:
        raise NevusError(
            f"Cannot export {bundle.folder}: it is an ensemble. Its members are ONNX files already; export one of the "
            "bundles that it was made of."
        )
    ensure_writable(out)
    if precision == "int8":
        manifest = map_labels(manifest, bundle)
        _ = manifest.targets  # a label that it does not know is told before minutes are spent
        if "validation" not in manifest.splits():  # what it is calibrated on says nothing of what it loses
            manifest = with_splits(manifest, SplitConfig(test_fraction=0.0))
    image_size = bundle.spec.image_size
    module = Probabilities(bundle.load_network(), bundle.spec.preprocess, bundle.tta, bundle.rule.calibration).eval()
    held = _part(manifest, "validation", image_size, cache)
    checked = held.pixels.subset(slice(0, CHECKED))
    engine = with_tta(bundle_engine(bundle), bundle.tta)
    path = out / FILES[format]
    with tempfile.TemporaryDirectory(dir=out, prefix=".") as place:
        aside = Path(place)
        onnx = aside / FILES["onnx"]
        if format == "torch":
            if precision == "int8":
                round_to_8_bits(module, shown(_part(manifest, "train", image_size, cache).pixels))
            write_torch(module, image_size, aside / FILES["torch"])
        else:
            write_onnx(module, image_size, onnx)
            if precision == "int8":
                small = aside / "int8.onnx"
                quantize(onnx, small, _part(manifest, "train", image_size, cache).pixels)
                small.replace(onnx)
            if format == "openvino":
                write_openvino(onnx, aside / FILES["openvino"])
        written = reader(aside / FILES[format])
        pixels = held.pixels if precision == "int8" else checked
        before = bundle.rule.probabilities(np.concatenate([engine(part) for part in _batches(pixels, "the bundle")]))
        after = np.concatenate([written(part) for part in _batches(pixels, "the export")]).astype(np.float64)
        difference = float(np.abs(after - before).max())
        if precision == "fp32" and not difference <= bound:
            raise NevusError(
                f"Cannot export: the result differs from the bundle by {difference:.2g} on an image, more than "
                f"{bound:g}; nothing was written. Report it, or allow more with --bound."
            )
        accuracy = _accuracy(held, before, after, bundle.classes) if precision == "int8" else None
        done = Exported(path, len(pixels), difference, accuracy)
        about = _about(bundle, done, format, precision)
        for name in (FILES[format], *(["model.bin"] if format == "openvino" else [])):
            (aside / name).replace(out / name)
        write_json(out / "export.json", {**about, "digest": sha256_file(path)})
        write_text(out / "README.md", _card(bundle, done, precision))
    return done


def _part(manifest: Manifest, split: str, image_size: int, cache: Cache) -> DecodedDataset:
    rows = manifest.split(split) if split in manifest.splits() else manifest
    if rows is manifest and "test" in manifest.splits():
        rows = manifest.where((manifest.table["split"] != "test").to_numpy())
    if not len(rows):
        raise NevusError(
            f"Cannot check the export: {manifest.name} has test images only, which an export does not use. Give others."
        )
    return decode_dataset(rows, image_size, cache, what=f"decoding {split}")


def _batches(pixels: DecodedImages, what: str) -> Any:
    with progress() as bar:
        task = bar.add_task(what, total=len(pixels), note="")
        for start in range(0, len(pixels), BATCH):
            part = pixels[start : start + BATCH]
            yield part
            bar.advance(task, len(part))


def _accuracy(
    held: DecodedDataset, before: NDArray[np.float64], after: NDArray[np.float64], classes: tuple[str, ...]
) -> dict[str, Any]:
    """What int8 costs on the same images: a paired bootstrap over groups."""
    manifest = held.manifest
    y = manifest.targets
    right, still = (p.argmax(1) == y for p in (before, after))
    gained = still.astype(float) - right
    low, high = bootstrap({"gained": lambda w: (w @ gained) / w.sum(1)}, manifest.groups)["gained"]
    return {
        "before": float(right.mean()),
        "after": float(still.mean()),
        "difference": float(gained.mean()),
        "ci_low": low,
        "ci_high": high,
        "n": len(y),
        "metrics": {name: f.as_dict() for name, f in compute_metrics(y, after, classes, manifest.groups).items()},
    }


def _about(bundle: Bundle, done: Exported, format: str, precision: str) -> dict[str, Any]:
    return {
        "format": format,
        "precision": precision,
        "input": {
            "name": PIXELS,
            "type": "uint8",
            "shape": ["n", bundle.spec.image_size, bundle.spec.image_size, 3],
        },
        "output": {"name": PROBABILITIES, "type": "float32", "shape": ["n", len(bundle.classes)]},
        "classes": list(bundle.classes),
        "tta": bundle.tta,
        "bundle": {"digest": bundle.digest if bundle.folder else None, "backbone": bundle.spec.backbone},
        "license": bundle.license,
        "checked": {"images": done.images, "largest_difference": done.difference, "accuracy": done.accuracy},
        "versions": {name: version(name) for name in ("nevus", "torch", "openvino")},
        "disclaimer": DISCLAIMER,
    }


def _card(bundle: Bundle, done: Exported, precision: str) -> str:
    image_size = bundle.spec.image_size
    views = "" if bundle.tta == "none" else f"\n- Test-time augmentation `{bundle.tta}` is part of the graph"
    return f"""# {bundle.spec.backbone} for {" / ".join(bundle.classes)}, {precision}

**{DISCLAIMER}**

- File: `{done.path.name}`
- Input `{PIXELS}`: uint8 (n, {image_size}, {image_size}, 3), red, green, blue; the whole image squeezed to the square
  (bilinear, antialiased), no crop. Normalization is inside.
- Output `{PROBABILITIES}`: float32 (n, {len(bundle.classes)}): {", ".join(bundle.classes)}{views}
- Checked: {done.sentence()}
{_loading(done.path)}- License of the weights: {bundle.license}
"""


def _loading(path: Path) -> str:
    if path.suffix != ".xml":
        return ""
    # OpenVINO's default on CPUs with bfloat16 differs from the bundle in the fourth digit.
    return """- Loading: `openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})`.
  Without this setting OpenVINO computes in bfloat16 on CPUs that have it, and probabilities differ by up to 0.001.
"""
