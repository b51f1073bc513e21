"""Fit the image check: is this a skin lesion, and is it a dermoscopic image or a photograph?

    python tools/fit_image_check.py DATA

DATA is the folder of the public data sets. The network is the first three stages of `bit-r26x0.5-generic`, whose
feature maps are averaged (mean and standard deviation); on them two logistic regressions are fitted, on lesions of all
sources against other images (those of scikit-image and scikit-learn, parts of them, noise and even areas), and on
photographs against dermoscopic images. Every rate is of sources, or of other images, that were left out. Writes
src/nevus/pretrained/image_check/ and results/image_check.csv.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import skimage
import sklearn.datasets
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from nevus.bundle.image_check import CHECK_IMAGE_SIZE, FOREIGN, PHOTOGRAPH
from nevus.data.images import decode
from nevus.data.parallel import prefetch_map
from nevus.data.preprocess import Preprocess, resize_square
from nevus.data.public.corrected_splits import with_corrected_split
from nevus.data.quality import sharpness
from nevus.data.readers.dispatch import read
from nevus.models.reparameterize import fold_weight_standardization
from nevus.models.weights import load_pretrained
from nevus.phantoms.dataset import PhantomConfig, phantoms, render
from nevus.runtime.feature_engine import NormalizedInput
from nevus.runtime.onnx_model import export_onnx

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "src" / "nevus" / "pretrained" / "image_check"
MOST = 1500
"""Largest number of images of a source."""
STAGES = 3
C_FOREIGN, C_KIND = 1e-5, 1e-3
PHOTOGRAPHS = "pad-ufes-20"
FALSE_ALARMS = {"foreign": 0.04, "blurred": 0.01, "photograph": 0.03}
"""Share of left-out lesions that is flagged; of `photograph` of left-out dermoscopic images."""

Pixels = NDArray[np.uint8]


class PooledStages(nn.Module):
    """Mean and standard deviation of the third stage's channels, (n, 2 channels)."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """Pool over the pixels."""
        stage = self.backbone.forward_intermediates(x, indices=[STAGES], stop_early=True, intermediates_only=True)[0]
        mean = stage.mean((2, 3))
        variance = (stage - mean[:, :, None, None]).square().mean((2, 3))
        return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


class Scores(nn.Module):
    """Features to the two scores, each (n,)."""

    def __init__(self, features: nn.Module, foreign: Pipeline, photograph: Pipeline) -> None:
        super().__init__()
        self.features = features
        lines = [_line(one) for one in (foreign, photograph)]
        self.register_buffer("weight", torch.tensor(np.stack([w for w, _ in lines]), dtype=torch.float32))
        self.register_buffer("bias", torch.tensor([b for _, b in lines], dtype=torch.float32))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map float (n, 3, h, w) to the two scores."""
        out = self.features(x) @ self.weight.T + self.bias  # type: ignore[operator, union-attr]
        return out[:, 0], out[:, 1]


def _line(pipeline: Pipeline) -> tuple[NDArray[np.float64], float]:
    """Fold standardization into the weights."""
    scaler, model = pipeline[0], pipeline[1]
    weight = model.coef_[0] / scaler.scale_
    return weight, float(model.intercept_[0] - weight @ scaler.mean_)


def lesions(data: Path) -> dict[str, Pixels]:
    """Squares of the lesions by source; images of one set that another one contains count once."""
    ham = read(data / "ham10000")
    rest = with_corrected_split(read(data / "isic-malignant-benign"))
    rest = rest.where(~rest.table["group"].str.contains("ham10000:|isic2017:").to_numpy())
    by_source = {
        **{name: ham.where((ham.table["source"] == name).to_numpy()) for name in sorted(set(ham.table["source"]))},
        "isic2017": read(data / "isic2017"),
        "isic-malignant-benign, rest": rest,
        "isic-other": read(data / "isic-other"),
        PHOTOGRAPHS: read(data / PHOTOGRAPHS),
    }
    squares = {}
    for name, manifest in by_source.items():
        rows = np.random.default_rng(0).permutation(len(manifest))[:MOST]
        chosen = [manifest.paths[row] for row in sorted(rows)]
        squares[name] = np.stack(list(prefetch_map(_square, chosen)))
        print(name, len(squares[name]), flush=True)
    return squares


def _square(path: Path) -> Pixels:
    return resize_square(decode(path), CHECK_IMAGE_SIZE)


def other_images() -> tuple[Pixels, NDArray[np.str_]]:
    """Squares of other images, and the name of the picture that each was cut from."""
    rng = np.random.default_rng(0)
    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.datasets.__file__).parent / "images")
    squares, names = [], []

    def add(name: str, image: Image.Image) -> None:
        names.append(name)
        squares.append(resize_square(np.asarray(image.convert("RGB")), CHECK_IMAGE_SIZE))

    for path in sorted(p for folder in folders for p in folder.iterdir() if p.suffix in (".png", ".jpg")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        add(path.name, picture)
        for _ in range(8):
            width, height = (round(side * rng.uniform(0.3, 0.8)) for side in picture.size)
            if min(width, height) >= 48:
                left, top = (
                    int(rng.integers(0, big - small + 1))
                    for big, small in zip(picture.size, (width, height), strict=True)
                )
                add(path.name, picture.crop((left, top, left + width, top + height)))
    for _ in range(25):
        add("noise", Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)))
        add("even area", Image.new("RGB", (160, 160), tuple(rng.integers(0, 256, 3).tolist())))
    return np.stack(squares), np.array(names)


def fitted(x: NDArray[np.float32], y: NDArray[np.int64], weight: NDArray[np.float64], strength: float) -> Pipeline:
    """Fit a standardized logistic regression with weights."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return model.fit(x, y, logisticregression__sample_weight=weight)


