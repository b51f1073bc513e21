"""The Ensemble: several networks as one, by the mean of their calibrated log-probabilities."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nevus._io import write_json
from nevus.bundle.bundle import Bundle
from nevus.data.images import Pixels
from nevus.data.preprocess import resize_square
from nevus.errors import NevusError
from nevus.metrics.calibration import Calibration
from nevus.models.spec import ModelSpec
from nevus.runtime.engines import EngineName, file_engine
from nevus.runtime.tta import TTAPolicy, check_policy, with_tta

ENSEMBLE_FILE = "ensemble.json"
SMALLEST = 1e-12
"""Probability below which the logarithm is not taken."""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble.

    Attributes:
        onnx: its `model.onnx`.
        tta: its test-time augmentation.
        calibration: of its logits; None if it has none.
        spec: of it.

    """

    onnx: Path
    tta: TTAPolicy
    calibration: Calibration | None
    spec: ModelSpec

    def load(self, engine: EngineName) -> Any:
        """Make its engine, with its test-time augmentation."""
        return with_tta(file_engine(self.onnx, engine), self.tta)

    def squares(self, pixels: Pixels) -> Pixels:
        """Resize squares of the ensemble's size, uint8 (n, h, h, 3), to its own."""
        size = self.spec.image_size
        return pixels if pixels.shape[1] == size else np.stack([resize_square(one, size) for one in pixels])

    @property
    def own_calibration(self) -> Calibration:
        """Its calibration, or one that changes no logit."""
        return self.calibration or Calibration.identity(len(self.spec.classes))


@dataclass(frozen=True)
class Ensemble:
    """The networks of a bundle that holds several."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, bundles: Sequence[Bundle]) -> Ensemble:
        """Make an ensemble of bundles.

        Raises:
            NevusError: there are fewer than two, their classes differ, or one has no `model.onnx`.

        """
        if len(bundles) < 2:
            raise NevusError("Cannot make an ensemble: it needs two bundles at least. Name another.")
        digests = [bundle.digest for bundle in bundles]
        if len(set(digests)) < len(digests):
            raise NevusError("Cannot make an ensemble: a bundle is named twice. Leave it out.")
        first = bundles[0].spec
        members = []
        for bundle in bundles:
            spec = bundle.spec
            if spec.classes != first.classes:
                raise NevusError(
                    f"Cannot make an ensemble: {bundle.folder} has the classes {', '.join(spec.classes)}, "
                    f"{bundles[0].folder} has {', '.join(first.classes)}. Leave one out."
                )
            if bundle.onnx is None:
                raise NevusError(f"Cannot make an ensemble: {bundle.folder} has no model.onnx. Leave it out.")
            members.append(Member(bundle.onnx, bundle.tta, bundle.rule.calibration, spec))
        return cls(tuple(members))

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """Read the ensemble of a bundle's folder.

        Raises:
            NevusError: it is inconsistent.

        """
        try:
            entries = json.loads((folder / ENSEMBLE_FILE).read_text(encoding="utf-8"))
            members = []
            for entry in entries:
                check_policy(entry["tta"])
                calibration = Calibration.from_dict(entry["calibration"]) if entry["calibration"] else None
                spec = ModelSpec.from_dict(entry["model"])
                members.append(Member(folder / Path(entry["file"]).name, entry["tta"], calibration, spec))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise NevusError(f"Cannot read the ensemble of {folder}: it is inconsistent. Make it again.") from None
        return cls(tuple(members))

    def save(self, folder: Path) -> None:
        """Copy the networks into a bundle's folder."""
        entries = []
        for number, member in enumerate(self.members, 1):
            name = f"member-{number}.onnx"
            shutil.copyfile(member.onnx, folder / name)
            calibration = member.calibration.as_dict() if member.calibration else None
            entries.append(
                {"file": name, "tta": member.tta, "calibration": calibration, "model": member.spec.as_dict()}
            )
        write_json(folder / ENSEMBLE_FILE, entries)


class EnsembleEngine:
    """The engine of an ensemble."""

    def __init__(self, ensemble: Ensemble, engine: EngineName = "auto") -> None:
        """Load every network.

        Raises:
            NevusError: the engine does not run here.

        """
        self._members = ensemble.members
        self._engines = [member.load(engine) for member in ensemble.members]

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of each network, float64 (members, n, classes)."""
        found = []
        for member, engine in zip(self._members, self._engines, strict=True):
            logits = engine(member.squares(pixels))
            found.append(member.own_calibration.apply(logits.astype(np.float64)))
        return np.stack(found)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 (n, image_size, image_size, 3) to the mean of the log-probabilities, float32 (n, classes)."""
        return self.logits(self.probabilities(pixels))

    @staticmethod
    def logits(probabilities: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the mean of the logarithms over the networks, float32 (n, classes).

        A logarithmic opinion pool (Genest and Zidek 1986): of it, unlike of the mean of probabilities, each network's
        heat map adds up to a share.
        """
        return np.asarray(np.log(np.maximum(probabilities, SMALLEST)).mean(0), np.float32)


def disagreement(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much networks disagree, (n,): the largest difference of the probability of the most probable class.

    Args:
        probabilities: of each network, (members, n, classes).

    """
    top = EnsembleEngine.logits(probabilities).argmax(1)
    chosen = probabilities[:, np.arange(len(top)), top]
    return np.asarray(chosen.max(0) - chosen.min(0))
