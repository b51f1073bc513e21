"""The end of a network's fit: it is judged once more, then recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nevus.data.pixels import decode_all
from nevus.methods.fitting import Fitting
from nevus.methods.record import Judged, Trained, record
from nevus.metrics.figures import figures
from nevus.models.answer import Answer, Summed
from nevus.runtime.device import device
from nevus.runtime.inference import TorchEngine, many, rounds, softmax
from nevus.runtime.views import Each, apart
from nevus.training.timing import SHOWN_AGAIN


def save(
    fitting: Fitting,
    made: nn.Module,
    said: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    trunk: str,
    taps: int,
    spread: bool,
    answer: Answer | None,
    begun: Mapping[str, Any],
) -> None:
    """Judge a network once more, and write its record and its bundle.

    Args:
        fitting: see `Fitting`.
        made: the trained network.
        said: its logits of each view of the training and the validation images, float32 (views, n, classes), where
            they are known already.
        trunk: its name.
        taps: see `Bundle`; likewise `spread`.
        answer: the classes to answer with; None for those of the data.
        begun: what is known from before: weights, changes, the protocol of the split.

    """
    manifest, recipe = fitting.manifest, fitting.recipe
    made = made.cpu()
    with fitting.watch("judging"):
        targets, held = fitting.shown.manifest.targets, fitting.held.manifest
        if said:  # the trunk was frozen: nothing need be computed again
            logits, held_logits = said
        else:
            plain = TorchEngine(made, fitting.preprocess, device(recipe.precision).device)
            ready = Each(plain, recipe.mean_of)
            held_logits = apart(many(ready, fitting.held.pixels, what="validation"), recipe.mean_of)
            rows = np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_AGAIN)).astype(int)
            again = decode_all(
                fitting.shown.manifest.where(rows), recipe.side, fitting.cache, what="decoding train"
            )
            logits = apart(many(ready, again.pixels, what="train once more"), recipe.mean_of)
            targets = again.manifest.targets
        held_targets, classes, more = held.targets, manifest.classes, {}
        if answer:
            told = figures(held_targets, softmax(held_logits.mean(0)), classes, held.groups)
            more = {"diagnoses": {name: figure.as_dict() for name, figure in told.items()}}
            # Of each view, before the mean, as the bundle does it: the log of a sum is not linear.
            logits, held_logits = (np.stack([answer.logits(view) for view in one]) for one in (logits, held_logits))
            targets, held_targets, classes = answer.targets(targets), answer.targets(held_targets), answer.classes
    bf16 = rounds(recipe.precision) if recipe.mode == "head" else device(recipe.precision).bf16
    trained = Trained(
        trunk=trunk,
        network=Summed(made, answer) if answer else made,
        preprocess=fitting.preprocess,
        classes=classes,
        manifest=manifest,
        recipe=asdict(recipe),
        seed=fitting.seed,
        begun=begun,
        shown=Judged(logits.mean(0), targets, np.arange(len(targets))),
        held=Judged(held_logits.mean(0), held_targets, held.groups),
        skipped=len(fitting.shown.faults) + len(fitting.held.faults),
        seconds=fitting.watch.seconds,
        precision="bf16" if bf16 else "fp32",
        taps=taps,
        spread=spread,
        answer=answer,
        more=more,
    )
    record(trained, fitting.run)