def fit_foreign(sources: dict[str, NDArray[np.float32]], other: NDArray[np.float32]) -> Pipeline:
    """Lesions against other images: photographs weigh as much as three sources, both sides the same."""
    weights = [np.full(len(x), (3.0 if name == PHOTOGRAPHS else 1.0) * 1000 / len(x)) for name, x in sources.items()]
    total = sum(w.sum() for w in weights)
    x = np.concatenate([*sources.values(), other])
    y = np.r_[np.zeros(len(x) - len(other), np.int64), np.ones(len(other), np.int64)]
    return fitted(x, y, np.concatenate([*weights, np.full(len(other), total / len(other))]), C_FOREIGN)


def fit_kind(sources: dict[str, NDArray[np.float32]]) -> Pipeline:
    """Photographs against dermoscopic images; each source of these weighs the same, both sides the same."""
    dermoscopic = [name for name in sources if name != PHOTOGRAPHS]
    weights = [
        np.full(len(x), (len(dermoscopic) if name == PHOTOGRAPHS else 1.0) / len(x)) * 1000
        for name, x in sources.items()
    ]
    y = np.concatenate([np.full(len(x), int(name == PHOTOGRAPHS)) for name, x in sources.items()])
    return fitted(np.concatenate(list(sources.values())), y, np.concatenate(weights), C_KIND)


def blurred(pixels: Pixels, radius: float) -> Pixels:
    """Blur squares by a Gaussian of a radius in pixels of the square."""
    return np.stack([np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(radius))) for one in pixels])


def store_in_half_precision(path: Path) -> None:
    """Store the large weights of a graph as float16; a node casts each back when the graph is loaded."""
    graph = onnx.load(path)
    nodes, kept = [], []
    for one in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(one)
        if values.dtype != np.float32 or values.size < 4096:
            kept.append(one)
            continue
        kept.append(onnx.numpy_helper.from_array(values.astype(np.float16), one.name + "_half"))
        nodes.append(onnx.helper.make_node("Cast", [one.name + "_half"], [one.name], to=onnx.TensorProto.FLOAT))
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *rest])
    onnx.checker.check_model(graph)
    onnx.save(graph, path)


