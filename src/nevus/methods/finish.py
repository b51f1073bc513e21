"""The end of a fit: its figures on validation, its record, its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nevus.bundle import Bundle, licence_of, save_bundle
from nevus.card import model_card
from nevus.data.pixels import decode_all
from nevus.files import write_json
from nevus.methods.fitting import Fitting
from nevus.metrics.figures import figures
from nevus.models.answer import Answer, Summed
from nevus.progress import console
from nevus.runtime.device import device, machine
from nevus.runtime.inference import TorchEngine, many, softmax
from nevus.training.head import judgement
from nevus.training.history import epochs_of

SHOWN_AGAIN = 10_000
"""Most training images that the finished classifier is judged on once more, as in evaluation."""


def save(
    fitting: Fitting,
    made: nn.Module,
    said: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    trunk: str,
    taps: int,
    answer: Answer | None,
    begun: Mapping[str, Any],
) -> None:
    """Judge a network on validation, and write `fit.json` and the bundle.

    Args:
        fitting: see `Fitting`.
        made: the trained network.
        said: its logits of the training and the validation images, where they are known already.
        trunk: its name.
        taps: see `Bundle`.
        answer: the classes to answer with; None for those of the data.
        begun: what is known from before: weights, changes, the protocol of the split.

    """
    manifest, recipe, run = fitting.manifest, fitting.recipe, fitting.run
    made = made.cpu()
    with fitting.watch("judging"):
        targets, held = fitting.shown.manifest.targets, fitting.held.manifest
        if said:  # the trunk was frozen: nothing need be computed again
            logits, held_logits = said
        else:
            ready = TorchEngine(made, fitting.preprocess, device(recipe.precision).device)
            held_logits = many(ready, fitting.held.pixels, what="validation")
            rows = np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_AGAIN)).astype(int)
            again = decode_all(
                fitting.shown.manifest.where(rows), recipe.side, fitting.cache, what="decoding train"
            )
            logits, targets = many(ready, again.pixels, what="train once more"), again.manifest.targets
        held_targets, classes = held.targets, manifest.classes
        diagnoses: dict[str, Any] = {}
        if answer:
            told = figures(held_targets, softmax(held_logits), classes, held.groups)
            diagnoses = {"diagnoses": {name: figure.as_dict() for name, figure in told.items()}}
            logits, held_logits = answer.logits(logits), answer.logits(held_logits)
            targets, held_targets, classes = answer.targets(targets), answer.targets(held_targets), answer.classes
        validation = figures(held_targets, softmax(held_logits), classes, held.groups)
        on_train = judgement(logits, targets)
    fit = {
        "training_accuracy": on_train.score,
        "training_loss": on_train.loss,
        "training_n": len(targets),
        "validation": {name: figure.as_dict() for name, figure in validation.items()},
        **diagnoses,
        "gap": on_train.score - validation["accuracy"].value,
        "seconds": fitting.watch.seconds,  # of this process: a resumed run counts from where it went on
        "machine": {**machine(), "precision": "bf16" if device(recipe.precision).bf16 else "fp32"},
    }
    write_json(run.folder / "fit.json", fit)
    counts = manifest.counts()
    provenance: dict[str, Any] = {
        "weights": begun["weights"],
        "recipe": asdict(recipe),
        "changes": begun["changes"],
        "seed": fitting.seed,
        "data": {
            "name": manifest.name,
            "digest": manifest.digest,
            "rows_digest": manifest.rows_digest,
            "sources": sorted(set(manifest.table["source"])),
            "counts": {str(s): {str(k): int(v) for k, v in row.items()} for s, row in counts.iterrows()},
            "skipped": len(fitting.shown.faults) + len(fitting.held.faults),
            **begun["protocol"],
        },
        "fit": fit,
        "history": epochs_of(run.metrics()),
        "versions": {name: version(name) for name in ("nevus", "torch", "timm", "numpy", "pillow")},
    }
    licence = licence_of([manifest.name, *provenance["data"]["sources"]], begun["weights"])
    card = model_card(
        trunk=trunk,
        classes=classes,
        side=recipe.side,
        licence=licence,
        provenance=provenance,
        validation=fit["validation"],
        answer=answer.as_dict() if answer else None,
    )
    whole = Summed(made, answer.parts) if answer else made
    bundle = Bundle(trunk, classes, fitting.preprocess, whole, provenance, licence, taps=taps, answer=answer)
    save_bundle(bundle, run.bundle, card)
    console.print(f"licence of the weights: {licence}", highlight=False)
