"""What the spread of a trunk's stages is worth beside their means, by cross-validation between groups.

    python -m experiments.lesions
    python -m experiments.pooling

On the training images of isic-malignant-benign, and between sources: trained on HAM10000's nevi and melanomas and
judged on isic2017's training images, and the other way round. No test split is touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from experiments.common import DATA, keep
from experiments.transfer import ADAPTED, TABLES
from nevus.audit.leakage import group_duplicates
from nevus.data.cache import Cache, CacheConfig
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.models.multi_stage import MultiStageFeatures, stage_info
from nevus.models.registry import AUTO, without_head, backbone_spec
from nevus.models.weights import load_pretrained
from nevus.runtime.engines import make_engine, run_batched

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Of scikit-learn's C, on features of unit variance."""
FOLDS = 5
POOLINGS = ("means", "means and spread")
MEANS = POOLINGS[0]

Features = NDArray[np.float32]


def features(
    manifest: Manifest, cache: Cache, backbone: str = ADAPTED, weights: str = AUTO
) -> tuple[Manifest, dict[str, Features]]:
    """Of four stages of a trunk and its last layer, by pooling."""
    spec = backbone_spec(backbone)
    made, _ = load_pretrained(backbone, classes=2, seed=0, weights=weights)
    tapped = MultiStageFeatures(without_head(made), 4, spread=True)
    decoded = decode_dataset(manifest, spec.side, cache)
    found = run_batched(make_engine(tapped, Preprocess(spec.side, spec.mean, spec.std)), decoded.pixels, what=manifest.name)
    return decoded.manifest, pooled(without_head(made), found)


def pooled(backbone: nn.Module, found: Features) -> dict[str, Features]:
    """By pooling, of what four stages of a trunk said with their spread."""
    widths = [int(stage["num_chs"]) for stage in stage_info(backbone)[-4:]]
    starts = np.cumsum([0, *(3 * width for width in widths)])
    means = [np.arange(start, start + width) for start, width in zip(starts, widths, strict=False)]
    last = np.arange(starts[-1], found.shape[1])
    return {POOLINGS[0]: found[:, np.concatenate([*means, last])], POOLINGS[1]: found}


def model(strength: float) -> Any:
    """A linear head."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))


def within(
    manifest: Manifest, found: dict[str, Features], strengths: Sequence[float] = STRENGTHS
) -> list[dict[str, Any]]:
    """Out of fold, between groups."""
    rows, labels = [], manifest.targets
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels, manifest.groups))
    for pooling, x in found.items():
        for strength in strengths:
            p = np.zeros(len(labels))
            for shown, held in folds:
                p[held] = model(strength).fit(x[shown], labels[shown]).predict_proba(x[held])[:, 1]
            rows.append(
                {
                    "pooling": pooling,
                    "strength": strength,
                    "n": len(labels),
                    "accuracy": float(((p > 0.5) == labels).mean()),
                    "auroc": float(roc_auc_score(labels, p)),
                }
            )
            print(rows[-1], flush=True)
    return rows


def between(
    shown: tuple[Manifest, dict[str, Features]],
    judged: tuple[Manifest, dict[str, Features]],
    strengths: Sequence[float] = STRENGTHS,
) -> list[dict[str, Any]]:
    """Melanoma against nevus on the other source."""
    rows = []
    told, asked = (np.isin(m.table["label"], ("mel", "nv")) for m, _ in (shown, judged))
    mine, theirs = ((m.table["label"] == "mel").to_numpy() for m, _ in (shown, judged))
    for pooling in shown[1]:
        x, y = shown[1][pooling][told], judged[1][pooling][asked]
        for strength in strengths:
            p = model(strength).fit(x, mine[told]).predict_proba(y)[:, 1]
            auroc = float(roc_auc_score(theirs[asked], p))
            rows.append({"pooling": pooling, "strength": strength, "n": int(asked.sum()), "auroc": auroc})
            print(rows[-1], flush=True)
    return rows


def sets(cache: Cache) -> tuple[Manifest, Manifest, Manifest]:
    """Training images: isic-malignant-benign's, grouped by the audit; HAM10000's; isic2017's."""
    own = group_duplicates(read(DATA / "isic-malignant-benign"), cache)[0].split("train")
    return own, read(TABLES / "ham.parquet"), read(TABLES / "isic.parquet")


if __name__ == "__main__":
    with contextlib.closing(Cache(CacheConfig())) as opened:
        own, ham, isic = (features(images, opened) for images in sets(opened))
    digest = backbone_spec(ADAPTED).digest
    kept = {
        "trunk": f"{ADAPTED} ({digest[:20]})",
        "within": within(*own),
        "there": between(ham, isic),
        "back": between(isic, ham),
    }
    keep("pooling", kept)
