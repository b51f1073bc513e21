"""From diagnoses to the answer that is asked for: probabilities of several diagnoses added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus.errors import NevusError


@dataclass(frozen=True)
class Answer:
    """Classes that a classifier answers with, each a sum of diagnoses that it tells apart inside.

    To merge diagnoses before training teaches a network that they look alike, which they do not; so they stay apart
    until their probabilities are added up.

    Attributes:
        diagnoses: names in the order of the network's outputs.
        classes: names of the answer; of two, the second is positive.
        parts: for each class the places of its diagnoses.

    """

    diagnoses: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, words: Sequence[str], diagnoses: Sequence[str]) -> Answer:
        """Read `class=diagnosis,diagnosis` for each class.

        Raises:
            NevusError: a diagnosis is unknown, missing or named twice, or there are fewer than two classes.

        """
        named: dict[str, list[str]] = {}
        for word in words:
            name, equals, rest = word.partition("=")
            parts = [part.strip() for part in rest.split(",") if part.strip()]
            if not (equals and name.strip() and parts) or name.strip() in named:
                raise NevusError(
                    f"--answer {word} is no new CLASS=DIAGNOSIS,DIAGNOSIS; write it as in malignant=mel,bcc."
                )
            named[name.strip()] = parts
        if len(named) < 2:
            raise NevusError("--answer wants two classes at least, as in benign=nv,bkl malignant=mel,bcc.")
        return cls._made(named, diagnoses)

    @classmethod
    def _made(cls, named: dict[str, list[str]], diagnoses: Sequence[str]) -> Answer:
        given = [part for parts in named.values() for part in parts]
        for name in given:
            if name not in diagnoses:
                raise NevusError(
                    f"--answer names '{name}', which is no class of the data; those are {', '.join(diagnoses)}."
                )
            if given.count(name) > 1:
                raise NevusError(f"--answer names '{name}' twice; give it to one class.")
        for name in diagnoses:
            if name not in given:
                raise NevusError(f"--answer does not say to which class '{name}' belongs; add it to one.")
        where = {name: place for place, name in enumerate(diagnoses)}
        parts = tuple(tuple(sorted(where[part] for part in parts)) for parts in named.values())
        return cls(tuple(diagnoses), tuple(named), parts)

    def as_dict(self) -> dict[str, list[str]]:
        """By class, the names of its diagnoses."""
        return {
            name: [self.diagnoses[place] for place in places]
            for name, places in zip(self.classes, self.parts, strict=True)
        }

    def named(self, labels: Sequence[str]) -> list[str]:
        """The class of each label: of a diagnosis the one that it is added to; others stay as they are."""
        classes = {diagnosis: name for name, parts in self.as_dict().items() for diagnosis in parts}
        return [label if label in self.classes else classes.get(label, label) for label in labels]

    def targets(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each diagnosis, int64 (n,)."""
        table = np.empty(len(self.diagnoses), np.int64)
        for number, places in enumerate(self.parts):
            table[list(places)] = number
        return np.asarray(table[targets], np.int64)

    def logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the classes, float32 (n, classes), from those of the diagnoses (n, diagnoses)."""
        summed: NDArray[np.float32] = _summed(torch.from_numpy(logits), self.parts).numpy()
        return summed


class Summed(nn.Module):
    """A network with an `Answer` behind it: float (n, 3, h, w) to logits (n, classes).

    The log of a sum of exponentials: the softmax of what it gives is the sum of the softmax of the diagnoses.

    Attributes:
        whole: the network, to logits (n, diagnoses).
        parts: see `Answer`.

    """

    def __init__(self, whole: nn.Module, parts: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.whole = whole
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classes."""
        return _summed(self.whole(x), self.parts)

    def extra_repr(self) -> str:
        """The sums: graphs are kept by what a network says of itself."""
        return f"parts={self.parts}"


def _summed(logits: Tensor, parts: tuple[tuple[int, ...], ...]) -> Tensor:
    return torch.stack([logits[:, list(places)].logsumexp(1) for places in parts], 1)
