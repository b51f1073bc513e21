"""LabelGroups: coarse classes whose probabilities are sums over fine-grained ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nevus.errors import NevusError


@dataclass(frozen=True)
class LabelGroups:
    """Train on fine classes, predict coarse ones.

    Merging diagnoses before training teaches a network that they look alike. So the network learns the fine classes,
    and their probabilities are added up afterwards.

    A fine class may be frequent among the training images and rare where the classifier is used. `class_prior`
    rescales its prior; the probabilities then follow Bayes' rule (Saerens et al. 2002, *Adjusting the outputs of a
    classifier to new a priori probabilities*, equation 2.4).

    Attributes:
        fine_classes: names in the order of the network's outputs.
        classes: names of the groups; of two, the second is positive.
        indices: for each group, the indices of its fine classes.
        class_prior: for each fine class, the factor on its prior; empty if all are 1.

    """

    fine_classes: tuple[str, ...]
    classes: tuple[str, ...]
    indices: tuple[tuple[int, ...], ...]
    class_prior: tuple[float, ...] = ()

    @classmethod
    def parse(cls, groups: Sequence[str], fine_classes: Sequence[str], class_prior: Sequence[str] = ()) -> LabelGroups:
        """Read the command line's form.

        Args:
            groups: one `CLASS=FINE,FINE` a group.
            fine_classes: classes of the data.
            class_prior: `FINE=FACTOR` for fine classes whose prior is rescaled.

        Raises:
            NevusError: a fine class is unknown, missing or named twice, a factor is not above 0, or there are fewer
                than two groups.

        """
        named: dict[str, list[str]] = {}
        for entry in groups:
            name, _, rest = (part.strip() for part in entry.partition("="))
            members = [part.strip() for part in rest.split(",") if part.strip()]
            if not name or not members or name in named:
                raise NevusError(
                    f"Cannot read --group-labels '{entry}': it is no new CLASS=LABEL,LABEL. Write it as in "
                    "malignant=mel,bcc."
                )
            named[name] = members
        return cls.from_dict(named, fine_classes, dict(_factor(entry) for entry in class_prior))

    @classmethod
    def from_dict(
        cls,
        groups: Mapping[str, Sequence[str]],
        fine_classes: Sequence[str],
        class_prior: Mapping[str, float] | None = None,
    ) -> LabelGroups:
        """Make groups from plain values; see `parse` for errors."""
        prior = dict(class_prior or {})
        members = [name for names in groups.values() for name in names]
        if len(groups) < 2:
            raise NevusError("Cannot group labels: there is only one class. Name two, as in benign=nv malignant=mel.")
        for name in (*members, *prior):
            if name not in fine_classes:
                known = ", ".join(fine_classes)
                raise NevusError(f"Cannot group labels: '{name}' is no class of the data. Choose among {known}.")
            if members.count(name) > 1:
                raise NevusError(f"Cannot group labels: '{name}' is named twice. Put it in one class.")
        for name in fine_classes:
            if name not in members:
                raise NevusError(f"Cannot group labels: '{name}' is in no class. Add it to one in --group-labels.")
        for name, factor in prior.items():
            if not 0 < factor < math.inf:
                raise NevusError(f"Cannot rescale the prior of '{name}' by {factor}: it must be above 0.")
        place = {name: index for index, name in enumerate(fine_classes)}
        indices = tuple(tuple(sorted(place[name] for name in names)) for names in groups.values())
        factors = tuple(float(prior.get(name, 1.0)) for name in fine_classes)
        return cls(tuple(fine_classes), tuple(groups), indices, factors if any(f != 1 for f in factors) else ())

    def as_dict(self) -> dict[str, list[str]]:
        """Return the fine classes of each group, as `from_dict` reads them."""
        return {
            name: [self.fine_classes[i] for i in places]
            for name, places in zip(self.classes, self.indices, strict=True)
        }

    def prior_dict(self) -> dict[str, float]:
        """Return the factors other than 1, as `from_dict` reads them."""
        pairs = zip(self.fine_classes, self.class_prior or [1.0] * len(self.fine_classes), strict=True)
        return {name: factor for name, factor in pairs if factor != 1}

    def describe(self) -> dict[str, str]:
        """Return each group as a sum to be read, as in `0.1 x bkl + nv`."""
        prior = self.prior_dict()
        return {
            name: " + ".join(f"{prior[m]:g} x {m}" if m in prior else m for m in members)
            for name, members in self.as_dict().items()
        }

    def group_labels(self, labels: Sequence[str]) -> list[str]:
        """Replace each fine label by its group; other labels stay as they are."""
        groups = {fine: name for name, members in self.as_dict().items() for fine in members}
        return [label if label in self.classes else groups.get(label, label) for label in labels]

    def group_targets(self, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map indices of fine classes to indices of groups, int64 (n,)."""
        table = np.empty(len(self.fine_classes), np.int64)
        for number, places in enumerate(self.indices):
            table[list(places)] = number
        return np.asarray(table[targets], np.int64)

    def group_logits(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map logits of fine classes (n, fine) to those of groups, float32 (n, groups): log-sum-exp."""
        wide = logits.astype(np.float64)
        if self.class_prior:
            wide = wide + np.log(self.class_prior)
        parts = [np.logaddexp.reduce(wide[:, list(places)], axis=1) for places in self.indices]
        return np.stack(parts, axis=1).astype(np.float32)


def _factor(entry: str) -> tuple[str, float]:
    name, sign, number = entry.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        sign = ""
    if not sign or not name:
        raise NevusError(f"Cannot read --class-prior '{entry}': it is no LABEL=FACTOR. Write it as in bkl=0.1.")
    return name.strip(), factor
