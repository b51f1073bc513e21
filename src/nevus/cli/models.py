"""`nevus models`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from nevus.bundle.builtin import builtin_names
from nevus.bundle.bundle import load_bundle
from nevus.models.registry import BACKBONES, feature_width, build_backbone, parameter_count
from nevus.models.weights import download, on_this_machine


@dataclass(frozen=True)
class Command:
    """List the networks: name, parameters of the backbone, features, side, weights, license, and whether they
    are on this machine; below them the classifiers that come with nevus.

    Any other network of timm's goes as timm/NAME, of the hub as hf-hub:OWNER/NAME.
    """

    download: str | None = None
    """Bring the weights of this one onto this machine."""

    def run(self) -> int:
        """Download, or print the table; exit status."""
        if self.download is not None:
            path = download(self.download)
            print(f"{self.download} is on this machine{f', at {path}' if path else ''}")
            return 0
        table = Table()
        for name in ("name", "parameters", "features", "side", "weights", "license", "here"):
            table.add_column(name, justify="right" if name in ("parameters", "features", "side") else "left")
        sizes: dict[str, int] = {}
        for spec in BACKBONES.values():
            if spec.architecture not in sizes:
                with torch.device("meta"):  # counts without memory
                    sizes[spec.architecture] = parameter_count(build_backbone(spec.name, classes=0))
            table.add_row(
                spec.name,
                f"{sizes[spec.architecture]:,}",
                str(feature_width(spec)),
                f"{spec.side} px",
                spec.upstream or spec.origin,
                spec.license,
                "yes" if on_this_machine(spec) else "no",
            )
        Console(width=None if Console().is_terminal else 160).print(table)
        for name in builtin_names():
            bundle = load_bundle(name)
            print(f"classifier {name}: {' / '.join(bundle.classes)}, {bundle.backbone}; {bundle.license}")
        return 0