def main() -> None:
    """Fit, measure on what was left out, and write."""
    torch.set_num_threads(2)
    backbone, _ = load_pretrained("bit-r26x0.5-generic", seed=0, weights="auto")
    features = PooledStages(fold_weight_standardization(backbone)).eval()
    for parameter in features.parameters():  # the file holds them in half precision
        parameter.data = parameter.data.half().float()
    engine = NormalizedInput(features, Preprocess(CHECK_IMAGE_SIZE)).eval()

    def described(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.concatenate(
                [engine(torch.from_numpy(part)).numpy() for part in np.array_split(pixels, -(-len(pixels) // 64))]
            )

    squares = lesions(Path(sys.argv[1]))
    sources = {name: described(pixels) for name, pixels in squares.items()}
    other_pixels, pictures = other_images()
    other = described(other_pixels)
    config = PhantomConfig(n=200, image_size=224, seed=1)
    drawn = described(
        np.stack(
            [resize_square(render(one, config.seed, config.image_size), CHECK_IMAGE_SIZE) for one in phantoms(config)]
        )
    )

    def left_out(fit: Callable[[dict[str, NDArray[np.float32]]], Pipeline]) -> dict[str, NDArray[np.float64]]:
        """Scores of each source by a model that was fitted without it."""
        return {
            name: fit({k: v for k, v in sources.items() if k != name}).decision_function(sources[name])
            for name in sources
        }

    foreign = left_out(lambda rest: fit_foreign(rest, other))
    folds = np.random.default_rng(0).permutation(len(np.unique(pictures))) % 5
    fold = folds[np.unique(pictures, return_inverse=True)[1]]
    other_scores = np.empty(len(other))
    for k in range(5):
        other_scores[fold == k] = fit_foreign(sources, other[fold != k]).decision_function(other[fold == k])
    final_foreign, final_kind = fit_foreign(sources, other), fit_kind(sources)

    kind = {
        name: fit_kind({k: v for k, v in sources.items() if k != name}).decision_function(sources[name])
        for name in sources
        if name != PHOTOGRAPHS
    }
    manifest = read(Path(sys.argv[1]) / PHOTOGRAPHS)
    rows = sorted(np.random.default_rng(0).permutation(len(manifest))[:MOST])
    patient = manifest.groups[rows] % 5
    held = np.empty(len(rows))
    for k in range(5):
        part = sources | {PHOTOGRAPHS: sources[PHOTOGRAPHS][patient != k]}
        held[patient == k] = fit_kind(part).decision_function(sources[PHOTOGRAPHS][patient == k])

    all_foreign = np.concatenate(list(foreign.values()))
    sharp = {name: sharpness(pixels) for name, pixels in squares.items()}
    limits = {
        FOREIGN: float(np.quantile(all_foreign, 1 - FALSE_ALARMS["foreign"])),
        PHOTOGRAPH: float(np.quantile(np.concatenate(list(kind.values())), 1 - FALSE_ALARMS["photograph"])),
        "sharpness": float(np.quantile(np.concatenate(list(sharp.values())), FALSE_ALARMS["blurred"])),
    }
    table = [
        {
            "images": name,
            "n": len(x),
            "flagged_foreign": (foreign[name] > limits[FOREIGN]).mean(),
            "flagged_blurred": (sharp[name] < limits["sharpness"]).mean(),
            "recognized_as_photograph": ((held if name == PHOTOGRAPHS else kind[name]) > limits[PHOTOGRAPH]).mean(),
        }
        for name, x in sources.items()
    ]
    truth = np.r_[np.zeros(len(all_foreign)), np.ones(len(other))]
    at_five = np.quantile(all_foreign, 0.95)
    table.append(
        {
            "images": "other images, left out",
            "n": len(other),
            "flagged_foreign": (other_scores > limits[FOREIGN]).mean(),
            "auroc_foreign": roc_auc_score(truth, np.r_[all_foreign, other_scores]),
            "flagged_foreign_at_5_percent": (other_scores > at_five).mean(),
        }
    )
    phantom_scores = final_foreign.decision_function(drawn)
    table.append(
        {
            "images": "phantoms, never fitted on",
            "n": len(drawn),
            "flagged_foreign": (phantom_scores > limits[FOREIGN]).mean(),
            "auroc_foreign": roc_auc_score(
                np.r_[np.zeros(len(all_foreign)), np.ones(len(drawn))], np.r_[all_foreign, phantom_scores]
            ),
            "flagged_foreign_at_5_percent": (phantom_scores > at_five).mean(),
        }
    )
    sample = np.concatenate([pixels[:60] for pixels in squares.values()])
    for radius in (1, 2, 3, 5):
        table.append(
            {
                "images": f"lesions blurred by {radius} px of {CHECK_IMAGE_SIZE}",
                "n": len(sample),
                "flagged_blurred": (sharpness(blurred(sample, radius)) < limits["sharpness"]).mean(),
            }
        )
    TARGET.mkdir(parents=True, exist_ok=True)
    module = NormalizedInput(Scores(features, final_foreign, final_kind), Preprocess(CHECK_IMAGE_SIZE)).eval()
    export_onnx(module, CHECK_IMAGE_SIZE, TARGET / "model.onnx", [FOREIGN, PHOTOGRAPH])
    store_in_half_precision(TARGET / "model.onnx")
    (TARGET / "limits.json").write_text(json.dumps(limits, indent=1) + "\n", encoding="utf-8")
    frame = pd.DataFrame(table).assign(date=datetime.date.today().isoformat())
    frame.to_csv(ROOT / "results" / "image_check.csv", index=False, float_format="%.4f")
    print(frame.to_string(index=False))
    print(limits, (TARGET / "model.onnx").stat().st_size)


if __name__ == "__main__":
    main()
