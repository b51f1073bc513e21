"""`nevus phantom`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from nevus._progress import console
from nevus.phantoms.dataset import PhantomConfig, bayes_of, write


@dataclass(frozen=True)
class Command:
    """Draw synthetic dermoscopic images, benign and malignant by a known law of the ABCD rule.

    For demos and tests: a model trained on phantoms is of no use for real lesions.
    """

    out: Path
    """Folder for the data set."""
    config: Annotated[PhantomConfig, tyro.conf.arg(name="")] = PhantomConfig()
    workers: int = 2
    """Number of processes."""

    def run(self) -> int:
        """Draw; exit status."""
        table = write(self.config, self.out, workers=self.workers)
        law, drawn = bayes_of(table, self.config)
        malignant = (table["label"] == "malignant").mean()
        print(f"{len(table)} images of {table['group'].nunique()} lesions in {self.out}, {malignant:.1%} malignant")
        print(f"Bayes accuracy of the law: {law:.4f}; of these images: {drawn:.4f}")
        console.print(f"look at {self.out / 'contact-sheet.jpg'}", highlight=False)
        return 0
