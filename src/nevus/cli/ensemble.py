"""`nevus ensemble`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from nevus._progress import console
from nevus.bundle.bundle import load_bundle
from nevus.bundle.model_card import DISCLAIMER
from nevus.bundle.wording import operating_point_sentence
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError


@dataclass(frozen=True)
class Command:
    """Make one bundle of several: the mean of their calibrated log-probabilities, with a decision rule of its own.

    Predictions show how much the networks disagree. Research use only, not a medical device.
    """

    bundles: tyro.conf.Positional[tuple[Path, ...]]
    """Two bundles or more, of the same classes."""
    data: Path
    """Labeled images for the decision rule, on which none of the bundles was trained, as RUN/manifest.parquet."""
    out: Path
    """Folder for the bundle; it must not exist."""
    split: Literal["validation", "test", "all"] = "validation"
    """Rows of the data for the decision rule."""
    reading: Annotated[DataConfig, tyro.conf.arg(name="")] = DataConfig()
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Make the bundle; exit status."""
        if self.reading.positive is not None:
            raise NevusError("Cannot use --positive: the bundles define the positive class. Leave it out.")
        try:
            from nevus.training.ensemble import make_ensemble
        except ImportError as error:
            raise NevusError(
                f'Cannot make an ensemble: {error.name} is missing. Install it with pip install "nevus[train]".'
            ) from None
        bundles = [load_bundle(folder) for folder in self.bundles]
        manifest = read((self.data,), self.reading).split(self.split)
        with contextlib.closing(Cache(self.cache)) as cache:
            bundle = make_ensemble(bundles, manifest, self.out, cache)
        console.print(operating_point_sentence(bundle.rule, bundle.classes[-1]), highlight=False)
        console.print(f"bundle: {self.out}   {DISCLAIMER}", highlight=False)
        return 0
