"""From diagnoses to the answer that is asked for: probabilities of several diagnoses added up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nevus.errors import NevusError


@dataclass(frozen=True)
class LabelGroups:
    """Classes that a classifier answers with, each a sum of diagnoses that it tells apart inside.

    To merge diagnoses before training teaches a network that they look alike, which they do not; so they stay apart
    until their probabilities are added up.

    A diagnosis may be frequent among the training images and rare where the classifier is used, or unknown there:
    whatever looks foreign is then given to it, and with it to its class. `odds` says how frequent it is to be
    taken for, as a share of that; the probabilities are Bayes' with these priors (Saerens et al. 2002, *Adjusting
    the outputs of a classifier to new a priori probabilities*, equation 2.4).

    Attributes:
        diagnoses: names in the order of the network's outputs.
        classes: names of the answer; of two, the second is positive.
        parts: for each class the places of its diagnoses.
        odds: for each diagnosis by how much its odds are multiplied; empty where all are taken as they are.

    """

    diagnoses: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[tuple[int, ...], ...]
    odds: tuple[float, ...] = ()

    @classmethod
    def of(cls, words: Sequence[str], diagnoses: Sequence[str]) -> LabelGroups:
        """Read `class=diagnosis,diagnosis:odds` for each class; odds of 1 are left out.

        Raises:
            NevusError: a diagnosis is unknown, missing or named twice, its odds are not above 0, or there are
                fewer than two classes.

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
    def _made(cls, named: dict[str, list[str]], diagnoses: Sequence[str]) -> LabelGroups:
        told = {part: _told(part, diagnoses) for parts in named.values() for part in parts}
        given = [told[part][0] for parts in named.values() for part in parts]
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
        parts = tuple(tuple(sorted(where[told[part][0]] for part in parts)) for parts in named.values())
        odds = dict(told.values())
        changed = any(number != 1 for number in odds.values())
        return cls(tuple(diagnoses), tuple(named), parts, tuple(odds[d] for d in diagnoses) if changed else ())

    def as_dict(self) -> dict[str, list[str]]:
        """By class its diagnoses, as `of` reads them."""
        words = [f"{name}:{odds!r}" if odds != 1 else name for name, odds in self._each()]
        return {name: [words[place] for place in places] for name, places in self._places()}

    def sums(self) -> dict[str, str]:
        """By class what is added up, to be read."""
        words = [f"{odds:g} x {name}" if odds != 1 else name for name, odds in self._each()]
        return {name: " + ".join(words[place] for place in places) for name, places in self._places()}

    def _each(self) -> list[tuple[str, float]]:
        return list(zip(self.diagnoses, self.odds or [1.0] * len(self.diagnoses), strict=True))

    def _places(self) -> list[tuple[str, tuple[int, ...]]]:
        return list(zip(self.classes, self.parts, strict=True))

    def named(self, labels: Sequence[str]) -> list[str]:
        """The class of each label: of a diagnosis the one that it is added to; others stay as they are."""
        classes = {self.diagnoses[place]: name for name, places in self._places() for place in places}
        return [label if label in self.classes else classes.get(label, label) for label in labels]

    def targets(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """The class of each diagnosis, int64 (n,)."""
        table = np.empty(len(self.diagnoses), np.int64)
        for number, places in enumerate(self.parts):
            table[list(places)] = number
        return np.asarray(table[targets], np.int64)

    def logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the classes, float32 (n, classes), from those of the diagnoses (n, diagnoses)."""
        summed: NDArray[np.float32] = _summed(torch.from_numpy(logits), self).numpy()
        return summed


class GroupedLogits(nn.Module):
    """A network with an `LabelGroups` behind it: float (n, 3, h, w) to logits (n, classes).

    The log of a sum of exponentials: the softmax of what it gives is the sum of the softmax of the diagnoses.

    Attributes:
        whole: the network, to logits (n, diagnoses).
        answer: the sums.

    """

    def __init__(self, whole: nn.Module, answer: LabelGroups) -> None:
        super().__init__()
        self.whole = whole
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classes."""
        return _summed(self.whole(x), self.answer)

    def extra_repr(self) -> str:
        """The sums: graphs are kept by what a network says of itself."""
        return f"parts={self.answer.parts}" + (f", odds={self.answer.odds}" if self.answer.odds else "")


def _summed(logits: Tensor, answer: LabelGroups) -> Tensor:
    if answer.odds:
        logits = logits + logits.new_tensor(answer.odds).log()
    return torch.stack([logits[:, list(places)].logsumexp(1) for places in answer.parts], 1)


def _told(word: str, diagnoses: Sequence[str]) -> tuple[str, float]:
    """A diagnosis and its odds, of which 1 need not be said.

    Raises:
        NevusError: the odds are not above 0, or not finite.

    """
    name, colon, number = word.rpartition(":")
    if word in diagnoses or not colon:
        return word, 1.0
    try:
        odds = float(number)
    except ValueError:
        return word, 1.0  # a name with a colon in it, which is then no class of the data
    if not 0 < odds < math.inf:
        raise NevusError(f"--answer gives '{name.strip()}' the odds {number}; give a number above 0.")
    return name.strip(), odds
