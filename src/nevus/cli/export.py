"""`nevus export`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from nevus._progress import console
from nevus.bundle.bundle import load_bundle
from nevus.bundle.model_card import DISCLAIMER
from nevus.data.cache import Cache, CacheConfig
from nevus.data.readers.dispatch import DataConfig, read
from nevus.errors import NevusError
from nevus.exporting.config import BOUND, Format


@dataclass(frozen=True)
class Command:
    """Write a bundle for ONNX Runtime, OpenVINO or PyTorch, and check it against the bundle on real images.

    Test-time augmentation, normalization and softmax are part of the graph; it takes any batch size. Research use
    only, not a medical device.
    """

    bundle: tyro.conf.Positional[Path]
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a built-in classifier."""
    out: Path
    """Folder for the model, export.json and README.md."""
    format: Format = "onnx"
    """Format of the file."""
    precision: Literal["fp32", "int8"] = "fp32"
    """`int8` calibrates on training images, and says what it costs on validation. With --format torch it makes the
    file small, and the arithmetic stays float32.
    """
    data: tuple[Path, ...] = ()
    """Images to check and calibrate with: class folders, csv or Parquet files (default: the manifest.parquet of the run
    that the bundle lies in). Its test split is not used.
    """
    bound: float = BOUND
    """Largest difference of a probability from the bundle's at which an fp32 export is written."""
    cache: CacheConfig = CacheConfig()

    def run(self) -> int:
        """Export; exit status."""
        from nevus.exporting.export import export

        bundle = load_bundle(self.bundle)
        data = self.data or (self.bundle.absolute().parent / "manifest.parquet",)
        if not self.data and not data[0].is_file():
            raise NevusError(f"Cannot check the export: {self.bundle} is in no run. Give images with --data.")
        with contextlib.closing(Cache(self.cache)) as cache:
            done = export(
                bundle,
                read(data, DataConfig()),
                self.out,
                cache,
                format=self.format,
                precision=self.precision,
                bound=self.bound,
            )
        print(f"{done.path}: {done.sentence()}")
        console.print(f"license of the weights: {bundle.license}. {DISCLAIMER}")
        return 0
