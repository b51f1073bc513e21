"""What a phantom lesion is: its ABCD parameters, and the law by which they make it malignant."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

COLORS = ("light-brown", "dark-brown", "black", "red", "blue-gray", "white")
STRUCTURES = ("network", "structureless", "streaks", "dots", "globules")

# Two kinds of lesion, quiet and busy, half of each; by kind the chances of A = 0..2, B = 0..8, C = 1..6, D = 1..5.
_A = ((0.70, 0.24, 0.06), (0.05, 0.30, 0.65))
_B = (
    (0.30, 0.24, 0.18, 0.12, 0.08, 0.04, 0.02, 0.01, 0.01),
    (0.02, 0.03, 0.06, 0.09, 0.15, 0.20, 0.20, 0.15, 0.10),
)
_C = ((0.34, 0.40, 0.18, 0.06, 0.015, 0.005), (0.02, 0.10, 0.26, 0.30, 0.22, 0.10))
_D = ((0.36, 0.38, 0.18, 0.06, 0.02), (0.04, 0.14, 0.30, 0.32, 0.20))

THRESHOLD = 4.9
"""Total dermoscopy score at which a phantom is malignant or benign with equal chance."""


@dataclass(frozen=True)
class AbcdParameters:
    """Parameters of the ABCD rule of dermoscopy (Stolz 1994, Nachbar 1994).

    Attributes:
        asymmetry: axes about which the lesion is not symmetric, 0 to 2.
        border: of eight segments, those with an abrupt border, 0 to 8.
        colors: number of colors, 1 to 6.
        structures: number of structures, 1 to 5.

    """

    asymmetry: int
    border: int
    colors: int
    structures: int

    @property
    def score(self) -> float:
        """Total dermoscopy score, 1.3 A + 0.1 B + 0.5 C + 0.5 D."""
        return 1.3 * self.asymmetry + 0.1 * self.border + 0.5 * self.colors + 0.5 * self.structures


def chance_of_malignancy(score: float, noise: float) -> float:
    """Logistic in the total dermoscopy score.

    Args:
        score: total dermoscopy score.
        noise: score points by which the odds change by a factor of e; 0 makes the score decide.

    """
    if noise == 0:
        return float(score > THRESHOLD)
    return float(1 / (1 + np.exp(-(score - THRESHOLD) / noise)))


def draw_abcd(rng: np.random.Generator) -> AbcdParameters:
    """Draw a lesion's parameters."""
    kind = int(rng.random() < 0.5)
    a, b, c, d = (int(rng.choice(len(table[kind]), p=table[kind])) for table in (_A, _B, _C, _D))
    return AbcdParameters(a, b, c + 1, d + 1)


def bayes_accuracy(noise: float) -> float:
    """Accuracy of one who reads A, B, C and D without fault and knows the law: nobody can do better.

    Exact, by summing over all 810 combinations.
    """
    total = 0.0
    for a, b, c, d in product(range(3), range(9), range(6), range(5)):
        chance = sum(0.5 * _A[k][a] * _B[k][b] * _C[k][c] * _D[k][d] for k in (0, 1))
        malignant = chance_of_malignancy(AbcdParameters(a, b, c + 1, d + 1).score, noise)
        total += chance * max(malignant, 1 - malignant)
    return total
